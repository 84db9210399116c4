import { spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { Resolver } from 'node:dns/promises';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client as AcmeClient, axios, crypto } from 'acme-client';
import { Redis as Client } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startPebble } from '../../services/lab/pebble.ts';
import { provideRedisServer } from '../../services/lab/programs.ts';
import { startRedis } from '../../services/lab/redis.ts';

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'certline-lab-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

function isAlive(pid: number | undefined): boolean {
  if (pid === undefined) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function withClient<T>(url: string, action: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client(url);
  try {
    return await action(client);
  } finally {
    client.disconnect();
  }
}

function getJson(url: string, ca: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { ca, agent: false, headers: { 'User-Agent': 'certline-test' } }, async (response) => {
      let body = '';
      for await (const chunk of response.setEncoding('utf8')) body += chunk;
      resolve(JSON.parse(body));
    });
    sent.once('error', reject);
    sent.end();
  });
}

// The first run on a machine installs the programs, which takes as long as the mirror does.
const FIRST_RUN_MS = 300_000;

describe('Redis of the lab', () => {
  test('keeps every acknowledged write over a SIGKILL, and refuses to evict', { timeout: FIRST_RUN_MS }, async () => {
    const redis = await startRedis({ dir: join(dir, 'redis'), password: 'pass-word+1/2' });
    try {
      const before = redis.pid;
      await withClient(redis.url, async (client) => {
        for (const [name, value] of [
          ['appendonly', 'yes'],
          ['appendfsync', 'always'],
          ['maxmemory-policy', 'noeviction'],
          ['save', ''],
          ['bind', '127.0.0.1'],
        ] as const) {
          expect(await client.config('GET', name)).toEqual([name, value]);
        }
        await client.set('kept', 'yes');
      });
      await redis.kill('SIGKILL');
      expect(isAlive(before)).toBe(false);
      await redis.restart();
      if (before !== undefined) expect(redis.pid).not.toBe(before);
      expect(await withClient(redis.url, (client) => client.get('kept'))).toBe('yes');
    } finally {
      await redis.close();
    }
    expect(isAlive(redis.pid)).toBe(false);
  });

  test('will not share its data with a second server', async () => {
    const first = await startRedis({ dir: join(dir, 'shared') });
    try {
      await expect(startRedis({ dir: join(dir, 'shared') })).rejects.toThrow('is already using the data');
    } finally {
      await first.close();
    }
  });

  test('asks for the password it was given', async () => {
    const redis = await startRedis({ dir: join(dir, 'locked'), password: 'secret' });
    try {
      await withClient(`redis://127.0.0.1:${redis.port}`, async (client) => {
        client.on('error', () => undefined);
        await expect(client.get('anything')).rejects.toThrow(/NOAUTH/);
      });
    } finally {
      await redis.close();
    }
  });

  test('says what is wrong when its port is taken', async () => {
    const first = await startRedis({ dir: join(dir, 'first') });
    try {
      await expect(startRedis({ dir: join(dir, 'second'), port: first.port })).rejects.toThrow(/in use/);
    } finally {
      await first.close();
    }
  });

  test.each(['with setpriv', 'without setpriv'])('dies with a parent that is killed, %s', async (kind) => {
    const program = await provideRedisServer();
    if (program.kind === 'image') return; // testcontainers has its own way of cleaning up
    const script = join(dir, 'parent.mjs');
    await writeFile(
      script,
      `import { startRedis } from ${JSON.stringify(new URL('../../services/lab/redis.ts', import.meta.url).href)};
       const redis = await startRedis({ dir: process.argv[2] });
       console.log(redis.pid);
       setInterval(() => undefined, 1000);`,
    );
    // A PATH with nothing else on it is what a machine without util-linux looks like.
    const only = join(dir, 'only-redis');
    await mkdir(only, { recursive: true });
    await rm(join(only, 'redis-server'), { force: true });
    await symlink(program.path, join(only, 'redis-server'));
    const parent = spawn(process.execPath, [script, join(dir, `orphan-${kind.replace(' ', '-')}`)], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { PATH: kind === 'with setpriv' ? process.env.PATH : only },
    });
    const pid = await new Promise<number>((resolve, reject) => {
      parent.stdout.once('data', (data: Buffer) => resolve(Number(data.toString())));
      parent.once('exit', () => reject(new Error('the parent ended by itself')));
    });
    expect(isAlive(pid)).toBe(true);
    parent.kill('SIGKILL');
    await expect.poll(() => isAlive(pid), { timeout: 5_000 }).toBe(false);
  });
});

