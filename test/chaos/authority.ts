import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '#libs/clock';
import { createRootCa } from '../../services/lab/certificate-authority.ts';
import { diceOf } from '../support/dice.ts';
import { txtAt } from '../support/dns-providers.ts';
import { type CaAuthorization, type CaOrder, type IssuingCa, startIssuingCa, tokenOf } from '../support/issuing-ca.ts';
import { problem, type ScriptedAnswer, type SeenRequest } from '../support/scripted-ca.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import type { Tally } from './tally.ts';
import { addressOf } from './zone.ts';

/** A CA that looks at challenges for real, and fails requests as the seed says. It keeps what it issued: it is never killed. */
export interface ChaosAuthority {
  ca: IssuingCa;
  /** The way to it. */
  proxy: TcpProxy;
  /** PEM that its own TLS is trusted by. */
  caBundle: string;
  /** Settles when a request of an operation has come: with the part that sent it, which gets its answer a little later. */
  asked(operation: SeenRequest['operation']): Promise<string>;
  /** What it has against a name that it refuses is mended. */
  accept(name: string): void;
  /** From now on every request is answered as it should be. */
  behave(): void;
  /** Requests about an ACME order after it was made: whoever sends one knows its URL. */
  isUsed(order: CaOrder): boolean;
  close(): Promise<void>;
}

export interface AuthorityOptions {
  seed: number;
  tally: Tally;
  /** Where answers to http-01 are. */
  challengePort: number;
  /** `address:port` of the name server that has the zone. */
  nameServer: string;
}

/** Names that the CA has its own mind about, by how they begin. */
export const refusedName = 'refused-';
export const badRequestName = 'bad-request-';
export const doubtedName = 'doubted-';

type Fault = ScriptedAnswer | { afterMs: number };

const page = (status: number, headers: Record<string, string> = {}): ScriptedAnswer => ({
  ...{ status, headers },
  body: '<html>the server is busy</html>',
});
const internal: ScriptedAnswer = { status: 500, body: problem('serverInternal', 'the database is away') };
const badNonce: ScriptedAnswer = { status: 400, body: problem('badNonce', 'nobody knows this nonce') };
const limited = (seconds: string): ScriptedAnswer => ({
  ...{ status: 429, headers: { 'retry-after': seconds } },
  body: problem('rateLimited', 'too many requests'),
});

/** Faults by operation, with how often each comes. */
const everywhere: [name: string, share: number, fault: () => Fault][] = [
  ['badNonce', 0.03, () => badNonce],
  ['500', 0.02, () => internal],
  ['503 with Retry-After', 0.01, () => page(503, { 'retry-after': '1' })],
  ['connection reset', 0.01, () => 'reset'],
  ['slow answer', 0.04, () => ({ afterMs: 700 })],
];
const faults: Partial<Record<SeenRequest['operation'], typeof everywhere>> = {
  newOrder: [
    ['lost reply to newOrder', 0.1, () => 'lost'],
    ['429 with Retry-After', 0.04, () => limited('2')],
    ['429 with a date', 0.02, () => limited(new Date(systemClock.now() + 2_000).toUTCString())],
    ...everywhere,
  ],
  challenge: [['lost reply to a challenge', 0.05, () => 'lost'], ...everywhere],
  finalize: [['lost reply to finalize', 0.15, () => 'lost'], ...everywhere],
  order: [['429 with Retry-After', 0.02, () => limited('1')], ...everywhere],
  authorization: everywhere,
  certificate: everywhere,
  newNonce: [['connection reset', 0.01, () => 'reset']],
};

/** What is served for a name; null where it is not. */
async function textAt(at: { host: string; port: number; path: string; name: string }): Promise<string | null> {
  const { host, port, path, name } = at;
  const asking = get({ host, port, path, headers: { host: name }, agent: false, timeout: 2_000 });
  asking.on('timeout', () => asking.destroy(new Error('no answer')));
  const [answer] = (await once(asking, 'response')) as [IncomingMessage];
  return answer.statusCode === 200 ? text(answer) : null;
}

/** What whoever waits for a request has before it is answered. */
const headStartMs = 50;
/** How long the CA looks for an answer before it does not believe, as RFC 8555 §8.2 lets it. */
const patienceMs = 10_000;

