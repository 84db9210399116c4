import { describe, expect, it } from 'vitest';
import { createHttpCheck, type HttpCheckOptions } from '#libs/challenges/http-check';
import type { OutsideAnswer } from '#libs/challenges/outside-look';
import type { WebAnswer } from '#libs/challenges/web-reader';

const wanted = { name: 'a.example.com', token: 'tok', keyAuthorization: 'tok.thumb' };
const { signal } = new AbortController();
const url = 'http://a.example.com/.well-known/acme-challenge/tok';
const answer = (status: number, body: string): WebAnswer => ({ status, body, address: '192.0.2.1:80', url });
const unreachable: WebAnswer = { error: 'connect ECONNREFUSED 192.0.2.1:80', address: '192.0.2.1:80' };

/** A check whose looks at the web are answered with `seen`. */
function check(seen: WebAnswer, more: Partial<HttpCheckOptions> = {}) {
  const asked: string[] = [];
  const warnings: string[] = [];
  const read = async (from: string): Promise<WebAnswer> => {
    asked.push(from);
    return seen;
  };
  const log = { warn: (_about: object, text: string) => void warnings.push(text) } as HttpCheckOptions['log'];
  return { asked, warnings, ...createHttpCheck({ read, port: 80, selfCheck: true, outside: null, log, ...more }) };
}

describe('a look for an http-01 answer', () => {
  it('is content when the answer is there, with a line end or without', async () => {
    for (const body of ['tok.thumb', 'tok.thumb\r\n']) {
      const { look, asked } = check(answer(200, body));
      await look(wanted, signal);
      expect(asked).toEqual([url]);
    }
  });

  it('goes to another port where the CA does', async () => {
    const { look, asked } = check(answer(200, 'tok.thumb'), { port: 5002 });
    await look(wanted, signal);
    expect(asked).toEqual(['http://a.example.com:5002/.well-known/acme-challenge/tok']);
  });

  it.each([
    ['another text', answer(200, '<html>parked</html>')],
    ['another text', answer(200, 'tok.thumb and more')],
    ['another text', answer(200, ' tok.thumb')],
    ['status 404', answer(404, 'tok.thumb')],
    ['status 302', answer(302, '')],
  ])('tells of %s with what it saw, to be tried a few times', async (words, seen) => {
    await expect(check(seen).look(wanted, signal)).rejects.toMatchObject({
      code: 'http01_wrong_answer',
      message: `${url} answers with ${words} (192.0.2.1:80)`,
      plan: { kind: 'retryable', attempts: 8 },
      evidence: { ...seen, url },
    });
  });

  it('tells nothing of a page it was redirected to but its status: it may be one of our own network', async () => {
    const redirected = { status: 200, body: 'internal', address: '192.0.2.9:80', url: 'http://intranet.example/' };
    const error = await check(redirected)
      .look(wanted, signal)
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: 'http01_wrong_answer',
      evidence: { url, redirectedTo: redirected.url, status: 200 },
    });
    expect(JSON.stringify(error)).not.toContain('internal');
  });

  it('keeps no more of a wrong body than its start', async () => {
    const { look } = check(answer(200, 'x'.repeat(4_000)));
    await expect(look(wanted, signal)).rejects.toMatchObject({ evidence: { body: 'x'.repeat(200) } });
  });

  it('tells when nothing answers', async () => {
    await expect(check(unreachable).look(wanted, signal)).rejects.toMatchObject({
      code: 'http01_unreachable',
      message: `${url}: connect ECONNREFUSED 192.0.2.1:80`,
      plan: { kind: 'retryable', attempts: 8 },
      evidence: { url, address: '192.0.2.1:80' },
    });
  });

  it('is none when it is switched off', async () => {
    const { look, looks, asked } = check(unreachable, { selfCheck: false });
    expect(looks).toBe(false);
    await look(wanted, signal);
    expect(asked).toEqual([]);
  });
});

describe('a look from outside', () => {
  const saying = (said: OutsideAnswer) => ({ outside: async () => said });
  const silent = {
    outside: async () => {
      throw new Error('https://look.example answers 500');
    },
  };

  it('counts when it finds the answer, though from here there is nothing to see', async () => {
    const { look, looks, warnings } = check(unreachable, { ...saying({ ok: true }), selfCheck: false });
    expect(looks).toBe(true);
    await look(wanted, signal);
    await check(unreachable, saying({ ok: true })).look(wanted, signal);
    expect(warnings).toEqual([]);
  });

  it.each<[string, OutsideAnswer, object]>([
    ['http01_unreachable', { ok: false, reason: 'timed out' }, {}],
    ['http01_wrong_answer', { ok: false, reason: 'timed out', status: 404 }, { status: 404 }],
  ])('counts when it does not, as %s', async (code, said, more) => {
    await expect(check(answer(200, 'tok.thumb'), saying(said)).look(wanted, signal)).rejects.toMatchObject({
      code,
      message: `${url}, seen from outside: timed out`,
      plan: { kind: 'retryable', attempts: 8 },
      evidence: { url, seen: 'from outside', reason: 'timed out', ...more },
    });
  });

  it('that cannot tell is warned of, and the one from here counts', async () => {
    const fine = check(answer(200, 'tok.thumb'), silent);
    await fine.look(wanted, signal);
    expect(fine.warnings).toEqual([
      'the look from outside (EXTERNAL_CHECK_URL) cannot tell, the look from here decides: https://look.example answers 500',
    ]);
    await expect(check(unreachable, silent).look(wanted, signal)).rejects.toMatchObject({ code: 'http01_unreachable' });
    const alone = check(unreachable, { ...silent, selfCheck: false });
    await alone.look(wanted, signal);
    expect(alone.warnings).toEqual([expect.stringContaining('cannot tell, nobody looks')]);
  });

  it('ends with its run', async () => {
    const stopped = AbortSignal.abort(new Error('the process stops'));
    await expect(check(unreachable, silent).look(wanted, stopped)).rejects.toThrow('the process stops');
  });
});
