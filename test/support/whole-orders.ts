import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ApiSession } from './api-session.ts';

/** Orders that go through all stages: http-01 answered by the API, a certificate of the lab's CA, put into a folder. */
export interface WholeOrders {
  /** Places an order and answers its id. */
  place(name: string): Promise<string>;
  /** Waits until it is deployed; answers how often each stage failed on the way. */
  deployed(id: string, ms?: number): Promise<Record<string, number>>;
  /** Whether the folder has a certificate for the name. */
  isServed(name: string): Promise<boolean>;
  close(): Promise<void>;
}

export async function wholeOrders({ api, order, until, account: register }: ApiSession): Promise<WholeOrders> {
  const path = await mkdtemp(join(tmpdir(), 'certline-folder-'));
  const account = await register();
  const { id: target } = await api.send('POST', '/v1/targets', { name: 'folder', kind: 'folder', path });
  return {
    place: (name) =>
      order({
        names: [name],
        account,
        key: { type: 'ec-p256' },
        challenge: { type: 'http-01' },
        deploy: { mode: 'store', target },
      }),
    async deployed(id, ms = 20_000) {
      const { attempts } = await until(id, 'it is deployed', ({ status }) => status === 'deployed', ms);
      return attempts as Record<string, number>;
    },
    async isServed(name) {
      const file = join(path, name, 'fullchain.pem');
      return (await readFile(file, 'utf8').catch(() => '')).includes('BEGIN CERTIFICATE');
    },
    close: () => rm(path, { recursive: true, force: true }),
  };
}
