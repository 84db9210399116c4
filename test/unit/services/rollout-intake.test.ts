import { describe, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import type { HostState } from '#libs/iis/iis-host';
import type { Account } from '#libs/model/account';
import type { Target } from '#libs/model/target';
import { createIntake, orderBody } from '../../../services/api/order-intake.ts';
import { problemsOf } from '../../../services/api/problem-json.ts';
import { fakeClock } from '../../support/fake-clock.ts';
import { hostWith, http } from '../iis/plan-cases.ts';

/** Several targets in one order, as a request names them: what is stored, what is refused and at which field, what a preview shows. */
const account: Account = {
  ...{ id: 'acc_1', ca: 'letsencrypt', directory: 'https://ca.test/directory', email: 'ops@example.com', url: null },
  ...{ caBundle: null, allowInternalNames: false, eabKid: null, parked: null, createdAt: 0 },
};
const common = { pool: 'default', windows: [], drift: 'report' as const, createdAt: 0 };
const iis = (id: string, more: Partial<Target> = {}): Target =>
  ({
    ...{ ...common, id, name: `host ${id}`, kind: 'iis', transport: { kind: 'lab', url: 'http://127.0.0.1:1' } },
    ...more,
  }) as Target;
const saturdays = { days: ['sat' as const], from: '22:00', to: '23:00', timeZone: 'UTC' };
const targets: Target[] = [
  ...['tgt_a', 'tgt_b', 'tgt_c', 'tgt_down'].map((id) => iis(id)),
  iis('tgt_later', { windows: [saturdays] }),
  { ...common, id: 'tgt_folder', name: 'files', kind: 'folder', path: '/srv/tls', pfx: null, command: null },
  { ...common, id: 'tgt_ccs', name: 'share', kind: 'ccs', path: '/srv/ccs', credential: 'cred_1', form: 'aes-256' },
];
const names = ['shop.example.com'];
const shop = hostWith({ 1: [http('*:80:shop.example.com')], 2: [http('*:80:shop.example.com')] });
const hosts: Record<string, HostState | CertlineError> = {
  tgt_down: new CertlineError('target_unreachable', 'it is down'),
};
const { signal } = new AbortController();

interface Settings {
  states?: Record<string, HostState | CertlineError | 'never'>;
  patienceMs?: number;
}
/** `reads` are the hosts that were asked while there was time, `most` is how many at the same time. */
function intakeWith({ states = {}, patienceMs }: Settings = {}) {
  const seen = { reads: [] as string[], now: 0, most: 0 };
  const intake = createIntake({
    findCertificate: async () => null,
    findCredential: async () => null,
    findAccount: async () => account,
    findTarget: async (id) => targets.find((one) => one.id === id) ?? (id.startsWith('tgt_farm') ? iis(id) : null),
    openHost: ({ id }) => ({
      async read(aborted) {
        aborted.throwIfAborted();
        seen.reads.push(id);
        seen.now += 1;
        seen.most = Math.max(seen.most, seen.now);
        try {
          const state = states[id] ?? hosts[id] ?? shop;
          await new Promise((resolve) => setImmediate(resolve));
          if (state === 'never')
            await new Promise((_resolve, reject) => {
              aborted.throwIfAborted();
              aborted.addEventListener('abort', () => reject(aborted.reason));
            });
          if (state instanceof CertlineError) throw state;
          return state as HostState;
        } finally {
          seen.now -= 1;
        }
      },
      test: async () => [],
    }),
    certificates: { knownThumbprints: async () => new Set() },
    clock: fakeClock(Date.UTC(2026, 0, 1)),
    ...(patienceMs === undefined ? {} : { patienceMs }),
  });
  const bodyOf = (deploy: object, more: object) =>
    orderBody.parse({ account: 'acc_1', ...('source' in more ? {} : { names }), ...more, deploy });
  return {
    seen,
    place: async (deploy: object, more: object = {}) => intake.order(bodyOf(deploy, more), signal),
    preview: async (deploy: object, more: object = {}) =>
      (await intake.preview(bodyOf(deploy, more), signal)).deployments(),
  };
}
const stored = async (deploy: object, more: object = {}) => (await intakeWith().place(deploy, more)).request.deploy;

/** What is refused as `path code`, with the words of each. */
async function refusedWith(
  deploy: object,
  more: object = {},
  settings: Settings = {},
): Promise<{ fields: string[]; details: string[] }> {
  const error: unknown = await intakeWith(settings)
    .place(deploy, more)
    .then(
      () => new Error('it is not refused'),
      (thrown: unknown) => thrown,
    );
  if (!(error instanceof CertlineError)) throw error;
  const problems = error.problems ?? [];
  expect(error.code).toBe(problems[0]?.code);
  expect(error.message).toContain(problems[0]?.detail);
  return { fields: problems.map(({ path, code }) => `${path} ${code}`), details: problems.map(({ detail }) => detail) };
}

describe('an order for several targets', () => {
  const hash = 'a'.repeat(64);

  it('has its targets in waves, in their order, each with the options of all and with its own site', async () => {
    const deploy = {
      ...{ mode: 'site', site: 1, port: 8443, store: 'WebHosting' },
      targets: ['tgt_a', { target: 'tgt_b', site: 2 }, 'tgt_c'],
      waves: [1, 'rest'],
    };
    const shared = { mode: 'site', port: 8443, store: 'WebHosting' };
    expect(await stored(deploy)).toEqual({
      mode: 'rollout',
      waves: [
        [{ ...shared, target: 'tgt_a', site: 1 }],
        [
          { ...shared, target: 'tgt_b', site: 2 },
          { ...shared, target: 'tgt_c', site: 1 },
        ],
      ],
    });
  });

  it('knows of each target that nothing was begun there', async () => {
    const { deployments, partOf } = await intakeWith().place({
      ...{ site: 1, targets: ['tgt_a', 'tgt_b'], waves: [1, 1] },
    });
    expect(deployments).toEqual([
      { target: 'tgt_a', wave: 1, order: null, status: 'waiting' },
      { target: 'tgt_b', wave: 2, order: null, status: 'waiting' },
    ]);
    expect(partOf).toBeNull();
  });

  it('keeps the plan that was agreed to for a target', async () => {
    const [seen] = await intakeWith().preview({ site: 1, targets: ['tgt_a', 'tgt_b'] });
    const targetsHeld = [{ target: 'tgt_a', planHash: seen?.planHash }, 'tgt_b'];
    expect(await stored({ site: 1, targets: targetsHeld })).toMatchObject({
      waves: [[{ target: 'tgt_a', planHash: seen?.planHash }, { target: 'tgt_b' }]],
    });
  });

  it.each<[string, object, string[][]]>([
    ['one wave without `waves`', {}, [['tgt_a', 'tgt_b', 'tgt_c']]],
    ['numbers that are all of them', { waves: [2, 1] }, [['tgt_a', 'tgt_b'], ['tgt_c']]],
    ['the rest alone', { waves: ['rest'] }, [['tgt_a', 'tgt_b', 'tgt_c']]],
    ['a rest of nothing', { waves: [1, 2, 'rest'] }, [['tgt_a'], ['tgt_b', 'tgt_c']]],
  ])('is cut into %s', async (_what, more, waves) => {
    const deploy = await stored({ mode: 'auto', targets: ['tgt_a', 'tgt_b', 'tgt_c'], ...more });
    expect(deploy.mode === 'rollout' && deploy.waves.map((wave) => wave.map(({ target }) => target))).toEqual(waves);
  });

  it('of one target is a rollout too', async () => {
    expect(await stored({ mode: 'store', targets: ['tgt_a'] })).toEqual({
      mode: 'rollout',
      waves: [[{ mode: 'store', target: 'tgt_a' }]],
    });
  });

  it('gives targets of other kinds the certificate as it is', async () => {
    expect(await stored({ site: 1, sni: false, targets: ['tgt_folder', 'tgt_a', 'tgt_ccs'] })).toEqual({
      mode: 'rollout',
      waves: [
        [
          { mode: 'store', target: 'tgt_folder' },
          { mode: 'site', target: 'tgt_a', site: 1, sni: false },
          { mode: 'store', target: 'tgt_ccs' },
        ],
      ],
    });
  });

  it('takes the site of its source on the source’s target alone', async () => {
    const source = { target: 'tgt_b', site: 2 };
    const deploy = await stored({ targets: [{ target: 'tgt_a', site: 1 }, 'tgt_b'] }, { source });
    expect(deploy).toMatchObject({ waves: [[{ site: 1 }, { target: 'tgt_b', site: 2 }]] });
    expect((await refusedWith({ targets: ['tgt_a', 'tgt_b'] }, { source })).fields).toEqual([
      'deploy.targets[0].site request_invalid',
    ]);
  });

  it.each<[string, object, string[], RegExp?]>([
    ['one target besides', { target: 'tgt_a', targets: ['tgt_b'], site: 1 }, ['deploy.target request_invalid']],
    [
      'one plan for all',
      { targets: ['tgt_a'], site: 1, planHash: hash },
      ['deploy.planHash request_invalid'],
      /"planHash": … in|\{"target": …, "planHash": …\}/,
    ],
    ['waves of one target', { target: 'tgt_a', site: 1, waves: [1] }, ['deploy.waves request_invalid'], /several/],
    ['waves of no target', { mode: 'auto', waves: [1] }, ['deploy.waves request_invalid']],
    [
      'too many in waves',
      { mode: 'auto', targets: ['tgt_a', 'tgt_b'], waves: [1, 5, 'rest'] },
      ['deploy.waves request_invalid'],
      /for 6 targets, and 2 are named/,
    ],
    [
      'too few in waves',
      { mode: 'auto', targets: ['tgt_a', 'tgt_b', 'tgt_c'], waves: [1] },
      ['deploy.waves request_invalid'],
      /1 of 3 targets, 2 are left over/,
    ],
    [
      'a rest in between',
      { mode: 'auto', targets: ['tgt_a', 'tgt_b', 'tgt_c'], waves: [1, 'rest', 1] },
      ['deploy.waves[1] request_invalid'],
    ],
    [
      'two rests',
      { mode: 'auto', targets: ['tgt_a', 'tgt_b'], waves: ['rest', 'rest'] },
      ['deploy.waves[0] request_invalid'],
    ],
    [
      'the same target again',
      { mode: 'auto', targets: ['tgt_a', 'tgt_b', { target: 'tgt_a' }] },
      ['deploy.targets[2] request_invalid'],
      /tgt_a is named twice, by deploy\.targets\[0\] too/,
    ],
    ['targets and nowhere', { mode: 'none', targets: ['tgt_a'] }, ['deploy.targets request_invalid']],
    [
      'a site for every site',
      { mode: 'auto', targets: ['tgt_a', { target: 'tgt_b', site: 1 }] },
      ['deploy.targets[1].site request_invalid'],
    ],
    [
      'site and plan where there is none',
      { site: 1, targets: ['tgt_a', { target: 'tgt_folder', site: 1, planHash: hash }] },
      ['deploy.targets[1].site request_invalid', 'deploy.targets[1].planHash request_invalid'],
    ],
    [
      'options of IIS without an IIS host',
      { mode: 'auto', site: 1, port: 444, targets: ['tgt_folder', 'tgt_ccs'] },
      ['deploy.mode request_invalid', 'deploy.site request_invalid', 'deploy.port request_invalid'],
    ],
    [
      'options without effect',
      { mode: 'store', port: 444, targets: ['tgt_a', 'tgt_folder'] },
      ['deploy.port request_invalid'],
    ],
    [
      'everything that is wrong, of every target',
      {
        ...{ target: 'tgt_a', updateOnly: true, addMissing: true, waves: [7] },
        targets: ['tgt_0', 'tgt_a', { target: 'tgt_1' }, { target: 'tgt_folder', site: 1 }, 'tgt_a', 'tgt_b'],
      },
      [
        'deploy.target request_invalid',
        'deploy.waves request_invalid',
        'deploy.addMissing request_invalid',
        'deploy.targets[0] target_unknown',
        'deploy.targets[1].site request_invalid',
        'deploy.targets[2].target target_unknown',
        'deploy.targets[3].site request_invalid',
        'deploy.targets[4] request_invalid',
        'deploy.targets[5].site request_invalid',
      ],
    ],
  ])('is refused with %s', async (_what, deploy, fields, words = /./) => {
    const refused = await refusedWith(deploy);
    expect(refused.fields).toEqual(fields);
    expect(refused.details[0]).toMatch(words);
  });

  it.each<[string, object]>([
    ['deploy.targets', { targets: [] }],
    ['deploy.targets', { targets: Array.from({ length: 501 }, (_, i) => `tgt_${i}`) }],
    ['deploy.targets[1]', { targets: ['tgt_a', 7] }],
    ['deploy.targets[0].site', { targets: [{ target: 'tgt_a', site: 0 }] }],
    ['deploy.targets[0].planHash', { targets: [{ target: 'tgt_a', planHash: 'abc' }] }],
    ['deploy.targets[0].port', { targets: [{ target: 'tgt_a', port: 443 }] }],
    ['deploy.waves', { waves: [] }],
    ['deploy.waves[0]', { waves: [0] }],
    ['deploy.waves[1]', { waves: [1, 'all'] }],
    ['deploy.only', { only: ['1|https|*:443:'] }],
  ])('has a body that is refused at %s', (path, deploy) => {
    const { error } = orderBody.safeParse({ account: 'acc_1', names, deploy });
    expect(error && problemsOf(error)).toMatchObject([{ path, code: 'request_invalid' }]);
  });
});

describe('the check of an order for several targets', () => {
  const other = hostWith({ 1: [http('*:80:other.example.com')] });

  it('names every target that would fail now, with what', async () => {
    const states = { tgt_b: other };
    const deploy = {
      site: 1,
      targets: [
        { target: 'tgt_a', site: 9 },
        'tgt_b',
        { target: 'tgt_c', planHash: 'a'.repeat(64) },
        'tgt_down',
        'tgt_later',
      ],
    };
    const { fields, details } = await refusedWith(deploy, {}, { states });
    expect(fields).toEqual([
      'deploy.targets[0].site site_not_found',
      'deploy.targets[1] nothing_to_bind',
      'deploy.targets[2].planHash plan_drifted',
    ]);
    expect(details.map((detail) => detail.slice(0, 11))).toEqual(['host tgt_a:', 'host tgt_b:', 'host tgt_c:']);
  });

  it('names a target that cannot write the names, in the list', async () => {
    const { fields } = await refusedWith({ targets: ['tgt_folder', 'tgt_ccs'] }, { names: ['nul.example.com'] });
    expect(fields).toEqual(['deploy.targets[1] request_invalid']);
  });

  it('takes an order whose hosts do not answer, or take longer than a client waits', async () => {
    const states = { tgt_a: 'never' as const };
    const { place, seen } = intakeWith({ states, patienceMs: 20 });
    const order = await place({ site: 1, targets: ['tgt_a', 'tgt_down', 'tgt_b'] });
    expect(order.deployments).toHaveLength(3);
    expect(seen.reads.sort()).toEqual(['tgt_a', 'tgt_b', 'tgt_down']);
  });

  it('does not wait for every one of many hosts that are silent', async () => {
    const farm = Array.from({ length: 100 }, (_, i) => `tgt_farm${i}`);
    const states = Object.fromEntries(farm.map((id) => [id, 'never' as const]));
    const { place, seen } = intakeWith({ states, patienceMs: 50 });
    await place({ site: 1, targets: farm });
    expect(seen.most).toBe(8);
    // There are thirteen rounds of eight, and time for three.
    expect(seen.reads.length).toBeLessThan(60);
  });
});

describe('the preview of an order for several targets', () => {
  it('has an entry for each of them in their order, with its wave, whatever the others answer', async () => {
    const states = { tgt_b: hostWith({ 1: [http('*:80:other.example.com')] }), tgt_c: 'never' as const };
    const { preview, seen } = intakeWith({ states, patienceMs: 30 });
    const targetsAsked = ['tgt_down', 'tgt_a', 'tgt_b', { target: 'tgt_later', site: 7 }, 'tgt_folder', 'tgt_c'];
    const shown = await preview({ site: 1, targets: targetsAsked, waves: [1, 2, 'rest'] });
    expect(
      shown.map(({ target, wave, error, bindings, writes }) => [
        ...[target.id, wave, error?.code ?? null],
        bindings.length + writes.length,
      ]),
    ).toEqual([
      ['tgt_down', 1, 'target_unreachable', 0],
      ['tgt_a', 2, null, 1],
      ['tgt_b', 2, 'nothing_to_bind', 0],
      ['tgt_later', 3, 'site_not_found', 0],
      ['tgt_folder', 3, null, 4],
      ['tgt_c', 3, 'target_timeout', 0],
    ]);
    expect(shown[0]?.error?.detail).toBe('it is down');
    expect(seen.reads).toHaveLength(5);
  });

  it('shows hosts that answer, though many before them are silent', async () => {
    const silent = Array.from({ length: 8 }, (_, i) => `tgt_farm${i}`);
    const states = Object.fromEntries(silent.map((id) => [id, 'never' as const]));
    const { preview } = intakeWith({ states, patienceMs: 50 });
    const shown = await preview({ site: 1, targets: [...silent, 'tgt_a'] });
    expect(shown.map(({ error }) => error?.code ?? null)).toEqual([...silent.map(() => 'target_timeout'), null]);
    expect(shown[0]?.error?.detail).toBe('host tgt_farm0 did not answer in 0.05 s');
  });

  it('reads some hosts at a time, not one after the other and not all at once', async () => {
    const { preview, seen } = intakeWith();
    const shown = await preview({ site: 1, targets: Array.from({ length: 40 }, (_, i) => `tgt_farm${i}`) });
    expect(shown.map(({ target }) => target.id)).toEqual(Array.from({ length: 40 }, (_, i) => `tgt_farm${i}`));
    expect(seen.most).toBe(8);
  });

  it('says when the windows of a target open, and of one target too', async () => {
    // The clock stands at Thursday, 1 January 2026.
    const opensAt = '2026-01-03T22:00:00.000Z';
    const shown = await intakeWith().preview({ site: 1, targets: ['tgt_a', 'tgt_later'] });
    expect(shown.map((one) => one.opensAt)).toEqual([null, opensAt]);
    const [single] = await intakeWith().preview({ site: 1, target: 'tgt_later' });
    expect(single).toMatchObject({ opensAt, wave: null, error: null });
  });

  it('throws for the only target as before', async () => {
    await expect(intakeWith().preview({ site: 1, target: 'tgt_down' })).rejects.toBe(hosts.tgt_down);
  });
});

describe('options without effect', () => {
  const one = { target: 'tgt_a' };
  it.each<[string, object, string[]]>([
    [
      'of bindings where none is touched',
      {
        ...{ mode: 'store', site: 1, updateOnly: true, addMissing: false, blankHost: true },
        ...{ port: 443, ip: '*', sni: true, replace: 'any' },
      },
      ['site', 'updateOnly', 'addMissing', 'blankHost', 'port', 'ip', 'sni', 'replace'],
    ],
    ['a site for every site', { mode: 'auto', site: 1 }, ['site']],
    ['a site for all', { mode: 'all', site: 1 }, ['site']],
    ['missing names where no site is named', { mode: 'auto', addMissing: true, updateOnly: true }, ['addMissing']],
    ['missing names on all sites', { mode: 'all', addMissing: true, blankHost: true }, ['addMissing']],
    ['bindings without a host name that the mode leaves', { mode: 'auto', blankHost: true }, ['blankHost']],
    ['adding what is not to be added', { site: 1, updateOnly: true, addMissing: true }, ['addMissing']],
    [
      'where to add what is not to be added',
      { mode: 'auto', updateOnly: true, port: 444, ip: '10.0.0.1', sni: false },
      ['port', 'ip', 'sni'],
    ],
  ])('are refused, each at its field: %s', async (_what, deploy, fields) => {
    const refused = await refusedWith({ ...one, ...deploy });
    expect(refused.fields).toEqual(fields.map((field) => `deploy.${field} request_invalid`));
  });

  it('are refused of an order that is deployed nowhere', async () => {
    const { fields } = await refusedWith({ mode: 'none', target: 'tgt_0', site: 1, store: 'My', waves: [1] });
    expect(fields).toEqual(['target', 'waves', 'site', 'store'].map((field) => `deploy.${field} request_invalid`));
  });

  it('that have one are taken', async () => {
    const deploy = { mode: 'store', ...one, store: 'WebHosting', exportable: true, readers: ['S-1-5-20'] };
    expect(await stored(deploy)).toEqual(deploy);
    expect(await stored({ ...one, site: 1, updateOnly: false, addMissing: true, port: 444 })).toMatchObject({
      ...{ addMissing: true, port: 444 },
    });
    expect(await stored({ ...one, mode: 'all', blankHost: true })).toMatchObject({ blankHost: true });
    // It says what is so anyway.
    const off = { addMissing: false, blankHost: false };
    expect(await stored({ ...one, mode: 'auto', ...off })).toMatchObject(off);
  });
});
