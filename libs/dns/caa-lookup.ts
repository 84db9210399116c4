import { type CaaQuestion, type CaaVerdict, caaAllows } from './caa.ts';
import { type CaaRecord, canonicalName } from './message.ts';

/** What of a resolver is needed. */
export interface CaaLookup {
  lookup(name: string, type: 'CAA', signal: AbortSignal): Promise<{ records: CaaRecord[] }>;
}

export interface CaaSet {
  /** The name that the records were found for, the one asked for or above it; null when there are none. */
  at: string | null;
  records: CaaRecord[];
}

/**
 * The relevant CAA records of a name (RFC 8659 §3): its own, or else those of the next name above that has some. CNAMEs are followed at every
 * step, but the way up is that of the name itself and not of its target. `*.` is left out.
 * Throws as `Resolver.lookup`: a CA that gets no answer must not issue either.
 */
export async function lookupCaa(resolver: CaaLookup, name: string, signal: AbortSignal): Promise<CaaSet> {
  const labels = canonicalName(name).replace(/^\*\./, '').split('.');
  for (let depth = 0; depth < labels.length; depth += 1) {
    const at = labels.slice(depth).join('.');
    const { records } = await resolver.lookup(at, 'CAA', signal);
    if (records.length > 0) return { at, records };
  }
  return { at: null, records: [] };
}

/** Whether a CA may issue for a name of a certificate, as DNS says now. Throws as `lookupCaa`. */
export async function checkCaa(
  resolver: CaaLookup,
  name: string,
  question: Omit<CaaQuestion, 'wildcard'>,
  signal: AbortSignal,
): Promise<CaaVerdict & CaaSet> {
  const set = await lookupCaa(resolver, name, signal);
  return { ...set, ...caaAllows(set.records, { ...question, wildcard: name.startsWith('*.') }) };
}
