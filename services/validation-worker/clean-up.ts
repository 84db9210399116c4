import type { Clock } from '#libs/clock';
import { asCertlineError, type CertlineError, type ErrorCode } from '#libs/errors';
import type { Logger } from '#libs/logging';
import type { CleanUp, CleanUps } from '#libs/store/clean-ups';

export interface CleanUpDeps {
  cleanUps: CleanUps;
  /** Takes one thing away; fine when it is not there. Throws `CertlineError`. */
  remove(one: CleanUp, signal: AbortSignal): Promise<void>;
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
/** What is wrong with one thing of a helper, and then with all. */
const holdsForAll = new Set<ErrorCode>([
  ...(['dns_provider_unreachable', 'dns_provider_busy', 'dns_credential_refused'] as const),
  ...(['target_unreachable', 'target_timeout', 'ssh_login_refused', 'host_key_changed', 'pool_unserved'] as const),
]);
/** What is never mended: there is nothing any more to take it away with. */
const goneFor = new Set<ErrorCode>(['credential_unknown', 'target_unknown', 'webroot_not_allowed']);

const whatOf: Record<CleanUp['kind'], string> = {
  dns: 'a TXT record',
  target: 'a file in the folder of a site',
  webroot: 'a file in a folder',
};

/** The credential or target by which something is taken away; for folders none. */
function helperOf(one: CleanUp): string {
  return one.kind === 'dns' ? one.credential : one.kind === 'target' ? one.target : one.folder;
}

/** Where it is, for a person. */
function placeOf(one: CleanUp): object {
  if (one.kind === 'dns') return { record: one.record, credential: one.credential };
  return one.kind === 'target'
    ? { target: one.target, site: one.site, token: one.token }
    : { folder: one.folder, token: one.token };
}

/** Takes away what orders have written for their challenges and have no more use for. A round answers how many it took away. */
export function createCleanUp({ cleanUps, remove, clock, log }: CleanUpDeps): (signal: AbortSignal) => Promise<number> {
  /** `away` has the helpers that failed in this round: one that is down must not hold up the others. */
  async function take(one: CleanUp, away: Map<string, CertlineError>, signal: AbortSignal): Promise<boolean> {
    const { order, at } = one;
    const helper = helperOf(one);
    try {
      const failed = away.get(helper);
      if (failed !== undefined) throw failed;
      if (!(await cleanUps.isWanted(one))) await remove(one, AbortSignal.any([signal, AbortSignal.timeout(limitMs)]));
      await cleanUps.done(one);
      return true;
    } catch (thrown) {
      signal.throwIfAborted();
      const error = asCertlineError(thrown);
      const { code, message } = error;
      if (holdsForAll.has(code)) away.set(helper, error);
      const now = clock.now();
      const about = { order, place: placeOf(one), code };
      if (code === 'dns_zone_not_managed') {
        // So the order most likely failed for that, and wrote nothing.
        log.warn(about, `if this TXT record is there, take it away by hand: ${message}`);
        await cleanUps.done(one);
      } else if (now - at > patienceMs || goneFor.has(code)) {
        log.error(about, `${whatOf[one.kind]} is left behind, take it away by hand: ${message}`);
        await cleanUps.done(one);
      } else {
        log.warn(about, `${whatOf[one.kind]} cannot be taken away yet: ${message}`);
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
