import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type BindingPlanOptions, planBindings } from '#libs/iis/binding-plan';
import { probeThumbprint } from '#libs/iis/handshake';
import type { BindingChange, IisHost } from '#libs/iis/iis-host';
import { createLabHost } from '#libs/iis/lab-host';
import { startLabIisHost } from '../../services/lab/iis-host/lab-iis-host.ts';
import { type OpensslPfx, opensslPfx } from '../support/openssl-pfx.ts';

const { signal } = new AbortController();
let scratch: string;
let dir: string;
let a: OpensslPfx;
let b: OpensslPfx;
let lab: Awaited<ReturnType<typeof startLabIisHost>>;
let host: IisHost;

const targetAt = (url: string) => createLabHost({ kind: 'lab', url });
const withCode = (code: string) => expect.objectContaining({ code });

async function start(options: Partial<Parameters<typeof startLabIisHost>[0]> = {}): Promise<void> {
  lab = await startLabIisHost({ dir, ...options });
  host = targetAt(lab.url);
}

async function control(method: string, path: string, body?: unknown): Promise<unknown> {
  const init = body === undefined ? {} : { body: JSON.stringify(body) };
  return await (await fetch(lab.url + path, { method, ...init })).json();
}

const addSite = (name: string, bindings: string[], more = {}) =>
  control('POST', '/sites', {
    name,
    bindings: bindings.map((text) => ({
      protocol: text.includes(':80:') ? 'http' : 'https',
      bindingInformation: text,
      sslFlags: text.endsWith(':') || text.includes(':80:') ? 0 : 1,
    })),
    ...more,
  });

const importPfx = ({ pfx, password, thumbprint }: OpensslPfx, store = 'My') =>
  host.importPfx(
    { pfx, password, thumbprint, store, friendlyName: 'a test "ü"', exportable: true, readers: ['S-1-5-20'] },
    signal,
  );

async function deploy(certificate: OpensslPfx, names: string[], options: Partial<BindingPlanOptions> = {}) {
  const state = await host.read(signal);
  const plan = planBindings(state, { ...certificate, names }, { mode: 'all', store: 'My', ...options });
  await host.apply(plan.changes, signal);
  return { before: state, plan };
}

async function served(ip: string, name: string | null): Promise<string> {
  await host.read(signal);
  return (await probeThumbprint(host.endpoint(ip, 443), name, 5_000, signal)).thumbprint;
}

const commits = async () => (await control('GET', '/log')) as { count: number };
const bindingsOf = async (siteId: number) =>
  (await host.read(signal)).sites.find(({ id }) => id === siteId)?.bindings ?? [];

const change = (more: Partial<BindingChange> = {}): BindingChange => ({
  op: 'add',
  siteId: 1,
  protocol: 'https',
  bindingInformation: '*:443:a.example.com',
  sslFlags: 1,
  thumbprint: a.thumbprint,
  store: 'My',
  expect: null,
  ...more,
});

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'lab-host-'));
  [a, b] = await Promise.all([
    opensslPfx(scratch, ['a.example.com', '*.a.example.com']),
    opensslPfx(scratch, ['b.example.com']),
  ]);
});
afterAll(() => rm(scratch, { recursive: true }));

beforeEach(async () => {
  dir = await mkdtemp(join(scratch, 'host-'));
  await start();
});
afterEach(() => lab.close());

