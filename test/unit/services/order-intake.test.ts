import { describe, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import type { HostState } from '#libs/iis/iis-host';
import type { Account } from '#libs/model/account';
import type { Certificate } from '#libs/model/certificate';
import type { Target } from '#libs/model/target';
import type { ReadableHost } from '../../../services/api/hosts.ts';
import { createIntake, orderBody } from '../../../services/api/order-intake.ts';
import { problemsOf } from '../../../services/api/problem-json.ts';
import { hostNamesOf } from '../../../services/api/site-names.ts';
import { fakeClock } from '../../support/fake-clock.ts';
import { hostWith, http, https } from '../iis/plan-cases.ts';

const account: Account = {
  ...{ id: 'acc_1', ca: 'letsencrypt', directory: 'https://ca.test/directory', email: 'ops@example.com', url: null },
  ...{ caBundle: null, allowInternalNames: false, eabKid: null, parked: null, createdAt: 0 },
};
const target: Target = {
  ...{ id: 'tgt_1', name: 'web01', kind: 'iis', transport: { kind: 'lab', url: 'http://127.0.0.1:1' }, createdAt: 0 },
  ...{ pool: 'default', windows: [], drift: 'report' as const },
};
const state = hostWith({
  1: [http('*:80:shop.example.com'), https('*:443:Shop.Example.com', 1, 'OLD'), http('*:80:www.shop.example.com')],
  2: [
    http('*:80:blog.example.org'),
    http('*:80:SRVDEVAPP01'),
    http('*:80:10.0.0.1'),
    http('*:80:a_b.example.org'),
    http('*:80:co.uk'),
  ],
  3: [http('*:80:'), http('*:80:srvdevapp01')],
  4: [http('*:80:'), { protocol: 'net.tcp', bindingInformation: '808:*', sslFlags: 0, thumbprint: null, store: null }],
  5: [http('*:80:*.example.com'), http('*:80:a.example.com')],
});
const { signal } = new AbortController();
const certificateOf = (id: string, account: string, ...names: string[]): Certificate => ({
  ...{ id, account, names, order: 'ord_1', keyType: 'rsa-2048', serial: '01', thumbprint: '', issuer: '' },
  ...{ notBefore: 0, notAfter: 0, renewAt: 0, createdAt: 0, leaf: '', chain: '', privateKey: '' },
});
const replaceable = [
  certificateOf('crt_1', 'acc_1', 'a.example.com', 'b.example.com'),
  certificateOf('crt_2', 'acc_gone', 'a.example.com'),
];
/** Of a certificate of certline, on a binding of the host. */
const ourThumbprint = 'B'.repeat(40);
const clock = fakeClock();

/** An intake with one account and one target; `reads` counts how often the host was asked. */
function intakeWith(host: HostState | CertlineError = state, known: Account = account, accounts = [known]) {
  const seen = { reads: 0 };
  const iis: ReadableHost = {
    async read() {
      seen.reads += 1;
      if (host instanceof CertlineError) throw host;
      return host;
    },
    async test() {
      throw new Error('no order tests a host');
    },
  };
  const intake = createIntake({
    findCertificate: async (id) => replaceable.find((one) => one.id === id) ?? null,
    findCredential: async () => null,
    findAccount: async (id) => accounts.find((one) => one.id === id) ?? null,
    findTarget: async (id) => (id === target.id ? target : null),
    openHost: () => iis,
    certificates: { knownThumbprints: async (asked) => new Set(asked.filter((one) => one === ourThumbprint)) },
    clock,
  });
  const bodyOf = (body: object) => orderBody.parse({ account: 'acc_1', ...body });
  return {
    seen,
    place: async (body: object) => intake.order(bodyOf(body), signal),
    async preview(body: object) {
      const { request, deployments } = await intake.preview(bodyOf(body), signal);
      return { request, deployments: await deployments() };
    },
  };
}
const place = (body: object) => intakeWith().place(body);
const requestOf = async (body: object) => (await place(body)).request;

/** The wrong fields of an order as `path code`, the first one's code in front. */
async function wrong(body: object): Promise<string[]> {
  const { place: placeCounted, seen } = intakeWith();
  const error: unknown = await placeCounted(body).catch((thrown: unknown) => thrown);
  if (!(error instanceof CertlineError)) throw error;
  expect(seen.reads).toBeLessThanOrEqual(1);
  expect(error.code).toBe(error.problems?.[0]?.code ?? error.code);
  return (error.problems ?? []).map(({ path, code }) => `${path} ${code}`);
}

describe('an order by names', () => {
  it('is a new order with everything that renewal needs', async () => {
    const order = await place({ names: ['B.Example.com', 'a.example.com'] });
    expect(order).toMatchObject({ status: 'pending', version: 0, epoch: 1, createdAt: clock.now() });
    expect(order.id).toMatch(/^ord_[0-9A-Z]{26}$/);
    expect(order.request).toEqual({
      names: ['b.example.com', 'a.example.com'],
      account: 'acc_1',
      challenge: { type: 'http-01', via: 'responder' },
      challenges: [],
      keyType: 'rsa-2048',
      profile: null,
      preferredChain: null,
      source: null,
      deploy: { mode: 'none' },
    });
  });

  it('keeps the key type, the profile and the chain that were asked for', async () => {
    const asked = {
      names: ['a.example.com'],
      key: { type: 'ec-p256' },
      profile: 'shortlived',
      preferredChain: 'ISRG Root X1',
    };
    expect(await requestOf(asked)).toMatchObject({
      keyType: 'ec-p256',
      profile: 'shortlived',
      preferredChain: 'ISRG Root X1',
    });
  });

  it('asks the host once whether a binding would take it, and not at all when it is deployed nowhere', async () => {
    const { place: placeCounted, seen } = intakeWith();
    await placeCounted({ names: ['a.example.com'] });
    expect(seen.reads).toBe(0);
    await placeCounted({ names: ['a.example.com'], deploy: { mode: 'auto', target: 'tgt_1' } });
    expect(seen.reads).toBe(1);
  });

  it('is taken when the host does not answer now: it may when the certificate is there', async () => {
    const { place: placeAnyhow } = intakeWith(new CertlineError('target_unreachable', 'it is down'));
    const order = await placeAnyhow({ names: ['a.example.com'], deploy: { target: 'tgt_1', site: 9 } });
    expect(order.request.deploy).toEqual({ mode: 'site', target: 'tgt_1', site: 9 });
  });

  it('is taken when the host takes longer than a client waits, unless the client has gone', async () => {
    const never = async (aborted: AbortSignal): Promise<never> => {
      aborted.throwIfAborted();
      return new Promise((_resolve, reject) => aborted.addEventListener('abort', () => reject(aborted.reason)));
    };
    const intake = createIntake({
      findCertificate: async () => null,
      findCredential: async () => null,
      findAccount: async () => account,
      findTarget: async () => target,
      openHost: () => ({ read: never, test: never }),
      certificates: { knownThumbprints: async () => new Set() },
      ...{ clock, patienceMs: 20 },
    });
    const body = orderBody.parse({ account: 'acc_1', names: ['a.example.com'], deploy: { target: 'tgt_1', site: 9 } });
    expect((await intake.order(body, signal)).request.deploy).toEqual({ mode: 'site', target: 'tgt_1', site: 9 });
    const gone = new AbortController();
    const asking = intake.order(body, gone.signal);
    gone.abort(new Error('the client has gone'));
    await expect(asking).rejects.toThrow('the client has gone');
  });

  it('may have internal names when the account allows them', async () => {
    const { place: placeInternal } = intakeWith(state, { ...account, allowInternalNames: true });
    expect((await placeInternal({ names: ['SRVDEVAPP01'] })).request.names).toEqual(['srvdevapp01']);
  });
});

describe('an order by a site', () => {
  it('has the host names of its bindings, each once, and is deployed back to it', async () => {
    expect(await requestOf({ source: { target: 'tgt_1', site: 1 } })).toMatchObject({
      names: ['shop.example.com', 'www.shop.example.com'],
      source: { target: 'tgt_1', site: 1, skipped: [] },
      deploy: { mode: 'site', target: 'tgt_1', site: 1 },
    });
  });

  it('leaves out the hosts that no public CA validates, and tells them', async () => {
    expect(await requestOf({ source: { target: 'tgt_1', site: 2 } })).toMatchObject({
      names: ['blog.example.org'],
      source: {
        skipped: [
          { host: 'srvdevapp01', code: 'name_not_public' },
          { host: '10.0.0.1', code: 'name_is_ip_address' },
          { host: 'a_b.example.org', code: 'name_invalid' },
          { host: 'co.uk', code: 'name_is_public_suffix' },
        ],
      },
    });
  });

  it.each([
    [3, 'site 3 has no host name a public CA validates: srvdevapp01 (name_not_public)'],
    [4, 'site 4 has no host name a public CA validates'],
  ])('without a usable host name is refused: site %i', async (site, message) => {
    await expect(place({ source: { target: 'tgt_1', site } })).rejects.toMatchObject({
      code: 'site_has_no_names',
      message,
    });
  });

  it('with a wildcard binding is refused: another challenge could prove it', async () => {
    expect(await wrong({ source: { target: 'tgt_1', site: 5 } })).toEqual(['source wildcard_needs_dns_01']);
  });

  it('that the target does not have is refused', async () => {
    await expect(place({ source: { target: 'tgt_1', site: 9 } })).rejects.toMatchObject({ code: 'site_not_found' });
  });

  it('is refused with the error of the host when that does not answer', async () => {
    const away = new CertlineError('target_unreachable', 'no answer');
    await expect(intakeWith(away).place({ source: { target: 'tgt_1', site: 1 } })).rejects.toBe(away);
  });

  it('reads host names, not addresses or other protocols', () => {
    expect(hostNamesOf(state, 4)).toEqual([]);
  });
});

describe('the deployment of an order', () => {
  const everyOption = {
    ...{ mode: 'all', target: 'tgt_1', blankHost: true, port: 8443, ip: '*', sni: false, replace: 'any' },
    ...{ exportable: true, readers: ['S-1-5-20', 'IIS AppPool\\shop', 'svc@example.com', 'NETWORK SERVICE'] },
  };
  const names = ['a.example.com'];
  const source = { target: 'tgt_1', site: 1 };

  it.each([
    [
      'the site that is named',
      { names: ['blog.example.org'], deploy: { target: 'tgt_1', site: 2 } },
      { mode: 'site', target: 'tgt_1', site: 2 },
    ],
    [
      'the source’s site by default',
      { source, deploy: { addMissing: true } },
      { mode: 'site', target: 'tgt_1', site: 1, addMissing: true },
    ],
    [
      'another site of the source',
      { source, deploy: { site: 2, addMissing: true } },
      { mode: 'site', target: 'tgt_1', site: 2, addMissing: true },
    ],
    [
      'every site that fits, on the source’s target',
      { source, deploy: { mode: 'auto' } },
      { mode: 'auto', target: 'tgt_1' },
    ],
    [
      'the store alone',
      { names, deploy: { mode: 'store', target: 'tgt_1', store: 'WebHosting' } },
      { mode: 'store', target: 'tgt_1', store: 'WebHosting' },
    ],
    ['nowhere when told so', { source, deploy: { mode: 'none' } }, { mode: 'none' }],
    ['nowhere without a word about it', { names }, { mode: 'none' }],
    ['with every option', { names: ['shop.example.com'], deploy: everyOption }, everyOption],
  ])('goes to %s', async (_, body, deploy) => {
    expect((await requestOf(body)).deploy).toEqual(deploy);
  });
});

describe('an order is refused with the field that is wrong:', () => {
  const names = ['a.example.com'];
  it.each<[string, object]>([
    ['names[0] name_not_public', { names: ['SRVDEVAPP01'] }],
    ['names[1] name_is_ip_address', { names: ['a.example.com', '10.0.0.1'] }],
    ['names[0] wildcard_needs_dns_01', { names: ['*.example.com'] }],
    ['names too_many_names', { names: Array.from({ length: 101 }, (_, i) => `n${i}.example.com`) }],
    ['names names_missing', {}],
    ['source request_invalid', { names, source: { target: 'tgt_1', site: 1 } }],
    ['source.target target_unknown', { source: { target: 'tgt_9', site: 1 } }],
    ['account account_unknown', { names, account: 'acc_9' }],
    ['challenge.type challenge_unsupported', { names, challenge: { type: 'tls-alpn-01' } }],
    ['challenge.credential request_invalid', { names, challenge: { type: 'dns-01' } }],
    ['challenge.credential credential_unknown', { names, challenge: { type: 'dns-01', credential: 'cred_9' } }],
    ['challenges[0].match request_invalid', { names, challenges: [{ match: 'a b', type: 'http-01' }] }],
    ['names[0] challenge_unmatched', { names, challenges: [{ match: '*.other.org', type: 'http-01' }] }],
    ['deploy.target request_invalid', { names, deploy: { mode: 'auto' } }],
    ['deploy.target target_unknown', { names, deploy: { mode: 'auto', target: 'tgt_9' } }],
    ['deploy.site request_invalid', { names, deploy: { target: 'tgt_1' } }],
    ['deploy.site site_not_found', { names, deploy: { target: 'tgt_1', site: 9 } }],
    ['deploy nothing_to_bind', { names, deploy: { target: 'tgt_1', site: 1 } }],
  ])('%s', async (expected, body) => {
    expect(await wrong(body)).toEqual([expected]);
  });

  it('all of them at once', async () => {
    const body = {
      names: ['co.uk', 'ok.example.com', 'x.local'],
      challenge: { type: 'tls-alpn-01' },
      deploy: { target: 'tgt_9', site: 1 },
    };
    expect(await wrong(body)).toEqual([
      'challenge.type challenge_unsupported',
      'names[0] name_is_public_suffix',
      'names[2] name_not_public',
      'deploy.target target_unknown',
    ]);
  });
});

describe('the body of an order', () => {
  const good = { account: 'acc_1', names: ['a.example.com'] };
  it.each<[string, object]>([
    ['account', { names: ['a.example.com'] }],
    ['names', { ...good, names: [] }],
    ['names[1]', { ...good, names: ['a.example.com', 5] }],
    ['key.type', { ...good, key: { type: 'rsa-1024' } }],
    ['deploy.mode', { ...good, deploy: { mode: 'everywhere' } }],
    ['deploy.port', { ...good, deploy: { mode: 'none', port: 70_000 } }],
    ['deploy.ip', { ...good, deploy: { mode: 'none', ip: 'localhost' } }],
    ['deploy.replace', { ...good, deploy: { mode: 'none', replace: 'all' } }],
    ['deploy.planHash', { ...good, deploy: { mode: 'none', planHash: 'abc' } }],
    ['deploy.readers[1]', { ...good, deploy: { mode: 'none', readers: ['S-1-5-20', 'Everyone:F'] } }],
    ['deploy.readers[0]', { ...good, deploy: { mode: 'none', readers: ['"& calc'] } }],
    ['source.site', { account: 'acc_1', source: { target: 'tgt_1', site: 0 } }],
    ['nmaes', { ...good, nmaes: [] }],
  ])('is refused at %s', (path, body) => {
    const { error } = orderBody.safeParse(body);
    expect(error && problemsOf(error)).toMatchObject([{ path, code: 'request_invalid' }]);
  });
});

describe('the preview of an order', () => {
  const shop = { source: { target: 'tgt_1', site: 1 } };
  const planHashOf = async (body: object, host: HostState = state) =>
    (await intakeWith(host).preview(body)).deployments[0]?.planHash ?? '';

  it('shows what the order would ask for and what its deployment would do, with one look at the host', async () => {
    const { preview, seen } = intakeWith();
    const { request, deployments } = await preview(shop);
    expect(request).toEqual(await requestOf(shop));
    expect(seen.reads).toBe(1);
    expect(deployments).toMatchObject([
      {
        ...{ target: { id: 'tgt_1', name: 'web01' }, mode: 'site', site: 1, store: 'My', unbound: [] },
        bindings: [
          {
            ...{ siteId: 1, protocol: 'https', bindingInformation: '*:443:Shop.Example.com' },
            ...{ before: { thumbprint: 'OLD' }, after: { thumbprint: '0'.repeat(40), store: 'My', sslFlags: 1 } },
          },
          { siteId: 1, bindingInformation: '*:443:www.shop.example.com', before: null },
        ],
      },
    ]);
  });

  it('of one that is deployed nowhere has no deployments, and asks no host', async () => {
    const { preview, seen } = intakeWith();
    expect((await preview({ names: ['a.example.com'] })).deployments).toEqual([]);
    expect(seen.reads).toBe(0);
  });

  it('is refused as the order would be, and where the host does not answer', async () => {
    const refused = { code: 'nothing_to_bind', problems: [{ path: 'deploy' }] };
    const body = { names: ['a.example.com'], deploy: { target: 'tgt_1', site: 1 } };
    await expect(intakeWith().preview(body)).rejects.toMatchObject(refused);
    const away = new CertlineError('target_unreachable', 'it is down');
    await expect(intakeWith(away).preview(body)).rejects.toBe(away);
  });

  it('has the hash that the order is held to: another plan by then is refused at `deploy.planHash`', async () => {
    const planHash = await planHashOf(shop);
    expect(planHash).toMatch(/^[0-9a-f]{64}$/);
    expect((await requestOf({ ...shop, deploy: { planHash } })).deploy).toMatchObject({ planHash });
    const changed = hostWith({ 1: [http('*:80:shop.example.com'), https('*:443:Shop.Example.com', 0, 'OLD')] });
    const drifted = { code: 'plan_drifted', problems: [{ path: 'deploy.planHash', code: 'plan_drifted' }] };
    await expect(intakeWith(changed).place({ ...shop, deploy: { planHash } })).rejects.toMatchObject(drifted);
    // A host that does not answer says nothing about its plan: the deployment will see.
    const away = intakeWith(new CertlineError('target_unreachable', 'it is down'));
    const typed = { names: ['shop.example.com'], deploy: { target: 'tgt_1', site: 1, planHash } };
    expect((await away.place(typed)).request.deploy).toMatchObject({ planHash });
  });

  it('leaves certificates of others alone when only ours are to be replaced', async () => {
    const host = hostWith({ 1: [https('*:443:shop.example.com', 1, 'A'.repeat(40))] });
    const ours = hostWith({ 1: [https('*:443:shop.example.com', 1, ourThumbprint.toLowerCase())] });
    const body = { names: ['shop.example.com'], deploy: { target: 'tgt_1', site: 1, replace: 'ours' } };
    await expect(intakeWith(host).preview(body)).rejects.toMatchObject({ code: 'nothing_to_bind' });
    const { deployments } = await intakeWith(ours).preview(body);
    expect(deployments[0]?.bindings).toMatchObject([{ after: { thumbprint: '0'.repeat(40) } }]);
  });
});

describe('a certificate to replace', () => {
  it('is one of the same CA that has a name in common with the order', async () => {
    expect(await requestOf({ names: ['b.example.com', 'c.example.com'], replaces: 'crt_1' })).toMatchObject({
      replaces: 'crt_1',
    });
    expect(await requestOf({ names: ['b.example.com'] })).not.toHaveProperty('replaces');
  });

  it.each([
    ['there is none', 'crt_9', ['a.example.com'], 'there is no certificate crt_9'],
    ['its account is gone', 'crt_2', ['a.example.com'], 'crt_2 is of an account that is gone'],
    ['no name is the same', 'crt_1', ['c.example.com'], 'crt_1 is for a.example.com, b.example.com: none of that'],
  ])('is refused where %s', async (_, replaces, names, words) => {
    expect(await wrong({ names, replaces })).toEqual(['replaces replaces_unfit']);
    await expect(place({ names, replaces })).rejects.toThrow(words);
  });

  it('is refused where another CA issued it', async () => {
    const elsewhere = { ...account, id: 'acc_2', ca: 'letsencrypt-staging', directory: 'https://other.test/directory' };
    const intake = intakeWith(state, elsewhere, [elsewhere, account]);
    await expect(intake.place({ account: 'acc_2', names: ['a.example.com'], replaces: 'crt_1' })).rejects.toThrow(
      'crt_1 is of letsencrypt, and acc_2 is at letsencrypt-staging',
    );
  });

  it('is told of together with the other fields that are wrong', async () => {
    expect(await wrong({ names: ['nowhere'], replaces: 'crt_9' })).toEqual([
      'names[0] name_not_public',
      'replaces replaces_unfit',
    ]);
  });

  it('is held against the names of the site that the order is for', async () => {
    const source = { target: 'tgt_1', site: 1 };
    expect(await wrong({ source, replaces: 'crt_1' })).toEqual(['replaces replaces_unfit']);
  });
});
