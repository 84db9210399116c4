import type { Clock } from '#libs/clock';
import { asCertlineError, type CertlineError, type ErrorCode } from '#libs/errors';
import type { Logger } from '#libs/logging';
import type { DnsAccess } from '#libs/service/dns-access';
import type { CleanUp, CleanUps } from '#libs/store/clean-ups';

export interface CleanUpDeps {
  cleanUps: CleanUps;
  dns: DnsAccess;
  clock: Clock;
  log: Logger;
}

const batch = 100;
const together = 4;
const limitMs = 60_000;
/** Between two attempts, ms: the longer it has been due, the longer. */
const least = 10_000;
const longest = 3_600_000;
/** After this long, in ms, a record that nobody can take away is told of and left. */
const patienceMs = 14 * 86_400_000;
/** What is wrong with one record of a credential, and then with all. */
const holdsForAll = new Set<ErrorCode>(['dns_provider_unreachable', 'dns_provider_busy', 'dns_credential_refused']);

/** Takes away what orders have written for their challenges and have no more use for. A round answers how many it took away. */
export function createCleanUp({ cleanUps, dns, clock, log }: CleanUpDeps): (signal: AbortSignal) => Promise<number> {
  /** `away` has the credentials whose provider failed in this round: one that is down must not hold up the others. */
  async function take(one: CleanUp, away: Map<string, CertlineError>, signal: AbortSignal): Promise<boolean> {
    const { credential, zone, record, value, order, at } = one;
    try {
      const failed = away.get(credential);
      if (failed !== undefined) throw failed;
      if (!(await cleanUps.isWanted(one))) {
        const provider = await dns.open(credential);
        await provider.cleanUp({ zone, name: record, value }, AbortSignal.any([signal, AbortSignal.timeout(limitMs)]));
      }
      await cleanUps.done(one);
      return true;
    } catch (thrown) {
      signal.throwIfAborted();
      const error = asCertlineError(thrown);
      const { code, message } = error;
      if (holdsForAll.has(code)) away.set(credential, error);
      const now = clock.now();
      const about = { order, record, credential, code };
      if (code === 'dns_zone_not_managed') {
        // So the order most likely failed for that, and wrote nothing.
        log.warn(about, `if this TXT record is there, take it away by hand: ${message}`);
        await cleanUps.done(one);
      } else if (now - at > patienceMs || code === 'credential_unknown') {
        log.error(about, `a TXT record is left behind, take it away by hand: ${message}`);
        await cleanUps.done(one);
      } else {
        log.warn(about, `a TXT record cannot be taken away yet: ${message}`);
        await cleanUps.putOff(one, Math.round(now + Math.min(Math.max(now - at, least), longest)));
      }
      return false;
    }
  }

  return async (signal) => {
    const due = await cleanUps.due(clock.now(), batch);
    const away = new Map<string, CertlineError>();
    let done = 0;
    for (let at = 0; at < due.length; at += together) {
      const taken = await Promise.all(due.slice(at, at + together).map((one) => take(one, away, signal)));
      done += taken.filter((was) => was).length;
    }
    return done;
  };
}
