import { CertlineError } from '../errors.ts';
import { type DnsServer, type Exchange, serverName } from './exchange.ts';
import { extendedErrorWords, saysBogus } from './extended-errors.ts';
import { withinLimit } from './limits.ts';
import { canonicalName, type DnsAnswer, dataOf, type RecordData, type RecordType } from './message.ts';

/** What a resolver found. */
export interface Lookup<T extends RecordType> {
  rcode: 'NOERROR' | 'NXDOMAIN';
  /** The name that the records belong to: the one asked for, or where its CNAMEs lead. */
  name: string;
  /** The names that the CNAMEs led to, in order; without the one asked for. */
  aliases: string[];
  records: RecordData[T][];
  /** The zone whose SOA came with the answer; null without one. */
  soa: { zone: string; serial: number } | null;
  /** The resolver has validated it by DNSSEC (AD). */
  authenticated: boolean;
  /** Which server said so: `192.0.2.53:53`. */
  server: string;
}

export interface Resolver {
  /**
   * Looks up through the resolvers, each in turn until one answers. That a name is not there is an answer.
   * Throws `CertlineError`: `dnssec_bogus` when a validating resolver has it but its signatures do not hold; `dns_lookup_failed` with what
   * each server said.
   */
  lookup<T extends RecordType>(name: string, type: T, signal: AbortSignal): Promise<Lookup<T>>;
}

export interface ResolverOptions {
  servers: readonly DnsServer[];
  exchange: Exchange;
  /** Milliseconds for a lookup in all, whatever the servers do. */
  limitMs?: number;
}

const rounds = 2;
const usualLimitMs = 20_000;

function isAnswer({ rcode }: DnsAnswer): boolean {
  return rcode === 'NOERROR' || rcode === 'NXDOMAIN';
}

function toLookup<T extends RecordType>(asked: string, type: T, answer: DnsAnswer, server: string): Lookup<T> {
  const aliases: string[] = [];
  let name = asked;
  // A CNAME is followed, unless it is what was asked for; in a circle only once.
  for (;;) {
    const target = type === 'CNAME' ? undefined : dataOf(answer.answers, 'CNAME', name)[0];
    if (target === undefined || target === asked || aliases.includes(target)) break;
    aliases.push(target);
    name = target;
  }
  const soa = [...answer.answers, ...answer.authorities].find((one) => one.type === 'SOA');
  return {
    rcode: answer.rcode === 'NXDOMAIN' ? 'NXDOMAIN' : 'NOERROR',
    ...{ name, aliases, server },
    records: dataOf(answer.answers, type, name),
    soa: soa ? { zone: soa.name, serial: soa.data.serial } : null,
    authenticated: answer.authenticated,
  };
}

/** Lookups through recursive resolvers (DNS_RESOLVERS). Needs their answers about DNSSEC, which `node:dns` does not tell. */
export function createResolver({ servers, exchange, limitMs = usualLimitMs }: ResolverOptions): Resolver {
  /** Whichever answered last is asked first: a dead one costs its timeouts once. */
  let first = 0;

  async function ask(server: DnsServer, name: string, type: RecordType, signal: AbortSignal, unchecked = false) {
    return exchange(server, { name, type, recursive: true, checkingDisabled: unchecked }, signal);
  }

  /**
   * Whether a SERVFAIL is DNSSEC's doing: the resolver says so (RFC 8914), or it answers once it is told not to validate (CD=1, RFC 4035
   * §3.2.2) and still fails otherwise. Null when it is not; an answer when the failure has passed meanwhile.
   */
  async function whyServfail(
    server: DnsServer,
    name: string,
    type: RecordType,
    failure: DnsAnswer,
    signal: AbortSignal,
  ): Promise<DnsAnswer | string | null> {
    const words = (answer: DnsAnswer): string =>
      `${serverName(server)} does not trust the answer${extendedErrorWords(answer.extendedErrors)}, and gives it only when told not to check signatures (RFC 4035)`;
    const unchecked = await ask(server, name, type, signal, true);
    if (!('answer' in unchecked) || !isAnswer(unchecked.answer)) {
      if (!saysBogus(failure.extendedErrors)) return null;
      return `${serverName(server)} cannot trust any answer${extendedErrorWords(failure.extendedErrors)}`;
    }
    const again = await ask(server, name, type, signal);
    if (!('answer' in again)) return null;
    if (isAnswer(again.answer)) return again.answer;
    return again.answer.rcode === 'SERVFAIL' ? words(again.answer) : null;
  }

  async function lookup<T extends RecordType>(name: string, type: T, signal: AbortSignal): Promise<Lookup<T>> {
    const said = new Map<string, string>();
    const decided = new Set<DnsServer>();
    let bogus: string | null = null;
    const order = servers.map((_, index) => (first + index) % servers.length);
    for (let round = 0; round < rounds; round += 1) {
      for (const index of order) {
        const server = servers[index];
        if (server === undefined || decided.has(server)) continue;
        const reply = await ask(server, name, type, signal);
        if ('failure' in reply) {
          said.set(serverName(server), reply.words);
          continue;
        }
        decided.add(server);
        let { answer } = reply;
        if (answer.rcode === 'SERVFAIL') {
          const why = await whyServfail(server, name, type, answer, signal);
          if (typeof why === 'string') bogus ??= why;
          else if (why) answer = why;
        }
        // After one did not trust it, only one that did check is believed: those that do not check answer everything.
        if (isAnswer(answer) && (bogus === null || answer.authenticated)) {
          first = index;
          return toLookup(name, type, answer, serverName(server));
        }
        said.set(serverName(server), `answers ${answer.rcode}${extendedErrorWords(answer.extendedErrors)}`);
      }
    }
    if (bogus !== null) {
      const detail = `The DNSSEC signatures of ${name} (${type}) do not hold: ${bogus}.`;
      throw new CertlineError('dnssec_bogus', detail, { evidence: { name, type } });
    }
    const words = Array.from(said, ([server, what]) => `${server} ${what}`).join('; ') || 'no resolver is configured';
    throw new CertlineError('dns_lookup_failed', `${name} (${type}) could not be looked up: ${words}.`, {
      evidence: { name, type, servers: Object.fromEntries(said) },
    });
  }

  return {
    lookup: (typed, type, signal) => {
      const name = canonicalName(typed);
      const what = `${name} (${type}), asked of ${servers.map(serverName).join(', ')}`;
      return withinLimit(what, limitMs, signal, (within) => lookup(name, type, within));
    },
  };
}
