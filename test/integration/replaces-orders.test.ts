import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { renewalInfoId } from '#libs/crypto/renewal-info-id';
import type { Certificate } from '#libs/model/certificate';
import type { Redis } from '../../services/lab/redis.ts';
import { type OrderDriver, openOrderDriver } from '../support/order-driver.ts';
import { startTestRedis } from '../support/pipeline.ts';
import { problem, type ScriptedAnswer } from '../support/scripted-ca.ts';

/** Orders that replace a certificate (RFC 9773), through the real stages, to a CA over HTTP whose suggestions the test makes. */
let server: Redis;
let driver: OrderDriver;
const both = ['validation completed', 'issuance completed'];
const waits = expect.stringMatching(/^validation wait ca_budget_spent in /);
const names = ['a.shop.example'];

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
afterEach(() => driver.close());

/** A CA with renewal information, unless told otherwise. */
async function open(limits: Record<string, string | boolean> = {}, hasInfo = true): Promise<void> {
  driver = await openOrderDriver(server, undefined, limits);
  if (!hasInfo) return;
  const withInfo: ScriptedAnswer = ({ status, body }, base) => ({
    status,
    body: { ...(body as object), renewalInfo: `${base}/renewalInfo` },
  });
  // It is read again after an hour.
  driver.ca.answer('directory', ...Array<ScriptedAnswer>(5).fill(withInfo));
}

/** What the CA suggests when it is asked next: a window that begins in so many days. */
function suggestIn(days: number): ScriptedAnswer {
  const at = (day: number): string => new Date(driver.clock.now() + day * 86_400_000).toISOString();
  return { status: 200, body: { suggestedWindow: { start: at(days), end: at(days + 2) } } };
}

async function certificateOf(order: string): Promise<Certificate> {
  const { certificate } = { certificate: null, ...(await driver.read(order)) };
  const found = certificate && (await driver.pipeline.store.certificates.get(certificate));
  if (!found) throw new Error(`${order} has no certificate`);
  return found;
}

/** A certificate that is there. */
async function issue(): Promise<Certificate> {
  const id = await driver.place({ names });
  expect(await driver.drive(id)).toEqual(both);
  return certificateOf(id);
}

const newOrders = (): unknown[] =>
  driver.ca.seen
    .filter(({ operation }) => operation === 'newOrder')
    .map(({ payload }) => (payload as { replaces?: string }).replaces);
const progressOf = async (order: string) =>
  (await driver.pipeline.store.history(order)).flatMap(({ type, detail }) =>
    type === 'stage_progress' ? [detail] : [],
  );

describe('an order that replaces a certificate', () => {
  it('tells the CA so, and shows it, as both certificates do', async () => {
    await open();
    const first = await issue();
    const id = await driver.place({ names, replaces: first.id });
    expect(await driver.drive(id)).toEqual(both);
    expect(newOrders()).toEqual([undefined, renewalInfoId(first.leaf)]);
    expect(await progressOf(id)).toContain(`ACME order opened to replace ${first.id}`);
    expect(await driver.shown(id)).toMatchObject({ replaces: first.id });
    const second = await certificateOf(id);
    expect(second.replaces).toBe(first.id);
    expect((await driver.pipeline.store.certificates.get(first.id))?.replacedBy).toBe(second.id);
    const third = await driver.place({ names, replaces: first.id });
    expect(await driver.drive(third)).toEqual(both);
    expect((await driver.pipeline.store.certificates.get(first.id))?.replacedBy).toBe(second.id);
  });

  it('does not tell a CA that knows nothing of it', async () => {
    await open({ ari_exempt: true }, false);
    const first = await issue();
    const id = await driver.place({ names, replaces: first.id });
    expect(await driver.drive(id)).toEqual(both);
    expect(newOrders()).toEqual([undefined, undefined]);
    expect((await certificateOf(id)).replaces).toBe(first.id);
  });

  it('is any other order when the certificate is gone', async () => {
    await open();
    const id = await driver.place({ names, replaces: 'crt_gone' });
    expect(await driver.drive(id)).toEqual(both);
    expect(newOrders()).toEqual([undefined]);
  });

  it('is held for no limit once the CA suggests it, and its certificate counts for the others', async () => {
    await open({ orders_per_account: '1/1h', certificates_per_domain: '2/7d', ari_exempt: true });
    const { id: replaces } = await issue();
    driver.ca.answer('renewalInfo', suggestIn(-1));
    expect(await driver.drive(await driver.place({ names, replaces }))).toEqual(both);
    const other = await driver.place({ names: ['b.shop.example'] });
    expect(await driver.drive(other, 1)).toEqual([waits]);
    expect(await driver.read(other)).toMatchObject({ error: { evidence: { limit: 'certificates_per_domain' } } });
  });

  it.each([
    ['suggests it later', () => suggestIn(1)],
    ['does not say', (): ScriptedAnswer => ({ status: 404, body: problem('malformed', 'who?') })],
    ['says nothing that can be read', (): ScriptedAnswer => ({ status: 200, body: { suggestedWindow: {} } })],
  ])('waits for the limits as any other where the CA %s', async (_, answer) => {
    await open({ orders_per_account: '1/1h', ari_exempt: true });
    const first = await issue();
    driver.ca.answer('renewalInfo', answer());
    const id = await driver.place({ names, replaces: first.id });
    expect(await driver.drive(id, 1)).toEqual([waits]);
    driver.ca.answer('renewalInfo', answer());
    expect(await driver.drive(id)).toEqual(both);
    expect(newOrders()).toEqual([undefined, renewalInfoId(first.leaf)]);
  });

  it('waits for the limits of a CA that exempts nothing, without asking what it suggests', async () => {
    await open({ orders_per_account: '1/1h' });
    const { id: replaces } = await issue();
    expect(await driver.drive(await driver.place({ names, replaces }), 1)).toEqual([waits]);
    expect(driver.ca.count('renewalInfo')).toBe(0);
  });

  it('is ordered as any other, within the limits, when the CA says that it is replaced already', async () => {
    await open({ orders_per_account: '2/2h', ari_exempt: true });
    const { id: replaces, leaf } = await issue();
    const replaced: ScriptedAnswer = { status: 409, body: problem('alreadyReplaced', 'there is one') };
    driver.ca.answer('newOrder', replaced);
    driver.ca.answer('renewalInfo', suggestIn(-1));
    const id = await driver.place({ names, replaces });
    expect(await driver.drive(id)).toEqual(both);
    expect(newOrders()).toEqual([undefined, renewalInfoId(leaf), undefined]);
    expect((await progressOf(id))[0]).toMatch(
      `ACME order opened, not to replace ${replaces}: The CA answers newOrder: there is one`,
    );
    // That was the second of two in two hours.
    driver.ca.answer('newOrder', replaced);
    driver.ca.answer('renewalInfo', suggestIn(-1));
    expect(await driver.drive(await driver.place({ names, replaces }), 1)).toEqual([waits]);
  });
});
