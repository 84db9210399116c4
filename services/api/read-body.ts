import { MIMEType } from 'node:util';
import type { Request, RequestHandler, Response } from 'express';
import { CertlineError } from '#libs/errors';
import { readJson } from './read-json.ts';

/** Bytes of a body, where the route does not allow more. */
const usualLimit = 1 << 20;

function tooLarge(limit: number): CertlineError {
  return new CertlineError('body_too_large', `a body may have ${limit} bytes here`);
}

function refuse(detail: string): never {
  throw new CertlineError('content_type_unsupported', detail);
}

function typeOf(header: string): MIMEType {
  try {
    return new MIMEType(header);
  } catch {
    return refuse('the Content-Type cannot be read');
  }
}

/** Throws `content_type_unsupported` for what is said to be anything but plain JSON in UTF-8 (RFC 9110 §15.5.16). */
function checkType({ headers }: Request): void {
  const encoding = headers['content-encoding'] ?? 'identity';
  // A few bytes of a compressed body may be gigabytes.
  if (encoding.toLowerCase() !== 'identity') refuse('the body is compressed, or encoded in another way');
  // RFC 9110 §8.3: without one the reader may guess.
  const given = headers['content-type'];
  if (given === undefined) return;
  const { essence, params } = typeOf(given);
  if (!/^application\/([\w.-]+\+)?json$/.test(essence)) refuse(`the body is said to be ${essence}`);
  const charset = params.get('charset') ?? 'utf-8';
  if (!/^(utf-?8|us-ascii)$/i.test(charset)) refuse(`the body is said to be in ${charset}`);
}

/** The bytes of a body, read no further than the limit. Throws `body_too_large`. */
function readBytes(request: Request, limit: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const stop = (error: CertlineError | null): void => {
      request.off('data', take).off('end', end).off('close', gone);
      if (error) reject(error);
      else resolve(Buffer.concat(chunks));
    };
    const take = (chunk: Buffer): void => {
      length += chunk.length;
      chunks.push(chunk);
      if (length > limit) stop(tooLarge(limit));
    };
    const end = (): void => stop(null);
    const gone = (): void => stop(new CertlineError('request_malformed', 'the body ended too early'));
    request.on('data', take).once('end', end).once('close', gone);
  });
}

function textOf(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new CertlineError('json_invalid', 'the body is not UTF-8');
  }
}

/** Reads the body of a request; `undefined` when there is none. `limit`: in bytes. */
export function bodyReader(limit = usualLimit): RequestHandler {
  return async (request: Request, response: Response, next) => {
    const { 'content-length': announced = '0', 'transfer-encoding': chunked, expect = '' } = request.headers;
    if (announced !== '0' || chunked !== undefined) {
      checkType(request);
      if (Number(announced) > limit) throw tooLarge(limit);
      // Whoever asks first is not asked for a body that is refused anyway (RFC 9110 §10.1.1).
      if (expect.toLowerCase() === '100-continue') response.writeContinue();
      const bytes = await readBytes(request, limit);
      if (bytes.length > 0) request.body = readJson(textOf(bytes));
    }
    next();
  };
}
