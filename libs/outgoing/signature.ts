import { createHmac } from 'node:crypto';

/**
 * The header `certline-signature` of a POST to somebody's receiver: `t=<s>,v1=<hex>`, the HMAC-SHA256 of `<t>.<body>`.
 *
 * @param now ms since the epoch; t is in seconds
 */
export function signatureOf(secret: string, body: string, now: number): string {
  const t = Math.floor(now / 1000);
  return `t=${t},v1=${createHmac('sha256', secret).update(`${t}.${body}`).digest('hex')}`;
}
