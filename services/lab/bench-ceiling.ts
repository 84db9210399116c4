import { createServer } from 'node:http';
import { join } from 'node:path';
import { type AcmeConnections, createAcmeConnections } from '#libs/acme/connections';
import { generateAccountKey } from '#libs/acme/jws';
import { pollInPlace } from '#libs/acme/polling';
import type { AcmeOrder, AcmeSession } from '#libs/acme/session';
import { challengePath, createHttpCheck, type HttpCheck } from '#libs/challenges/http-check';
import { createLookup, createWebReader } from '#libs/challenges/web-reader';
import { systemClock } from '#libs/clock';
import { generatePrivateKey } from '#libs/crypto/private-key';
import { createSigningRequest } from '#libs/crypto/signing-request';
import { type CaaChecks, createCaaChecks } from '#libs/dns/caa-checks';
import { createExchange } from '#libs/dns/exchange';
import { createResolver } from '#libs/dns/resolver';
import { resolverServers } from '#libs/dns/servers';
import { createLogger } from '#libs/logging';
import { version } from '#libs/version';
import { type BenchSettings, type Measurement, namesOf, pebbleEnv, runLoad } from './bench-load.ts';
import { startPebble } from './pebble.ts';
import { freePort } from './running-program.ts';

const context = { clock: systemClock, signal: new AbortController().signal };

interface Bare {
  session: AcmeSession;
  /** Key authorizations by token, served as they are. */
  answers: Map<string, string>;
  /** certline's look at its own answer, which is one of its requests. */
  selfCheck: HttpCheck;
  /** And its look at CAA, which is another. */
  caa: CaaChecks;
}

/** One certificate with the requests that certline makes, and nothing besides: nothing is stored, queued or told to anyone. */
async function issueBarely({ session, answers, selfCheck, caa }: Bare, name: string): Promise<void> {
  const question = { issuerDomains: [], accountUri: session.accountUrl, method: 'http-01' };
  await caa.view([name], context.signal).check(name, question);
  const { url, order } = await session.newOrder({ names: [name] });
  const authorization = await session.authorization(order.authorizations[0] ?? '');
  const challenge = authorization.challenges.find(({ type }) => type === 'http-01');
  if (!challenge?.token) throw new Error(`the CA offers no http-01 for ${name}`);
  const { token } = challenge;
  const keyAuthorization = session.keyAuthorization(token);
  answers.set(token, keyAuthorization);
  await selfCheck.look({ name, token, keyAuthorization }, context.signal);
  await session.answerChallenge(challenge.url);
  const read = (): Promise<AcmeOrder> => session.order(url);
  const pending = ({ status }: AcmeOrder): boolean => status === 'pending';
  await pollInPlace({ read, busy: pending, code: 'validation_pending', context });

  const csr = await createSigningRequest(await generatePrivateKey('ec-p256'), [name]);
  let state = await session.finalize(order.finalize, csr);
  const processing = ({ status }: AcmeOrder): boolean => status === 'processing';
  if (processing(state)) state = await pollInPlace({ read, busy: processing, code: 'acme_order_processing', context });
  if (!state.certificate) throw new Error(`the CA has no certificate for ${name}: the order is ${state.status}`);
  await session.certificate(state.certificate);
}

/**
 * The bare protocol, with certline's own ACME session: what one process of ours could do at this CA if all that makes
 * certline safe cost nothing. It runs in the benchmark's own process.
 */
export async function measureCeiling({ dir, orders, inFlight, warmUp }: BenchSettings): Promise<Measurement> {
  const answers = new Map<string, string>();
  const server = createServer((request, response) => {
    const answer = answers.get(request.url?.slice(challengePath.length) ?? '');
    response.writeHead(answer === undefined ? 404 : 200).end(answer);
  });
  const httpPort = await freePort();
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(httpPort, '127.0.0.1', resolve));
  const pebble = await startPebble({ dir: join(dir, 'pebble'), httpPort, env: pebbleEnv });
  let caRequests = 0;
  const connections: AcmeConnections = createAcmeConnections({
    clock: systemClock,
    userAgentVersion: version,
    observe: () => {
      caRequests += 1;
    },
  });
  try {
    const session = connections.session({
      directoryUrl: pebble.directory,
      caBundle: pebble.caBundle,
      accountKeyPem: await generateAccountKey(),
      accountUrl: null,
    });
    await session.register({ email: 'ops@example.com', termsOfServiceAgreed: true });
    const read = createWebReader(createLookup([pebble.dns]), [httpPort]);
    const look = { read, port: httpPort, selfCheck: true, outside: null, log: createLogger('bench', 'warn') };
    const resolver = createResolver({ servers: resolverServers([pebble.dns]), exchange: createExchange() });
    const caa = createCaaChecks(resolver, systemClock);
    const bare: Bare = { session, answers, selfCheck: createHttpCheck(look), caa };
    await runLoad(namesOf('warm', warmUp), inFlight, (name) => issueBarely(bare, name));
    const [requestsBefore, cpuBefore] = [caRequests, process.cpuUsage()];
    const load = await runLoad(namesOf('host', orders), inFlight, (name) => issueBarely(bare, name));
    const { user, system } = process.cpuUsage(cpuBefore);
    return {
      contender: 'ceiling',
      orders,
      warmUp,
      ...load,
      issued: pebble.issued().length,
      cpuSeconds: (user + system) / 1e6,
      caRequests: caRequests - requestsBefore,
      notes: [],
    };
  } finally {
    await connections.close();
    await pebble.close();
    server.close();
    server.closeAllConnections();
  }
}
