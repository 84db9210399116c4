import { describe, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import type { BindingChange } from '#libs/iis/iis-host';
import { createPowerShellHost } from '#libs/iis/powershell-host';
import type { HostConnection, ScriptOptions, ScriptRunner } from '#libs/iis/script-runner';
import { scriptText } from '#libs/iis/script-text';

const { signal } = new AbortController();
const withCode = (code: string, more: object = {}) => expect.objectContaining({ code, ...more });
const thumbprint = 'AB'.repeat(20);
const change: BindingChange = {
  ...{ op: 'update', siteId: 7, protocol: 'https', bindingInformation: '*:443:a.example.com', sslFlags: 1 },
  ...{ thumbprint, store: 'My', expect: { thumbprint: null, sslFlags: 1 } },
};
const readBack = {
  ...{ siteId: 7, protocol: 'https', bindingInformation: '*:443:a.example.com' },
  ...{ sslFlags: 1, thumbprint, store: 'MY' },
};
const tested = {
  ...{ ok: true, user: 'WEB\\certline', admin: true, powershell: '5.1.20348.1', osBuild: 20_348 },
  iis: { major: 10, minor: 0 },
  iisError: null,
  stores: ['My', 'WebHosting'].map((name) => ({ name, ok: true, detail: 'can be written' })),
};

interface Call {
  script: string;
  request: object;
  options: ScriptOptions;
}

/** A host whose scripts answer this, or fail with it. */
function hostThat(answers: unknown, connects: HostConnection | Error = { place: 'web.example.com', hostKey: null }) {
  const calls: Call[] = [];
  const runner: ScriptRunner = {
    async run(script, request, options) {
      calls.push({ script, request, options });
      if (answers instanceof Error) throw answers;
      return answers;
    },
    async connect() {
      if (connects instanceof Error) throw connects;
      return connects;
    },
    close: async () => {},
  };
  return { host: createPowerShellHost(runner, 'web.example.com'), calls };
}

const refusal = (more: object) => ({
  ok: false,
  error: { precondition: false, type: 'System.Exception', hresult: '0x80131500', message: 'no', line: 3, ...more },
});

describe('a script', () => {
  it('gets 60 s to look and 180 s to change something, and its secrets are not shown', async () => {
    const { host, calls } = hostThat({ ok: true, alreadyPresent: false, notes: [] });
    const spec = { store: 'My', friendlyName: 'a', exportable: true, readers: ['S-1-5-20'] };
    await host.importPfx({ pfx: Buffer.from('PFX'), password: 'x', thumbprint, ...spec }, signal);
    await expect(host.read(signal)).rejects.toEqual(withCode('target_refused'));
    expect(calls).toEqual([
      {
        script: scriptText('import-pfx'),
        request: {
          ...{ pfx: 'UEZY', password: 'x', thumbprint, storeName: 'My' },
          ...{ friendlyName: 'a', exportable: true, readers: ['S-1-5-20'] },
        },
        options: { signal, timeoutMs: 180_000, confidential: true },
      },
      { script: scriptText('inspect'), request: {}, options: { signal, timeoutMs: 60_000 } },
    ]);
  });

  it('that answers something else than it should is refused', async () => {
    for (const answer of [null, [], { ok: true }, { ok: true, sites: [] }, { ok: false }]) {
      await expect(hostThat(answer).host.read(signal)).rejects.toEqual(withCode('target_refused'));
    }
  });

  it.each([
    [{ precondition: true }, 'plan_drifted'],
    [{ type: 'System.IO.FileLoadException' }, 'commit_conflict'],
    [{ type: 'System.IO.FileLoadException', message: 'Die Datei wurde geändert' }, 'commit_conflict'],
    [{ type: 'System.UnauthorizedAccessException' }, 'access_denied'],
    [{ hresult: '0x80070005' }, 'access_denied'],
    [{ hresult: '0x80040154' }, 'iis_missing'],
    [
      { type: 'System.IO.FileNotFoundException', message: "Could not load 'Microsoft.Web.Administration.dll'" },
      'iis_missing',
    ],
    [{ type: 'System.IO.FileNotFoundException', hresult: '0x80070002' }, 'target_refused'],
    [{ hresult: '0x80070520' }, 'key_unusable'],
    [{ hresult: '0x800700b7' }, 'binding_conflict'],
    [{ hresult: '0x80070056' }, 'pfx_unreadable'],
    [{ hresult: null }, 'target_refused'],
    [{}, 'target_refused'],
  ])('that refuses with %j is %s', async (more, code) => {
    await expect(hostThat(refusal(more)).host.apply([change], signal)).rejects.toEqual(withCode(code));
  });
});

describe('a change', () => {
  const applied = (seen: unknown, more: Partial<BindingChange> = {}) =>
    hostThat({ ok: true, attempts: 1, readBack: [seen] }).host.apply([{ ...change, ...more }], signal);
  const ftp = { protocol: 'ftp', bindingInformation: '', sslFlags: 0 } as const;

  it('is done when it is read back as it was asked for', async () => {
    await applied(readBack);
    await applied({ ...readBack, thumbprint: thumbprint.toLowerCase() });
    await applied(null, { op: 'remove', thumbprint: null, store: null });
    await applied({ ...readBack, thumbprint: null, store: null }, { thumbprint: null });
    await applied({ ...readBack, ...ftp }, ftp);
    await applied(null, { ...ftp, thumbprint: null });
  });

  it.each([
    [{ ...readBack, thumbprint: null }, {}, 'has the certificate (none) and sslFlags 1'],
    [{ ...readBack, sslFlags: 0 }, {}, `has the certificate ${thumbprint} and sslFlags 0`],
    [{ ...readBack, store: 'WebHosting' }, {}, `has the certificate ${thumbprint} and sslFlags 1`],
    [null, {}, 'is not there'],
    [readBack, { op: 'remove' }, `has the certificate ${thumbprint} and sslFlags 1`],
    [null, ftp, 'is not there'],
  ] as [unknown, Partial<BindingChange>, string][])('that is read back as %j is not done', async (seen, more, is) => {
    const error = await applied(seen, more).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'target_refused', message: expect.stringContaining(is) });
    expect(error).toHaveProperty(['evidence', 'seen', 'sslFlags'].slice(0, seen === null ? 2 : 3));
  });

  it('that is not read back at all is not done', async () => {
    const { host } = hostThat({ ok: true, attempts: 1, readBack: [] });
    await expect(host.apply([change], signal)).rejects.toEqual(withCode('target_refused'));
  });

  it('that is none asks nothing of the host', async () => {
    const { host, calls } = hostThat(new Error('asked'));
    await host.apply([], signal);
    expect(calls).toEqual([]);
  });
});

