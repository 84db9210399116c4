import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { DnsProvider, ProviderDeps, TxtRecord } from '#libs/dns/dns-provider';
import { openRfc2136, rfc2136 } from '#libs/dns/providers/rfc2136';
import { readMac, signMessage, type TsigAlgorithm, type TsigKey, tsigAlgorithms, verifyRequest } from '#libs/dns/tsig';
import { encodeEmptyUpdate } from '#libs/dns/update-message';
import { startBind } from '../../services/lab/bind.ts';
import { provideFromDebian } from '../../services/lab/debian-programs.ts';
import { startKnot } from '../../services/lab/knot.ts';
import { freePort, withFreePorts } from '../../services/lab/running-program.ts';
import { never, providerDeps, refusalOf, shownOf, txtAt } from '../support/dns-providers.ts';

const zone = 'example.test';
const openZone = 'open.test';
const name = `_acme-challenge.${zone}`;
const record: TxtRecord = { zone, name, value: 'gfj9Xq_Rg85nM-DdLkQp3aJt0FZpGmYz3qHkzuT0Wxo' };
const secret = Buffer.from('a key of the tests, 32 bytes long').toString('base64');
const keyName = (algorithm: string): string => `certline-${algorithm}`;
const keys = tsigAlgorithms.map((algorithm) => ({ name: keyName(algorithm), algorithm, secret }));
/** What each zone has at first. */
const foreign = ['of somebody else'];

interface NameServer {
  address: string;
  close(): Promise<void>;
}

const zoneText = (origin: string): string =>
  [
    `$ORIGIN ${origin}.`,
    '$TTL 300',
    '@ SOA ns1 hostmaster 1 3600 600 86400 300',
    '@ NS ns1',
    'ns1 A 127.0.0.1',
    '_acme-challenge.aliased CNAME ns1',
    '_acme-challenge TXT "of somebody else"',
    '',
  ].join('\n');

async function bind(dir: string): Promise<NameServer> {
  const rule = (key: { name: string }, owner: string): string => `grant ${key.name} name ${owner}.${zone}. TXT`;
  const owners = ['_acme-challenge', '_acme-challenge.www', '_acme-challenge.aliased'];
  const started = await withFreePorts(async () =>
    startBind({
      ...{ dir, address: '127.0.0.1', port: await freePort(), keys },
      zones: [
        {
          ...{ name: zone, text: zoneText(zone) },
          updatePolicy: keys.flatMap((key) => owners.map((owner) => rule(key, owner))),
        },
        { name: openZone, text: zoneText(openZone), openUpdates: true },
      ],
    }),
  );
  return { address: started.server, close: () => started.close() };
}

const knot = (dir: string): Promise<NameServer> => startKnot({ dir, zones: [zone], openZones: [openZone], keys });

