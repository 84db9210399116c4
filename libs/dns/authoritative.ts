import { CertlineError } from '../errors.ts';
import type { DnsServer, Exchange, Reply } from './exchange.ts';
import { extendedErrorWords } from './extended-errors.ts';
import { withinLimit } from './limits.ts';
import { canonicalName, type DnsAnswer, dataOf } from './message.ts';
import { findNameServers, type NameServer, type NameServerDeps } from './name-servers.ts';

/** What one address of a name server says about a value of a TXT record. */
export type Sight = { server: string; address: string } & (
  | { state: 'shows' }
  /** `values`: what it has there instead; `alias`: it has a CNAME there. */
  | { state: 'hidden'; rcode: string; values: string[]; serial: number | null; alias: string | null }
  /** It answers, but not for this zone: refuses, fails, or has no authority. */
  | { state: 'lame'; why: string }
  | { state: 'silent'; why: string }
  /** No way from here to this kind of address. */
  | { state: 'unreachable'; why: string }
);

export interface ValueQuestion {
  /** Where the TXT is, after CNAMEs: `locate` tells. */
  name: string;
  zone: string;
  value: string;
  /** Other values that are as good. */
  fits?: (text: string) => boolean;
}

export interface Authoritative {
  /** Throws as `findNameServers`. */
  nameServers(zone: string, signal: AbortSignal): Promise<NameServer[]>;
  /**
   * Asks every address of every name server of a zone directly, all at once. Addresses that cannot be reached from here are left out as long
   * as there is another. `servers`, when they are known already, spares looking for them.
   */
  showsValue(question: ValueQuestion, signal: AbortSignal, servers?: readonly NameServer[]): Promise<Sight[]>;
}

/** Milliseconds: to find the name servers, and to ask them all. */
const findingLimitMs = 60_000;
const askingLimitMs = 15_000;
/** Of a server's other values, which are strangers' words. */
const mostValues = 5;
const longestValue = 100;

function lameness(answer: DnsAnswer): string | null {
  const { rcode, authoritative, extendedErrors, authorities } = answer;
  if (rcode !== 'NOERROR' && rcode !== 'NXDOMAIN') return `answers ${rcode}${extendedErrorWords(extendedErrors)}`;
  if (authoritative) return null;
  const elsewhere = dataOf(authorities, 'NS')[0];
  return `does not have the zone${elsewhere === undefined ? '' : ` and refers to ${elsewhere}`}`;
}

async function lookAt(
  exchange: Exchange,
  at: { server: string; address: string; port: number },
  { name, zone, value, fits = () => false }: ValueQuestion,
  signal: AbortSignal,
  limit: AbortSignal,
): Promise<Sight> {
  const { server, address, port } = at;
  const target: DnsServer = { address, port };
  const ask = (asked: string, type: 'TXT' | 'SOA'): Promise<Reply> =>
    exchange(target, { name: asked, type, recursive: false }, signal, limit);

  const reply = await ask(name, 'TXT');
  const who = { server, address };
  if ('failure' in reply) return { ...who, state: reply.failure, why: reply.words };
  const why = lameness(reply.answer);
  if (why !== null) return { ...who, state: 'lame', why };
  const { answers, authorities, rcode } = reply.answer;
  const values = dataOf(answers, 'TXT', name);
  if (values.includes(value) || values.some(fits)) return { ...who, state: 'shows' };
  // The serial tells a transfer that has not come from a record that was never written.
  let serial = dataOf(authorities, 'SOA', zone)[0]?.serial ?? null;
  if (serial === null) {
    const soa = await ask(zone, 'SOA');
    serial = 'answer' in soa ? (dataOf(soa.answer.answers, 'SOA', zone)[0]?.serial ?? null) : null;
  }
  return {
    ...{ ...who, state: 'hidden', rcode, serial },
    values: values.slice(0, mostValues).map((text) => text.slice(0, longestValue)),
    alias: dataOf(answers, 'CNAME', name)[0] ?? null,
  };
}

/** Addresses that there is no way to count only when there are no others: a CA may well have one. */
export function withoutUnreachable(sights: readonly Sight[]): Sight[] {
  const reached = sights.filter(({ state }) => state !== 'unreachable');
  return reached.length > 0 ? reached : [...sights];
}

function sightWords(sight: Sight): string {
  const who = `${sight.server} (${sight.address})`;
  if (sight.state === 'shows') return `${who} shows it`;
  if (sight.state !== 'hidden') return `${who} ${sight.why}`;
  const serial = sight.serial === null ? '' : `, serial ${sight.serial}`;
  if (sight.alias !== null) return `${who} has a CNAME to ${sight.alias} there${serial}`;
  if (sight.values.length > 0) return `${who} has other values: ${sight.values.join(', ')}${serial}`;
  return `${who} has no TXT there (${sight.rcode}${serial})`;
}

/**
 * What keeps a value from being seen everywhere, as the error of an attempt; null when all servers show it.
 * `dns_delegation_lame` when the only ones that do not are no servers of the zone, else `dns_record_not_visible`.
 */
export function visibilityProblem(
  { name, zone, value }: ValueQuestion,
  sights: readonly Sight[],
): CertlineError | null {
  const stuck = sights.filter(({ state }) => state !== 'shows');
  if (stuck.length === 0 && sights.length > 0) return null;
  const evidence = { name, zone, value, sights };
  const words = stuck.map(sightWords).join('; ') || 'no name server was asked';
  const shown = sights.length - stuck.length;
  const others = shown === 0 ? '' : ` The other ${shown === 1 ? 'one shows' : `${shown} show`} it.`;
  if (stuck.length > 0 && stuck.every(({ state }) => state === 'lame')) {
    return new CertlineError(
      'dns_delegation_lame',
      `The zone ${zone} is delegated to servers without it: ${words}.${others}`,
      {
        evidence,
      },
    );
  }
  return new CertlineError('dns_record_not_visible', `${name} (TXT): ${words}.${others}`, { evidence });
}

export function createAuthoritative(deps: NameServerDeps): Authoritative {
  const { exchange, portOf = () => 53 } = deps;
  const nameServers = (zone: string, signal: AbortSignal): Promise<NameServer[]> =>
    withinLimit(`The name servers of ${zone}`, findingLimitMs, signal, (within) =>
      findNameServers(deps, canonicalName(zone), within),
    );
  return {
    nameServers,
    async showsValue(question, signal, known) {
      const servers = known ?? (await nameServers(question.zone, signal));
      const limit = AbortSignal.timeout(askingLimitMs);
      const sights = await Promise.all(
        servers.flatMap(({ name: server, addresses }): Promise<Sight>[] =>
          addresses.length === 0
            ? [Promise.resolve({ server, address: '?', state: 'silent', why: 'has no address' })]
            : addresses.map((address) =>
                lookAt(exchange, { server, address, port: portOf(address) }, question, signal, limit),
              ),
        ),
      );
      return withoutUnreachable(sights);
    },
  };
}
