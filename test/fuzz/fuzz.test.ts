import { afterAll, beforeAll, expect, it } from 'vitest';
import { fuzz } from './fuzz.ts';
import { type FuzzWorld, startFuzzWorld } from './world.ts';

/** `npm run fuzz -- --seed N --minutes M` does the same for longer. */
let world: FuzzWorld;
beforeAll(async () => {
  world = await startFuzzWorld();
});
afterAll(() => world?.close());

it('whatever is sent to the API, it answers as documented, tells nothing of itself, and keeps nothing that it refused', async () => {
  const { answers, findings } = await fuzz(world, { seed: 7, requests: 450 });
  expect(Object.fromEntries(findings)).toEqual({});
  // It came to all operations, behind their checks too.
  const operations = Object.entries(world.document.paths).flatMap(([path, item]) =>
    Object.keys(item).map((method) => `${method} ${path}`),
  );
  const seen = [...answers.keys()];
  expect(operations.filter((operation) => !seen.some((line) => line.startsWith(`${operation} `)))).toEqual([]);
  const statuses = new Set(seen.map((line) => line.split(' ').at(-1)));
  for (const status of ['200', '201', '202', '204', '400', '401', '403', '404', '405', '409', '415', '422', '502'])
    expect(statuses).toContain(status);
}, 120_000);