describe('importing a PFX', () => {
  const kinds = (['aes', '3des'] as const).flatMap((form) => (['rsa', 'ec'] as const).map((key) => ({ form, key })));
  it.each(kinds)('takes $key keys in the $form form and serves them', async ({ form, key }) => {
    const pfx = await opensslPfx(scratch, ['c.example.com'], { form, key });
    await importPfx(pfx);
    await importPfx(pfx);
    await addSite('shop', ['*:80:c.example.com']);
    await deploy(pfx, ['c.example.com']);
    const seen = await probeThumbprint(host.endpoint('*', 443), 'c.example.com', 5_000, signal);
    expect(seen).toMatchObject({ thumbprint: pfx.thumbprint, issuer: 'CN=c.example.com' });
    expect(seen.subjectaltname).toBe('DNS:c.example.com');
    expect(seen.notAfter).toBeGreaterThan(Date.now());
    expect(await readdir(join(dir, 'stores/My'))).toEqual([`${pfx.thumbprint}.key`, `${pfx.thumbprint}.pem`]);
  });

  it('refuses a wrong password, another certificate than was said, and an unknown store', async () => {
    await expect(importPfx({ ...a, password: 'wrong' })).rejects.toEqual(withCode('pfx_unreadable'));
    await expect(importPfx({ ...a, pfx: Buffer.from('no PFX') })).rejects.toEqual(withCode('pfx_unreadable'));
    await expect(importPfx({ ...a, thumbprint: b.thumbprint })).rejects.toEqual(withCode('target_refused'));
    await expect(importPfx(a, '../My')).rejects.toEqual(withCode('target_refused'));
  });

  it('refuses the AES form below build 17763, as Windows does', async () => {
    await lab.close();
    await start({ osBuild: 14_393 });
    await expect(importPfx(a)).rejects.toEqual(withCode('pfx_unreadable'));
    await importPfx(await opensslPfx(scratch, ['d.example.com'], { form: '3des' }));
  });
});

describe('removing a certificate', () => {
  const remove = (store = 'My') => host.removeCertificate(a.thumbprint, store, signal);

  it('takes it out with its key, once nothing uses it', async () => {
    await addSite('shop', ['*:443:a.example.com']);
    await importPfx(a);
    await importPfx(b);
    await host.apply([change({ op: 'update', expect: { thumbprint: null, sslFlags: 1 } })], signal);
    expect(await remove()).toBe('in use');
    expect(await remove('WebHosting')).toBe('absent');
    expect(await served('*', 'a.example.com')).toBe(a.thumbprint);
    await host.apply([change({ op: 'remove', expect: { thumbprint: a.thumbprint, sslFlags: 1 } })], signal);
    expect([await remove('my'), await remove()]).toEqual(['removed', 'absent']);
    expect(await readdir(join(dir, 'stores/My'))).toEqual([`${b.thumbprint}.key`, `${b.thumbprint}.pem`]);
  });

  it('leaves one that an ftp site has', async () => {
    await addSite('files', ['*:80:a.example.com']);
    const path = join(dir, 'applicationHost.config');
    const binding = '<binding protocol="ftp" bindingInformation="*:21:"/></bindings>';
    await writeFile(path, (await readFile(path, 'utf8')).replace('</bindings>', binding));
    await importPfx(a);
    const expected = { thumbprint: null, sslFlags: 0 };
    const ftp = { op: 'update', protocol: 'ftp', bindingInformation: '', sslFlags: 0, expect: expected } as const;
    await host.apply([change(ftp)], signal);
    expect(await remove()).toBe('in use');
  });
});

describe('the test of a host', () => {
  it('says what works, and what does not', async () => {
    expect(await host.test(signal)).toEqual([
      { step: 'connect', ok: true, detail: `${lab.url}, a simulated host` },
      { step: 'iis', ok: true, detail: 'as IIS 10 on Windows build 20348' },
    ]);
    await control('PUT', '/faults', { unreachable: true });
    expect(await host.test(signal)).toEqual([
      { step: 'connect', ok: false, detail: expect.stringContaining('does not answer') },
    ]);
  });
});

