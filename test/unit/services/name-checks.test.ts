import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import type { Site } from '#libs/iis/iis-host';
import type { HttpMethod } from '#libs/model/challenge-method';
import type { Target } from '#libs/model/target';
import { zoneWords } from '../../../services/validation-worker/checks/dns.ts';
import { createLooks } from '../../../services/validation-worker/checks/finding.ts';
import { addressWords, createHttpLook } from '../../../services/validation-worker/checks/http.ts';

const asker = new AbortController().signal;

const target = { id: 'tgt_1', name: 'web01' } as Target;
const site = (id: number, bindingInformation: string) =>
  ({ id, state: 'Started', bindings: [{ protocol: 'http', bindingInformation }] }) as unknown as Site;

interface Web {
  /** What a look at an answer throws; null: it is there. */
  seen?: CertlineError | null;
  looks?: boolean;
  sites?: Site[] | CertlineError;
}
/** Looks at one name by http-01 where DNS, web and host say what they are told to. */
async function lookBy(method: HttpMethod, { seen = null, looks: doesLook = true, sites = [] }: Web = {}) {
  const looks = createLooks(asker, 10_000);
  const answers = new Map<string, string>();
  let most = 0;
  const http = createHttpLook({
    ...{ looks, port: 80, caIsPublic: Promise.resolve(false) },
    resolver: {
      lookup: async (_name: string, type: string) => ({ records: type === 'A' ? ['10.0.0.1'] : [] }),
    } as never,
    check: {
      looks: doesLook,
      async look({ token, keyAuthorization }) {
        most = Math.max(most, answers.size);
        if (method.via === 'responder') expect(answers.get(token)).toBe(keyAuthorization);
        if (seen) throw seen;
      },
    },
    store: {
      challengeAnswers: {
        get: async (token) => answers.get(token) ?? null,
        try: async (token, keyAuthorization) => void answers.set(token, keyAuthorization),
        drop: async (token) => void answers.delete(token),
      },
      targets: { get: async (id: string) => (id === target.id ? target : null) } as never,
    },
    webroots: {
      async look(folder) {
        if (folder !== '/srv/www') throw new CertlineError('webroot_not_allowed', `${folder} is not allowed`);
      },
    },
    requests: {
      async read() {
        if (sites instanceof CertlineError) throw sites;
        return { sites } as never;
      },
    },
  });
  await http.look('a.example', method);
  await http.end();
  const said = looks.findings.map(({ check, code, detail }) => `${check} ${code ?? 'ok'}: ${detail}`).sort();
  return { said, most, left: answers.size };
}
const wrongAnswer = new CertlineError('http01_wrong_answer', 'status 404');
const noAnswer = new CertlineError('http01_unreachable', 'ECONNREFUSED');
const byTarget: Extract<HttpMethod, { via: 'target' }> = {
  ...{ type: 'http-01', via: 'target', target: 'tgt_1', site: null },
};

describe('a look at http-01', () => {
  const byResponder = { type: 'http-01', via: 'responder' } as const;

  it('puts an answer there, reads it back and takes it away', async () => {
    const { said, most, left } = await lookBy(byResponder);
    expect(said[1]).toBe('http-01 ok: an answer was put there and read back by the name');
    expect({ most, left }).toEqual({ most: 1, left: 0 });
  });

  it('says what an order would say when something else answers', async () => {
    const { said, left } = await lookBy(byResponder, { seen: wrongAnswer });
    expect(said[1]).toBe('http-01 http01_wrong_answer: status 404');
    expect(left).toBe(0);
  });

  it.each<[string, HttpMethod]>([
    ['a target', byTarget],
    ['a folder', { type: 'http-01', via: 'webroot', folder: '/srv/www' }],
  ])('by %s is content with any answer, and with none it is not', async (_what, method) => {
    const answered = await lookBy(method, { seen: wrongAnswer });
    expect(answered.said).toContainEqual(expect.stringMatching(/^http-01 ok: port 80 answers;/));
    expect(answered.most).toBe(0);
    const { said } = await lookBy(method, { seen: noAnswer });
    expect(said).toContain('http-01 http01_unreachable: ECONNREFUSED');
  });

  it('by a folder tells whether certline may write to it', async () => {
    const byFolder = async (folder: string) => (await lookBy({ type: 'http-01', via: 'webroot', folder })).said;
    expect(await byFolder('/srv/www')).toContain('folder ok: /srv/www can be written to');
    expect(await byFolder('/etc')).toContain('folder webroot_not_allowed: /etc is not allowed');
  });

  it('is not done where nobody looks, and says so', async () => {
    const { said, most } = await lookBy(byResponder, { looks: false, seen: noAnswer });
    expect(said[1]).toBe('http-01 ok: not looked at: HTTP01_SELF_CHECK is false');
    expect(most).toBe(0);
  });

  it.each<[string, Partial<typeof byTarget>, Web['sites'], string]>([
    [
      'the site that has the name',
      {},
      [site(3, '*:80:a.example')],
      'ok: web01 can be reached; the folder of site 3 can',
    ],
    ['that none has it', {}, [site(3, '*:80:b.example')], 'ok: web01 can be reached; none of its sites has the name'],
    ['that the one asked for is not there', { site: 9 }, [site(3, '*:80:')], 'site_not_found: web01 has no site 9'],
    ['why the host cannot be read', {}, new CertlineError('pool_unserved', 'no worker'), 'pool_unserved: no worker'],
    ['that there is no such target', { target: 'tgt_0' }, [], 'target_unknown: there is no target tgt_0'],
  ])('by a target tells %s', async (_what, more, sites, expected) => {
    const { said } = await lookBy({ ...byTarget, ...more }, { ...(sites ? { sites } : {}), seen: wrongAnswer });
    expect(said[2]).toContain(`target ${expected}`);
  });
});

