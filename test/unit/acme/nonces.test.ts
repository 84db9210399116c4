import { expect, test } from 'vitest';
import { createNoncePool } from '#libs/acme/nonces';
import type { Clock } from '#libs/clock';

function start() {
  let time = 0;
  let fetched = 0;
  const clock: Clock = { now: () => time, sleep: () => Promise.reject(new Error('no one sleeps here')) };
  const pool = createNoncePool(clock, async () => `fetched-${++fetched}`);
  return { pool, pass: (ms: number) => (time += ms), fetched: () => fetched };
}

test('an empty pool asks the CA for a nonce', async () => {
  const { pool, fetched } = start();
  expect(await pool.take()).toBe('fetched-1');
  expect(fetched()).toBe(1);
});

test('a nonce is given out once, the freshest first', async () => {
  const { pool, fetched } = start();
  pool.put('a');
  pool.put('b');
  expect([await pool.take(), await pool.take()]).toEqual(['b', 'a']);
  expect(fetched()).toBe(0);
  expect(await pool.take()).toBe('fetched-1');
});

test('the pool keeps fifty nonces, and drops the oldest', async () => {
  const { pool } = start();
  for (let i = 0; i < 60; i++) pool.put(`n${i}`);
  expect(pool.size).toBe(50);
  const taken: string[] = [];
  while (pool.size > 0) taken.push(await pool.take());
  expect([taken[0], taken.at(-1)]).toEqual(['n59', 'n10']);
});

test('a nonce is not used after ten minutes', async () => {
  const { pool, pass } = start();
  pool.put('old');
  pass(300_000);
  pool.put('young');
  pass(300_000);
  expect(pool.size).toBe(1);
  expect(await pool.take()).toBe('young');
  expect(await pool.take()).toBe('fetched-1');
});

test('an answer without a nonce, or with one that is not base64url, adds none', () => {
  const { pool } = start();
  pool.put(undefined);
  pool.put('not base64url!');
  expect(pool.size).toBe(0);
});
