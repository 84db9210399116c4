import type { RequestListener, ServerResponse } from 'node:http';
import { challengePath } from '#libs/challenges/http-check';

/** Characters of a token (RFC 8555 §8.1: base64url). */
const tokenForm = /^[A-Za-z0-9_-]{1,256}$/;
const plain = 'text/plain; charset=utf-8';

type AnswerOf = (token: string) => Promise<string | null>;

function reply(response: ServerResponse, status: number, type: string, text: string): void {
  const headers = {
    ...{ 'content-type': type, 'content-length': Buffer.byteLength(text), 'cache-control': 'no-store' },
    'x-content-type-options': 'nosniff',
  };
  response.writeHead(status, headers).end(text);
}

/** Answers an http-01 challenge from the store (RFC 8555 §8.3), without authentication; throws what the store throws. */
export async function answerChallenge(answerOf: AnswerOf, token: string, response: ServerResponse): Promise<void> {
  const answer = tokenForm.test(token) ? await answerOf(token) : null;
  if (answer === null) reply(response, 404, plain, 'no such challenge\n');
  else reply(response, 200, 'application/octet-stream', answer);
}

/**
 * The plain-HTTP port: challenges and nothing else. Without Express, since a CA asks several times for every name, and
 * anybody at all may ask.
 */
export function challengeListener(answerOf: AnswerOf): RequestListener {
  return ({ method, url = '' }, response) => {
    const [path = ''] = url.split('?');
    if (!path.startsWith(challengePath)) return reply(response, 404, plain, 'this port answers ACME challenges only\n');
    if (method !== 'GET' && method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      return reply(response, 405, plain, 'challenges are read with GET\n');
    }
    answerChallenge(answerOf, path.slice(challengePath.length), response).catch(() => {
      if (!response.headersSent) reply(response, 503, plain, 'the store does not answer\n');
    });
  };
}
