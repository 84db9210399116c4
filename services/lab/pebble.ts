import { randomBytes } from 'node:crypto';
import { Resolver } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import { mkdir, realpath, writeFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { createRootCa } from './certificate-authority.ts';
import { providePebble } from './programs.ts';
import { freePort, type RunningProgram, startProgram, untilReady, withFreePorts } from './running-program.ts';

const READY_MS = 15_000;
const ANSWER_MS = 1_000;
const LIFETIMES = { default: 90 * 86_400, shortlived: 6 * 86_400 };
const EAB_KEY_ID = 'lab-1';

export type Profile = keyof typeof LIFETIMES;

export interface PebbleOptions {
  /** Where its configuration, keys and logs are kept; made when it is not there. */
  readonly dir: string;
  /** Where Pebble looks for http-01 answers, on 127.0.0.1 whatever the name. */
  readonly httpPort: number;
  /** A DNS server that it asks, `address:port`, instead of its own. */
  readonly dnsServer?: string;
  /** Pebble's own switches (PEBBLE_…), over the defaults. */
  readonly env?: Readonly<Record<string, string>>;
  /** Accounts need an external account binding; the result then has one. */
  readonly eabRequired?: boolean;
  /** Seconds that Pebble asks for between polls. */
  readonly retryAfter?: { readonly authz: number; readonly order: number };
  readonly strict?: boolean;
  /** Only `default` unless told otherwise: Pebble takes a random one for an order that asks for none. */
  readonly profiles?: readonly Profile[];
}

/** A Pebble with a DNS server of its own; both end when this process ends. */
export interface Pebble {
  /** URL of the ACME directory. */
  readonly directory: string;
  /** The CA (PEM) of Pebble's own TLS certificate; not the roots that it issues from. */
  readonly caBundle: string;
  /** Pebble's management interface (`/roots/0`, `/intermediates/0`, …), under the same CA. */
  readonly managementUrl: string;
  /** Where its DNS server answers: `127.0.0.1:port`, UDP and TCP. Every name has the address 127.0.0.1. */
  readonly dns: string;
  /** Where records are set: `POST /set-txt {"host": "_acme-challenge.example.com.", "value": "…"}`, `/clear-txt {"host"}`. */
  readonly challtestsrvUrl: string;
  /** With `eabRequired`: the key id, and the HMAC key in base64url. */
  readonly eab: { readonly keyId: string; readonly hmacKey: string } | undefined;
  /** Undefined in Docker. */
  readonly pid: number | undefined;
  /**
   * Every certificate issued so far, in order, as Pebble itself wrote it down before it told anyone: serial in hex, id
   * of the ACME order. In Docker its log arrives a moment later, so wait for the number that is expected.
   */
  issued(): { serial: string; order: string }[];
  /** To hold it (SIGSTOP) and let it go on (SIGCONT). Killing it loses all its state. */
  signal(name: NodeJS.Signals): Promise<void>;
  close(): Promise<void>;
}

/** Starts Pebble and its DNS server, and waits until both answer. */
export async function startPebble(options: PebbleOptions): Promise<Pebble> {
  await mkdir(options.dir, { recursive: true, mode: 0o700 });
  const dir = await realpath(options.dir);
  const programs = await providePebble();
  const ca = createRootCa(`certline lab ${randomBytes(4).toString('hex')}`);
  const tls = ca.issueWithKey({ names: ['localhost'], addresses: [Buffer.of(127, 0, 0, 1)] });
  const eab = options.eabRequired ? { keyId: EAB_KEY_ID, hmacKey: randomBytes(32).toString('base64url') } : undefined;
  await writeFile(join(dir, 'pebble-ca.pem'), ca.certificatePem);
  await writeFile(join(dir, 'pebble-certificate.pem'), tls.certificatePem);
  await writeFile(join(dir, 'pebble-key.pem'), tls.privateKeyPem, { mode: 0o600 });

  const dnsLog = join(dir, 'challtestsrv.log');
  const dns = await withFreePorts(async () => {
    const [port, management] = [await freePort(), await freePort()];
    const listeners = { dnsserver: `127.0.0.1:${port}`, management: `127.0.0.1:${management}` };
    // It answers every name with loopback; its own challenge listeners would be in the way of the real answers.
    const off = ['-http01', '', '-https01', '', '-tlsalpn01', '', '-doh', ''];
    const args = ['-defaultIPv4', '127.0.0.1', '-defaultIPv6', '', '-dnsserver', listeners.dnsserver];
    args.push('-management', listeners.management, ...off);
    const running = await startProgram(programs.challtestsrv, { args, dir, logFile: dnsLog });
    await readyOrStopped(running, 'pebble-challtestsrv', dnsLog, async () => {
      return (await resolves(listeners.dnsserver)) && (await httpStatus(`http://${listeners.management}/`)) > 0;
    });
    return { running, ...listeners };
  });

  const log = join(dir, 'pebble.log');
  const config = join(dir, 'pebble.json');
  const start = async (): Promise<{ running: RunningProgram; acme: string; management: string }> => {
    const [acme, management] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
    await writeFile(config, JSON.stringify(settings(options, dir, acme, management, eab), null, 2), { mode: 0o600 });
    const running = await startProgram(programs.pebble, {
      args: [
        '-config',
        config,
        '-dnsserver',
        options.dnsServer ?? dns.dnsserver,
        ...(options.strict ? ['-strict'] : []),
      ],
      dir,
      logFile: log,
      env: { PEBBLE_VA_NOSLEEP: '1', PEBBLE_WFE_NONCEREJECT: '5', PEBBLE_AUTHZREUSE: '0', ...options.env },
    });
    const ready = async (): Promise<boolean> => (await httpStatus(`https://${acme}/dir`, ca.certificatePem)) === 200;
    await readyOrStopped(running, 'pebble', log, ready);
    return { running, acme, management };
  };
  const pebble = await withFreePorts(start).catch(async (error: unknown) => {
    await dns.running.stop('SIGKILL', 0);
    throw error;
  });

  return {
    directory: `https://${pebble.acme}/dir`,
    caBundle: ca.certificatePem,
    managementUrl: `https://${pebble.management}`,
    dns: dns.dnsserver,
    challtestsrvUrl: `http://${dns.management}`,
    eab,
    pid: pebble.running.pid,
    issued: () => issuedCertificates(readFileSync(log, 'utf8')),
    signal: (name) => pebble.running.signal(name),
    close: async () => {
      // They keep nothing, so there is nothing to end gracefully, and SIGKILL also ends what is stopped.
      await Promise.all([pebble.running.stop('SIGKILL', 0), dns.running.stop('SIGKILL', 0)]);
    },
  };
}

function settings(
  options: PebbleOptions,
  dir: string,
  acme: string,
  management: string,
  eab: Pebble['eab'],
): { pebble: Record<string, unknown> } {
  const profiles = options.profiles ?? ['default'];
  return {
    pebble: {
      listenAddress: acme,
      managementListenAddress: management,
      certificate: join(dir, 'pebble-certificate.pem'),
      privateKey: join(dir, 'pebble-key.pem'),
      httpPort: options.httpPort,
      tlsPort: 1, // tls-alpn-01, which nobody here answers
      ocspResponderURL: '',
      externalAccountBindingRequired: eab !== undefined,
      externalAccountMACKeys: eab === undefined ? {} : { [eab.keyId]: eab.hmacKey },
      domainBlocklist: ['blocked-domain.example'],
      retryAfter: options.retryAfter ?? { authz: 1, order: 1 },
      keyAlgorithm: 'ecdsa',
      profiles: Object.fromEntries(
        profiles.map((name) => [name, { description: `${name} profile`, validityPeriod: LIFETIMES[name] }]),
      ),
    },
  };
}

/** What Pebble's log says of certificates. */
function issuedCertificates(log: string): { serial: string; order: string }[] {
  const found = log.matchAll(/Issued certificate serial (\S+) for order (\S+)/g);
  return Array.from(found, ([, serial = '', order = '']) => ({ serial, order }));
}

async function readyOrStopped(
  running: RunningProgram,
  what: string,
  logFile: string,
  ready: () => Promise<boolean>,
): Promise<void> {
  try {
    await untilReady(running, what, logFile, READY_MS, ready);
  } catch (error) {
    await running.stop('SIGKILL', 0);
    throw error;
  }
}

async function resolves(server: string): Promise<boolean> {
  const resolver = new Resolver({ timeout: ANSWER_MS, tries: 1 });
  resolver.setServers([server]);
  return (await resolver.resolve4('ready.example')).includes('127.0.0.1');
}

/** The status of a GET. Pebble refuses requests that do not say who asks. */
function httpStatus(url: string, ca?: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const options = { headers: { 'User-Agent': 'certline-lab' }, timeout: ANSWER_MS, agent: false };
    const request = ca === undefined ? httpRequest(url, options) : httpsRequest(url, { ...options, ca });
    request.once('response', (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    request.once('timeout', () => request.destroy(new Error('no answer')));
    request.once('error', reject);
    request.end();
  });
}