export async function startAuthority(options: AuthorityOptions): Promise<ChaosAuthority> {
  const { seed, tally, challengePort, nameServer } = options;
  const root = createRootCa('Chaos TLS');
  const tls = root.issueWithKey({ names: ['localhost'], addresses: [Buffer.of(127, 0, 0, 1)] });
  const proxy = await startTcpProxy();
  let behaves = false;
  let thumbprint = '';
  const asked = new Map<string, number>();
  const doubted = new Set<string>();
  const accepted = new Set<string>();
  const waiting = new Map<string, ((part: string) => void)[]>();

  function faultFor({ operation, id, payload }: SeenRequest): Fault | null {
    const names = operation === 'newOrder' ? JSON.stringify(payload) : id;
    const about = `${operation} ${names}`;
    const times = (asked.get(about) ?? 0) + 1;
    asked.set(about, times);
    let left = diceOf(seed, 'ca', about, times).next();
    for (const [name, share, fault] of faults[operation] ?? []) {
      left -= share;
      if (left >= 0) continue;
      tally.fault(`CA: ${name}`);
      return fault();
    }
    return null;
  }

  async function decide(request: SeenRequest): Promise<ScriptedAnswer | null> {
    const { operation, jwk, headers } = request;
    const told = waiting.get(operation) ?? [];
    waiting.delete(operation);
    for (const tell of told) tell(String(headers['user-agent']).split(' ').at(-1) ?? '');
    if (told.length > 0) await delay(headStartMs);
    if (jwk) {
      const { crv, kty, x, y } = jwk;
      thumbprint = createHash('sha256').update(JSON.stringify({ crv, kty, x, y })).digest('base64url');
    }
    const refusal = refusalOf(request);
    const fault = behaves ? null : faultFor(request);
    if (fault !== null && typeof fault === 'object' && 'afterMs' in fault) await delay(fault.afterMs);
    // What is refused is not done, whether the answer arrives or not.
    else if (fault !== null) return fault === 'lost' && refusal !== null ? 'reset' : fault;
    return refusal;
  }

  function refusalOf({ operation, payload, id }: SeenRequest): ScriptedAnswer | null {
    const refuses = (name: string, kind: string): boolean => name.startsWith(kind) && !accepted.has(name);
    const { identifiers = [] } = operation === 'newOrder' ? (payload as { identifiers?: { value: string }[] }) : {};
    if (identifiers.some(({ value }) => refuses(value, refusedName)))
      return { status: 400, body: problem('rejectedIdentifier', 'the name is not for this CA') };
    const order = operation === 'finalize' ? ca.orders.find((one) => one.id === id) : undefined;
    if (order?.authorizations.some(({ name }) => refuses(name, badRequestName)))
      return { status: 400, body: problem('badCSR', 'the CA does not like the request') };
    return null;
  }

  const ca = await startIssuingCa({
    ...{ decide, challenges: ['http-01', 'dns-01'], origin: `https://127.0.0.1:${proxy.port}` },
    tls: { key: tls.privateKeyPem, cert: tls.certificatePem },
  });
  proxy.leadTo(ca.port);

  async function isProved({ id, name, told }: CaAuthorization): Promise<boolean> {
    const keyAuthorization = `${tokenOf(id)}.${thumbprint}`;
    if (told === 'dns-01') {
      const value = createHash('sha256').update(keyAuthorization).digest('base64url');
      return (await txtAt(nameServer, `_acme-challenge.${name}`)).includes(value);
    }
    const path = `/.well-known/acme-challenge/${tokenOf(id)}`;
    return (await textAt({ host: addressOf(name), port: challengePort, path, name }))?.trimEnd() === keyAuthorization;
  }

  async function validate(order: CaOrder, authorization: CaAuthorization): Promise<void> {
    const { name, told } = authorization;
    const until = systemClock.now() + patienceMs;
    let proved = false;
    while (!proved && systemClock.now() < until) {
      proved = await isProved(authorization).catch(() => false);
      if (!proved) await delay(200);
    }
    // Once, as a look from a place that has no way there.
    const doubts = name.startsWith(doubtedName) && !doubted.has(name);
    if (proved && !doubts) {
      authorization.status = 'valid';
      if (order.authorizations.every(({ status }) => status === 'valid')) order.status = 'ready';
      return;
    }
    doubted.add(name);
    tally.fault(doubts ? 'CA: invalid authorization' : `CA: ${told} not seen`);
    authorization.error = problem(told === 'dns-01' ? 'dns' : 'connection', 'the challenge was not seen');
    authorization.status = 'invalid';
    order.status = 'invalid';
  }
  ca.onChallenge = (order, authorization) => void validate(order, authorization);

  return {
    ca,
    proxy,
    caBundle: root.certificatePem,
    asked: (operation) =>
      new Promise((resolve) => {
        waiting.set(operation, [...(waiting.get(operation) ?? []), resolve]);
      }),
    accept: (name) => void accepted.add(name),
    behave() {
      behaves = true;
    },
    isUsed: ({ id }) =>
      ca.seen.some(({ operation, id: about }) => operation !== 'newOrder' && about.split(/[-.]/)[0] === id),
    async close() {
      await proxy.close();
      await ca.close();
    },
  };
}
