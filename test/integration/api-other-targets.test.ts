import { createHmac, createPrivateKey, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readPfx } from '#libs/targets/pfx-contents';
import { type ApiSession, anyTime, dumpRedis, fieldsOf, openApiSession } from '../support/api-session.ts';

type Json = Record<string, unknown>;

/** Targets that are no IIS hosts, from the API to the files and messages, with all workers. */
let session: ApiSession;
let account: string;
let certificate: string;
let thumbprint: string;
let dir: string;
let pfxPassword: string;
let signing: string;
let login: string;
const names = ['www.example.com', 'api.example.com'];
const [password, secret] = ['Pässwort of all "files" 42', 'whsec_of-the-receiver_0815'];
const deliveries: { headers: IncomingHttpHeaders; body: string }[] = [];
const receiver = createServer(async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  deliveries.push({ headers: request.headers, body: Buffer.concat(chunks).toString() });
  response.writeHead(204).end();
});
let hook: string;
let count = 0;

const make = (body: Json) => session.api.request('POST', '/v1/targets', body);
async function target(body: Json): Promise<string> {
  count += 1;
  const { status, body: made } = await make({ name: `target-${count}`, ...body });
  expect({ status, errors: made.errors }).toEqual({ status: 201, errors: undefined });
  return String(made.id);
}
async function folder(): Promise<string> {
  count += 1;
  const path = join(dir, `folder-${count}`);
  await mkdir(path);
  return path;
}
const credential = async (name: string, more: Json): Promise<string> =>
  String((await session.api.send('POST', '/v1/credentials', { name, ...more })).id);
/** Orders the deployment of the certificate that is there. */
const deploy = (body: Json) =>
  session.api.request('POST', `/v1/certificates/${certificate}/deployments`, { deploy: body });
