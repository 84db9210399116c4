import { createPrivateKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createPrivateKeys } from '#libs/store/private-keys';
import { connectRedis } from '#libs/store/redis';
import { createSecretBox, parseMasterKeys } from '#libs/store/secret-box';
import { createStore } from '#libs/store/store';
import { type Redis, startRedis } from '../../services/lab/redis.ts';
import { freePort, type RunningProgram, startProgram } from '../../services/lab/running-program.ts';
import { dumpRedis } from '../support/api-session.ts';
import { type LabSession, openLabSession } from '../support/lab-session.ts';
import { addSite } from '../support/lab-sites.ts';

/**
 * A machine dies some time after a backup; another one goes on from the copy, which is older than the truth by then. Orders of every stage,
 * certificates counted at the CA.
 */
type Json = Record<string, unknown>;

let session: LabSession;
let second: Redis;
beforeAll(async () => {
  session = await openLabSession();
  second = await startRedis({ dir: join(session.lab.dir, 'redis-2'), password: 'second' });
});
afterAll(async () => {
  await second?.close();
  await session?.close();
});

/** Runs `npm run backup` or `npm run restore`, as the script does, and answers what it prints. */
async function run(env: Record<string, string>, ...args: string[]): Promise<string> {
  const { dir, env: settings } = session.lab;
  const logFile = join(dir, `${args[0]}.log`);
  const main = fileURLToPath(new URL('../../services/backup/main.ts', import.meta.url));
  const program = { kind: 'file', path: process.execPath } as const;
  const running = await startProgram(program, { args: [main, ...args], dir, logFile, env: { ...settings, ...env } });
  await running.ended;
  return readFile(logFile, 'utf8');
}

const hasEvent = (id: string, detail: string): Promise<void> => session.event(id, (event) => event.detail === detail);

it('goes on from a copy, with the same ACME orders and keys', { timeout: 120_000 }, async () => {
  const { lab, api } = session;
  const { pebble } = lab;
  const workers: RunningProgram[] = [];
  const start = async (...given: Parameters<typeof lab.startService>): Promise<RunningProgram> => {
    const worker = await lab.startService(...given);
    workers.push(worker);
    return worker;
  };
  const [host, validation, firstIssuance] = await Promise.all([
    lab.startHost('web01'),
    start('validation-worker'),
    start('issuance-worker'),
    start('api'),
  ]);
  await addSite(host.url, 1, ['*:80:deployed.example.com']);
  const transport = { kind: 'lab', url: host.url };
  const target = String((await api.send('POST', '/v1/targets', { name: 'web01', kind: 'iis', transport })).id);
  const account = await session.registerAccount();
  const place = (name: string, deploy: Json = { mode: 'none' }): Promise<string> =>
    session.order({
      ...{ names: [`${name}.example.com`], account, deploy },
      ...{ challenge: { type: 'http-01' }, key: { type: 'ec-p256' } },
    });
  const until = (id: string, status: string) => session.until(id, status, (order) => order.status === status, 30_000);

  const complete = await place('complete');
  const deployed = await place('deployed', { mode: 'site', target, site: 1 });
  const { directory: ca, caBundle } = pebble;
  const internal = { ca, caBundle, email: 'lab@example.com', termsOfServiceAgreed: true, allowInternalNames: true };
  const failed = await session.order({
    ...{ names: ['blocked-domain.example'], challenge: { type: 'http-01' } },
    account: String((await api.send('POST', '/v1/accounts', internal)).id),
  });
  await until(complete, 'issued');
  await until(deployed, 'issued');
  await until(failed, 'failed');

  await firstIssuance.stop('SIGKILL', 0);
  const keyed = await place('keyed');
  await until(keyed, 'validated');
  await pebble.signal('SIGSTOP');
  const issuance = await start('issuance-worker');
  await hasEvent(keyed, 'ec-p256 key made');
  await issuance.stop('SIGKILL', 0);
  await pebble.signal('SIGCONT');
  const validated = await place('validated');
  await until(validated, 'validated');

  await validation.stop('SIGKILL', 0);
  // Its answer is not seen: the ACME order is open, and it waits.
  const blind = await start('validation-worker', { HTTP01_PORT: String(await freePort()) });
  const opened = await place('opened');
  await session.until(opened, 'it waits', (order) => order.error !== null);
  await blind.stop('SIGKILL', 0);
  const placed = await place('placed');
  const before = await session.read(opened);

  const file = join(lab.dir, 'one.backup');
  expect(await run({}, 'backup', file)).toContain('all of certline as of');

  // The first machine goes on for a while, and dies.
  await Promise.all([start('issuance-worker'), start('scheduler')]);
  await until(keyed, 'issued');
  await until(validated, 'issued');
  const { certificate } = await session.read(keyed);
  const { serial } = await api.send('GET', `/v1/certificates/${certificate}`);
  await Promise.all(workers.map((worker) => worker.stop('SIGKILL', 0)));
  await lab.redis.kill();
  expect(pebble.issued()).toHaveLength(4);

  expect(await run({ REDIS_URL: second.url }, 'restore', file)).toContain('Restored: all of certline as of');
  await start('standalone', { REDIS_URL: second.url });
  await session.ready();
  for (const id of [placed, opened, validated, keyed, complete]) await until(id, 'issued');
  await until(deployed, 'deployed');
  expect(await session.read(failed)).toMatchObject({ status: 'failed' });

  // What the CA had issued for a key that the copy has is taken up; only the key made after the copy is gone, and its certificate with it.
  expect((await api.send('GET', `/v1/certificates/${certificate}`)).serial).toBe(serial);
  expect(await session.read(keyed)).toMatchObject({ epoch: 1 });
  expect(await session.read(opened)).toMatchObject({ epoch: before.epoch });
  expect(await session.read(validated)).toMatchObject({ epoch: 2 });
  const issued = pebble.issued();
  expect(issued).toHaveLength(7);
  expect(new Set(issued.map((one) => one.order)).size).toBe(7);

  // No key can be read in the file, nor in what came out of it; what it is sealed in can.
  const redis = connectRedis(second.url, 'worker', () => {});
  const content = [...(await dumpRedis(redis))].map((entry) => entry.join(' '));
  const everything = `${content.join('\n')}${await readFile(file, 'latin1')}`;
  const box = createSecretBox(parseMasterKeys(lab.env.MASTER_KEY ?? ''));
  const privateKeys = createPrivateKeys(createStore(redis, 'certline').secrets, box);
  const sealed = content.map((entry) => /:secret:(\S+) "(.*)"$/.exec(entry)).filter((match) => match !== null);
  expect(sealed.length).toBeGreaterThan(6);
  for (const [, name = '', blob = ''] of sealed) {
    const key = createPrivateKey(await privateKeys.open(name));
    const forms = [
      ...String(key.export({ type: 'pkcs8', format: 'pem' }))
        .split('\n')
        .slice(1, 2),
      key.export({ type: 'pkcs8', format: 'der' }).subarray(30, 60).toString('latin1'),
      String(key.export({ format: 'jwk' }).d),
    ];
    expect(everything.includes(blob), name).toBe(true);
    expect(
      forms.filter((form) => form === '' || everything.includes(form)),
      name,
    ).toEqual([]);
  }
  redis.disconnect();
});
