import type { IncomingHttpHeaders } from 'node:http';

// No wait of sense is longer, and what a server sends must stay a time that can be stored and counted with.
const longestMs = 30 * 86_400_000;

/**
 * When a Retry-After header (RFC 9110 §10.2.3: seconds or an HTTP-date) lets one ask again, in ms since the epoch: never before `now`, and at most
 * 30 days after it. Null without a readable header. A date is taken relative to the answer's own `Date`, so that a CA whose clock is wrong does not
 * make us wait for it.
 */
export function readRetryAfter(headers: IncomingHttpHeaders, now: number): number | null {
  const value = headers['retry-after']?.trim();
  if (!value) return null;
  const inMs = /^\d+(\.\d+)?$/.test(value) ? Number(value) * 1000 : untilDate(value, headers.date ?? '', now);
  return Number.isNaN(inMs) ? null : within(inMs, now);
}

const within = (inMs: number, now: number): number => now + Math.round(Math.min(Math.max(inMs, 0), longestMs));

/**
 * When the words of a rate limit let one ask again, in ms since the epoch, within the same bounds: Boulder ends them with
 * `retry after 2026-11-24 03:00:00 UTC` (ratelimits/limiter.go), also where no header can be, as in an authorization. Null without such a time.
 */
export function readRetryTime(words: string, now: number): number | null {
  const [, day, time] = /\bretry after (\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:Z| UTC)/i.exec(words) ?? [];
  const until = Date.parse(`${day}T${time}Z`);
  return Number.isNaN(until) ? null : within(until - now, now);
}

function untilDate(value: string, sent: string, now: number): number {
  // Date.parse takes far more than HTTP-dates: "-3" is a month to it
  if (!/^[A-Z][a-z]{2,8},? /.test(value)) return Number.NaN;
  const start = Date.parse(sent);
  return Date.parse(value) - (Number.isNaN(start) ? now : start);
}
