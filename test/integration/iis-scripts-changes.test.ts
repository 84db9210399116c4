import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BindingChange } from '#libs/iis/iis-host';
import { type SiteXml, siteXml } from '../support/iis-config.ts';
import { type OpensslPfx, opensslPfx } from '../support/openssl-pfx.ts';
import {
  createMachine,
  type HttpSysRecord,
  type Machine,
  type MachineEnv,
  openScriptSession,
  runScript,
  type ScriptRun,
  type ScriptSession,
  withoutPowerShell,
} from '../support/powershell.ts';

const OLD = 'A'.repeat(40);
const OTHER = 'B'.repeat(40);
const record = (hash: string, flags = 0): HttpSysRecord => ({ Hash: hash, Store: 'WebHosting', Flags: flags });

describe.skipIf(withoutPowerShell)('apply-changes', () => {
  const machines: Machine[] = [];
  let session: ScriptSession;
  let dir: string;
  let certificate: OpensslPfx;
  let NEW: string;

  beforeAll(async () => {
    session = await openScriptSession();
    dir = await mkdtemp(join(tmpdir(), 'pfx-'));
    certificate = await opensslPfx(dir, ['shop.example.com']);
    NEW = certificate.thumbprint;
  });
  afterAll(async () => {
    await session?.close();
    if (dir) await rm(dir, { recursive: true, force: true });
    await Promise.all(machines.map((machine) => machine.close()));
  });

  /** A machine that has the new certificate in WebHosting. */
  async function machineWith(
    sites: readonly SiteXml[],
    httpSys: Record<string, HttpSysRecord> = {},
    env: MachineEnv = {},
  ): Promise<Machine> {
    const machine = await createMachine({ config: sites.map(siteXml).join(''), httpSys, env });
    machines.push(machine);
    const { pfx, password, thumbprint } = certificate;
    const request = { pfx: pfx.toString('base64'), password, thumbprint, storeName: 'WebHosting' };
    expect((await session.run(machine, 'import-pfx', request)).answer).toMatchObject({ ok: true });
    return machine;
  }

  const change = (bindingInformation: string, over: Partial<BindingChange> = {}): BindingChange => ({
    ...{ op: 'update', siteId: 1, protocol: 'https', bindingInformation, sslFlags: 1 },
    ...{ thumbprint: NEW, store: 'WebHosting', expect: { thumbprint: OLD, sslFlags: 1 } },
    ...over,
  });
  const add = (bindingInformation: string, over: Partial<BindingChange> = {}): BindingChange =>
    change(bindingInformation, { op: 'add', expect: null, ...over });

  const apply = (
    machine: Machine,
    changes: readonly object[],
    env: MachineEnv = {},
    attempts = 3,
  ): Promise<ScriptRun> => session.run(machine, 'apply-changes', { changes, attempts, delayMs: 1 }, env);

  interface Read {
    sites: {
      id: number;
      bindings: { protocol: string; bindingInformation: string; sslFlags: number; thumbprint: string | null }[];
      ftp: unknown;
    }[];
  }
  const inspect = async (machine: Machine): Promise<Read> =>
    (await session.run(machine, 'inspect', {})).answer as unknown as Read;
  /** `protocol information flags thumbprint` of every binding. */
  const bindings = async (machine: Machine): Promise<string[]> =>
    (await inspect(machine)).sites.flatMap((site) =>
      site.bindings.map((one) => `${site.id} ${one.bindingInformation} ${one.sslFlags} ${one.thumbprint}`),
    );

  const shop = { bindingInformation: '*:443:shop.example.com', sslFlags: 1 };
  const shopHttp = { protocol: 'http', bindingInformation: '*:80:shop.example.com' };
  const one = (): Promise<Machine> =>
    machineWith([{ id: 1, bindings: [shopHttp, shop] }], { 'shop.example.com:443': record(OLD, 1) });

  it('updates, adds and removes in one commit, and reads back what is there then', async () => {
    const machine = await machineWith(
      [
        { id: 1, bindings: [shop, { bindingInformation: '*:443:old.example.com', sslFlags: 1 }] },
        { id: 7, bindings: [] },
      ],
      { 'shop.example.com:443': record(OLD, 1), 'old.example.com:443': record(OLD, 1) },
    );
    const { exit, answer } = await apply(machine, [
      change('*:443:shop.example.com'),
      change('*:443:old.example.com', { op: 'remove', thumbprint: null, store: null }),
      add('[2001:db8::1]:8443:münchen.example.com', { siteId: 7 }),
    ]);
    expect({ exit, answer }).toMatchObject({
      exit: 0,
      answer: {
        ...{ ok: true, attempts: 1 },
        readBack: [
          {
            ...{ siteId: 1, protocol: 'https', bindingInformation: '*:443:shop.example.com' },
            ...{ sslFlags: 1, thumbprint: NEW, store: 'WebHosting' },
          },
          null,
          { siteId: 7, bindingInformation: '[2001:db8::1]:8443:münchen.example.com', thumbprint: NEW },
        ],
      },
    });
    expect(await machine.commits()).toEqual({ tries: 1, commits: 1 });
    expect(await bindings(machine)).toEqual([
      `1 *:443:shop.example.com 1 ${NEW}`,
      `7 [2001:db8::1]:8443:münchen.example.com 1 ${NEW}`,
    ]);
    expect(await machine.httpSys()).toMatchObject({
      'shop.example.com:443': record(NEW, 1),
      'münchen.example.com:8443': record(NEW, 1),
    });
  });

  it('commits nothing when there is nothing to change', async () => {
    const machine = await one();
    expect((await apply(machine, [])).answer).toMatchObject({ ok: true, attempts: 1, readBack: [] });
    expect(await machine.commits()).toEqual({ tries: 0, commits: 0 });
  });

  it.each([0, 1, 4, 33, 127 - 2])(
    'keeps sslFlags %i as they are told, beyond the two that the library names',
    async (sslFlags) => {
      const key = sslFlags % 2 === 1 ? 'shop.example.com:443' : '0.0.0.0:443';
      const machine = await machineWith([{ id: 1, bindings: [{ ...shop, sslFlags }] }], {
        [key]: record(OLD, sslFlags),
      });
      const told = change('*:443:shop.example.com', { sslFlags, expect: { thumbprint: OLD, sslFlags } });
      expect((await apply(machine, [told])).answer).toMatchObject({ readBack: [{ sslFlags, thumbprint: NEW }] });
      expect(await machine.config()).toContain(
        sslFlags === 0 ? 'bindingInformation="*:443:shop.example.com" />' : `sslFlags="${sslFlags}"`,
      );
      expect(await machine.httpSys()).toEqual({ [key]: record(NEW, sslFlags) });
    },
  );

  it('sets no sslFlags on IIS 7', async () => {
    const env = { FAKE_IIS_MAJOR: '7' };
    const machine = await machineWith([{ id: 1, bindings: [] }], {}, env);
    const { answer } = await apply(machine, [add('*:443:', { sslFlags: 0 })]);
    expect(answer).toMatchObject({ ok: true, readBack: [{ sslFlags: 0, thumbprint: NEW }] });
    const refused = await apply(machine, [add('*:8443:', { sslFlags: 1 })]);
    expect(refused.answer).toMatchObject({ ok: false, error: { precondition: false, message: /sslFlags/ } });
  });

  it('leaves other attributes and other bindings as they are', async () => {
    const machine = await machineWith([{ id: 1, name: 'Shöp & Söhne', bindings: [shopHttp, shop] }], {
      'shop.example.com:443': record(OLD, 1),
      '0.0.0.0:8443': record(OTHER),
    });
    await machine.writeConfig(
      (await machine.config()).replace('sslFlags="1"', 'sslFlags="1" isDsMapperEnabled="true"'),
    );
    await apply(machine, [change('*:443:shop.example.com')]);
    expect(await bindings(machine)).toEqual(['1 *:80:shop.example.com 0 null', `1 *:443:shop.example.com 1 ${NEW}`]);
    const config = await machine.config();
    expect(config).toContain('Shöp &amp; Söhne');
    expect(config).toMatch(/<binding (?=[^>]*shop\.example\.com")(?=[^>]*sslFlags="1")[^>]*isDsMapperEnabled="true"/);
    expect(await machine.httpSys()).toMatchObject({ '0.0.0.0:8443': record(OTHER) });
  });

  describe('on two bindings that share a record of http.sys', () => {
    const a = { bindingInformation: '*:443:a.example.com' };
    const b = { bindingInformation: '*:443:' };
    const plain = { thumbprint: OLD, sslFlags: 0 };
    const shared = (): Promise<Machine> =>
      machineWith(
        [
          { id: 1, bindings: [a] },
          { id: 2, bindings: [b] },
        ],
        { '0.0.0.0:443': record(OLD) },
      );

    it('gives both the certificate, the one that was not named too', async () => {
      const machine = await shared();
      await apply(machine, [change(a.bindingInformation, { sslFlags: 0, expect: plain })]);
      expect(await bindings(machine)).toEqual([`1 *:443:a.example.com 0 ${NEW}`, `2 *:443: 0 ${NEW}`]);
    });

    it('keeps the record for the other when one gets SNI', async () => {
      const machine = await shared();
      await apply(machine, [change(a.bindingInformation, { sslFlags: 1, expect: plain })]);
      expect(await bindings(machine)).toEqual([`1 *:443:a.example.com 1 ${NEW}`, `2 *:443: 0 ${OLD}`]);
    });

    it('keeps the record for the other when one is removed', async () => {
      const machine = await shared();
      await apply(machine, [change(a.bindingInformation, { op: 'remove', thumbprint: null, expect: plain })]);
      expect(await bindings(machine)).toEqual([`2 *:443: 0 ${OLD}`]);
    });
  });

  describe('where text is compared as people of some language read it, which Windows does,', () => {
    // Needs ICU (libicu) here, which does not see U+200D, as Windows does not.
    const env = { DOTNET_SYSTEM_GLOBALIZATION_INVARIANT: '0' };
    const applyThere = (machine: Machine, told: BindingChange): Promise<ScriptRun> =>
      runScript(machine, 'apply-changes', { changes: [told], attempts: 1, delayMs: 1 }, { env });
    const joined = 'a\u200db.example';

    it.each([
      ['remove', 'ab.example', joined],
      ['remove', joined, 'ab.example'],
      ['update', 'ab.example', joined],
    ] as const)('can %s one of two bindings that look alike: %j beside %j', async (op, name, other) => {
      const both = [other, name].map((one) => ({ bindingInformation: `*:443:${one}`, sslFlags: 1 }));
      const machine = await machineWith([{ id: 1, bindings: both }], {
        [`${name}:443`]: record(OLD, 1),
        [`${other}:443`]: record(OTHER, 1),
      });
      const { answer } = await applyThere(machine, change(`*:443:${name}`, { op }));
      expect(answer).toMatchObject({ ok: true });
      const left = op === 'update' ? [`1 *:443:${name} 1 ${NEW}`] : [];
      expect(await bindings(machine)).toEqual([`1 *:443:${other} 1 ${OTHER}`, ...left]);
      const kept = op === 'update' ? { [`${name}:443`]: record(NEW, 1) } : {};
      expect(await machine.httpSys()).toEqual({ [`${other}:443`]: record(OTHER, 1), ...kept });
    });

    it('knows a binding in other letter case', async () => {
      const machine = await one();
      const { answer } = await applyThere(machine, change('*:443:SHOP.example.com', { op: 'remove' }));
      expect(answer).toMatchObject({ ok: true });
      expect(await machine.httpSys()).toEqual({});
    });
  });

  describe('counts who uses a record of http.sys', () => {
    const [a, b] = ['*:443:a.example.com', '*:443:'];
    const plain = { thumbprint: OLD, sslFlags: 0 };
    const gone = { op: 'remove', thumbprint: null, expect: plain } as const;
    const shared = (): Promise<Machine> =>
      machineWith(
        [
          { id: 1, bindings: [{ bindingInformation: a }] },
          { id: 2, bindings: [{ bindingInformation: b }] },
        ],
        { '0.0.0.0:443': record(OLD) },
      );

    it('through one commit: the last that goes takes it along', async () => {
      const machine = await shared();
      await apply(machine, [change(a, gone), change(b, { ...gone, siteId: 2 })]);
      expect(await bindings(machine)).toEqual([]);
      expect(await machine.httpSys()).toEqual({});
    });

    it('with those that the same commit has added', async () => {
      const machine = await machineWith([{ id: 1, bindings: [{ bindingInformation: a }] }], {
        '0.0.0.0:443': record(OLD),
      });
      const c = '*:443:c.example.com';
      // Without a certificate of its own: it would not write the record again.
      await apply(machine, [add(c, { sslFlags: 0, thumbprint: null, store: null }), change(a, gone)]);
      expect(await bindings(machine)).toEqual([`1 ${c} 0 ${OLD}`]);
      expect(await machine.httpSys()).toEqual({ '0.0.0.0:443': record(OLD) });
    });

    it('without those that the same commit has moved to another', async () => {
      const machine = await shared();
      await apply(machine, [change(a, { sslFlags: 1, expect: plain }), change(b, { ...gone, siteId: 2 })]);
      expect(await bindings(machine)).toEqual([`1 ${a} 1 ${NEW}`]);
      expect(await machine.httpSys()).toEqual({ 'a.example.com:443': record(NEW, 1) });
    });
  });

  describe('refuses, and changes nothing,', () => {
    const refusals: { what: string; changes: () => object[]; error: object }[] = [
      {
        what: 'when a binding has another certificate than expected',
        changes: () => [change('*:443:shop.example.com', { expect: { thumbprint: OTHER, sslFlags: 1 } })],
        error: { precondition: true, message: expect.stringContaining(OLD) },
      },
      {
        what: 'when a binding has a certificate and none was expected',
        changes: () => [change('*:443:shop.example.com', { expect: { thumbprint: null, sslFlags: 1 } })],
        error: { precondition: true },
      },
      {
        what: 'when a binding has other flags than expected',
        changes: () => [change('*:443:shop.example.com', { expect: { thumbprint: OLD, sslFlags: 33 } })],
        error: { precondition: true, message: expect.stringContaining('sslFlags 1 and not 33') },
      },
      {
        what: 'when a binding is gone',
        changes: () => [change('*:443:gone.example.com')],
        error: { precondition: true, message: expect.stringContaining('is gone') },
      },
      {
        what: 'when the site is gone',
        changes: () => [add('*:443:x.example.com', { siteId: 99 })],
        error: { precondition: true, message: 'there is no site 99' },
      },
      {
        what: 'when a binding that is to be added is there, in any spelling',
        changes: () => [add('*:443:SHOP.example.com')],
        error: { precondition: true, message: expect.stringContaining('is there already') },
      },
      {
        what: 'when only the last of many changes is not as expected',
        changes: () => [
          change('*:443:shop.example.com'),
          add('*:443:y.example.com'),
          change('*:443:gone.example.com', { op: 'remove' }),
        ],
        error: { precondition: true },
      },
      {
        what: 'when the change set adds a binding twice',
        changes: () => [add('*:443:new.example.com'), add('*:443:NEW.example.com')],
        error: { precondition: false, hresult: '0x800700B7' },
      },
    ];

    it.each(refusals)('$what', async ({ changes, error }) => {
      const machine = await one();
      const config = await machine.config();
      const { exit, answer } = await apply(machine, changes());
      expect({ exit, answer }).toMatchObject({ exit: 1, answer: { ok: false, error } });
      expect(await machine.commits()).toEqual({ tries: 0, commits: 0 });
      expect(await machine.config()).toBe(config);
      expect(await machine.httpSys()).toEqual({ 'shop.example.com:443': record(OLD, 1) });
    });

    it('when IIS may not be written, and does not try that again', async () => {
      const machine = await one();
      const config = await machine.config();
      const { answer } = await apply(machine, [change('*:443:shop.example.com')], { FAKE_IIS_REFUSE: 'denied' });
      expect(answer).toMatchObject({
        error: { precondition: false, hresult: '0x80070005', type: 'System.UnauthorizedAccessException' },
      });
      expect(await machine.commits()).toEqual({ tries: 1, commits: 0 });
      expect(await machine.config()).toBe(config);
    });
  });

  it('tries again when the file has changed on disk meanwhile', async () => {
    const machine = await one();
    const { answer } = await apply(machine, [change('*:443:shop.example.com')], { FAKE_IIS_FAIL_COMMITS: '2' });
    expect(answer).toMatchObject({ ok: true, attempts: 3, readBack: [{ thumbprint: NEW }] });
    expect(await machine.commits()).toEqual({ tries: 3, commits: 1 });
  });

  it.each([
    ['the file changes on disk each time', { FAKE_IIS_FAIL_COMMITS: '9' }, 'System.IO.FileLoadException', '0x80131621'],
    ['the file cannot be written', { FAKE_IIS_REFUSE: 'not written' }, /COMException$/, '0x80070020'],
  ])('gives up after the last attempt when %s, and tells it', async (_, env, type, hresult) => {
    const machine = await one();
    const config = await machine.config();
    const { exit, answer } = await apply(machine, [change('*:443:shop.example.com')], env);
    expect({ exit, answer }).toMatchObject({
      exit: 1,
      answer: { ok: false, error: { precondition: false, type: expect.stringMatching(type), hresult } },
    });
    expect(await machine.commits()).toEqual({ tries: 3, commits: 0 });
    expect(await machine.config()).toBe(config);
  });

  it('does not overwrite what another program writes while it commits', async () => {
    const machine = await one();
    const applied = apply(machine, [change('*:443:shop.example.com')], { FAKE_IIS_PAUSE: 'before:1000' });
    // The first commit has begun, on a configuration without the comment.
    await expect.poll(() => machine.commits(), { timeout: 20_000, interval: 10 }).toEqual({ tries: 1, commits: 0 });
    const config = (await machine.config()).replace('<sites>', '<sites><!-- theirs -->');
    await machine.writeConfig(config);
    expect((await applied).answer).toMatchObject({ ok: true, attempts: 2 });
    expect(await machine.config()).toContain('<!-- theirs -->');
    expect(await bindings(machine)).toContain(`1 *:443:shop.example.com 1 ${NEW}`);
  });

  it.each([
    ['a key that http.sys cannot use', { FAKE_IIS_REFUSE: 'key unusable' }, '0x80070520'],
    ['a right that http.sys asks for', { FAKE_IIS_REFUSE: 'access denied' }, '0x80070005'],
  ])('tells of %s, once', async (_, env, hresult) => {
    const machine = await one();
    const { answer } = await apply(machine, [change('*:443:shop.example.com')], env);
    expect(answer).toMatchObject({ ok: false, error: { precondition: false, hresult } });
    expect(await machine.commits()).toEqual({ tries: 1, commits: 0 });
  });

  it('is refused by http.sys for a certificate that is not in the store', async () => {
    const { answer } = await apply(await one(), [change('*:443:shop.example.com', { store: 'My' })]);
    expect(answer).toMatchObject({ ok: false, error: { hresult: '0x80070520' } });
  });

  describe('on the certificate of a site’s ftp', () => {
    const ftpBinding = { protocol: 'ftp', bindingInformation: '*:21:ftp.example.com' };
    const ftp = (over: Partial<BindingChange> = {}): BindingChange => ({
      ...{ ...change(''), protocol: 'ftp' as BindingChange['protocol'], sslFlags: 0 },
      ...{ expect: { thumbprint: OLD, sslFlags: 0 }, ...over },
    });
    const site: SiteXml = { id: 1, bindings: [ftpBinding], ftp: { thumbprint: OLD.toLowerCase(), store: 'MY' } };

    it('sets it, and reads it back', async () => {
      const machine = await machineWith([site]);
      expect((await apply(machine, [ftp()])).answer).toMatchObject({
        ok: true,
        readBack: [
          { siteId: 1, protocol: 'ftp', bindingInformation: '', sslFlags: 0, thumbprint: NEW, store: 'WebHosting' },
        ],
      });
      expect((await inspect(machine)).sites[0]).toMatchObject({
        ftp: { thumbprint: NEW, store: 'WebHosting' },
        bindings: [{ protocol: 'ftp', bindingInformation: '*:21:ftp.example.com' }],
      });
    });

    it.each([
      ['nothing there', null],
      ['no certificate there', { thumbprint: null, sslFlags: 0 }],
    ])('sets the first one, expecting %s, and takes it away again', async (_, expectation) => {
      const machine = await machineWith([{ ...site, ftp: undefined } as unknown as SiteXml]);
      expect((await apply(machine, [ftp({ expect: expectation })])).answer).toMatchObject({ ok: true });
      expect((await apply(machine, [ftp({ expect: expectation })])).answer).toMatchObject({
        ...{ ok: false, error: { precondition: true } },
      });
      const back = ftp({ op: 'remove', thumbprint: null, store: null, expect: { thumbprint: NEW, sslFlags: 0 } });
      expect((await apply(machine, [back])).answer).toMatchObject({ ok: true, readBack: [null] });
      expect((await inspect(machine)).sites[0]?.ftp).toEqual({ thumbprint: null, store: null });
    });

    it('leaves it alone when it is not what was expected', async () => {
      const machine = await machineWith([site]);
      const { answer } = await apply(machine, [ftp({ expect: { thumbprint: OTHER, sslFlags: 0 } })]);
      expect(answer).toMatchObject({ ok: false, error: { precondition: true } });
      expect((await inspect(machine)).sites[0]?.ftp).toEqual({ thumbprint: OLD, store: 'MY' });
    });
  });
});