describe('the certificate of a connection', () => {
  it('is the one of the SNI host, also below a wildcard host and in Unicode', async () => {
    await addSite('one', ['*:80:a.example.com', '*:80:*.a.example.com']);
    await addSite('two', ['*:443:b.example.com', '*:443:münchen.example.com']);
    await Promise.all([importPfx(a), importPfx(b, 'WebHosting')]);
    await deploy(a, ['a.example.com', '*.a.example.com']);
    await deploy(b, ['b.example.com', 'xn--mnchen-3ya.example.com'], { store: 'webhosting' });
    expect(await served('*', 'A.example.com')).toBe(a.thumbprint);
    expect(await served('*', 'www.a.example.com')).toBe(a.thumbprint);
    expect(await served('*', 'b.example.com')).toBe(b.thumbprint);
    expect(await served('*', 'münchen.example.com')).toBe(b.thumbprint);
    for (const name of ['other.example.com', 'x.y.a.example.com', null]) {
      await expect(served('*', name)).rejects.toEqual(withCode('handshake_mismatch'));
    }
  });

  it('is the one of an IP without SNI before that of the SNI host, and of all addresses last', async () => {
    await Promise.all([importPfx(a), importPfx(b)]);
    await addSite('named', ['*:443:a.example.com', '127.0.0.2:443:www.a.example.com']);
    await addSite('own address', ['127.0.0.2:443:']);
    await deploy(a, ['a.example.com', '*.a.example.com']);
    expect(await served('127.0.0.2', 'a.example.com')).toBe(a.thumbprint);
    const { plan } = await deploy(b, ['b.example.com'], { mode: 'site', site: 2, blankHost: true });
    expect(plan.warnings).toEqual([expect.stringContaining('127.0.0.2:443: of site 2 has no SNI')]);
    expect(await served('127.0.0.2', 'a.example.com')).toBe(b.thumbprint);
    expect(await served('127.0.0.2', null)).toBe(b.thumbprint);
    expect(await served('*', 'a.example.com')).toBe(a.thumbprint);
    await expect(served('*', null)).rejects.toEqual(withCode('handshake_mismatch'));
    await addSite('all addresses', ['*:443:']);
    await deploy(b, ['b.example.com'], { mode: 'site', site: 3, blankHost: true });
    expect(await served('*', null)).toBe(b.thumbprint);
    expect(await served('*', 'a.example.com')).toBe(a.thumbprint);
  });

  it('is shared by bindings without SNI on one ip:port', async () => {
    await importPfx(a);
    await addSite('one', [], { bindings: [{ protocol: 'https', bindingInformation: '*:443:a.example.com' }] });
    await addSite('two', [], { bindings: [{ protocol: 'https', bindingInformation: '*:443:b.example.com' }] });
    const expected = { thumbprint: null, sslFlags: 0 };
    await host.apply([change({ op: 'update', sslFlags: 0, expect: expected })], signal);
    expect((await bindingsOf(2))[0]?.thumbprint).toBe(a.thumbprint);
  });

  it('comes with the name of the site in the answer to an HTTP request', async () => {
    await importPfx(a);
    await addSite('Shöp & "Söhne"', ['*:80:a.example.com']);
    await deploy(a, ['a.example.com']);
    const { host: hostname, port } = host.endpoint('*', 443);
    const body = await new Promise((resolve, reject) => {
      const options = { hostname, port, servername: 'a.example.com', headers: { host: 'a.example.com' } };
      const sent = request({ ...options, rejectUnauthorized: false }, (response) => {
        response.setEncoding('utf8').once('data', resolve);
      });
      sent.once('error', reject).end();
    });
    expect(body).toBe('Shöp & "Söhne"\n');
  });

  it('is not served for stopped sites nor on addresses that are not loopback', async () => {
    await importPfx(a);
    await addSite('stopped', ['*:80:a.example.com'], { state: 'Stopped' });
    await addSite('elsewhere', ['10.0.0.1:443:a.example.com']);
    const { plan } = await deploy(a, ['a.example.com'], { mode: 'site', site: 1 });
    expect(plan.changes).toHaveLength(1);
    for (const ip of ['*', '10.0.0.1']) {
      expect(() => host.endpoint(ip, 443)).toThrow(withCode('target_unreachable'));
    }
  });
});