describe('Pebble of the lab', () => {
  test('offers what the project uses, answers DNS, and leaves nothing behind', { timeout: FIRST_RUN_MS }, async () => {
    const home = join(dir, 'pebble');
    const pebble = await startPebble({ dir: home, httpPort: 5002, eabRequired: true });
    try {
      expect(await getJson(pebble.directory, pebble.caBundle)).toMatchObject({
        newOrder: expect.stringContaining('https://127.0.0.1:'),
        renewalInfo: expect.any(String),
        meta: { externalAccountRequired: true, profiles: { default: expect.any(String) } },
      });
      expect(pebble.eab?.hmacKey).toMatch(/^[\w-]{43}$/);
      expect(pebble.issued()).toEqual([]);

      const resolver = new Resolver({ timeout: 2_000, tries: 1 });
      resolver.setServers([pebble.dns]);
      await fetch(`${pebble.challtestsrvUrl}/set-txt`, {
        method: 'POST',
        body: JSON.stringify({ host: '_acme-challenge.shop.example.', value: 'answer' }),
      });
      expect(await resolver.resolve4('shop.example')).toEqual(['127.0.0.1']);
      expect(await resolver.resolveTxt('_acme-challenge.shop.example')).toEqual([['answer']]);
    } finally {
      await pebble.close();
    }
    expect(isAlive(pebble.pid)).toBe(false);
    await expect(fetch(pebble.challtestsrvUrl)).rejects.toThrow();
    expect(await readFile(join(home, 'pebble.log'), 'utf8')).toContain('ACME directory available');
  });

  test('can be held, let go and, while it is held, closed', async () => {
    const pebble = await startPebble({ dir: join(dir, 'held'), httpPort: 5002, profiles: ['default', 'shortlived'] });
    await pebble.signal('SIGSTOP');
    await pebble.signal('SIGCONT');
    expect(await getJson(pebble.directory, pebble.caBundle)).toMatchObject({
      meta: { profiles: { default: expect.any(String), shortlived: expect.any(String) } },
    });
    await pebble.signal('SIGSTOP');
    await pebble.close();
    expect(isAlive(pebble.pid)).toBe(false);
  });

  test('issues after http-01 and dns-01, and counts its certificates', async () => {
    const answers = new Map<string, string>();
    const site = createServer((incoming, response) => response.end(answers.get(incoming.url ?? '') ?? ''));
    await new Promise<void>((resolve) => site.listen(0, '127.0.0.1', resolve));
    const address = site.address();
    const httpPort = typeof address === 'object' && address !== null ? address.port : 0;
    const pebble = await startPebble({ dir: join(dir, 'issuing'), httpPort });
    axios.defaults.httpsAgent = new Agent({ ca: pebble.caBundle });
    try {
      const client = new AcmeClient({ directoryUrl: pebble.directory, accountKey: await crypto.createPrivateKey() });
      const [, csr] = await crypto.createCsr({ altNames: ['shop.example', '*.shop.example'] });
      const chain = await client.auto({
        csr,
        termsOfServiceAgreed: true,
        skipChallengeVerification: true,
        challengePriority: ['http-01', 'dns-01'],
        challengeCreateFn: async ({ identifier }, challenge, value) => {
          answers.set(`/.well-known/acme-challenge/${challenge.token}`, value);
          const body = JSON.stringify({ host: `_acme-challenge.${identifier.value}.`, value });
          await fetch(`${pebble.challtestsrvUrl}/set-txt`, { method: 'POST', body });
        },
        challengeRemoveFn: async () => undefined,
      });
      const serial = BigInt(`0x${new X509Certificate(chain).serialNumber}`);
      await expect.poll(() => pebble.issued().map((entry) => BigInt(`0x${entry.serial}`))).toEqual([serial]);
    } finally {
      site.close();
      await pebble.close();
    }
  }, 15_000);
});
