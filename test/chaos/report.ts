import type { Audit } from './audit.ts';
import type { Tally } from './tally.ts';

/** Within this a killed process's work is in other hands. */
const recoveryGoalMs = 15_000;

const seconds = (ms: number | undefined): string => (ms === undefined ? '–' : `${(ms / 1000).toFixed(1)} s`);

function spread(all: readonly number[]): string {
  const sorted = all.toSorted((a, b) => a - b);
  return `p50 ${seconds(sorted[Math.floor(sorted.length / 2)])}, max ${seconds(sorted.at(-1))} (${sorted.length})`;
}

const counted = (names: Iterable<string>): string =>
  [...Map.groupBy(names, (name) => name)].map(([name, { length }]) => `${name} ${length}`).join(', ');

/** The sums, a line each, and what is wrong. */
export function report(audit: Audit, accepted: number, tally: Tally): string {
  const kills = tally.kills.map(({ part }) => part.replace(/-?\d+$/, ''));
  const faults = [...tally.faults].toSorted(([a], [b]) => (a < b ? -1 : 1));
  // What took longer than it should, for whoever looks for the reason.
  const longest = audit.recoveries.filter(({ ms }) => ms > recoveryGoalMs).toSorted((a, b) => b.ms - a.ms);
  const lines = [
    `SIGKILLs                ${kills.length}: ${counted(kills)}`,
    `Redis restarts          ${tally.redisRestarts}`,
    `faults                  ${faults.reduce((sum, [, count]) => sum + count, 0)}`,
    ...faults.map(([kind, count]) => `  ${kind}: ${count}`),
    `orders accepted         ${accepted}`,
    `  deployed              ${audit.complete}`,
    `  failed as they must   ${audit.failedAsTheyMust}`,
    `  lost                  ${audit.lost}`,
    `certificates            ${audit.certificates}`,
    `  issued twice          ${audit.issuedTwice}`,
    `ACME orders             ${audit.acmeOrders}`,
    `commits to hosts        ${audit.commits}`,
    `deployments repeated    ${audit.deploymentsRepeated}`,
    `recovery after SIGKILL  ${spread(audit.recoveries.map(({ ms }) => ms))}`,
    ...longest.map(({ what, ms }) => `  ${seconds(ms)} ${what}`),
    `API without an answer    ${spread(tally.apiAwayMs)}`,
    ...audit.wrong.map((words) => `✗ ${words}`),
    audit.wrong.length === 0 ? 'the sums agree' : `${audit.wrong.length} things are wrong`,
  ];
  return `${lines.join('\n')}\n`;
}
