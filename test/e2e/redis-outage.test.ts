import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunningProgram } from '../../services/lab/running-program.ts';
import { eventually, type LabSession, openLabSession } from '../support/lab-session.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';

/** All services in one process, whose Redis goes away and comes back. */
describe('an outage of Redis', () => {
  let session: LabSession;
  let proxy: TcpProxy;
  let running: RunningProgram;

  beforeAll(async () => {
    proxy = await startTcpProxy();
    session = await openLabSession();
    proxy.leadTo(session.lab.redis.port);
    const url = new URL(session.lab.redis.url);
    url.port = String(proxy.port);
    running = await session.lab.startService('standalone', { REDIS_URL: url.href });
  });
  afterAll(async () => {
    await session?.close();
    await proxy?.close();
  });

  const logLines = async (): Promise<{ msg: string; level: number; seconds?: number; service?: string }[]> =>
    (await readFile(join(session.lab.dir, 'standalone-1.log'), 'utf8'))
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line));

  it('is told of when it begins and when it is over, once for each of the two connections, and by nothing else', async () => {
    const before = (await logLines()).length;
    proxy.shut(true);
    proxy.cut();
    const tries = proxy.refused;
    await eventually('the process has tried again and again', 15_000, async () => proxy.refused > tries + 60);
    proxy.shut(false);
    await session.ready();
    await eventually('both say that Redis is back', 10_000, async () => {
      const told = (await logLines()).slice(before);
      return told.filter(({ msg }) => /does its work again/.test(msg)).length === 2;
    });
    const told = (await logLines()).slice(before).map(({ msg }) => msg.replace(/\d+\.\d+\.\d+\.\d+:\d+/, 'HERE'));
    expect(told.map((msg) => (/again$/.test(msg) ? 'back' : /^Redis/.test(msg) ? 'away' : msg)).sort()).toEqual([
      'away',
      'away',
      'back',
      'back',
    ]);
    expect(running.running).toBe(true);
  });
});
