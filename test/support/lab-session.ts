import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type ApiClient, createApiClient } from '../../services/lab/api-client.ts';
import { type Lab, type LabOptions, startLab } from '../../services/lab/lab.ts';

/** A lab for one test file, with a client and what most tests begin with. */
export interface LabSession {
  lab: Lab;
  api: ApiClient;
  /** Registers the account that the tests order with. */
  registerAccount(): Promise<string>;
  /** Orders and answers the order's id. */
  order(body: Record<string, unknown>): Promise<string>;
  /** Reads an order. */
  read(id: string): Promise<Record<string, unknown>>;
  /** Waits until the order satisfies `done`; fails with what it is at the end of `ms`. */
  until(
    id: string,
    what: string,
    done: (order: Record<string, unknown>) => boolean,
    ms?: number,
  ): Promise<Record<string, unknown>>;
  /** Waits for an event of the order, of the past or to come. */
  event(id: string, matches: (event: Record<string, unknown>) => boolean): Promise<void>;
  /** Waits until the API reaches Redis. */
  ready(): Promise<void>;
  close(): Promise<void>;
}

/** Asks again until `probe` answers something; fails with `what` when time is up. */
export async function eventually<T>(
  what: string,
  ms: number,
  probe: () => Promise<T | null | undefined | false>,
): Promise<T> {
  const deadline = Date.now() + ms;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`);
    await delay(50);
  }
}

export async function openLabSession(options: Omit<LabOptions, 'dir'> = {}): Promise<LabSession> {
  const dir = await mkdtemp(join(tmpdir(), 'certline-test-'));
  const lab = await startLab({ dir, ...options, env: { LOG_LEVEL: 'info', RETRY_DELAY_SCALE: '0.1', ...options.env } });
  const api = createApiClient(lab.apiUrl, lab.apiKey);
  const read = (id: string): Promise<Record<string, unknown>> => api.send('GET', `/v1/orders/${id}`);
  return {
    lab,
    api,
    read,
    async registerAccount() {
      const { directory, caBundle } = lab.pebble;
      const account = await api.send('POST', '/v1/accounts', {
        ca: directory,
        email: 'ops@example.com',
        termsOfServiceAgreed: true,
        caBundle,
      });
      return String(account.id);
    },
    async order(body) {
      return String((await api.send('POST', '/v1/orders', body)).id);
    },
    async until(id, what, done, ms = 15_000) {
      let last: Record<string, unknown> = {};
      try {
        return await eventually(what, ms, async () => {
          last = await read(id);
          return done(last) ? last : null;
        });
      } catch (error) {
        throw new Error(`${String(error)}; the order: ${JSON.stringify(last)}`);
      }
    },
    async event(id, matches) {
      for await (const { data } of api.events(id)) if (matches(data)) return;
      throw new Error(`the events of ${id} ended without the one waited for`);
    },
    async ready() {
      await eventually('the API is ready', 15_000, async () => (await fetch(`${lab.apiUrl}/readyz`)).ok);
    },
    async close() {
      await lab.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
