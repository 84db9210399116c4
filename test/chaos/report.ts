import type { Audit } from './audit.ts';
import type { Tally } from './tally.ts';

/** Within this a killed process's work is in other hands. */
const recoveryGoalMs = 15_000;
/** What a run of ten minutes or more is to have gone through. */
const longRun = { minutes: 10, kills: 100, redisRestarts: 5 };

const seconds = (ms: number | undefined): string => (ms === undefined ? '–' : `${(ms / 1000).toFixed(1)} s`);

function spread(all: readonly number[]): string {
  const sorted = all.toSorted((a, b) => a - b);
  return `p50 ${seconds(sorted[Math.floor(sorted.length / 2)])}, max ${seconds(sorted.at(-1))} (${sorted.length})`;
}

const counted = (names: Iterable<string>): string =>
  [...Map.groupBy(names, (name) => name)].map(([name, { length }]) => `${name} ${length}`).join(', ');

const sumOf = (counts: ReadonlyMap<string, number>): number => [...counts.values()].reduce((sum, one) => sum + one, 0);
const listOf = (counts: ReadonlyMap<string, number>): string[] =>
  [...counts].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([what, count]) => `  ${what}: ${count}`);

/** What a run of so many minutes was to reach and has not, in words; empty when it has. */
export function missedGoals({ recoveries }: Pick<Audit, 'recoveries'>, tally: Tally, minutes: number): string[] {
  const { kills, redisRestarts } = tally;
  const slow = recoveries.filter(({ ms }) => ms > recoveryGoalMs).length;
  const isLong = minutes >= longRun.minutes;
  return [
    ...(slow > 0 ? [`${slow} recoveries took longer than ${seconds(recoveryGoalMs)}`] : []),
    ...(isLong && kills.length < longRun.kills ? [`${kills.length} SIGKILLs are less than ${longRun.kills}`] : []),
    ...(isLong && redisRestarts < longRun.redisRestarts
      ? [`${redisRestarts} restarts of Redis are less than ${longRun.redisRestarts}`]
      : []),
  ];
}

/** The sums, a line each, what is wrong, and what was not reached. */
export function report(audit: Audit, accepted: number, tally: Tally, missed: readonly string[]): string {
  const kills = tally.kills.map(({ part }) => part.replace(/-?\d+$/, ''));
  // What took longer than it should, for whoever looks for the reason.
  const longest = audit.recoveries.filter(({ ms }) => ms > recoveryGoalMs).toSorted((a, b) => b.ms - a.ms);
  const bad = [...audit.wrong, ...missed];
  const lines = [
    `SIGKILLs                ${kills.length}: ${counted(kills)}`,
    `Redis restarts          ${tally.redisRestarts}`,
    `faults                  ${sumOf(tally.faults)}`,
    ...listOf(tally.faults),
    `requests to repeat      ${sumOf(tally.refusals)}`,
    ...listOf(tally.refusals),
    `orders accepted         ${accepted}`,
    `  deployed              ${audit.complete}`,
    `  failed as they must   ${audit.failedAsTheyMust}`,
    `  cancelled             ${sumOf(audit.cancelled)}`,
    ...listOf(audit.cancelled).map((line) => `  ${line}`),
    `  lost                  ${audit.lost}`,
    `taken up again          ${audit.retried}`,
    `rollouts                ${audit.rollouts}`,
    `certificates            ${audit.certificates}`,
    `  issued twice          ${audit.issuedTwice}`,
    `ACME orders             ${audit.acmeOrders}`,
    `commits to hosts        ${audit.commits}`,
    `webhook deliveries      ${audit.deliveries}`,
    `deployments repeated    ${audit.deploymentsRepeated}`,
    `recovery after SIGKILL  ${spread(audit.recoveries.map(({ ms }) => ms))}`,
    ...longest.map(({ what, ms }) => `  ${seconds(ms)} ${what}`),
    `API without an answer    ${spread(tally.apiAwayMs)}`,
    ...bad.map((words) => `✗ ${words}`),
    audit.wrong.length === 0 ? 'the sums agree' : `${audit.wrong.length} things are wrong`,
  ];
  return `${lines.join('\n')}\n`;
}
