import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from '../../services/lab/running-program.ts';
import { startWindowsHost, type WindowsHost } from '../../services/lab/windows-host.ts';
import { type ApiSession, openApiSession } from '../support/api-session.ts';
import { siteXml } from '../support/iis-config.ts';
import { type SiteServer, serveSite } from '../support/iis-site-server.ts';
import { eventually } from '../support/lab-session.ts';
import { withoutPowerShell } from '../support/powershell.ts';

type Json = Record<string, unknown>;

/** Each question to the host starts a PowerShell: a second, or on a busy machine several. */
const patienceMs = 120_000;

/** Orders with http-01 that somebody else than the API answers: the workers, Pebble, sshd, PowerShell's engine and its listener are real. */
let dir: string;
let port: number;
let session: ApiSession;
let account: string;
/** The web server that a test has started, and closes if it wants the port itself. */
let server: SiteServer | undefined;

const place = (names: string[], challenge: Json, more: Json = {}): Promise<string> =>
  session.order({ names, account, key: { type: 'ec-p256' }, challenge: { type: 'http-01', ...challenge }, ...more });
const issued = (id: string): Promise<Json> =>
  session.until(id, 'it is issued', ({ complete }) => complete === true, patienceMs);
const below = async (folder: string): Promise<string[]> => (await readdir(folder, { recursive: true })).sort();

/** The root folder of a site, with a page and a web.config of its own. */
async function siteRoot(name: string): Promise<string> {
  const root = join(dir, 'sites', name);
  await mkdir(root, { recursive: true });
  await writeFile(join(root, 'index.html'), 'hello');
  await writeFile(join(root, 'web.config'), '<configuration />');
  return root;
}
/** What http://…/<token> answers now; null when nobody listens. */
async function shown(token: string): Promise<string | null> {
  try {
    return await (await fetch(`http://127.0.0.1:${port}/.well-known/acme-challenge/${token}`)).text();
  } catch {
    return null;
  }
}
const nobodyListens = (): Promise<unknown> =>
  eventually('nobody listens any more', patienceMs, async () => (await shown('x')) === null);
const asBefore = (root: string, before: string[]): Promise<unknown> =>
  eventually('the folder is as before', patienceMs, async () => (await below(root)).join() === before.join());

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'certline-http01-'));
  port = await freePort();
  const env = { HTTP01_PORT: String(port), WEBROOTS: join(dir, 'sites'), RECONCILE_INTERVAL_MS: '200' };
  session = await openApiSession({ workers: true, env, pebble: { httpPort: port } });
  account = await session.account({ allowInternalNames: true });
});
async function closeServer(): Promise<void> {
  await server?.close();
  server = undefined;
}

afterEach(closeServer);
afterAll(async () => {
  await session?.close();
  await rm(dir, { recursive: true, force: true });
});

describe('an order with http-01 by a folder', { timeout: patienceMs }, () => {
  it('is proved by a file there, and leaves the folder as it was', async () => {
    const root = await siteRoot('plain');
    const before = await below(root);
    server = await serveSite(root, port, () => true);
    const order = await issued(await place(['plain.site.test', 'too.site.test'], { via: 'webroot', folder: root }));
    expect(order).toMatchObject({ status: 'issued', attempts: { validation: 0 }, error: null });
    // Each was read by certline and then by the CA.
    expect(new Set(server.served).size).toBe(2);
    expect(server.served.length).toBeGreaterThanOrEqual(4);
    await asBefore(root, before);
  });

  it('fails when the folder is not one of WEBROOTS, and nothing is written', async () => {
    const id = await place(['plain.site.test'], { via: 'webroot', folder: join(dir, 'elsewhere') });
    const failed = await session.until(id, 'it has failed', ({ status }) => status === 'failed');
    expect(failed.error).toMatchObject({
      code: 'webroot_not_allowed',
      detail: expect.stringContaining(join(dir, 'elsewhere')),
    });
    expect(await readdir(dir)).toEqual(['sites']);
  });
});

