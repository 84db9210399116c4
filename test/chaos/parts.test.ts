import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { stageNames } from '#libs/model/order';
import { signatureOf } from '#libs/outgoing/signature';
import type { OrderEvent } from '#libs/store/order-events';
import { freePort } from '../../services/lab/running-program.ts';
import { diceOf } from '../support/dice.ts';
import { inRepository, readText } from '../support/source-tree.ts';
import { edited, edits, isEdit } from './edits.ts';
import { clients, places, proofs } from './kinds/kinds.ts';
import { planOrders } from './plan.ts';
import { signatureProblem } from './receiver.ts';
import { recoveriesOf } from './recovery.ts';
import { missedGoals } from './report.ts';
import { secretsIn } from './secrets.ts';
import { createTally } from './tally.ts';
import { startWebServer } from './web-server.ts';

describe('the chaos', () => {
  it('is the same for the same seed, and another one for another', () => {
    const throws = (seed: number, purpose: string): number[] => {
      const dice = diceOf(seed, purpose);
      return Array.from({ length: 5 }, dice.next);
    };
    expect(throws(7, 'kills')).toEqual(throws(7, 'kills'));
    expect(throws(7, 'kills')).not.toEqual(throws(8, 'kills'));
    expect(throws(7, 'kills')).not.toEqual(throws(7, 'orders'));
    expect(planOrders(7, 50, 3, 1_000)).toEqual(planOrders(7, 50, 3, 1_000));
  });

  it('has orders of every kind, however short it is', () => {
    const plans = planOrders(8, 24, 3, 1_000);
    const has = (field: 'proof' | 'place' | 'client' | 'mind'): string[] => [
      ...new Set(plans.map((plan) => plan[field])),
    ];
    expect(has('proof').sort()).toEqual(Object.keys(proofs).sort());
    expect(has('place').sort()).toEqual(Object.keys(places).sort());
    expect(has('client').sort()).toEqual(Object.keys(clients).sort());
    expect(has('mind').sort()).toEqual(['doubts', 'refuses', 'refuses request', 'takes']);
    const cancelled = plans.filter(({ client }) => client === 'cancels');
    expect(new Set(cancelled.map(({ cancelsIn }) => cancelsIn))).toEqual(new Set(stageNames));
    // Each has a site of its own, those of a rollout one on each host.
    const all = plans.flatMap(({ sites }) => sites.map(({ host, site }) => `${host}/${site}`));
    expect(new Set(all).size).toBe(all.length);
    for (const { sites } of plans.filter(({ place }) => place === 'rollout'))
      expect(sites.map(({ host }) => host).sort()).toEqual([0, 1, 2]);
  });

  it.each(Object.keys(edits).filter(isEdit))('can take away %s: the code still has what is changed for it', (name) => {
    for (const { file } of edits[name]) {
      const text = readText(file);
      expect(edited(inRepository(file), text, [name])).not.toBe(text);
    }
  });

  it('starts no process with a change that changes nothing', () => {
    const [{ file }] = edits.reconciler;
    expect(() => edited(inRepository(file), 'export {};', ['reconciler'])).toThrow(`${file} does not have`);
  });
});

describe('the goals', () => {
  const tally = (kills: number, redisRestarts: number) => ({
    ...createTally(),
    redisRestarts,
    kills: Array.from({ length: kills }, () => ({ part: 'api-1', at: 0 })),
  });

  it('are kills and restarts for a run of ten minutes, and for any run that nothing waits long', () => {
    const recoveries = [{ what: 'validation of ord_1', ms: 15_000 }];
    expect(missedGoals({ recoveries }, tally(100, 5), 10)).toEqual([]);
    expect(missedGoals({ recoveries }, tally(3, 1), 9.9)).toEqual([]);
    expect(missedGoals({ recoveries }, tally(99, 4), 10)).toEqual([
      '99 SIGKILLs are less than 100',
      '4 restarts of Redis are less than 5',
    ]);
    expect(missedGoals({ recoveries: [{ what: 'x', ms: 15_001 }] }, tally(3, 1), 1)).toEqual([
      '1 recoveries took longer than 15.0 s',
    ]);
  });
});

describe('the receiver', () => {
  const now = 1_700_000_000_000;
  const header = signatureOf('the secret', 'body', now);

  it('believes what is signed with its secret, lately, as it came', () => {
    expect(signatureProblem(header, 'body', 'the secret', now + 1_000)).toBeNull();
    expect(signatureProblem(header, 'another', 'the secret', now)).toBe('the signature is of something else');
    expect(signatureProblem(header, 'body', 'another', now)).toBe('the signature is of something else');
    expect(signatureProblem(header, 'body', 'the secret', now + 60_000)).toBe('the signature is 60 s old');
    expect(signatureProblem('v1=0', 'body', 'the secret', now)).toBe('the signature is v1=0');
  });
});

