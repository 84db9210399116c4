import { randomBytes } from 'node:crypto';
import type { Clock } from '#libs/clock';
import { generatePrivateKey } from '#libs/crypto/private-key';
import { CertlineError, type Plan } from '#libs/errors';
import { type Certificate, renewalTime } from '#libs/model/certificate';
import { bindingKey, type Expectation } from '#libs/model/drift';
import { certificateId, newId } from '#libs/model/ids';
import type { Order, OrderRequest, PresentedChallenge, StageName, TargetDeploy } from '#libs/model/order';
import { deployed, issued, newOrder, redeployment, validated } from '#libs/model/transitions';
import { createOrderRunner, type Run } from '#libs/queues/order-runner';
import type { Producer } from '#libs/queues/producer';
import type { WorkerSettings } from '#libs/queues/stage-worker';
import { createPrivateKeys } from '#libs/store/private-keys';
import { createSecretBox, parseMasterKeys } from '#libs/store/secret-box';
import type { Store } from '#libs/store/store';
import {
  accountAt,
  estateChain,
  failureCodes,
  issuedFor,
  lifetimeMs,
  renewalMs,
  requestAt,
  signingRequest,
  spread,
  targetAt,
} from './estate-records.ts';

export interface EstateOptions {
  store: Store;
  /** What stage workers are built from. Its clock is the time of now: orders are as old as they would be in an estate at rest. */
  settings: WorkerSettings;
  /** Lives written side by side. */
  inFlight?: number;
  /** Told now and then how many of the wanted records are there. */
  onProgress?: (what: string, done: number, all: number) => void;
}

/** A certificate of the estate and what is needed to order its deployment again. */
type Deployed = Pick<Certificate, 'id' | 'names' | 'account' | 'keyType' | 'thumbprint'> & { deploy: TargetDeploy };

/** A made-up installation, grown through the same calls of store and runner that the services make. */
export interface Estate {
  readonly certificates: readonly Pick<Deployed, 'id' | 'names'>[];
  /** Orders that are under way, waiting for a time that has not come. */
  readonly open: readonly string[];
  /** Adds certificates until there are `count`, each with the order that it came of, deployed; and a target for every hundred of them. */
  growCertificates(count: number): Promise<void>;
  /**
   * Adds orders until there are `count` in all: of a hundred 4 fail for good, 2 wait for their next attempt and the others deploy a
   * certificate again.
   */
  growOrders(count: number): Promise<void>;
  /** The whole life of one order for a new certificate of one name, as `growCertificates` writes it. Answers its id. */
  addOne(): Promise<string>;
}

const minute = 60_000;
const accountCount = 5;
const perTarget = 100;

/** A clock that stands still until it is told to go on. */
function ownClock(at: number): Clock & { pass(ms: number): void } {
  let now = Math.round(at);
  return {
    now: () => now,
    sleep: async () => {},
    pass(ms) {
      now += ms;
    },
  };
}

