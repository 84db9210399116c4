import type { Clock } from '../clock.ts';
import type { CaaQuestion, CaaVerdict } from './caa.ts';
import { type CaaLookup, type CaaSet, checkCaa } from './caa-lookup.ts';
import { canonicalName } from './message.ts';

/** CAA of the names of one certificate: each name on the way up is looked up once at the most. */
export interface CaaView {
  /** Throws as `lookupCaa`. */
  check(name: string, question: Omit<CaaQuestion, 'wildcard'>): Promise<CaaVerdict & CaaSet>;
}

export interface CaaChecks {
  /** `signal` ends its look-ups. */
  view(names: readonly string[], signal: AbortSignal): CaaView;
}

/** How long it is believed that a name above has no records, ms; orders of one domain then cost a look-up each. */
const believedMs = 60_000;
const mostBelieved = 10_000;

/**
 * Looks at CAA for many orders. That there is nothing above a name is kept for a moment, by all views; the names themselves are always looked
 * up, and nothing is forbidden by what was kept: a record may be there since. Should one that forbids be there since, the CA sees it.
 */
export function createCaaChecks(resolver: CaaLookup, clock: Clock): CaaChecks {
  /** Until when, by name. */
  const nothingAt = new Map<string, number>();

  function keep(name: string): void {
    // In the order they were kept, which is that in which they end.
    for (const [oldest, until] of nothingAt) {
      if (until > clock.now() && nothingAt.size < mostBelieved) break;
      nothingAt.delete(oldest);
    }
    nothingAt.delete(name);
    nothingAt.set(name, clock.now() + believedMs);
  }

  return {
    view(names, signal) {
      const own = new Set(names.map((name) => canonicalName(name).replace(/^\*\./, '')));
      const found = new Map<string, ReturnType<CaaLookup['lookup']>>();
      const fresh: CaaLookup = {
        lookup(name, type) {
          const known = found.get(name);
          if (known) return known;
          const finding = resolver.lookup(name, type, signal).then((answer) => {
            if (answer.records.length === 0 && !own.has(name)) keep(name);
            return answer;
          });
          found.set(name, finding);
          return finding;
        },
      };
      const believing: CaaLookup = {
        async lookup(name, type) {
          const isKept = !own.has(name) && !found.has(name) && (nothingAt.get(name) ?? 0) > clock.now();
          return isKept ? { records: [] } : fresh.lookup(name, type, signal);
        },
      };
      return {
        async check(name, question) {
          const verdict = await checkCaa(believing, name, question, signal);
          return verdict.allowed ? verdict : checkCaa(fresh, name, question, signal);
        },
      };
    },
  };
}
