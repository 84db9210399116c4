import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '#libs/clock';
import { type Dice, diceOf } from '../support/dice.ts';
import type { TcpProxy } from '../support/tcp-proxy.ts';
import type { Part } from './part.ts';
import type { Tally } from './tally.ts';
import type { World } from './world.ts';

/** What workers ask the CA while they have an order in hand. */
const validating = ['newOrder', 'authorization', 'challenge', 'order'] as const;
const issuing = ['finalize', 'certificate'] as const;

/** What goes on beside the orders until it is stopped. Nothing is left as it should not be when it has stopped. */
export interface Harm {
  stop(): Promise<void>;
}

/** How often things happen on average, ms. */
export interface Pace {
  killMs: number;
  redisKillMs: number;
  memoryMs: number;
  freezeMs: number;
  networkMs: number;
}

export const usualPace: Pace = {
  ...{ killMs: 4_000, redisKillMs: 40_000, memoryMs: 30_000, freezeMs: 8_000, networkMs: 5_000 },
};

export function startHarm(world: World, seed: number, tally: Tally, pace: Pace): Harm {
  const stopping = new AbortController();
  const { signal } = stopping;

  /** Again and again, with pauses about as long. */
  async function rounds(what: string, everyMs: number, work: (dice: Dice) => Promise<void>): Promise<void> {
    const dice = diceOf(seed, what);
    for (;;) {
      await delay(everyMs * dice.between(0.6, 1.4), null, { signal }).catch(() => {});
      if (signal.aborted) return;
      await work(dice);
    }
  }

  /** Waits until a worker of the kind has something in hand, and answers that one; or the given one when there is none for a while. */
  async function busy(part: Part, dice: Dice): Promise<Part> {
    const operations = { 'validation-worker': validating, 'issuance-worker': issuing }[part.kind];
    if (operations === undefined) return part;
    const late = delay(2_000, null, { signal }).catch(() => null);
    const name = await Promise.race([world.authority.asked(dice.pick(operations)), late]);
    return world.services.find((one) => one.name === name) ?? part;
  }

  async function killService(dice: Dice): Promise<void> {
    const part = await busy(dice.pick(world.services), dice);
    await delay(dice.between(0, 60));
    await part.kill();
  }

  /** Measures how long the API does not answer. */
  async function watchApi(): Promise<void> {
    let since: number | null = null;
    while (!signal.aborted || since !== null) {
      const answers = (await fetch(`${world.apiUrl}/healthz`).catch(() => null))?.ok === true;
      const now = systemClock.now();
      if (answers && since !== null) tally.apiAwayMs.push(now - since);
      since = answers ? null : (since ?? now);
      await delay(100);
    }
  }

  async function killRedis(dice: Dice): Promise<void> {
    await world.redis.kill('SIGKILL');
    await delay(dice.between(100, 1_500));
    await world.redis.restart();
    tally.redisRestarts += 1;
  }

  /** Redis takes no more for a while: all that it has is more than it may have. */
  async function fillMemory(dice: Dice): Promise<void> {
    tally.fault('Redis out of memory');
    await world.connection.config('SET', 'maxmemory', '1');
    await delay(dice.between(1_000, 4_000));
    await world.connection.config('SET', 'maxmemory', '0');
  }

  /** For longer than a lock lasts: others take over what the process has in hand, and then it goes on. */
  async function freeze(dice: Dice): Promise<void> {
    const workers = world.services.filter(({ kind }) => kind.endsWith('-worker'));
    const part = await busy(dice.pick(workers), dice);
    tally.fault('process frozen');
    await part.freeze(dice.between(5_000, 8_000));
  }

  const ways: [string, TcpProxy][] = [
    ['Redis', world.redisProxy],
    ['CA', world.authority.proxy],
    ...world.hosts.map((host): [string, TcpProxy] => [host.part.name, host.proxy]),
  ];
  async function harmWay(dice: Dice): Promise<void> {
    const [name, proxy] = dice.pick(ways);
    if (dice.chance(0.4)) {
      tally.fault(`connections to ${name} cut`);
      proxy.cut();
    } else if (dice.chance(0.5)) {
      tally.fault(`connections to ${name} refused`);
      proxy.shut(true);
      proxy.cut();
      await delay(dice.between(500, 2_500));
      proxy.shut(false);
    } else {
      tally.fault(`connections to ${name} slow`);
      proxy.slow(dice.between(50, 300));
      await delay(dice.between(1_000, 3_000));
      proxy.slow(0);
    }
  }

  // A host is gone while it commits, or its answer is lost after the commit.
  const commits = diceOf(seed, 'commits');
  const away = new Set<Promise<void>>();
  for (const { part, proxy } of world.hosts) {
    proxy.onSent = (data) => {
      if (signal.aborted || !data.includes('POST /commit') || !commits.chance(0.25)) return;
      const goes = delay(commits.between(0, 60)).then(async () => {
        tally.fault('host killed in a commit');
        await part.kill();
      });
      away.add(goes);
      void goes.finally(() => away.delete(goes));
    };
  }

  const running = [
    rounds('kills', pace.killMs, killService),
    rounds('Redis', pace.redisKillMs, killRedis),
    rounds('memory', pace.memoryMs, fillMemory),
    rounds('freezes', pace.freezeMs, freeze),
    rounds('network', pace.networkMs, harmWay),
    watchApi(),
  ];
  return {
    async stop() {
      stopping.abort();
      await Promise.all(running);
      await Promise.all(away);
      world.authority.behave();
      world.receiver.behave();
    },
  };
}
