import { createServer, type Server } from 'node:https';
import { join } from 'node:path';
import { createSecureContext, type SecureContext } from 'node:tls';
import { z } from 'zod';
import { parseBindingInformation } from '#libs/iis/binding-information';
import type { Site } from '#libs/iis/iis-host';
import type { LabEndpoint } from '#libs/iis/lab-protocol';
import { nameCovers } from '#libs/model/domain-name';
import type { CertificateStores } from './certificate-store.ts';
import { chooseRecord, type HttpSysRecords } from './http-sys.ts';
import { readIfThere, writeWhole } from './whole-files.ts';

const portsSchema = z.record(z.string(), z.number().int());

interface Listener {
  host: string;
  /** Port of the bindings. */
  port: number;
  listeningPort: number;
  server: Server;
}

export interface ListenersOptions {
  dir: string;
  stores: CertificateStores;
  /** Listen on the binding's port plus this; without it on ports the system gives. */
  portOffset?: number;
}

/** The loopback address for the IP of a binding; null for one that is not listened on. */
function loopbackOf(ip: string): string | null {
  if (ip === '*') return '127.0.0.1';
  return /^127(\.\d{1,3}){3}$/.test(ip) ? ip : null;
}

/** TLS listeners on loopback for the https bindings of started sites, which choose the certificate as http.sys does. */
export class Listeners {
  readonly #options: ListenersOptions;
  readonly #open = new Map<string, Listener>();
  readonly #contexts = new Map<string, SecureContext>();
  #ports: Record<string, number> | null = null;
  #sites: readonly Site[] = [];
  #records: HttpSysRecords = {};

  constructor(options: ListenersOptions) {
    this.#options = options;
  }

  /** Opens and closes listeners so that they are those of the sites; they serve the certificates of `records`. */
  async sync(sites: readonly Site[], records: HttpSysRecords): Promise<void> {
    this.#sites = sites.filter((site) => site.state === 'Started');
    this.#records = records;
    const wanted = new Map<string, { host: string; port: number }>();
    for (const { ip, port } of this.#addresses()) {
      const host = loopbackOf(ip);
      if (host !== null) wanted.set(`${host}:${port}`, { host, port });
    }
    for (const [key, listener] of this.#open) {
      if (wanted.has(key)) continue;
      this.#open.delete(key);
      await closed(listener.server);
    }
    for (const { thumbprint, store } of Object.values(records)) {
      const name = `${store}/${thumbprint}`;
      const files = this.#contexts.has(name) ? null : await this.#options.stores.load(store, thumbprint);
      if (files) this.#contexts.set(name, createSecureContext(files));
    }
    for (const [key, { host, port }] of wanted) {
      const listener = this.#open.get(key) ?? (await this.#listen(key, host, port));
      await this.#setDefault(listener);
    }
  }

  /** Where the bindings of started sites are listened on. */
  endpoints(): LabEndpoint[] {
    const found = new Map<string, LabEndpoint>();
    for (const { ip, port } of this.#addresses()) {
      const host = loopbackOf(ip);
      const listener = host === null ? undefined : this.#open.get(`${host}:${port}`);
      if (listener) {
        found.set(`${ip}:${port}`, { ip, port, host: listener.host, listeningPort: listener.listeningPort });
      }
    }
    return [...found.values()];
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open.values()].map(({ server }) => closed(server)));
    this.#open.clear();
  }

  #addresses(): { ip: string; port: number; host: string; site: Site }[] {
    return this.#sites.flatMap((site) =>
      site.bindings.flatMap((binding) => {
        const address = binding.protocol === 'https' ? parseBindingInformation(binding.bindingInformation) : null;
        return address ? [{ ...address, site }] : [];
      }),
    );
  }

  #contextFor(host: string, port: number, servername: string | null): SecureContext | undefined {
    const record = chooseRecord(this.#records, host, port, servername);
    return record && this.#contexts.get(`${record.store}/${record.thumbprint}`);
  }

  /** The certificate for clients that name no host: Node asks no callback for them. */
  async #setDefault({ server, host, port }: Listener): Promise<void> {
    const record = chooseRecord(this.#records, host, port, null);
    const files = record ? await this.#options.stores.load(record.store, record.thumbprint) : null;
    server.setSecureContext(files ?? {});
  }

  async #listen(key: string, host: string, port: number): Promise<Listener> {
    const server = createServer(
      {
        SNICallback: (servername, answer) => {
          const context = this.#contextFor(host, port, servername);
          if (context) answer(null, context);
          else answer(new Error(`no certificate for ${servername}`));
        },
      },
      (request, response) => {
        response.setHeader('content-type', 'text/plain; charset=utf-8');
        const site = this.#siteFor(host, port, (request.headers.host ?? '').replace(/:\d+$/, ''));
        if (!site) response.statusCode = 404;
        response.end(`${site?.name ?? 'Not Found'}\n`);
      },
    );
    // A client that breaks off concerns nobody here.
    server.on('tlsClientError', (_, socket) => socket.destroy());
    const listeningPort = await this.#take(server, key, host, port);
    const listener = { host, port, listeningPort, server };
    this.#open.set(key, listener);
    return listener;
  }

  /** The port this address had before, also in an earlier process, if it is free. */
  async #take(server: Server, key: string, host: string, port: number): Promise<number> {
    const { dir, portOffset } = this.#options;
    if (portOffset !== undefined) return await listening(server, host, port + portOffset);
    const path = join(dir, 'ports.json');
    this.#ports ??= portsSchema.parse(JSON.parse((await readIfThere(path)) ?? '{}'));
    const earlier = this.#ports[key];
    if (earlier !== undefined) {
      try {
        return await listening(server, host, earlier);
      } catch {
        // Somebody else has it now.
      }
    }
    const taken = await listening(server, host, 0);
    this.#ports[key] = taken;
    await writeWhole(path, `${JSON.stringify(this.#ports, null, 2)}\n`);
    return taken;
  }

  #siteFor(host: string, port: number, wanted: string): Site | undefined {
    const here = this.#addresses().filter((one) => loopbackOf(one.ip) === host && one.port === port);
    const found =
      here.find((one) => one.host !== '' && nameCovers(one.host, wanted)) ?? here.find((one) => one.host === '');
    return found?.site;
  }
}

function listening(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      const address = server.address();
      if (address !== null && typeof address === 'object') resolve(address.port);
    });
  });
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
