import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { createLogger } from '#libs/logging';
import { openSecretBox } from '#libs/service/open-secret-box';
import { createRewrapping } from '#libs/service/rewrap-secrets';
import type { KeyHolder, MasterKeyRecords } from '#libs/store/master-key-records';
import { fingerprintOf, parseMasterKeys } from '#libs/store/master-keys';
import { createSecretBox } from '#libs/store/secret-box';
import type { Redis } from '../../services/lab/redis.ts';
import { type RunningProgram, startProgram, untilReady } from '../../services/lab/running-program.ts';
import { fakeClock } from '../support/fake-clock.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';

/** The master key is changed while everything runs. */
const [before, after] = [`before:${randomBytes(32).toString('base64')}`, `after:${randomBytes(32).toString('base64')}`];
const boxOf = (text: string) => createSecretBox(parseMasterKeys(text));
const newest = boxOf(`${after},${before}`);
const holderOf = (process: string, text: string): KeyHolder => ({
  process,
  keys: [...parseMasterKeys(text).keys].map(([id, key]) => [id, fingerprintOf(key)]),
});

let server: Redis;
let pipeline: Pipeline;
let masterKeys: MasterKeyRecords;
beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(() => {
  pipeline = openPipeline(server);
  masterKeys = pipeline.store.masterKeys;
});
afterEach(() => pipeline.close());

/** Secrets as a process has left them that sealed with the key of before, and has ended. */
async function sealBefore(count: number): Promise<string[]> {
  const names = Array.from({ length: count }, (_, at) => `secret-${at}`);
  const box = boxOf(before);
  await masterKeys.announce(holderOf('ended', before), box.seal('master-key-proof', 'before'), 1);
  await vi.waitUntil(async () => (await masterKeys.holders()).length === 0);
  for (const name of names) await pipeline.store.secrets.putOnce(name, box.seal(name, `of ${name}`));
  return names;
}

async function sealed(names: readonly string[]): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const name of names) {
    const id = newest.keyIdOf((await pipeline.store.secrets.get(name)) ?? '');
    counts[id] = (counts[id] ?? 0) + 1;
  }
  return counts;
}

const neededKeys = async (): Promise<string[]> => Object.keys(await masterKeys.proofs()).sort();

const open = (text: string) =>
  openSecretBox({ ...pipeline.resources, clock: fakeClock(Date.now()) }, { MASTER_KEY: text });

/** One round of a process that has both keys and seals with the new one; `instead` replaces parts of what it works with. */
async function round(instead: Partial<MasterKeyRecords> = {}): Promise<void> {
  const { leases } = pipeline.store;
  const log = createLogger('test', 'silent');
  const rewrap = createRewrapping({ masterKeys: { ...masterKeys, ...instead }, box: newest, leases, log });
  await rewrap(new AbortController().signal);
}

