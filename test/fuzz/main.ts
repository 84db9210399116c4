/** `npm run fuzz -- --seed N --minutes M`: exit code 0 only if nothing was found. */
import { parseArgs } from 'node:util';
import { fuzz } from './fuzz.ts';
import { startFuzzWorld } from './world.ts';

const { values } = parseArgs({
  options: { seed: { type: 'string', default: '7' }, minutes: { type: 'string', default: '1' } },
});
const [seed, minutes] = [Number(values.seed), Number(values.minutes)];
if (![seed, minutes].every(Number.isFinite)) {
  process.stderr.write('give numbers\n');
  process.exit(2);
}
const world = await startFuzzWorld();
try {
  const { requests, answers, findings } = await fuzz(world, { seed, ms: minutes * 60_000 });
  for (const [line, count] of [...answers].sort()) process.stdout.write(`${String(count).padStart(7)}  ${line}\n`);
  for (const [name, request] of findings) process.stdout.write(`\n${name}\n  ${request}\n`);
  process.stdout.write(`\nseed ${seed}: ${requests} requests, ${findings.size} findings\n`);
  process.exitCode = findings.size === 0 ? 0 : 1;
} finally {
  await world.close();
}