describe.skipIf(withoutPowerShell)('an order with http-01 by the host of a target', { timeout: 3 * patienceMs }, () => {
  let host: WindowsHost;
  let target: string;
  let root: string;
  let before: string[];

  beforeAll(async () => {
    root = await siteRoot('shop');
    before = await below(root);
    const bindings = ['shop.site.test', '*.shop.site.test', 'void.site.test'].map((name) => ({
      ...{ protocol: 'http', bindingInformation: `*:${port}:${name}` },
    }));
    const sites = siteXml({ id: 7, physicalPath: root, bindings });
    host = await startWindowsHost({ dir: join(dir, 'windows'), sites });
    const { username, privateKey } = host.sshd;
    const key = await session.api.send('POST', '/v1/credentials', { name: 'web01', kind: 'ssh', username, privateKey });
    const made = await session.api.send('POST', '/v1/targets', {
      ...{ name: 'web01', kind: 'iis' },
      transport: { kind: 'ssh', host: host.sshd.host, port: host.sshd.port, credential: key.id },
    });
    target = String(made.id);
  }, 300_000);
  afterAll(() => host?.close());

  it('is proved by a listener there, for all of its names, and leaves neither it nor a file', async () => {
    const id = await place(['shop.site.test', 'www.shop.site.test', 'none.other.test'], { via: 'target', target });
    const order = await issued(id);
    expect(order).toMatchObject({ status: 'issued', attempts: { validation: 0 }, error: null });
    expect(await below(root)).toEqual(before);
    await nobodyListens();
    expect(await session.redis.keys('*challenge-listener*')).toEqual([]);
    await eventually(
      'nothing is to be cleaned up',
      patienceMs,
      async () => (await session.store.cleanUps.count()) === 0,
    );
    expect(await below(root)).toEqual(before);
  });

  it('is proved by a file with the web.config that the site needs, where another program has the port', async () => {
    const asked: string[] = [];
    server = await serveSite(root, port, (webConfig) => {
      asked.push(webConfig);
      return webConfig.includes('fileExtension="."') && webConfig.includes('<handlers><clear');
    });
    const order = await issued(await place(['shop.site.test'], { via: 'target', target }));
    expect(order).toMatchObject({ status: 'issued', attempts: { validation: 0 }, error: null });
    // Nothing, then the one that is enough for most sites, then the one that this one needs.
    const kinds = asked.filter((text, at) => text !== asked[at - 1]);
    expect(kinds).toHaveLength(3);
    expect(kinds[0]).toBe('');
    await asBefore(root, before);
    expect(await readFile(join(root, 'web.config'), 'utf8')).toBe('<configuration />');
    expect(await session.redis.keys('*challenge-listener*')).toEqual([]);
  });

  it('tells what each way gave when none works, and goes on when one does', async () => {
    server = await serveSite(root, port, () => false);
    const id = await place(['shop.site.test'], { via: 'target', target });
    const waiting = await session.until(id, 'it waits', ({ nextAttemptAt }) => nextAttemptAt !== null, patienceMs);
    const error = waiting.error as Json;
    expect(error).toMatchObject({
      code: 'http01_wrong_answer',
      detail: expect.stringMatching(/web01 .* a listener: /),
    });
    const { attempts } = (error.evidence ?? { attempts: [] }) as { attempts: Json[] };
    expect(attempts.map(({ way, code }) => `${way}: ${code}`)).toEqual([
      'a listener: target_refused',
      'a file: http01_wrong_answer',
      ...['mime', 'mime-handlers', 'any', 'any-handlers', 'full'].map(
        (one) => `a file with web.config ${one}: http01_wrong_answer`,
      ),
    ]);
    await closeServer();
    expect(await issued(id)).toMatchObject({ error: null });
    await nobodyListens();
    await asBefore(root, before);
  });

  it('leaves nothing when it is called off while the host answers', async () => {
    // One name waits, so that the other is kept presented: nobody answers for it.
    const challenges = [{ match: 'shop.site.test', type: 'http-01', via: 'target', target }];
    const id = await place(['shop.site.test', 'void.site.test'], {}, { challenges });
    await session.until(id, 'it waits', ({ nextAttemptAt }) => nextAttemptAt !== null, patienceMs);
    const { presented = [] } = (await session.store.orders.get(id)) ?? {};
    const one = presented.find(({ name }) => name === 'shop.site.test');
    if (one?.type !== 'http-01') throw new Error('it is not presented');
    expect(await shown(one.token)).toBe(one.keyAuthorization);
    await session.api.send('POST', `/v1/orders/${id}/cancel`);
    await nobodyListens();
    expect(await session.redis.keys('*challenge-listener*')).toEqual([]);
    expect(await below(root)).toEqual(before);
  });

  it('leaves nothing when it is called off while a file is there', async () => {
    server = await serveSite(root, port, (webConfig) => webConfig.includes('fileExtension="."'));
    const challenges = [{ match: 'shop.site.test', type: 'http-01', via: 'target', target }];
    const id = await place(['shop.site.test', 'void.site.test'], {}, { challenges });
    await session.until(id, 'it waits', ({ nextAttemptAt }) => nextAttemptAt !== null, patienceMs);
    expect(await below(root)).toContain('.well-known/acme-challenge/web.config');
    await session.api.send('POST', `/v1/orders/${id}/cancel`);
    await asBefore(root, before);
  });
});