describe('a commit', () => {
  beforeEach(async () => {
    await importPfx(a);
    await addSite('one', ['*:80:a.example.com', '*:443:b.example.com']);
  });

  it('is one for all changes, and none when there are no changes', async () => {
    await deploy(a, ['a.example.com', 'b.example.com']);
    expect((await commits()).count).toBe(1);
    await deploy(a, ['a.example.com', 'b.example.com']);
    expect((await commits()).count).toBe(1);
  });

  it('does all or nothing', async () => {
    const text = await readFile(join(dir, 'applicationHost.config'), 'utf8');
    const bad: [Partial<BindingChange>, string][] = [
      [{ siteId: 9 }, 'plan_drifted'],
      [{ op: 'update', expect: { thumbprint: null, sslFlags: 1 } }, 'plan_drifted'],
      [{ bindingInformation: '*:443:b.example.com' }, 'plan_drifted'],
      [{ bindingInformation: '*:443:B.example.com' }, 'binding_conflict'],
      [{ bindingInformation: '*:444:a.example.com', thumbprint: b.thumbprint }, 'key_unusable'],
      [{ bindingInformation: '*:444:a.example.com', store: 'WebHosting' }, 'key_unusable'],
    ];
    for (const [more, code] of bad) {
      const both = [change({ bindingInformation: '*:8443:a.example.com' }), change(more)];
      await expect(host.apply(both, signal)).rejects.toEqual(withCode(code));
    }
    expect(await readFile(join(dir, 'applicationHost.config'), 'utf8')).toBe(text);
    expect((await commits()).count).toBe(0);
  });

  it('is refused when the configuration changed since it was planned', async () => {
    const state = await host.read(signal);
    const path = join(dir, 'applicationHost.config');
    const text = await readFile(path, 'utf8');
    await writeFile(path, text.replace('sslFlags="1"', 'sslFlags="33"'));
    const names = ['a.example.com', 'b.example.com'];
    const plan = planBindings(state, { thumbprint: a.thumbprint, names }, { mode: 'all', store: 'My' });
    await expect(host.apply(plan.changes, signal)).rejects.toEqual(withCode('plan_drifted'));
    await deploy(a, names);
    expect((await bindingsOf(1)).map((one) => one.sslFlags)).toEqual([0, 33, 1]);
  });

  it('can be undone, and leaves no record in http.sys behind', async () => {
    const records = async () => JSON.parse(await readFile(join(dir, 'httpsys.json'), 'utf8'));
    const { before } = await deploy(a, ['a.example.com', 'b.example.com']);
    expect(Object.keys(await records()).sort()).toEqual(['a.example.com:443', 'b.example.com:443']);
    const expected = { thumbprint: a.thumbprint, sslFlags: 1 };
    const nothing = { thumbprint: null, store: null, expect: expected };
    const b443 = change({ ...nothing, op: 'update', bindingInformation: '*:443:b.example.com' });
    await host.apply([change({ ...nothing, op: 'remove' }), b443], signal);
    expect(await records()).toEqual({});
    expect(await host.read(signal)).toEqual(before);
  });

  it('keeps what it does not know in the file', async () => {
    const path = join(dir, 'applicationHost.config');
    const odd =
      '<site id="7" name="A &amp; B&#10;" x="&lt;"><!-- a > b & "c" --><ftpServer><ssl a="1"/></ftpServer><bindings>\n<binding protocol="net.tcp" bindingInformation="808:*" y="&quot;"/></bindings></site>';
    await writeFile(path, (await readFile(path, 'utf8')).replace('</sites>', `${odd}</sites>`));
    await host.apply([change({ siteId: 7 })], signal);
    const text = await readFile(path, 'utf8');
    expect(text.replace(/\s*<binding protocol="https" bindingInformation="\*:443:a[^>]*>\s*/, '')).toContain(odd);
    expect((await host.read(signal)).sites.at(-1)?.name).toBe('A & B\n');
  });
});

describe('a restart', () => {
  beforeEach(async () => {
    await importPfx(a);
    await addSite('one', ['*:80:a.example.com', '127.0.0.3:443:']);
    await deploy(a, ['a.example.com'], { blankHost: true });
  });

  it('keeps sites, certificates, ports and the count of commits', async () => {
    const before = [await host.read(signal), host.endpoint('*', 443), host.endpoint('127.0.0.3', 443)];
    await lab.close();
    await start();
    expect([await host.read(signal), host.endpoint('*', 443), host.endpoint('127.0.0.3', 443)]).toEqual(before);
    expect(await served('*', 'a.example.com')).toBe(a.thumbprint);
    expect((await commits()).count).toBe(1);
  });

  it('finishes a commit that was decided on when the process was killed', async () => {
    await lab.close();
    const records = JSON.stringify({ 'a.example.com:443': { thumbprint: b.thumbprint, store: 'My' } });
    await writeFile(join(dir, 'commit.journal'), JSON.stringify({ 'httpsys.json': records }));
    await start();
    expect((await bindingsOf(1)).map((one) => one.thumbprint)).toEqual([null, null, b.thumbprint]);
    expect(await readdir(dir)).not.toContain('commit.journal');
  });
});