const open = (
  server: string,
  { algorithm = 'hmac-sha256' as TsigAlgorithm, key = secret, named = keyName(algorithm) } = {},
  deps: Partial<ProviderDeps> = {},
): Promise<DnsProvider> => openRfc2136({ server, keyName: named, algorithm }, { key }, { ...providerDeps, ...deps });

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'certline-rfc2136-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe.each([
  ['BIND', bind],
  ['Knot', knot],
])('dynamic updates of %s', (title, start) => {
  let server: NameServer;
  beforeAll(async () => {
    server = await start(join(folder, title.toLowerCase()));
  });
  afterAll(() => server?.close());

  it.each(tsigAlgorithms)(
    'add a value beside that of somebody else and take it away, signed with %s',
    async (algorithm) => {
      const provider = await open(server.address, { algorithm });
      await provider.present(record, never);
      expect(await txtAt(server.address, name)).toEqual([record.value, ...foreign].sort());
      await provider.cleanUp(record, never);
      expect(await txtAt(server.address, name)).toEqual(foreign);
    },
  );

  it('may be made twice, and leave nothing behind at a name that was not there', async () => {
    const provider = await open(server.address);
    const www = { ...record, name: `_acme-challenge.www.${zone}` };
    await provider.present(www, never);
    await provider.present(www, never);
    expect(await txtAt(server.address, www.name)).toEqual([record.value]);
    await provider.cleanUp(www, never);
    await provider.cleanUp(www, never);
    expect(await txtAt(server.address, www.name)).toEqual([]);
  });

  it('of twenty at one time all count', async () => {
    const provider = await open(server.address);
    const all = Array.from({ length: 20 }, (_, at) => ({ ...record, value: `value-${at}` }));
    await Promise.all(all.map((one) => provider.present(one, never)));
    expect(await txtAt(server.address, name)).toEqual([...all.map(({ value }) => value), ...foreign].sort());
    await Promise.all(all.map((one) => provider.cleanUp(one, never)));
    expect(await txtAt(server.address, name)).toEqual(foreign);
  });

  it('with a wrong secret, a wrong name or a wrong algorithm are refused, and the field is named', async () => {
    const other = Buffer.from('another key').toString('base64');
    const secretWrong = await refusalOf((await open(server.address, { key: other })).present(record, never));
    expect(secretWrong).toMatchObject({ code: 'dns_credential_refused', plan: { kind: 'park' } });
    expect(secretWrong.message).toContain('secret.key');
    expect(shownOf(secretWrong)).not.toContain(other);
    const nameWrong = await refusalOf((await open(server.address, { named: 'nobody' })).present(record, never));
    expect(nameWrong).toMatchObject({ code: 'dns_credential_refused', message: expect.stringContaining('nobody') });
    expect(nameWrong.message).toContain('settings.keyName');
    const named = keyName('hmac-sha256');
    const crossed = await open(server.address, { algorithm: 'hmac-sha512', named });
    expect(await refusalOf(crossed.present(record, never))).toMatchObject({ code: 'dns_credential_refused' });
    expect(await txtAt(server.address, name)).toEqual(foreign);
  });

  it('of a name that the policy of the server does not allow are refused, and the key is not blamed', async () => {
    const www = { ...record, name: `www.${zone}` };
    const refused = await refusalOf((await open(server.address)).present(www, never));
    expect(refused).toMatchObject({ code: 'dns_zone_not_managed', plan: { kind: 'permanent' } });
    expect(refused.message).toContain(`change TXT at www.${zone}`);
    expect(await txtAt(server.address, www.name)).toEqual([]);
  });

  it('of a zone that is not there are refused', async () => {
    const elsewhere = { zone: 'other.test', name: '_acme-challenge.other.test', value: 'x' };
    const provider = await open(server.address);
    for (const work of [provider.present, provider.cleanUp])
      expect(await refusalOf(work(elsewhere, never))).toMatchObject({
        ...{ code: 'dns_zone_not_managed', message: expect.stringContaining('other.test') },
      });
  });

  it('say that there is a CNAME at the name', async () => {
    const aliased = { ...record, name: `_acme-challenge.aliased.${zone}` };
    const provider = await open(server.address);
    expect(await refusalOf(provider.present(aliased, never))).toMatchObject({
      ...{ code: 'dns_provider_refused', message: expect.stringContaining(`a CNAME at ${aliased.name}`) },
    });
    await provider.cleanUp(aliased, never);
  });

  it.each([-1000, 1000])('with a clock that is %i s off say by how much', async (seconds) => {
    const clock = { ...providerDeps.clock, now: () => Date.now() + seconds * 1000 };
    const late = await refusalOf((await open(server.address, {}, { clock })).present(record, never));
    expect(late).toMatchObject({ code: 'dns_provider_refused', plan: { kind: 'retryable' } });
    expect(late.message).toMatch(
      new RegExp(`are (999|1000|1001) s apart: this machine is ${seconds > 0 ? 'ahead' : 'behind'}`),
    );
  });

  it('work without a key where the server takes them by address, and nowhere else', async () => {
    const provider = await openRfc2136({ server: server.address, algorithm: 'hmac-sha256' }, {}, providerDeps);
    const inOpen = { zone: openZone, name: `_acme-challenge.${openZone}`, value: 'unsigned' };
    await provider.present(inOpen, never);
    expect(await txtAt(server.address, inOpen.name)).toEqual([...foreign, 'unsigned']);
    await provider.cleanUp(inOpen, never);
    expect(await txtAt(server.address, inOpen.name)).toEqual(foreign);
    const refused = await refusalOf(provider.present(record, never));
    expect(['dns_credential_refused', 'dns_zone_not_managed']).toContain(refused.code);
    expect(refused.message).toContain('key');
    expect(await txtAt(server.address, name)).toEqual(foreign);
  });

  it('go to a server by its host name', async () => {
    const provider = await open(server.address.replace('127.0.0.1', 'localhost'));
    await provider.present(record, never);
    await provider.cleanUp(record, never);
    expect(await provider.zones(never)).toBeNull();
  });
});

