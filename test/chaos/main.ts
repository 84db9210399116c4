/** `npm run chaos -- --seed N --minutes M [--orders N] [--without SAFEGUARD]`: exit code 0 only if the sums agree and the goals are reached. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { audit } from './audit.ts';
import { safeguards } from './edits.ts';
import { startFlow } from './flow.ts';
import { startHarm, usualPace } from './harm.ts';
import { planOrders, sitesOf } from './plan.ts';
import { missedGoals, report } from './report.ts';
import { untilAtRest } from './rest.ts';
import { createTally } from './tally.ts';
import { startWorld } from './world.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '7' },
    minutes: { type: 'string' },
    orders: { type: 'string' },
    without: { type: 'string' },
    keep: { type: 'boolean', default: false },
  },
});
const without = safeguards.find((name) => name === values.without);
// What is not safe shows soon.
const usual = without ? { minutes: 0.5, orders: 48 } : { minutes: 1, orders: undefined };
const [seed, minutes] = [Number(values.seed), Number(values.minutes ?? usual.minutes)];
const count = Number(values.orders ?? usual.orders ?? Math.min(300, Math.round(60 * minutes)));
if (![seed, minutes, count].every(Number.isFinite) || (values.without !== undefined && without === undefined)) {
  process.stderr.write(`give numbers, and as --without one of ${safeguards.join(', ')}\n`);
  process.exit(2);
}

const hosts = 3;
const tally = createTally();
const dir = await mkdtemp(join(tmpdir(), 'certline-chaos-'));
const plans = planOrders(seed, count, hosts, minutes * 54_000);
process.stdout.write(
  `seed ${seed}, ${minutes} min, ${count} orders${without ? `, without ${without}` : ''}, in ${dir}\n`,
);
const world = await startWorld({
  ...{ dir, seed, tally, sites: sitesOf(plans, hosts) },
  edits: without ? [without] : [],
});
let passed = false;
try {
  // At least one restart of Redis, however short it is.
  const redisKillMs = Math.min(usualPace.redisKillMs, minutes * 25_000);
  const memoryMs = Math.min(usualPace.memoryMs, minutes * 20_000);
  // A short run without a safeguard is to show it all the same.
  const freezeMs = without ? 1_000 : usualPace.freezeMs;
  const harm = startHarm(world, seed, tally, { ...usualPace, redisKillMs, memoryMs, freezeMs });
  const ended = new Promise((resolve) => setTimeout(resolve, minutes * 60_000));
  const flow = startFlow(world, plans, tally);
  await Promise.all([ended, Promise.race([flow.accepted, ended])]);
  await harm.stop();
  const placed = await flow.accepted;
  await untilAtRest(world, placed, flow, 30_000);
  await flow.stop();
  const result = await audit(world, placed, tally);
  // That it is slow says nothing of a safeguard that is not there: then the sums alone count.
  const missed = without ? [] : missedGoals(result, tally, minutes);
  passed = result.wrong.length === 0 && missed.length === 0;
  process.stdout.write(report(result, placed.length, tally, missed));
} finally {
  await world.close();
  if (passed || !values.keep) await rm(dir, { recursive: true, force: true });
}
process.exit(passed ? 0 : 1);
