import { describe, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import type { Account } from '#libs/model/account';
import type { Credential } from '#libs/model/credential';
import type { Target } from '#libs/model/target';
import { createIntake, orderBody } from '../../../services/api/order-intake.ts';
import { problemsOf } from '../../../services/api/problem-json.ts';
import { fakeClock } from '../../support/fake-clock.ts';
import { hostWith, http, https } from '../iis/plan-cases.ts';

/** How an order says by which challenges its names are proved. */
const account: Account = {
  ...{ id: 'acc_1', ca: 'letsencrypt', directory: 'https://ca.test/directory', email: 'ops@example.com', url: null },
  ...{ caBundle: null, allowInternalNames: false, eabKid: null, parked: null, createdAt: 0 },
};
const credentials: Credential[] = [
  { id: 'cred_dns', name: 'DNS', createdAt: 0, kind: 'dns', provider: 'webhook', settings: {}, parked: null },
  { id: 'cred_ssh', name: 'SSH', createdAt: 0, kind: 'ssh', username: 'svc', method: 'password' },
];
const target: Target = {
  ...{ id: 'tgt_1', name: 'web01', kind: 'iis', transport: { kind: 'lab', url: 'http://127.0.0.1:1' }, createdAt: 0 },
  ...{ pool: 'default', windows: [], drift: 'report' as const },
};
const site = hostWith({
  1: [http('*:80:*.example.com'), https('*:443:a.example.com', 1, 'OLD'), http('*:80:example.com')],
});
const intake = createIntake({
  findCertificate: async () => null,
  findCredential: async (id) => credentials.find((one) => one.id === id) ?? null,
  findAccount: async (id) => (id === account.id ? account : null),
  findTarget: async () => target,
  openHost: () => ({
    read: async () => site,
    test: async () => {
      throw new Error('no order tests a host');
    },
  }),
  certificates: { knownThumbprints: async () => new Set() },
  clock: fakeClock(),
});
const { signal } = new AbortController();
const place = async (body: object) => intake.order(orderBody.parse({ account: 'acc_1', ...body }), signal);
const dns = { type: 'dns-01', credential: 'cred_dns' };

async function wrong(body: object): Promise<string[]> {
  const error: unknown = await place(body).catch((thrown: unknown) => thrown);
  if (!(error instanceof CertlineError)) throw new Error(`not refused: ${error}`);
  return (error.problems ?? []).map(({ path, code }) => `${path} ${code}`);
}

describe('the challenges of an order', () => {
  it.each([{}, { challenges: [] }])('are http-01 for all names when nothing is said: %j', async (said) => {
    const { request } = await place({ names: ['a.example.com'], ...said });
    expect(request).toMatchObject({ challenge: { type: 'http-01' }, challenges: [] });
  });

  it('are kept as rules in their order, with patterns as certificates have names', async () => {
    const challenges = [
      { match: 'WWW.Example.com.', type: 'http-01' },
      { match: '*.BÜCHER.example.com', ...dns },
      { match: '*', ...dns },
    ];
    const { request } = await place({ names: ['www.example.com', '*.example.org'], challenges });
    expect(request).toMatchObject({
      challenge: null,
      challenges: [
        { match: 'www.example.com', type: 'http-01' },
        { match: '*.xn--bcher-kva.example.com', ...dns },
        { match: '*', ...dns },
      ],
    });
  });

  it.each([
    [{ type: 'http-01', folder: '/srv/www' }, 'is for `via: webroot`, not for http-01 via responder'],
    [{ ...dns, via: 'target' }, 'is for http-01, not for dns-01'],
  ])('say of a field that is out of place what it is for: %j', async (challenge, words) => {
    await expect(place({ names: ['a.example.com'], challenge })).rejects.toThrow(words);
  });

  it('may prove a wildcard where dns-01 is meant for it', async () => {
    const names = ['*.example.com', 'example.com'];
    expect((await place({ names, challenge: dns })).request).toMatchObject({ names, challenge: dns });
    const challenges = [{ match: '*.example.com', ...dns }];
    expect((await place({ names, challenges, challenge: { type: 'http-01' } })).request.names).toEqual(names);
  });

  it('take the wildcard of a site, and leave out what it covers', async () => {
    const { request } = await place({ source: { target: 'tgt_1', site: 1 }, challenge: dns });
    expect(request).toMatchObject({
      names: ['*.example.com', 'example.com'],
      source: { skipped: [{ host: 'a.example.com', code: 'wildcard_covers_name' }] },
    });
  });

  it.each<[string[], object]>([
    // The first rule counts, even where a later one would do.
    [
      ['names[0] wildcard_needs_dns_01'],
      {
        names: ['*.example.com'],
        challenges: [
          { match: '*', type: 'http-01' },
          { match: '*.example.com', ...dns },
        ],
      },
    ],
    [
      ['names[0] wildcard_needs_dns_01'],
      { names: ['*.example.com'], challenges: [{ match: 'example.com', ...dns }], challenge: { type: 'http-01' } },
    ],
    // At the places where they were typed, and no wildcard is blamed for what is missing.
    [
      ['names[2] challenge_unmatched', 'names[3] challenge_unmatched'],
      {
        names: ['A.example.com', 'a.example.com', 'a.b.example.org', '*.example.org'],
        challenges: [{ match: '*.example.com', ...dns }],
      },
    ],
    [
      ['names[0] name_is_public_suffix', 'names[1] challenge_unmatched'],
      { names: ['co.uk', 'b.example.org'], challenges: [{ match: 'co.uk', type: 'http-01' }] },
    ],
    [
      ['challenge.credential credential_unknown'],
      { names: ['*.example.com'], challenge: { ...dns, credential: 'cred_9' } },
    ],
    [
      ['challenge.credential request_invalid'],
      { names: ['a.example.com'], challenge: { type: 'dns-01', credential: 'cred_ssh' } },
    ],
    [
      ['challenge.credential request_invalid'],
      { names: ['a.example.com'], challenge: { type: 'http-01', credential: 'cred_dns' } },
    ],
    [
      [
        'challenges[0].match request_invalid',
        'challenges[1].credential request_invalid',
        'challenge.type challenge_unsupported',
      ],
      {
        names: ['a.example.com'],
        challenges: [
          { match: 'w*.example.com', ...dns },
          { match: '*', type: 'dns-01' },
        ],
        challenge: { type: 'tls-alpn-01' },
      },
    ],
    [
      ['challenges challenge_unmatched'],
      { source: { target: 'tgt_1', site: 1 }, challenges: [{ match: '*.example.com', ...dns }] },
    ],
    [['source wildcard_needs_dns_01'], { source: { target: 'tgt_1', site: 1 } }],
  ])('are refused: %j', async (expected, body) => {
    expect(await wrong(body)).toEqual(expected);
  });

  it.each(['', '*.', '*.*', '**', 'a.*.example.com', '*.*.example.com', 'w*', 'a..b', 'a b', 'https://x.example'])(
    'are refused with the pattern “%s”',
    async (match) => {
      const body = { names: ['a.example.com'], challenge: dns, challenges: [{ match, ...dns }] };
      expect(await wrong(body)).toEqual(['challenges[0].match request_invalid']);
    },
  );

  it.each<[string, object]>([
    ['challenge.credentials', { challenge: { type: 'dns-01', credentials: 'cred_dns' } }],
    ['challenges[0].match', { challenges: [{ type: 'http-01' }] }],
  ])('with a wrong %s are no body of an order', (path, more) => {
    const { error } = orderBody.safeParse({ account: 'acc_1', names: ['a.example.com'], ...more });
    expect(error && problemsOf(error)).toMatchObject([{ path, code: 'request_invalid' }]);
  });
});