describe('an answer to an update', () => {
  const servers: Server[] = [];
  afterEach(async () => {
    for (const server of servers.splice(0)) await new Promise((closed) => server.close(closed));
  });

  /** A name server that answers each message as it is told; null says nothing, undefined hangs up. */
  async function nameServer(answerTo: (message: Buffer) => Buffer | null | undefined): Promise<string> {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      let all = Buffer.alloc(0);
      socket.on('data', (chunk) => {
        all = Buffer.concat([all, chunk]);
        if (all.length < 2 || all.length < 2 + all.readUInt16BE(0)) return;
        const answer = answerTo(all.subarray(2));
        if (answer === undefined) socket.destroy();
        if (!answer) return;
        const length = Buffer.alloc(2);
        length.writeUInt16BE(answer.length);
        // In two pieces, as TCP may cut it.
        socket.write(Buffer.concat([length, answer.subarray(0, 5)]));
        setImmediate(() => socket.write(answer.subarray(5)));
      });
    });
    servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  const key: TsigKey = {
    name: keyName('hmac-sha256'),
    algorithm: 'hmac-sha256',
    secret: Buffer.from(secret, 'base64'),
  };
  function answerOf(message: Buffer, rcode: number): Buffer {
    const answer = encodeEmptyUpdate(message.readUInt16BE(0), zone);
    answer.writeUInt16BE(0xa800 | rcode, 2);
    return answer;
  }
  const signed = (message: Buffer, rcode: number, by: TsigKey = key, mac = readMac(message)): Buffer =>
    signMessage(answerOf(message, rcode), by, Date.now(), mac).signed;

  it('that says success is believed with the signature of the key over this request alone', async () => {
    const good = await nameServer((message) => signed(message, 0));
    await (await open(good)).present(record, never);
    const forged = [
      (message: Buffer) => answerOf(message, 0),
      (message: Buffer) => signed(message, 0, { ...key, secret: Buffer.from('another') }),
      (message: Buffer) => signed(message, 0, key, Buffer.alloc(32)),
      (message: Buffer) => signMessage(answerOf(message, 0), key, Date.now() - 1e6, readMac(message)).signed,
    ];
    for (const answer of forged) {
      const server = await nameServer(answer);
      expect(await refusalOf((await open(server)).present(record, never))).toMatchObject({
        ...{ code: 'dns_provider_unreachable', message: expect.stringContaining('is not believed') },
      });
    }
  });

  it.each([
    [2, 'dns_provider_unreachable', 'SERVFAIL'],
    [1, 'dns_provider_refused', 'FORMERR'],
    [4, 'dns_provider_refused', 'no dynamic updates'],
    [5, 'dns_zone_not_managed', 'REFUSED'],
    [9, 'dns_zone_not_managed', 'NOTAUTH'],
    [10, 'dns_zone_not_managed', 'NOTZONE'],
    [15, 'dns_provider_refused', 'RCODE 15'],
  ])('with RCODE %i is told in words, signed or not', async (rcode, code, words) => {
    for (const answer of [signed, answerOf]) {
      const server = await nameServer((message) => answer(message, rcode));
      const refused = await refusalOf((await open(server)).present(record, never));
      expect(refused).toMatchObject({ code, message: expect.stringContaining(words) });
      expect(refused.message).toContain(server);
    }
  });

  it('that is none, or does not come, is a server that cannot be reached', async () => {
    const broken = [
      () => undefined,
      () => Buffer.from('hello, this is SMTP'),
      () => Buffer.alloc(3),
      (message: Buffer) => message,
      (message: Buffer) => signed(message, 0).subarray(0, 40),
      (message: Buffer) => {
        const other = signed(message, 0);
        other.writeUInt16BE(message.readUInt16BE(0) ^ 1, 0);
        return other;
      },
    ];
    for (const answer of broken) {
      const refused = await refusalOf((await open(await nameServer(answer))).present(record, never));
      expect(refused).toMatchObject({ code: 'dns_provider_unreachable', plan: { kind: 'retryable' } });
    }
    const nobody = await open(`127.0.0.1:${await freePort()}`);
    expect(await refusalOf(nobody.present(record, never))).toMatchObject({
      ...{ code: 'dns_provider_unreachable', message: expect.stringContaining('ECONNREFUSED') },
    });
    const lost = await open('no-such-host.invalid:53');
    expect(await refusalOf(lost.present(record, never))).toMatchObject({ code: 'dns_provider_unreachable' });
  });

  it('is not waited for when the worker stops', async () => {
    let asked = 0;
    const server = await nameServer(() => {
      asked += 1;
      return null;
    });
    const stop = new AbortController();
    const work = expect((await open(server)).present(record, stop.signal)).rejects.toThrow('stopping');
    await expect.poll(() => asked).toBe(1);
    stop.abort(new Error('stopping'));
    await work;
  });

  it('is signed as nsupdate wants it, which signs as we read it', async () => {
    const { path, env } = await provideFromDebian('nsupdate', ['bind9-dnsutils']);
    const verdicts: string[] = [];
    const nsupdate = async (by: TsigKey): Promise<number | null> => {
      const server = await nameServer((message) => {
        verdicts.push(verifyRequest(message, key, Date.now()).kind);
        return signed(message, 0, by);
      });
      const port = server.split(':')[1];
      const child = spawn(path, ['-v', '-y', `${key.algorithm}:${key.name}:${secret}`], {
        ...{ env: { ...process.env, ...env }, stdio: ['pipe', 'ignore', 'ignore'] },
      });
      child.stdin?.end(`server 127.0.0.1 ${port}\nzone ${zone}\nupdate add ${name} 60 TXT "x"\nsend\n`);
      const [code] = await once(child, 'exit');
      return code;
    };
    expect(await nsupdate(key)).toBe(0);
    expect(await nsupdate({ ...key, secret: Buffer.from('another') })).not.toBe(0);
    expect(verdicts.every((kind) => kind === 'good')).toBe(true);
  });
});