describe('sealing everything with another master key', () => {
  it('goes on after a SIGKILL in the middle, until the key of before is needed no more', {
    timeout: 90_000,
  }, async () => {
    const names = await sealBefore(500);
    await masterKeys.announce(holderOf('also', `${after},${before}`), newest.seal('master-key-proof', 'after'), 60_000);
    const dir = await mkdtemp(join(tmpdir(), 'certline-rotation-'));
    const proxy = await startTcpProxy();
    proxy.leadTo(server.port);
    const workers: RunningProgram[] = [];
    async function startWorker(name: string, keys: string): Promise<RunningProgram> {
      const namespace = pipeline.store.keys.tag.slice(1, -1);
      const env = { REDIS_URL: `redis://127.0.0.1:${proxy.port}`, NAMESPACE: namespace, METRICS_PORT: '0' };
      const main = fileURLToPath(new URL('../../services/issuance-worker/main.ts', import.meta.url));
      const logFile = join(dir, `${name}.log`);
      const options = { args: [main], dir, logFile, env: { ...env, MASTER_KEY: keys } };
      const running = await startProgram({ kind: 'file', path: process.execPath }, options);
      workers.push(running);
      const isReady = async () => (await readFile(logFile, 'utf8')).includes('issuance-worker started');
      await untilReady(running, name, logFile, 20_000, isReady);
      return running;
    }
    try {
      let batches = 0;
      let killed: Promise<void> | undefined;
      proxy.onSent = (data) => {
        if (!data.includes("'KEEPTTL'")) return;
        batches += 1;
        if (batches !== 2) return;
        // The second batch never gets there.
        proxy.cut();
        killed = workers[0]?.stop('SIGKILL', 0);
      };
      await startWorker('first', `${after},${before}`).catch(() => {});
      await vi.waitUntil(() => killed !== undefined, { timeout: 30_000 });
      await killed;
      const half = await sealed(names);
      expect(Object.keys(half).sort()).toEqual(['after', 'before']);
      expect(await masterKeys.left()).toEqual({ before: half.before });
      expect(await neededKeys()).toEqual(['after', 'before']);
      await expect(open(after)).rejects.toThrow('master key "before", which is missing');

      await startWorker('second', `${after},${before}`);
      await vi.waitUntil(async () => (await neededKeys()).length === 1, { timeout: 30_000 });
      expect(await neededKeys()).toEqual(['after']);
      expect(await sealed(names)).toEqual({ after: 500 });
      expect(await masterKeys.left()).toEqual({});
      const box = await open(after);
      for (const name of names)
        expect(box.open(name, (await pipeline.store.secrets.get(name)) ?? '').toString()).toBe(`of ${name}`);
      const log = await readFile(join(dir, 'second.log'), 'utf8');
      expect(log).toContain(`${half.before} of \\"before\\" left`);
      expect(log).toContain('take it out of MASTER_KEY');
      expect(log).not.toContain(after.split(':')[1]);
    } finally {
      await Promise.all(workers.map((worker) => worker.stop('SIGTERM', 10_000)));
      await proxy.close();
      await rm(dir, { recursive: true, force: true });
    }
  });

  it('never puts back a secret that was replaced or taken away meanwhile', async () => {
    const names = await sealBefore(3);
    const [replaced = '', removed = '', other = ''] = names;
    const { secrets, keys } = pipeline.store;
    const theirs = newest.seal(replaced, 'another one');
    await round({
      async replace(changes) {
        await pipeline.redis.set(keys.secret(replaced), theirs);
        await pipeline.redis.del(keys.secret(removed));
        await masterKeys.replace(changes);
      },
    });
    expect(await secrets.get(replaced)).toBe(theirs);
    expect(await secrets.get(removed)).toBeNull();
    expect(await sealed([other])).toEqual({ after: 1 });
  });

  it('waits for processes that seal with the key of before', async () => {
    const names = await sealBefore(2);
    const proof = boxOf(before).seal('master-key-proof', 'before');
    await masterKeys.announce(holderOf('late', `${before},${after}`), proof, 60_000);
    await round();
    expect(await sealed(names)).toEqual({ before: 2 });
    // The same process again: it seals with the new one from its next start on.
    await pipeline.redis.del(pipeline.store.keys.keyHolders);
    await round();
    expect(await sealed(names)).toEqual({ after: 2 });
  });

  it('keeps the key of before as long as a process has come that seals with it', async () => {
    await sealBefore(2);
    const proof = boxOf(before).seal('master-key-proof', 'before');
    await round({
      async replace(changes) {
        await masterKeys.replace(changes);
        await masterKeys.announce(holderOf('late', `${before},${after}`), proof, 60_000);
      },
    });
    expect(await neededKeys()).toEqual(['before']);
  });

  it('keeps the key of before while a secret does not open', async () => {
    await sealBefore(1);
    await pipeline.store.secrets.putOnce('broken', boxOf(before).seal('another name', 'x'));
    await round();
    expect(await neededKeys()).toEqual(['before']);
    await expect(open(after)).rejects.toThrow('"before"');
  });
});

describe('a process', () => {
  it('does not start without a key that secrets are sealed with, nor with another key of its id', async () => {
    await sealBefore(1);
    await expect(open(after)).rejects.toThrow(/master key "before", which is missing/);
    const stranger = `before:${randomBytes(32).toString('base64')}`;
    await expect(open(stranger)).rejects.toThrow(/master key "before", and this is another key of that id/);
    expect(await neededKeys()).toEqual(['before']);
  });

  it('does not seal with a key that another process lacks, or has another one of', async () => {
    await masterKeys.announce(
      holderOf('web01, pid 7', before),
      boxOf(before).seal('master-key-proof', 'before'),
      60_000,
    );
    await expect(open(`${after},${before}`)).rejects.toThrow(/run without this key "after": web01, pid 7/);
    const mistyped = `after:${randomBytes(32).toString('base64')}`;
    await pipeline.redis.del(pipeline.store.keys.keyHolders);
    const proof = boxOf(before).seal('master-key-proof', 'before');
    await masterKeys.announce(holderOf('web01, pid 8', `${before},${mistyped}`), proof, 60_000);
    await expect(open(`${after},${before}`)).rejects.toThrow('web01, pid 8');
    expect(await neededKeys()).toEqual(['before']);
  });

  it('starts with keys that nothing is sealed with', async () => {
    const box = await open(`${after},${before}`);
    expect(box.currentKeyId).toBe('after');
    expect(await neededKeys()).toEqual(['after']);
    await expect(open(`${after},third:${randomBytes(32).toString('base64')}`)).resolves.toBeDefined();
  });
});
