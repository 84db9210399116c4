import { describe, expect, it } from 'vitest';
import { createHttp01Solver, type Http01Options } from '#libs/challenges/http-01';
import type { WebAnswer } from '#libs/challenges/web-reader';

const challenge = {
  ...{ type: 'http-01' as const, name: 'a.example.com', token: 'tok', keyAuthorization: 'tok.thumb', expires: 5 },
};
const { signal } = new AbortController();
const url = 'http://a.example.com/.well-known/acme-challenge/tok';
const answer = (status: number, body: string): WebAnswer => ({ status, body, address: '192.0.2.1:80', url });

/** A solver whose looks at the web are answered with `seen`. */
function solver(seen: WebAnswer, more: Partial<Http01Options> = {}) {
  const asked: string[] = [];
  const read = async (from: string): Promise<WebAnswer> => {
    asked.push(from);
    return seen;
  };
  return { asked, ...createHttp01Solver({ read, port: 80, selfCheck: true, ...more }) };
}

describe('the http-01 solver', () => {
  it('is content when the answer is there, with a line end or without', async () => {
    for (const body of ['tok.thumb', 'tok.thumb\r\n']) {
      const { check, asked } = solver(answer(200, body));
      await check(challenge, signal);
      expect(asked).toEqual([url]);
    }
  });

  it('asks another port where the CA does', async () => {
    const { check, asked } = solver(answer(200, 'tok.thumb'), { port: 5002 });
    await check(challenge, signal);
    expect(asked).toEqual(['http://a.example.com:5002/.well-known/acme-challenge/tok']);
  });

  it.each([
    ['another text', answer(200, '<html>parked</html>')],
    ['another text', answer(200, 'tok.thumb and more')],
    ['another text', answer(200, ' tok.thumb')],
    ['status 404', answer(404, 'tok.thumb')],
    ['status 302', answer(302, '')],
  ])('tells of %s with what it saw, to be tried a few times', async (words, seen) => {
    await expect(solver(seen).check(challenge, signal)).rejects.toMatchObject({
      code: 'http01_wrong_answer',
      message: `${url} answers with ${words} (192.0.2.1:80)`,
      plan: { kind: 'retryable', attempts: 8 },
      evidence: { ...seen, url },
    });
  });

  it('tells nothing of a page it was redirected to but its status: it may be one of our own network', async () => {
    const redirected = { status: 200, body: 'internal', address: '192.0.2.9:80', url: 'http://intranet.example/' };
    const error = await solver(redirected)
      .check(challenge, signal)
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: 'http01_wrong_answer',
      evidence: { url, redirectedTo: redirected.url, status: 200 },
    });
    expect(JSON.stringify(error)).not.toContain('internal');
  });

  it('keeps no more of a wrong body than its start', async () => {
    const { check } = solver(answer(200, 'x'.repeat(4_000)));
    await expect(check(challenge, signal)).rejects.toMatchObject({ evidence: { body: 'x'.repeat(200) } });
  });

  it('tells when nothing answers', async () => {
    const { check } = solver({ error: 'connect ECONNREFUSED 192.0.2.1:80', address: '192.0.2.1:80' });
    await expect(check(challenge, signal)).rejects.toMatchObject({
      code: 'http01_unreachable',
      message: `${url}: connect ECONNREFUSED 192.0.2.1:80`,
      plan: { kind: 'retryable', attempts: 8 },
      evidence: { url, address: '192.0.2.1:80' },
    });
  });

  it('looks at nothing when the look is switched off', async () => {
    const { check, asked } = solver({ error: 'unreachable' }, { selfCheck: false });
    await check(challenge, signal);
    expect(asked).toEqual([]);
  });
});