export async function createEstate({
  store,
  settings,
  inFlight = 64,
  onProgress = () => {},
}: EstateOptions): Promise<Estate> {
  const keys = createPrivateKeys(
    store.secrets,
    createSecretBox(parseMasterKeys(`estate:${randomBytes(32).toString('base64')}`)),
  );
  // One for all: to make 100,000 takes hours, and sealed no two are alike.
  const privateKeyPem = await generatePrivateKey('rsa-2048');
  const accounts = Array.from({ length: accountCount }, (_, at) => accountAt(at, settings.clock.now() - renewalMs));
  for (const account of accounts) await store.accounts.create(account);
  const certificates: Deployed[] = [];
  const open: string[] = [];
  let [targets, orders] = [0, 0];
  // Nobody is to work on what has its end written already.
  const silent: Producer = { ...settings.producer, enqueue: async () => {} };

  /** Takes an order up in a stage as a worker does. */
  async function begin<S extends StageName>(stage: S, id: string, clock: Clock, producer = silent) {
    const runner = createOrderRunner(stage, { ...settings, producer, clock });
    const begun = await runner.begin(id, { crashes: 0 });
    if (begun.kind !== 'run') throw new Error(`${id} cannot be taken up in ${stage}: ${begun.kind}`);
    return { runner, run: begun.run };
  }

  function requestOf(index: number): OrderRequest {
    const target = `tgt_estate${Math.floor(index / perTarget) + 1}`;
    return requestAt(index, accounts[index % accountCount]?.id ?? '', target);
  }

  async function place(request: OrderRequest, clock: Clock): Promise<string> {
    const now = clock.now();
    return (await store.orders.place(newOrder(newId('order', now), request, now))).order.id;
  }

  /** As far as validation comes before the CA has decided. */
  async function present(run: Run<'validation'>, clock: Clock): Promise<void> {
    const url = `https://acme.ca.example/order/${randomBytes(5).toString('hex')}`;
    const expires = clock.now() + 7 * 86_400_000;
    await run.checkpoint({ acmeOrder: { url, finalize: `${url}/finalize`, expires } }, 'ACME order opened');
    const presented = run.order.request.names.map((name): PresentedChallenge => {
      const token = randomBytes(32).toString('base64url');
      const keyAuthorization = `${token}.${randomBytes(32).toString('base64url')}`;
      return { type: 'http-01', via: 'responder', name, token, keyAuthorization, expires };
    });
    const what = presented.length === 1 ? 'challenge' : 'challenges';
    await run.checkpoint({ presented }, `${presented.length} ${what} presented`);
  }

  async function validate(id: string, clock: ReturnType<typeof ownClock>): Promise<void> {
    const { runner, run } = await begin('validation', id, clock);
    await present(run, clock);
    clock.pass(2_000);
    if (!run.order.acmeOrder) throw new Error(`${id} has no ACME order`);
    await runner.succeed(run, validated(run.order, run.order.acmeOrder, clock.now()));
  }

  async function issue(id: string, clock: ReturnType<typeof ownClock>): Promise<Omit<Deployed, 'deploy'>> {
    const { runner, run } = await begin('issuance', id, clock);
    const certificate = certificateId(id, run.order.epoch);
    const privateKey = `${certificate}.1`;
    const signing = { privateKey, attempt: 1, csr: signingRequest() };
    await run.checkpoint({ signing }, 'rsa-2048 key made', [keys.keeping(privateKey, privateKeyPem)]);
    clock.pass(1_000);
    const now = clock.now();
    const { names, account, keyType } = run.order.request;
    const [notBefore, notAfter] = [now - 60 * minute, now - 60 * minute + lifetimeMs];
    const record = {
      ...{ id: certificate, order: id, account, names, keyType, privateKey, createdAt: now },
      ...{ ...issuedFor(names), notBefore, notAfter, renewAt: renewalTime(notBefore, notAfter) },
    };
    await store.certificates.create(record, estateChain);
    await runner.succeed(run, issued(run.order, certificate, now));
    return { id: certificate, names, account, keyType, thumbprint: record.thumbprint };
  }

  async function deploy(id: string, { deploy: where, ...certificate }: Deployed, clock: Clock): Promise<void> {
    const { runner, run } = await begin('deployment', id, clock);
    const now = clock.now();
    const expected = certificate.names.map((name): Expectation => {
      const binding = { siteId: where.site ?? 1, protocol: 'https' as const, bindingInformation: `*:443:${name}` };
      return {
        ...{ place: bindingKey(binding), order: id, certificate: certificate.id, thumbprint: certificate.thumbprint },
        ...{ store: 'My', sslFlags: 1, deploy: where, at: now },
      };
    });
    await runner.succeed(run, deployed(run.order, now), store.expectations.recording(where.target, expected));
  }

  /** From the order to the binding. */
  async function addCertificate(index: number, request = requestOf(index)): Promise<string> {
    const clock = ownClock(settings.clock.now() - minute - spread(index) * renewalMs * 0.99);
    const id = await place(request, clock);
    await validate(id, clock);
    const certificate = { ...(await issue(id, clock)), deploy: request.deploy as TargetDeploy };
    await deploy(id, certificate, clock);
    certificates.push(certificate);
    return id;
  }

  /** One attempt at validation that ends as `plan` says. */
  async function attempt(
    { id, code, plan }: { id: string; code: (typeof failureCodes)[number]; plan: Plan },
    clock: Clock,
    producer?: Producer,
  ): Promise<Order> {
    const { runner, run } = await begin('validation', id, clock, producer);
    await present(run, clock);
    const detail = `what the CA, or the look before it, had to say about ${run.order.request.names[0]}`;
    const evidence = { status: 404, body: 'Not Found' };
    const outcome = await runner.fail(run, new CertlineError(code, detail, { plan, evidence }));
    if (outcome === null) throw new Error(`${id} is stale`);
    return outcome.order;
  }

  async function addFailed(index: number): Promise<void> {
    const clock = ownClock(settings.clock.now() - renewalMs * spread(index) * 0.9 - 60 * minute);
    const id = await place(requestOf(index % Math.max(1, certificates.length)), clock);
    const code = failureCodes[Math.floor(spread(index) ** 2 * failureCodes.length)] ?? 'ca_wrong_answer';
    const first = await attempt({ id, code, plan: { kind: 'retryable' } }, clock);
    clock.pass(Math.max(0, (first.nextAttemptAt ?? 0) - clock.now()));
    await attempt({ id, code, plan: { kind: 'permanent' } }, clock);
  }

  async function addOpen(index: number): Promise<void> {
    const id = await place(requestOf(index % Math.max(1, certificates.length)), settings.clock);
    const until = settings.clock.now() + 86_400_000 * (1 + spread(index));
    await attempt({ id, code: 'http01_wrong_answer', plan: { kind: 'wait', until } }, settings.clock, silent);
    const waiting = await store.orders.get(id);
    // As the first enqueueing and the worker that put it off leave it: one delayed job.
    if (waiting) await settings.producer.enqueue(waiting);
    open.push(id);
  }

  async function addRedeployment(index: number): Promise<void> {
    const certificate = certificates[index % Math.max(1, certificates.length)];
    if (!certificate) throw new Error('there is no certificate to deploy again');
    const clock = ownClock(settings.clock.now() - minute - renewalMs * spread(index) * 0.9);
    const id = newId('order', clock.now());
    await store.orders.place(redeployment(id, certificate, certificate.deploy, undefined, clock.now()));
    await deploy(id, certificate, clock);
  }

  async function addTargets(count: number): Promise<void> {
    const now = settings.clock.now();
    for (; targets < count; targets += 1) {
      const target = targetAt(targets, now);
      await store.targets.create(target);
      await store.driftReports.save({
        ...{ target: target.id, checkedAt: now - targets, state: 'in_sync', places: perTarget, differences: [] },
        error: null,
      });
      await store.driftSchedule.add([{ target: target.id, at: Math.round(now + 60 * minute * (1 + spread(targets))) }]);
    }
  }

  async function grow(what: string, from: number, to: number, add: (index: number) => Promise<unknown>): Promise<void> {
    let [next, done] = [from, from];
    async function writer(): Promise<void> {
      while (next < to) {
        const index = next;
        next += 1;
        await add(index);
        done += 1;
        onProgress(what, done, to);
      }
    }
    await Promise.all(Array.from({ length: inFlight }, writer));
  }

  function addOrder(index: number): Promise<void> {
    const kind = index % 50;
    if (kind < 2) return addFailed(index);
    return kind === 2 ? addOpen(index) : addRedeployment(index);
  }

  return {
    certificates,
    open,
    async growCertificates(count) {
      await addTargets(Math.ceil(count / perTarget));
      const from = certificates.length;
      await grow('certificates', from, count, (index) => addCertificate(index));
      orders += Math.max(0, count - from);
    },
    async growOrders(count) {
      const from = orders;
      orders = Math.max(orders, count);
      await grow('orders', from, count, addOrder);
    },
    async addOne() {
      const request = requestOf(certificates.length);
      const id = await addCertificate(certificates.length, { ...request, names: request.names.slice(0, 1) });
      orders += 1;
      return id;
    },
  };
}