describe('the settings of dynamic updates', () => {
  it('are a server, a key name and an algorithm, and the secret is base64', () => {
    expect(rfc2136.settings.parse({ server: 'ns1.example.com' })).toEqual({
      ...{ server: 'ns1.example.com', algorithm: 'hmac-sha256' },
    });
    expect(rfc2136.settings.safeParse({ server: 'https://ns1' }).success).toBe(false);
    expect(rfc2136.settings.safeParse({ server: 'ns1', algorithm: 'hmac-md5' }).success).toBe(false);
    expect(rfc2136.secret.safeParse({ key: 'not base64!' }).success).toBe(false);
    expect(rfc2136.secret.safeParse({}).success).toBe(true);
  });

  it('with a key and no name, or a name and no key, say which is missing', async () => {
    const server = '127.0.0.1:53';
    const noName = await refusalOf(openRfc2136({ server, algorithm: 'hmac-sha256' }, { key: secret }, providerDeps));
    expect(noName.problems).toMatchObject([{ path: 'settings.keyName' }]);
    const noKey = openRfc2136({ server, keyName: 'k', algorithm: 'hmac-sha256' }, {}, providerDeps);
    expect((await refusalOf(noKey)).problems).toMatchObject([{ path: 'secret.key' }]);
    expect(shownOf(noName)).not.toContain(secret);
  });
});
