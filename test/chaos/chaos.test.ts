import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const main = fileURLToPath(new URL('main.ts', import.meta.url));

/** Runs the chaos to its end: exit code and everything it printed. */
function runChaos(...words: string[]): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [main, ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk) => {
        output += String(chunk);
      });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, output }));
  });
}

const sumOf = (what: string, output: string): number => Number(new RegExp(`^ *${what} +(\\d+)`, 'm').exec(output)?.[1]);

it('loses no order and has none issued twice while every part is killed, frozen and cut off', {
  timeout: 600_000,
}, async () => {
  const { code, output } = await runChaos('--seed', '7', '--minutes', '1.5');
  expect(code, output).toBe(0);
  expect(output).toContain('the sums agree');
  // It was no quiet day.
  const least = {
    ...{ SIGKILLs: 10, 'Redis restarts': 2, faults: 50, deployed: 50, 'failed as they must': 2 },
    ...{ cancelled: 3, 'taken up again': 2, rollouts: 3, 'webhook deliveries': 3 },
  };
  for (const [what, count] of Object.entries(least)) expect(sumOf(what, output), output).toBeGreaterThanOrEqual(count);
});
