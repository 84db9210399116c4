import type { ServerResponse } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { newId } from '#libs/model/ids';
import { newOrder } from '#libs/model/transitions';
import { type ApiSession, openApiSession } from '../support/api-session.ts';
import { type DnsLab, nothingLeft, startDnsLab } from '../support/dns-lab.ts';
import { startDnsReceiver } from '../support/dns-receiver.ts';
import { eventually } from '../support/lab-session.ts';

type Json = Record<string, unknown>;

/** Whatever becomes of an order, what it wrote for its challenges is taken away. */
let dns: DnsLab;
let session: ApiSession;
let account: string;
let bind: string;

const place = (names: string[], challenges: Json): Promise<string> =>
  session.order({ names, account, key: { type: 'ec-p256' }, ...challenges });
const by = (credential: string): Json => ({ challenge: { type: 'dns-01', credential } });
const waits = (id: string): Promise<Json> =>
  session.until(id, 'it waits for the name servers', ({ nextAttemptAt, error }) => {
    return nextAttemptAt !== null && (error as Json | null)?.code === 'dns_record_not_visible';
  });
const cancel = (id: string): Promise<Json> => session.api.send('POST', `/v1/orders/${id}/cancel`);
const challengeOf = (name: string): string => `_acme-challenge.${name}`;

beforeAll(async () => {
  dns = await startDnsLab();
  session = await openApiSession({ workers: true, env: dns.env, pebble: { dnsServer: dns.dnsServer } });
  account = await session.account({ allowInternalNames: true });
  bind = String((await session.api.send('POST', '/v1/credentials', dns.rfc2136('BIND'))).id);
});
afterAll(async () => {
  await session?.close();
  await dns?.close();
});

describe('what an order has written is taken away', { timeout: 90_000 }, () => {
  it('when it is called off while it waits', async () => {
    const id = await place(['called-off.slow.test'], by(bind));
    await waits(id);
    expect(await dns.valuesAt(challengeOf('called-off.slow.test'))).toHaveLength(1);
    await cancel(id);
    await nothingLeft(dns, session.redis, challengeOf('called-off.slow.test'));
  });

  it('when it fails, also what was written for its other names in the same moment', async () => {
    const names = ['www.delegating.test', 'good.fast.test', 'better.fast.test'];
    const id = await place(names, by(bind));
    const failed = await session.until(id, 'it has failed', ({ status }) => status === 'failed');
    expect(failed).toMatchObject({
      ...{ stage: 'validation', attempts: { validation: 1 }, nextAttemptAt: null },
      error: { code: 'dns_zone_not_managed', detail: expect.stringContaining('handed.test') },
    });
    const log = await dns.primary.log();
    expect(log).toContain(`adding an RR at '${challengeOf('good.fast.test')}' TXT`);
    expect(log).toContain(`adding an RR at '${challengeOf('better.fast.test')}' TXT`);
    await nothingLeft(dns, session.redis, ...names.slice(1).map(challengeOf));
  });

  it('later, when the provider is down just then', async () => {
    const name = challengeOf('down.slow.test');
    const id = await place(['down.slow.test'], by(bind));
    await waits(id);
    await dns.primary.stop();
    await cancel(id);
    const { cleanUps, keys } = session.store;
    await eventually('it is put off', 20_000, async () => {
      const [, due] = await session.redis.zrange(keys.cleanUps, '0', '-1', 'WITHSCORES');
      return Number(due) > Date.now();
    });
    expect(await cleanUps.count()).toBe(1);
    await dns.primary.start();
    expect(await dns.valuesAt(name)).toHaveLength(1);
    await nothingLeft(dns, session.redis, name);
  }, 60_000);

  it('not before another order that the CA gave the same authorization has used it', async () => {
    const name = challengeOf('shared.slow.test');
    const first = await place(['shared.slow.test'], by(bind));
    await waits(first);
    // What a CA does for two orders of an account: both have one ACME order.
    const stored = await session.store.orders.get(first);
    if (stored?.status !== 'pending') throw new Error('it is not pending');
    const now = Date.now();
    const { id: second } = newOrder(newId('order', now), stored.request, now);
    await session.store.orders.place({ ...newOrder(second, stored.request, now), acmeOrder: stored.acmeOrder });
    await waits(second);
    expect(await dns.valuesAt(name)).toHaveLength(1);

    await cancel(second);
    await eventually('the round has seen it', 10_000, async () => (await session.store.cleanUps.count()) === 0);
    expect(await dns.valuesAt(name)).toHaveLength(1);
    await dns.catchUp();
    await session.until(first, 'it is issued', ({ complete }) => complete === true, 25_000);
    await eventually('it is gone', 10_000, async () => {
      await dns.catchUp();
      return (await dns.valuesAt(name)).length === 0;
    });
    await nothingLeft(dns, session.redis, name);
  }, 60_000);

  it('when it is called off while a worker writes it: what comes late is taken away again, and looked at once more', async () => {
    const held: ServerResponse[] = [];
    const receiver = await startDnsReceiver((response, { action }) => {
      if (action === 'present') held.push(response);
      else response.writeHead(204).end();
    });
    const { id: credential } = await session.api.send('POST', '/v1/credentials', receiver.body);
    const id = await place(['late.fast.test'], by(String(credential)));
    const taken = (): number => receiver.deliveries.filter(({ action }) => action === 'cleanUp').length;
    await eventually('it is being written', 10_000, async () => held.length === 1);
    await cancel(id);
    await eventually('it is taken away', 10_000, async () => taken() === 1);
    held[0]?.writeHead(204).end();
    await eventually('it is taken away again', 10_000, async () => taken() === 2);
    // For a worker that dies while it writes, nobody is left to say so.
    const [entry = '', due] = await session.redis.zrange(session.store.keys.cleanUps, '0', '-1', 'WITHSCORES');
    expect(JSON.parse(entry)).toMatchObject({ order: id, credential });
    expect(Number(due)).toBeGreaterThan(Date.now());
    expect(await session.store.cleanUps.count()).toBe(1);
    await receiver.close();
  });
});
