import { join } from 'node:path';
import { systemClock } from '#libs/clock';
import { connectRedis } from '#libs/store/redis';
import { type Redis, startRedis } from './redis.ts';
import { freePort, withFreePorts } from './running-program.ts';

const masters = 3;
const slots = 16_384;
const formedMs = 15_000;
/** How long a node may be silent before the others vote for its replica, ms. */
const nodeTimeoutMs = 500;

/** A Redis Cluster of six processes on loopback: three masters, each with a replica. */
export interface RedisCluster {
  /** Its masters, as `REDIS_URL` takes them. */
  readonly url: string;
  /** The node that has the slot of a key, as a replica sees it. */
  masterOf(key: string): Promise<Redis>;
  close(): Promise<void>;
}

/** One command to one node. */
async function tell(node: Pick<Redis, 'url'>, name: string, ...args: (string | number)[]): Promise<unknown> {
  const connection = connectRedis(node.url, 'worker', () => {});
  try {
    return await connection.call(name, ...args);
  } finally {
    connection.disconnect();
  }
}

async function startNode(dir: string): Promise<{ node: Redis; bus: number }> {
  return withFreePorts(async () => {
    const bus = await freePort();
    const node = await startRedis({
      dir,
      appendfsync: 'everysec',
      settings: [
        'cluster-enabled yes',
        `cluster-port ${bus}`,
        `cluster-node-timeout ${nodeTimeoutMs}`,
        'cluster-replica-validity-factor 0',
        'repl-diskless-sync-delay 0',
      ],
    });
    return { node, bus };
  });
}

/** Starts the nodes, lets them know each other, and waits until each master has its replica and every slot is served. */
export async function startRedisCluster(dir: string): Promise<RedisCluster> {
  const started = await Promise.all(Array.from({ length: 2 * masters }, (_, at) => startNode(join(dir, `node-${at}`))));
  const nodes = started.map(({ node }) => node);
  const [first] = started;
  const view = async (node: Redis): Promise<string[]> =>
    String(await tell(node, 'CLUSTER', 'NODES'))
      .trim()
      .split('\n');
  const idOf = async (node: Redis): Promise<string> => String(await tell(node, 'CLUSTER', 'MYID'));

  async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
    const end = systemClock.now() + formedMs;
    while (!(await isSo())) {
      if (systemClock.now() > end) throw new Error(`not within ${formedMs} ms: ${what}`);
      await systemClock.sleep(50);
    }
  }
  const all = async (isSo: (node: Redis) => Promise<boolean>): Promise<boolean> =>
    (await Promise.all(nodes.map(isSo))).every(Boolean);

  await Promise.all(
    started.map(async ({ node, bus }, at) => {
      await tell(node, 'CLUSTER', 'SET-CONFIG-EPOCH', at + 1);
      const range = [at, at + 1].map((part) => Math.floor((part * slots) / masters));
      if (at < masters) await tell(node, 'CLUSTER', 'ADDSLOTSRANGE', range[0] ?? 0, (range[1] ?? 0) - 1);
      if (first) await tell(first.node, 'CLUSTER', 'MEET', '127.0.0.1', node.port, bus);
    }),
  );
  await until('the nodes know each other', () =>
    all(async (node) => {
      const lines = await view(node);
      return lines.length === nodes.length && lines.every((line) => line.includes(' connected'));
    }),
  );
  await Promise.all(
    nodes.slice(masters).map(async (node, at) => {
      const master = nodes[at];
      if (master) await tell(node, 'CLUSTER', 'REPLICATE', await idOf(master));
    }),
  );
  await until('the cluster serves', () =>
    all(async (node) => {
      const isWhole = String(await tell(node, 'CLUSTER', 'INFO')).includes('cluster_state:ok');
      const replication = String(await tell(node, 'INFO', 'replication'));
      return isWhole && (/master_link_status:up/.test(replication) || /connected_slaves:1/.test(replication));
    }),
  );

  return {
    url: nodes
      .slice(0, masters)
      .map(({ url }) => url)
      .join(','),
    async masterOf(key) {
      const [asked] = nodes.slice(masters);
      if (asked === undefined) throw new Error('there is no replica to ask');
      const slot = Number(await tell(asked, 'CLUSTER', 'KEYSLOT', key));
      const holder = (await view(asked)).find((line) =>
        line
          .split(' ')
          .slice(8)
          .map((range) => range.split('-').map(Number))
          .some(([from = -1, to = from]) => slot >= from && slot <= to),
      );
      const found = nodes.find(({ port }) => holder?.includes(`:${port}@`));
      if (found === undefined) throw new Error(`nobody has the slot of ${key}`);
      return found;
    },
    close: async () => {
      await Promise.all(nodes.map((node) => node.close()));
    },
  };
}
