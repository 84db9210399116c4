import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { OrderEvent } from '#libs/store/order-events';
import { diceOf } from '../support/dice.ts';
import { inRepository, readText } from '../support/source-tree.ts';
import { edited, edits, isEdit } from './edits.ts';
import { planOrders } from './flow.ts';
import { recoveriesOf } from './recovery.ts';
import { secretsIn } from './secrets.ts';
import { createTally } from './tally.ts';

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

describe('the audit', () => {
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
    expect(recoveriesOf(events, tally).map(({ ms }) => ms)).toEqual([95, 50, 40]);
  });
});
