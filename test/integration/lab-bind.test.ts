import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '#libs/clock';
import { createExchange } from '#libs/dns/exchange';
import { dataOf } from '#libs/dns/message';
import { openRfc2136 } from '#libs/dns/providers/rfc2136';
import { type Bind, startBind } from '../../services/lab/bind.ts';
import { freePort, withFreePorts } from '../../services/lab/running-program.ts';
import { until, zoneText } from '../support/dns-world.ts';

const never = new AbortController().signal;
const key = { name: 'certline', algorithm: 'hmac-sha256', secret: randomBytes(32).toString('base64') };
const zone = 'updated.test';
const name = `_acme-challenge.${zone}`;
const start = zoneText(zone, ['@ NS ns1.host.test.', '@ NS ns2.host.test.']);

let dir = '';
let primary: Bind;
let copy: Bind;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'certline-bind-'));
  let attempt = 0;
  await withFreePorts(async () => {
    attempt += 1;
    const port = await freePort();
    const home = join(dir, String(attempt));
    const zones = [{ name: zone, text: start, updateKeys: [key.name], notify: ['127.0.0.12'], signed: true }];
    primary = await startBind({ dir: join(home, 'a'), address: '127.0.0.11', port, zones, keys: [key] });
    const copies = [{ name: zone, copyOf: '127.0.0.11' }];
    copy = await startBind({ dir: join(home, 'b'), address: '127.0.0.12', port, zones: copies }).catch(
      async (error) => {
        await primary.close();
        throw error;
      },
    );
  });
});
afterAll(async () => {
  await Promise.all([primary?.close(), copy?.close()]);
  await rm(dir, { recursive: true, force: true });
});

async function values({ address, port }: Bind): Promise<string[]> {
  const question = { name, type: 'TXT' as const, recursive: false };
  const reply = await createExchange({ timeoutMs: 1_000, tries: 2 })({ address, port }, question, never);
  return 'answer' in reply ? dataOf(reply.answer.answers, 'TXT', name).sort() : [reply.words];
}

async function provider(secret = key.secret) {
  const settings = { server: primary.server, keyName: key.name, algorithm: 'hmac-sha256' as const };
  const deps = { clock: systemClock, ttlSeconds: 1, allowPrivate: true, allowPrograms: false };
  return openRfc2136(settings, { key: secret }, deps);
}

describe('BIND of the lab', () => {
  test('takes updates with the right key only, tells its copy, and keeps them over a stop', async () => {
    await (await provider()).present({ zone, name, value: 'one' }, never);
    expect(await values(primary)).toEqual(['one']);
    await until('the copy has it', async () => (await values(copy)).includes('one'));

    const stranger = await provider(randomBytes(32).toString('base64'));
    await expect(stranger.present({ zone, name, value: 'two' }, never)).rejects.toMatchObject({
      code: 'dns_credential_refused',
    });
    await primary.stop();
    expect(await values(primary)).toEqual(['refuses the connection (UDP)']);
    await primary.start();
    expect(await values(primary)).toEqual(['one']);
  });

  test('signs a zone that is updated, and gives the DS record for its parent', async () => {
    expect(await primary.delegationSigner(zone)).toMatch(/^updated\.test\. IN DS \d+ 13 2 [0-9A-F]{64}\s*$/);
  });

  test('says so when its address is taken', async () => {
    const { address, port } = primary;
    await expect(startBind({ dir: join(dir, 'third'), address, port })).rejects.toMatchObject({
      ...{ name: 'StartError', portTaken: true },
    });
  });

  test('leaves nothing running', async () => {
    const port = await freePort();
    const short = await startBind({ dir: join(dir, 'short'), address: '127.0.0.1', port });
    const { pid } = short;
    await short.close();
    expect(() => process.kill(pid ?? 0, 0)).toThrow('ESRCH');
  });
});
