import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createSecureContext, createServer, type SecureContext, type TLSSocket } from 'node:tls';
import { chooseRecord, type HttpSysRecords } from './iis-host/http-sys.ts';
import { type Sshd, startSshd } from './sshd.ts';
import { createMachine, type Machine, storesBelow } from './windows-machine.ts';

/** A simulated Windows server that is managed like a real one: the real scripts, run by PowerShell's own engine, over a real SSH server. */
export interface WindowsHost {
  readonly machine: Machine;
  readonly sshd: Sshd;
  /** The one port its http.sys listens on for TLS. */
  readonly tlsPort: number;
  close(): Promise<void>;
}

/** Starts it with these sites (text of `<sites>` of applicationHost.config); needs the .NET SDK. */
export async function startWindowsHost(options: { dir: string; sites: string }): Promise<WindowsHost> {
  const machine = await createMachine({ config: options.sites });
  const server = createServer({
    // Read anew for every client, as http.sys looks at its own table.
    SNICallback: (name, answer) => {
      contextFor(machine, portOf(), name).then(
        (context) => answer(null, context),
        (error) => answer(error),
      );
    },
  });
  const portOf = (): number => {
    const address = server.address();
    return typeof address === 'object' && address ? address.port : 0;
  };
  const open = new Set<TLSSocket>();
  server.on('secureConnection', (socket) => {
    open.add(socket);
    socket.on('error', () => {}).on('close', () => open.delete(socket));
  });
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const sshd = await startSshd({ dir: join(options.dir, 'sshd'), path: [machine.bin] });
  return {
    machine,
    sshd,
    tlsPort: portOf(),
    async close() {
      await sshd.close();
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      await machine.close();
    },
  };
}

async function contextFor(machine: Machine, port: number, name: string): Promise<SecureContext> {
  const table = Object.entries(await machine.httpSys());
  const records: HttpSysRecords = Object.fromEntries(
    table.map(([key, { Hash, Store }]) => [key, { thumbprint: Hash, store: Store }]),
  );
  const record = chooseRecord(records, '127.0.0.1', port, name);
  if (!record) throw new Error(`no certificate for ${name}`);
  const file = join(machine.dir, storesBelow, record.store.toLowerCase(), `${record.thumbprint}.pfx`);
  return createSecureContext({ pfx: await readFile(file), passphrase: '' });
}