describe('looks at a name', () => {
  it('note what is well in its words and what is not with its code, and hide nothing of each other', async () => {
    const looks = createLooks(asker, 10_000);
    const done = await Promise.all([
      looks.look('a.example', 'zone', () => {
        throw new CertlineError('dns_zone_not_found', 'nobody has it');
      }),
      looks.look('a.example', 'caa', async () => 'there is none'),
      looks.look('b.example', 'credential', async () => {
        throw new Error('what nobody foresaw');
      }),
    ]);
    expect(done).toEqual([false, true, false]);
    expect(looks.findings).toEqual(
      expect.arrayContaining([
        { name: 'a.example', check: 'zone', ok: false, code: 'dns_zone_not_found', detail: 'nobody has it' },
        { name: 'a.example', check: 'caa', ok: true, code: null, detail: 'there is none' },
        { name: 'b.example', check: 'credential', ok: false, code: 'unexpected', detail: 'what nobody foresaw' },
      ]),
    );
  });

  it('that are not done when the time for all is over say so, those begun and those to come', async () => {
    const looks = createLooks(asker, 20);
    await looks.look('a.example', 'http-01', (signal) => delay(60_000, 'never', { signal }));
    await looks.look('b.example', 'caa', async () => 'too late');
    expect(looks.findings.map(({ name, code }) => `${name} ${code}`)).toEqual([
      'a.example http01_unreachable',
      'b.example dns_lookup_failed',
    ]);
    for (const { detail } of looks.findings) expect(detail).toMatch(/no time left.*fewer names/);
  });

  it('end with the one who asks, and note nothing then', async () => {
    const gone = new AbortController();
    const looks = createLooks(gone.signal, 10_000);
    const looking = looks.look('a.example', 'zone', (signal) => delay(60_000, 'never', { signal }));
    gone.abort(new Error('nobody waits'));
    await expect(looking).rejects.toThrow('nobody waits');
    expect(looks.findings).toEqual([]);
  });
});

describe('the addresses of a name', () => {
  const codeOf = (work: () => unknown): string => {
    try {
      return String(work());
    } catch (error) {
      return error instanceof CertlineError ? error.code : String(error);
    }
  };

  it.each<[string, string[], boolean, string]>([
    ['none', [], true, 'ca_dns_problem'],
    ['a public one', ['93.184.216.34'], true, '93.184.216.34'],
    ['a private one, for a CA on the internet', ['10.0.0.1'], true, 'ca_connection_problem'],
    ['one of both, of which the CA may take either', ['93.184.216.34', 'fd00::1'], true, 'ca_connection_problem'],
    ['a private one, for a CA beside it', ['10.0.0.1'], false, '10.0.0.1'],
  ])('are %s', (_what, addresses, caIsPublic, expected) => {
    expect(codeOf(() => addressWords('a.example', addresses, caIsPublic))).toBe(expected);
  });
});

describe('a credential', () => {
  const place = { name: '_acme-challenge.a.example', zone: 'a.example' };

  it('sees the zone of a record, or does not, or its provider does not tell', () => {
    expect(zoneWords(['b.example', 'A.example.'], place)).toBe('it sees the zone a.example');
    expect(zoneWords(null, place)).toMatch(/does not tell/);
    expect(() => zoneWords(['example'], place)).toThrow(
      'it sees example, and not a.example, where _acme-challenge.a.example',
    );
    expect(() => zoneWords([], place)).toThrow('it sees no zone');
  });

  it('that sees many names a few of them', () => {
    const many = Array.from({ length: 14 }, (_, at) => `z${at}.example`);
    expect(() => zoneWords(many, place)).toThrow(/z9\.example and 4 more, and not a\.example/);
  });
});
