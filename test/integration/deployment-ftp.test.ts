import { createPrivateKey, X509Certificate } from 'node:crypto';
import { createServer } from 'node:tls';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '#libs/clock';
import { generatePrivateKey } from '#libs/crypto/private-key';
import { probeFtpThumbprint } from '#libs/iis/ftp-handshake';
import type { HostState, IisHost } from '#libs/iis/iis-host';
import { verifyParts } from '#libs/iis/verify';
import { createRootCa } from '../../services/lab/certificate-authority.ts';
import { type FtpServer, type FtpServerOptions, startFtpServer } from '../support/ftp-server.ts';

/** How the certificate of an ftp site is looked at: over its control connection, as any client would. */
interface Shown {
  key: string;
  cert: string;
  thumbprint: string;
}

const root = createRootCa();
const name = 'ftp.example.com';
let old: Shown;
let fresh: Shown;
const servers: { close(): unknown }[] = [];
const { signal } = new AbortController();

async function shown(names: readonly string[]): Promise<Shown> {
  const key = await generatePrivateKey('ec-p256');
  const cert = root.issue({ key: createPrivateKey(key), names });
  return { key, cert, thumbprint: new X509Certificate(cert).fingerprint.replaceAll(':', '') };
}

async function start(certificates: Record<string, Shown>, options: Partial<FtpServerOptions> = {}): Promise<FtpServer> {
  const server = await startFtpServer({ certificates: () => certificates, ...options });
  servers.push(server);
  return server;
}

const probe = ({ port }: { port: number }, host: string | null = null, timeoutMs = 5_000) =>
  probeFtpThumbprint({ host: '127.0.0.1', port }, host, timeoutMs, signal);

beforeAll(async () => {
  [old, fresh] = [await shown([name]), await shown([name])];
});
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

describe('an FTP server', () => {
  it('shows its certificate after AUTH TLS', async () => {
    const server = await start({ '*': fresh });
    expect(await probe(server)).toMatchObject({ thumbprint: fresh.thumbprint });
    expect(server.commands).toEqual(['AUTH TLS']);
  });

  it('may greet with many lines, some of which look like another reply', async () => {
    const server = await start(
      { '*': fresh },
      { greeting: ['220-Welcome', '530 is no code here', ' 220 nor here', '220 ready'] },
    );
    expect(await probe(server)).toMatchObject({ thumbprint: fresh.thumbprint });
    expect(server.commands).toEqual(['AUTH TLS']);
  });

  it('is asked for the host name of the binding, in punycode', async () => {
    const server = await start({ '*': old, 'xn--mnchen-3ya.example.com': fresh });
    expect(await probe(server, 'München.example.com')).toMatchObject({ thumbprint: fresh.thumbprint });
    expect(server.commands).toEqual(['HOST xn--mnchen-3ya.example.com', 'AUTH TLS']);
  });

  it('that knows no such host is looked at all the same', async () => {
    const server = await start({ '*': old });
    expect(await probe(server, name)).toMatchObject({ thumbprint: old.thumbprint });
  });

  it('is sent no host that is no name', async () => {
    const server = await start({ '*': old });
    await probe(server, 'a b\r\nDELE x');
    expect(server.commands).toEqual(['AUTH TLS']);
  });

  it.each([
    ['refuses TLS', { refuses: '534 Policy requires no SSL.' }, /answers AUTH TLS with "534 Policy requires no SSL\."/],
    ['is busy', { greeting: ['421 too many'] }, /greets with "421 too many"/],
  ])('that %s is told of with its own words', async (_, options, words) => {
    const server = await start({ '*': old }, options);
    await expect(probe(server)).rejects.toMatchObject({
      code: 'handshake_mismatch',
      message: expect.stringMatching(words),
    });
  });

  it('that says nothing is waited for no longer than told', async () => {
    const server = await start({ '*': old }, { silent: true });
    await expect(probe(server, null, 150)).rejects.toMatchObject({
      ...{ code: 'target_unreachable', message: expect.stringContaining('in 150 ms') },
    });
  });

  it('that is not there is unreachable', async () => {
    const server = await start({ '*': old });
    await server.close();
    await expect(probe(server)).rejects.toMatchObject({ code: 'target_unreachable' });
  });
});

describe('the ftp certificate of a site', () => {
  const state = (
    ftp: string | null,
    bindings = [`*:21:${name}`],
    run: 'Started' | 'Stopped' = 'Started',
  ): HostState => ({
    ...{ iisMajor: 10, osBuild: 20_348 },
    sites: [
      {
        ...{ id: 3, name: 'files', state: run, ftp: { thumbprint: ftp, store: 'My' } },
        bindings: bindings.map((bindingInformation) => ({
          ...{ protocol: 'ftp', bindingInformation, sslFlags: 0, thumbprint: null, store: null },
        })),
      },
    ],
  });
  const change = () => ({
    ...({ op: 'update', siteId: 3, protocol: 'ftp', bindingInformation: '', sslFlags: 0, store: 'My' } as const),
    ...{ thumbprint: fresh.thumbprint, expect: { thumbprint: old.thumbprint, sslFlags: 0 } },
  });
  /** What is wrong, when the host says `ftp` and its port 21 is this server. */
  const verify = async (is: HostState, port: number) => {
    const host = { endpoint: () => ({ host: '127.0.0.1', port }) } as Partial<IisHost> as IisHost;
    const part = { certificate: { thumbprint: fresh.thumbprint, names: [name] }, changes: [change()] };
    return (await verifyParts(host, is, [part], { clock: systemClock, signal }))[0];
  };

  it('is right when the server shows it', async () => {
    const server = await start({ '*': old, [name]: fresh });
    expect(await verify(state(fresh.thumbprint), server.port)).toBeNull();
  });

  it('is wrong when the server shows another one', async () => {
    const server = await start({ '*': old });
    const wrong = { binding: `ftp ${name}:21`, seen: old.thumbprint, error: null };
    expect(await verify(state(fresh.thumbprint), server.port)).toEqual(wrong);
  });

  it('is wrong when one of several bindings shows another one', async () => {
    const server = await start({ '*': old, [name]: fresh });
    const wrong = await verify(state(fresh.thumbprint, [`*:21:${name}`, '*:2121:']), server.port);
    expect(wrong).toMatchObject({ binding: 'ftp *:2121', seen: old.thumbprint });
  });

  it('is wrong when the host did not take it over', async () => {
    const wrong = { binding: 'ftp of site 3', seen: old.thumbprint, error: 'the host did not take the change over' };
    expect(await verify(state(old.thumbprint), 1)).toEqual(wrong);
  });

  it('of a site that is stopped is what the host says', async () => {
    expect(await verify(state(fresh.thumbprint, undefined, 'Stopped'), 1)).toBeNull();
  });

  it('at the port of implicit FTPS is shown without a word', async () => {
    const server = createServer({ key: fresh.key, cert: fresh.cert }, (socket) => socket.on('error', () => {}));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    servers.push(server);
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    expect(await verify(state(fresh.thumbprint, ['*:990:']), port)).toBeNull();
  });
});