describe('the audit', () => {
  it('finds what is left on the web server, and what is missing there', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'certline-test-'));
    const server = await startWebServer(dir, await freePort());
    try {
      expect(await server.left()).toEqual([]);
      await writeFile(join(server.rootOf('o2.static.chaos.test'), 'token'), '');
      await rm(join(server.rootOf('o1.static.chaos.test'), '.well-known/security.txt'));
      expect(await server.left()).toEqual(['three/token', 'no two/.well-known/security.txt']);
    } finally {
      await server.close();
      await rm(dir, { recursive: true, force: true });
    }
  });

  it('sees a delivery that comes under two names, one that is missing, and one that nobody ordered', async () => {
    const delivery = { id: 'ord_1.1', name: 'a', thumbprint: 'AA', taken: true };
    const deliveries = [delivery, { ...delivery, id: 'ord_1.2' }, { ...delivery, id: 'ord_9.1', name: 'z' }];
    const ended = ['a', 'b'].map((name) => ({ plan: { name }, order: { status: 'deployed' }, thumbprint: 'AA' }));
    const world = { receiver: { deliveries, wrong: [] } };
    expect(await places.webhook.audit(world as never, ended as never)).toEqual([
      'a was delivered as ord_1.1 and as ord_1.2',
      'nobody has taken the delivery of b',
      'z was delivered, not planned',
    ]);
  });

  it('takes a certificate for one too many where its order was called off before', async () => {
    const at = (stage: string, issued: number, thumbprint: string | null) => ({
      ...{ plan: { name: stage }, order: { status: 'cancelled', stage }, thumbprint },
      atCa: Array.from({ length: issued }, () => ({ certificate: 'PEM' })),
    });
    const said = async (...one: Parameters<typeof at>) => clients.cancels.audit({} as never, [at(...one)] as never);
    expect(await said('validation', 0, null)).toEqual([]);
    expect(await said('validation', 1, null)).toHaveLength(1);
    // The CA may have issued before it heard of it; certline has the certificate only if it was there.
    expect(await said('issuance', 0, null)).toEqual([]);
    expect(await said('issuance', 1, null)).toEqual([]);
    expect(await said('deployment', 1, 'AA')).toEqual([]);
    expect(await said('deployment', 0, 'AA')).toHaveLength(1);
    expect(await said('deployment', 2, 'AA')).toHaveLength(1);
  });

  it('finds a secret wherever it is written', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'certline-test-'));
    try {
      await writeFile(join(dir, 'api-1.log'), '{"msg":"the key is s3cret"}');
      await writeFile(join(dir, 'other.log'), 'nothing');
      const secrets = new Map([['the API key', 's3cret']]);
      expect(await secretsIn(dir, secrets, () => true)).toEqual(['the API key is readable in api-1.log']);
      expect(await secretsIn(dir, secrets, (path) => path === 'other.log')).toEqual([]);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });

  it('counts a recovery from the SIGKILL to the next start of the stage, and none where the run came to its end', () => {
    const event = (type: OrderEvent['type'], at: number, stage?: OrderEvent['stage']): OrderEvent => ({
      ...{ id: `${at}-0`, order: 'ord_1', at, type, status: 'pending', epoch: 1 },
      ...(stage === undefined ? {} : { stage }),
    });
    const tally = createTally();
    tally.kills.push({ part: 'api-1', at: 5 }, { part: 'validation-worker-2', at: 150 });
    tally.kills.push({ part: 'validation-worker-1', at: 215 }, { part: 'issuance-worker-1', at: 250 });
    tally.kills.push({ part: 'issuance-worker-1', at: 900 });
    const events = [
      event('order_placed', 0),
      event('stage_started', 100, 'validation'),
      event('stage_started', 200, 'validation'),
      event('attempt_failed', 210, 'validation'),
      event('stage_started', 220, 'validation'),
      event('stage_completed', 230, 'validation'),
      event('stage_started', 240, 'issuance'),
      event('stage_started', 290, 'issuance'),
      event('stage_completed', 300, 'issuance'),
    ];
    expect(recoveriesOf(events, tally, 'api').map(({ ms }) => ms)).toEqual([95, 50, 40]);
  });
});