async function deployed(id: string): Promise<string> {
  const { status, body } = await deploy({ target: id });
  expect({ status, detail: body.detail }).toEqual({ status: 202, detail: undefined });
  await session.until(String(body.id), 'deployed', (order) => order.status === 'deployed');
  return String(body.id);
}
const metric = async (...labels: string[]): Promise<number> => {
  const lines = (await session.metrics()).split('\n').filter((line) => line.startsWith('certline_deployments_total'));
  const line = lines.find((one) => labels.every((label) => one.includes(label)));
  return Number(line?.split(' ').at(-1) ?? 0);
};

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'certline-targets-'));
  await chmod(dir, 0o755);
  receiver.listen(0, '127.0.0.1');
  await once(receiver, 'listening');
  hook = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/certline?token=hidden-token`;
  const allowed = { ALLOW_COMMANDS: 'true', ALLOW_PRIVATE_WEBHOOKS: 'true' };
  session = await openApiSession({ workers: true, env: allowed });
  account = await session.account();
  pfxPassword = await credential('pfx', { kind: 'secret', secret: password });
  signing = await credential('signing', { kind: 'secret', secret });
  login = await credential('login', { kind: 'ssh', username: 'svc', password: 'a long password' });
  const path = join(dir, 'first');
  await mkdir(path);
  const first = await target({ kind: 'folder', path });
  const id = await session.order({ account, names, key: { type: 'ec-p256' }, deploy: { target: first } });
  const order = await session.until(id, 'deployed', ({ status }) => status === 'deployed', 60_000);
  expect(order.deploy).toEqual({ mode: 'store', target: first });
  certificate = String(order.certificate);
  ({ thumbprint } = (await session.api.send('GET', `/v1/certificates/${certificate}`)) as { thumbprint: string });
});
afterAll(async () => {
  await session?.close();
  receiver.close().closeAllConnections();
  await rm(dir, { recursive: true, force: true });
});

/** The certificate that files of a folder hold, when the key fits. */
async function thumbprintIn(path: string): Promise<string> {
  const leaf = new X509Certificate(await readFile(join(path, 'cert.pem')));
  expect(leaf.checkPrivateKey(createPrivateKey(await readFile(join(path, 'privkey.pem'))))).toBe(true);
  return leaf.fingerprint.replaceAll(':', '');
}

describe('a folder', () => {
  it('gets the key and the certificate of an order, from the CA to the files', async () => {
    expect(await thumbprintIn(join(dir, 'first', 'www.example.com'))).toBe(thumbprint);
    expect(await metric('kind="folder"', 'outcome="completed"')).toBeGreaterThanOrEqual(1);
  });

  it('gets a PFX with the password of its credential, and its command runs', async () => {
    const path = await folder();
    const command = { file: '/usr/bin/touch', arguments: [join(path, 'reloaded')] };
    await deployed(await target({ kind: 'folder', path, pfx: { credential: pfxPassword }, command }));
    const pfx = readPfx(await readFile(join(path, 'www.example.com', 'certificate.pfx')), password);
    expect(pfx).toMatchObject({ readable: true, thumbprint });
    expect(await readdir(path)).toContain('reloaded');
  });

  it('that cannot be written is told as access_denied, and tried again until it can', async () => {
    const path = await folder();
    const id = await target({ kind: 'folder', path });
    await chmod(path, 0o555);
    // Root writes anywhere: the worker is somebody else for a while.
    const root = process.geteuid?.() === 0;
    let order: string;
    try {
      if (root) process.seteuid?.(65_534);
      order = String((await deploy({ target: id })).body.id);
      const denied = ({ attempts }: Json) => (attempts as { deployment: number }).deployment >= 1;
      expect(await session.until(order, 'refused', denied)).toMatchObject({
        ...{ status: 'issued', error: { code: 'access_denied', stage: 'deployment' } },
        nextAttemptAt: expect.stringMatching(anyTime),
      });
    } finally {
      if (root) process.seteuid?.(0);
    }
    await chmod(path, 0o755);
    await session.until(order, 'deployed', ({ status }) => status === 'deployed', 60_000);
    expect(await thumbprintIn(join(path, 'www.example.com'))).toBe(thumbprint);
    expect(await metric('kind="folder"', 'outcome="failed"', 'code="access_denied"')).toBeGreaterThanOrEqual(1);
  }, 90_000);

  it('waits for the maintenance windows of its target', async () => {
    const path = await folder();
    const day = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'][(new Date().getUTCDay() + 3) % 7];
    const windows = [{ days: [day], from: '10:00', to: '11:00', timeZone: 'UTC' }];
    const id = await target({ kind: 'folder', path, windows });
    const order = String((await deploy({ target: id })).body.id);
    const waiting = await session.until(order, 'waiting', ({ nextAttemptAt }) => nextAttemptAt !== null);
    expect(waiting).toMatchObject({ error: { code: 'outside_window' }, attempts: { deployment: 0 } });
    expect(await readdir(path)).toEqual([]);
    await session.api.send('PATCH', `/v1/targets/${id}`, { windows: [] });
    await session.until(order, 'deployed', ({ status }) => status === 'deployed');
  });
});

describe('a central certificate store', () => {
  it('gets a file for each name, which the password of its credential opens', async () => {
    const path = await folder();
    await deployed(await target({ kind: 'ccs', path, credential: pfxPassword }));
    expect((await readdir(path)).sort()).toEqual(['api.example.com.pfx', 'www.example.com.pfx']);
    for (const name of names)
      expect(readPfx(await readFile(join(path, `${name}.pfx`)), password)).toMatchObject({
        readable: true,
        thumbprint,
      });
  });

  it('uses the new password after the secret was replaced', async () => {
    const path = await folder();
    const own = await credential('changing', { kind: 'secret', secret: 'one' });
    const id = await target({ kind: 'ccs', path, credential: own });
    expect(await session.api.request('PUT', `/v1/credentials/${own}/secret`, { secret: 'two' })).toMatchObject({
      ...{ status: 200, body: { id: own, kind: 'secret' } },
    });
    await deployed(id);
    expect(readPfx(await readFile(join(path, 'www.example.com.pfx')), 'two')).toMatchObject({ thumbprint });
  });
});

describe('a webhook', () => {
  it('is told once, signed, and without the key', async () => {
    const before = deliveries.length;
    const order = await deployed(await target({ kind: 'webhook', url: hook, credential: signing }));
    const [delivery, ...others] = deliveries.slice(before);
    expect(others).toEqual([]);
    const { headers, body = '' } = delivery ?? expect.fail('nothing came');
    const [, t = '', v1] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(headers['certline-signature'])) ?? [];
    expect(v1).toBe(createHmac('sha256', secret).update(`${t}.${body}`).digest('hex'));
    expect(JSON.parse(body)).toMatchObject({
      ...{ event: 'certificate.deployed', delivery: `${order}.1`, certificate: { names, thumbprint } },
    });
    expect(body).toContain('BEGIN CERTIFICATE');
    expect(body).not.toContain('PRIVATE KEY');
    expect(await metric('kind="webhook"', 'outcome="completed"')).toBe(1);
  });

  it('of a private address is refused for good unless that is allowed, and so are commands', async () => {
    // Those settings are of the worker: another session has the usual ones.
    const strict = await openApiSession({ workers: true });
    try {
      const kept = { name: 'signing', kind: 'secret', secret };
      const own = String((await strict.api.send('POST', '/v1/credentials', kept)).id);
      const path = await folder();
      const tried = async (body: Json): Promise<Json> => {
        const { id } = await strict.api.send('POST', '/v1/targets', { name: String(body.kind), ...body });
        return strict.api.send('POST', `/v1/targets/${id}/test`);
      };
      const before = deliveries.length;
      const said = (detail: string) => ({
        ok: false,
        steps: expect.arrayContaining([
          { step: expect.any(String), ok: false, detail: expect.stringContaining(detail) },
        ]),
      });
      expect(await tried({ kind: 'webhook', url: hook, credential: own })).toMatchObject(
        said('set ALLOW_PRIVATE_WEBHOOKS=true'),
      );
      expect(await tried({ kind: 'folder', path, command: { file: '/bin/true' } })).toMatchObject(
        said('set ALLOW_COMMANDS=true'),
      );
      expect(deliveries).toHaveLength(before);
    } finally {
      await strict.close();
    }
  });
});

describe('the API', () => {
  it('shows a target with everything but what its secrets are, and makes it once', async () => {
    const path = await folder();
    const body = { name: 'shown', kind: 'folder', path, pfx: { credential: pfxPassword } };
    const made = await make(body);
    const id = made.body.id;
    const rest = { pool: 'default', windows: [], drift: 'report', createdAt: expect.stringMatching(anyTime), id };
    const pfx = { credential: pfxPassword, form: 'aes-256' };
    expect(made.body).toEqual({ ...body, ...rest, pfx, command: null });
    expect(await make(body)).toMatchObject({ status: 200, body: made.body });
    expect(await make({ ...body, path: '/elsewhere' })).toMatchObject({ status: 409, body: { code: 'name_taken' } });
    const other = { ...body, pfx: undefined, kind: 'webhook', path: undefined, url: hook, credential: signing };
    expect(await make(other)).toMatchObject({ status: 409, body: { code: 'name_taken' } });
    const told = await make({ ...other, name: 'told' });
    expect(told.body).toMatchObject({ url: `${new URL(hook).origin}/…`, credential: signing, caBundle: null });
    expect(JSON.stringify(await session.api.send('GET', '/v1/targets'))).not.toContain('hidden-token');
    expect(await make({ ...other, name: 'told' })).toMatchObject({ status: 200, body: told.body });
  });

  it('keeps a secret sealed, and shows it nowhere', async () => {
    const shown = await session.api.send('GET', `/v1/credentials/${signing}`);
    const createdAt = expect.stringMatching(anyTime);
    expect(shown).toEqual({ id: signing, name: 'signing', kind: 'secret', createdAt });
    const everything = [...(await dumpRedis(session.redis))].flat().join('\n');
    for (const one of [password, secret]) expect(everything).not.toContain(one);
    const body = { name: 'signing', kind: 'secret', secret };
    expect(await session.api.request('POST', '/v1/credentials', body)).toMatchObject({ status: 200, body: shown });
    for (const wrong of [
      { ...body, secret: 'x' },
      { name: 'signing', kind: 'ssh', username: 'a', password: secret },
    ])
      expect(fieldsOf(await session.api.request('POST', '/v1/credentials', wrong))).toEqual(['name name_taken']);
    const put = (id: string, secrets: Json) => session.api.request('PUT', `/v1/credentials/${id}/secret`, secrets);
    expect(fieldsOf(await put(signing, { password: 'x' }))).toEqual(['password request_invalid']);
    expect(fieldsOf(await put(signing, {}))).toEqual(['secret request_invalid']);
    expect(fieldsOf(await put(login, { secret: 'x' }))).toEqual(['secret request_invalid']);
  });

  it('does not delete a credential that a target uses', async () => {
    const own = await credential('used', { kind: 'secret', secret: 'x' });
    const id = await target({ kind: 'folder', path: '/srv', pfx: { credential: own } });
    expect(await session.api.request('DELETE', `/v1/credentials/${own}`)).toMatchObject({
      ...{ status: 409, body: { code: 'record_in_use', detail: expect.stringContaining(id) } },
    });
    await session.api.send('PATCH', `/v1/targets/${id}`, { pfx: null });
    expect(await session.api.request('DELETE', `/v1/credentials/${own}`)).toMatchObject({ status: 200 });
  });

  it.each<[string, () => Json, string[]]>([
    ['a kind that nobody knows', () => ({ kind: 'ftp' }), ['kind request_invalid']],
    ['no path', () => ({ kind: 'folder' }), ['path request_invalid']],
    ['a field of another kind', () => ({ kind: 'folder', path: '/srv', url: hook }), ['url request_invalid']],
    [
      'a credential that is not there',
      () => ({ kind: 'ccs', path: '/srv', credential: 'cred_0' }),
      ['credential credential_unknown'],
    ],
    [
      'a login for the password of a PFX',
      () => ({ kind: 'folder', path: '/srv', pfx: { credential: login } }),
      ['pfx.credential request_invalid'],
    ],
    [
      'a secret for a login',
      () => ({ kind: 'iis', transport: { kind: 'ssh', host: 'web01', credential: signing } }),
      ['transport.credential request_invalid'],
    ],
    [
      'a webhook without TLS',
      () => ({ kind: 'webhook', url: 'http://hooks.example.com/', credential: signing }),
      ['url request_invalid'],
    ],
  ])('makes no target with %s', async (_what, body, fields) => {
    const answer = await make({ name: 'wrong', ...body() });
    expect({ status: answer.status, fields: fieldsOf(answer) }).toEqual({ status: 422, fields });
    expect(await session.store.targets.findByName('wrong')).toBeNull();
  });

  it('changes the fields of a target’s own kind alone', async () => {
    const id = await target({ kind: 'ccs', path: '/srv', credential: pfxPassword });
    const patch = (body: Json) => session.api.request('PATCH', `/v1/targets/${id}`, body);
    expect(await patch({ path: '/other', form: '3des', pool: 'files' })).toMatchObject({
      ...{ status: 200, body: { kind: 'ccs', path: '/other', form: '3des', pool: 'files', credential: pfxPassword } },
    });
    const before = await session.store.targets.get(id);
    const wrong: [Json, string[]][] = [
      [{ transport: { kind: 'local' }, url: hook }, ['transport request_invalid', 'url request_invalid']],
      [{ credential: login }, ['credential request_invalid']],
      [{ credential: 'cred_0' }, ['credential credential_unknown']],
      [{ path: '../x' }, ['path request_invalid']],
      [{ kind: 'folder' }, ['kind request_invalid']],
    ];
    for (const [body, fields] of wrong) {
      // A path may be wrong in two ways.
      expect([...new Set(fieldsOf(await patch(body)))]).toEqual(fields);
    }
    expect(await session.store.targets.get(id)).toEqual(before);
  });

  it('shows in a preview what would be written, and takes no options of IIS', async () => {
    const previewed = async (id: string) => {
      const path = `/v1/certificates/${certificate}/deployments/preview`;
      return session.api.send('POST', path, { deploy: { target: id } });
    };
    const pfx = { credential: pfxPassword };
    const id = await target({ kind: 'folder', path: '/srv/tls', pfx });
    const files = ['privkey.pem', 'cert.pem', 'chain.pem', 'fullchain.pem', 'certificate.pfx'];
    expect(await previewed(id)).toMatchObject({
      deployments: [
        {
          ...{ target: { id, kind: 'folder' }, mode: 'store', site: null, store: null, bindings: [], planHash: null },
          writes: files.map((file) => `/srv/tls/www.example.com/${file}`),
        },
      ],
    });
    const share = await target({ kind: 'ccs', path: '\\\\files01\\ccs', credential: pfxPassword });
    expect(await previewed(share)).toMatchObject({
      deployments: [{ writes: names.map((name) => `\\\\files01\\ccs\\${name}.pfx`), warnings: [] }],
    });
    const needs = (setting: string) => ({
      deployments: [
        { warnings: [expect.stringMatching(new RegExp(`refused unless .* pool default have ${setting}=true$`))] },
      ],
    });
    const commanding = await target({ kind: 'folder', path: '/srv/tls', command: { file: '/bin/true' } });
    expect(await previewed(commanding)).toMatchObject(needs('ALLOW_COMMANDS'));
    for (const url of [hook, 'https://[::1]/x', 'https://10.1.2.3/x', 'https://localhost/x']) {
      const inner = await target({ kind: 'webhook', url, credential: signing });
      expect(await previewed(inner)).toMatchObject(needs('ALLOW_PRIVATE_WEBHOOKS'));
    }
    const outer = await target({ kind: 'webhook', url: 'https://hooks.example.com/x', credential: signing });
    expect(await previewed(outer)).toMatchObject({ deployments: [{ warnings: [] }] });

    const placed = (await session.api.send('GET', '/v1/orders')).items;
    const wrong: [Json, string[]][] = [
      [{ mode: 'site' }, ['deploy.mode request_invalid']],
      [{ mode: 'auto', site: 1 }, ['deploy.mode request_invalid', 'deploy.site request_invalid']],
      [{ store: 'My', planHash: 'a'.repeat(64) }, ['deploy.store request_invalid', 'deploy.planHash request_invalid']],
    ];
    for (const [options, fields] of wrong) expect(fieldsOf(await deploy({ target: id, ...options }))).toEqual(fields);
    const source = await session.api.request('POST', '/v1/orders', { account, source: { target: id, site: 1 } });
    expect({ status: source.status, fields: fieldsOf(source) }).toEqual({
      status: 422,
      fields: ['source.target request_invalid'],
    });
    const sites = await session.api.request('GET', `/v1/targets/${id}/sites`);
    expect({ status: sites.status, fields: fieldsOf(sites) }).toEqual({ status: 422, fields: ['id request_invalid'] });
    const device = { account, names: ['nul.example.com'], deploy: { target: share } };
    expect(fieldsOf(await session.api.request('POST', '/v1/orders', device))).toEqual([
      'deploy.target request_invalid',
    ]);
    expect((await session.api.send('GET', '/v1/orders')).items).toEqual(placed);
  });

  it('tries a target through a worker', async () => {
    const tried = async (body: Json) => session.api.send('POST', `/v1/targets/${await target(body)}/test`);
    const path = await folder();
    expect(await tried({ kind: 'folder', path })).toMatchObject({
      ok: true,
      steps: [{ step: 'folder', ok: true }, {}, {}, {}],
    });
    expect(await readdir(path)).toEqual([]);
    expect(await tried({ kind: 'ccs', path: join(dir, 'nowhere'), credential: pfxPassword })).toMatchObject({
      ...{ ok: false, steps: [{ step: 'folder', ok: false }] },
    });
    const before = deliveries.length;
    expect(await tried({ kind: 'webhook', url: hook, credential: signing })).toMatchObject({ ok: true });
    expect(deliveries.slice(before).map(({ body }) => JSON.parse(body).event)).toEqual(['target.test']);
  });
});
