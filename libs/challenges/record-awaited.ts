import { CertlineError } from '../errors.ts';
import type { PresentedDns } from '../model/order.ts';

/** Between two looks for a record that a person makes: soon at first, then seldom, ms. */
const leastWaitMs = 10_000;
const longestWaitMs = 300_000;
/** How long before the end of an authorization it is looked for the last time: the CA needs a moment, too. */
const lastLookMs = 60_000;

/** A person has yet to make a record: it is waited for until the authorization ends. `seen` is what name servers show instead. */
export function recordAwaited(
  { record: name, value, since, expires }: PresentedDns,
  seen: CertlineError,
  now: number,
): CertlineError {
  const evidence = { records: [{ name, value, ...seen.evidence }] };
  const lastLook = expires - lastLookMs;
  if (now >= lastLook) {
    const ended = `nobody made the TXT record ${name} with the value "${value}" before the authorization ended`;
    return new CertlineError('dns_record_awaited', `${ended}. ${seen.message}`, {
      plan: { kind: 'permanent' },
      evidence,
    });
  }
  const wait = Math.min(Math.max((now - since) / 2, leastWaitMs), longestWaitMs);
  return new CertlineError(
    'dns_record_awaited',
    `Make the TXT record ${name} with the value "${value}". ${seen.message}`,
    {
      plan: { kind: 'wait', until: Math.round(Math.min(now + wait, lastLook)) },
      evidence,
    },
  );
}

const recordsOf = ({ evidence }: CertlineError): unknown[] =>
  Array.isArray(evidence?.records) ? evidence.records : [];

/** Errors of the names of one order, all of which wait, as one: with every record that a person has to make, and due when the first is. */
export function waitingTogether(errors: readonly [CertlineError, ...CertlineError[]]): CertlineError {
  const awaited = errors.filter(({ code }) => code === 'dns_record_awaited');
  const [first = errors[0], ...others] = awaited;
  const until = Math.min(...errors.flatMap(({ plan }) => (plan.kind === 'wait' ? [plan.until] : [])));
  const evidence = others.length === 0 ? first.evidence : { records: awaited.flatMap(recordsOf) };
  return new CertlineError(first.code, [first, ...others].map(({ message }) => message).join(' '), {
    plan: { kind: 'wait', until },
    ...(evidence === undefined ? {} : { evidence }),
  });
}