describe('the test of a host', () => {
  const steps = async (answers: unknown, connects?: HostConnection | Error) =>
    (await hostThat(answers, connects).host.test(signal)).map(({ step, ok, detail }) => `${step}: ${ok}: ${detail}`);
  const fingerprint = `SHA256:${'a'.repeat(43)}`;

  it('says what works', async () => {
    expect(await steps(tested, { place: 'web:22 as admin', hostKey: { fingerprint, isNew: true } })).toEqual([
      'connect: true: web:22 as admin',
      `host key: true: ${fingerprint}, met for the first time and pinned`,
      'rights: true: WEB\\certline is an administrator; PowerShell 5.1.20348.1',
      'iis: true: IIS 10.0 on Windows build 20348',
      'stores: true: My, WebHosting can be written',
    ]);
  });

  it('ends with the first thing that does not', async () => {
    const changed = new CertlineError('host_key_changed', 'another key');
    expect(await steps(tested, changed)).toEqual(['connect: true: the host answers', 'host key: false: another key']);
    const login = new CertlineError('ssh_login_refused', 'no entry', { evidence: { hostKey: fingerprint } });
    expect((await steps(tested, login)).slice(1)).toEqual([
      `host key: true: ${fingerprint}`,
      'rights: false: no entry',
    ]);
    expect(await steps(tested, new CertlineError('credential_unknown', 'no login'))).toEqual([
      'connect: false: no login',
    ]);
    expect((await steps(new CertlineError('target_refused', 'no PowerShell'))).slice(1)).toEqual([
      'rights: false: no PowerShell',
    ]);
    expect((await steps({ ...tested, admin: false })).at(-1)).toContain('rights: false: WEB\\certline is not an');
    expect((await steps({ ...tested, iis: null, iisError: 'not installed' })).at(-1)).toBe(
      'iis: false: there is no IIS on Windows build 20348: not installed',
    );
    const stores = [
      { name: 'My', ok: true, detail: '' },
      { name: 'WebHosting', ok: false, detail: 'not there' },
    ];
    expect((await steps({ ...tested, stores })).at(-1)).toBe('stores: false: WebHosting: not there');
    expect((await steps({ ...tested, stores, iis: { major: 7, minor: 5 } })).at(-1)).toBe(
      'stores: true: My can be written',
    );
  });

  it('is not kept from ending by its caller', async () => {
    const gone = AbortSignal.abort(new Error('enough'));
    await expect(hostThat(new Error('x'), new Error('y')).host.test(gone)).rejects.toThrow('enough');
  });
});

it('a binding on the loopback of another machine cannot be looked at from here', () => {
  const { host } = hostThat(null);
  expect(['127.0.0.1', '[::1]', '*', '10.0.0.5'].map((ip) => host.answersOnlyItself?.(ip))).toEqual([
    ...[true, true, false, false],
  ]);
});

it('the bindings of a host are reached at its address, or at their own', () => {
  const { host } = hostThat(null);
  const at = (ip: string) => host.endpoint(ip, 8443);
  expect([at('*'), at('0.0.0.0'), at('10.0.0.5'), at('[FE80::1]')]).toEqual([
    { host: 'web.example.com', port: 8443 },
    { host: 'web.example.com', port: 8443 },
    { host: '10.0.0.5', port: 8443 },
    { host: 'fe80::1', port: 8443 },
  ]);
});
