import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { caLimitChangesSchema } from './model/ca-limits.ts';
import { defaultPool, poolSchema } from './model/target.ts';

const port = z.coerce.number().int().min(0).max(65_535);
const flag = z.enum(['true', 'false']).transform((text) => text === 'true');
const list = z.string().transform((text) =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== ''),
);
/** What Express takes for a trusted proxy. */
const proxySchema = z.union(
  [z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6(), z.enum(['loopback', 'linklocal', 'uniquelocal'])],
  { error: 'give addresses or networks such as 10.0.0.0/8, or loopback, linklocal, uniquelocal' },
);

const pem = z.string().includes('-----BEGIN ', { error: 'give PEM, or its path as …_FILE' }).optional();

/** One Redis, or several nodes of a Cluster, which all take the same login. */
const redisUrlCheck: z.core.CheckFn<string> = (check) => {
  const url = z.url({ protocol: /^rediss?$/ });
  const urls = check.value.split(',').map((one) => url.safeParse(one.trim()).data);
  const wrong = (message: string): void => {
    check.issues.push({ code: 'custom', input: '', message });
  };
  const loginOf = (one = ''): string => {
    const { protocol, username, password, pathname, search } = new URL(one);
    return JSON.stringify([protocol, username, password, pathname, search]);
  };
  if (urls.includes(undefined)) wrong('give a URL that begins with redis:// or rediss://');
  else if (new Set(urls.map(loginOf)).size > 1)
    wrong('give the nodes of a Cluster the same protocol, user and password');
  else if (urls.length > 1 && !/^\/?0?$/.test(new URL(urls[0] ?? '').pathname))
    wrong('a Redis Cluster has no databases');
};

/** Variables whose value may also be given as `<NAME>_FILE`, the path of a file that holds it. */
export const secretVariables = [
  'REDIS_URL',
  'REDIS_CA',
  'REDIS_CERTIFICATE',
  'REDIS_KEY',
  'MASTER_KEY',
  'BOOTSTRAP_API_KEY',
  'EXTERNAL_CHECK_KEY',
] as const;

/** Takes the secrets out of an environment that was read: what is started from here, PowerShell for one, has no business with them. */
export function forgetSecrets(env: NodeJS.ProcessEnv): void {
  for (const name of secretVariables) delete env[name];
}

const sections = {
  redis: {
    REDIS_URL: z
      .string()
      .check(redisUrlCheck)
      .optional()
      .describe(
        'Redis to use, `redis://` or `rediss://` (TLS) with user and password; of a Redis Cluster several nodes, separated by commas. `npm start` starts one with its data in `./data` when it is not set; the single services need it.',
      ),
    REDIS_CA: pem.describe(
      'Certificate of the CA that the certificate of Redis is from, where that is no public one. PEM.',
    ),
    REDIS_CERTIFICATE: pem.describe('Certificate that Redis is shown, where it wants one. PEM.'),
    REDIS_KEY: pem.describe('Private key of that certificate. PEM.'),
    NAMESPACE: z
      .string()
      .regex(/^[a-z0-9-]+$/)
      .default('certline')
      .describe('First part of every key in Redis.'),
  },
  log: {
    LOG_LEVEL: z
      .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
      .default('info')
      .describe('Least level that is logged.'),
  },
  secrets: {
    MASTER_KEY: z
      .string()
      .optional()
      .describe(
        'Keys that seal secrets: `id:base64 of 32 bytes`, several separated by commas, the first one seals. For the API (accounts, PFX), validation, issuance and deployment.',
      ),
  },
  api: {
    API_HOST: z.string().default('127.0.0.1').describe('Address the API listens on.'),
    API_PORT: port.default(8080).describe('Port of the API.'),
    CHALLENGE_HOST: z.string().default('127.0.0.1').describe('Address of the plain-HTTP port for challenges.'),
    CHALLENGE_PORT: port
      .default(8081)
      .describe('Port that answers `/.well-known/acme-challenge/` and nothing else: 80 in production.'),
    BOOTSTRAP_API_KEY: z
      .string()
      .min(20)
      .optional()
      .describe('The first API key (scope `admin`). Without it one is made at the first start and printed once.'),
    BULK_RETRY_LIMIT: z.coerce
      .number()
      .int()
      .min(1)
      .max(5000)
      .default(1000)
      .describe('Failed orders that one `POST /v1/orders/retry` may take up.'),
    RATE_LIMIT_PER_MINUTE: z.coerce
      .number()
      .int()
      .positive()
      .default(3000)
      .describe('Requests a client address may send to one API process in a minute.'),
    TRUSTED_PROXIES: list
      .pipe(z.array(proxySchema))
      .default([])
      .describe(
        'Reverse proxies before the API, addresses or networks separated by commas: the client address is then the one that their `X-Forwarded-For` has. Without it that of the connection counts.',
      ),
    MAX_OPEN_ORDERS_PER_KEY: z.coerce
      .number()
      .int()
      .min(0)
      .default(0)
      .describe('Unfinished orders that an API key may have, all API processes together; 0 is no limit.'),
    MAX_EVENT_STREAMS_PER_KEY: z.coerce
      .number()
      .int()
      .positive()
      .default(100)
      .describe('Event streams that an API key may follow at one API process.'),
    MAX_CONNECTIONS: z.coerce
      .number()
      .int()
      .positive()
      .default(5000)
      .describe('Connections that one API process takes, on each of its two ports.'),
  },
  validation: {
    HTTP01_PORT: port
      .default(80)
      .describe('Port the worker asks when it looks itself whether an http-01 answer is visible.'),
    HTTP01_SELF_CHECK: flag
      .default(true)
      .describe('`false` tells the CA without that look: for hosts that cannot reach their own public address.'),
    EXTERNAL_CHECK_URL: z
      .url({ protocol: /^https?$/, error: 'give a URL that begins with https:// or http://' })
      .optional()
      .describe('A service that looks from outside whether an http-01 answer is visible: what it says counts.'),
    EXTERNAL_CHECK_KEY: z.string().optional().describe('Sent to that service as a bearer token.'),
    WEBROOTS: list
      .default([])
      .describe(
        'Folders of the validation workers, separated by commas, in which and below which orders may have http-01 answers written (`via: webroot`).',
      ),
    DNS_RESOLVERS: list
      .default([])
      .describe(
        'Resolvers that are asked for addresses, zones and delegations, `address:port` separated by commas; the system’s when empty.',
      ),
    CAA_CHECK: flag
      .default(true)
      .describe(
        '`false` orders without a look at the CAA records of the names: for networks whose resolvers do not answer for them.',
      ),
    DNS01_PORT: port
      .default(53)
      .describe('Port the name servers of a zone are asked at whether they show a TXT record: 53, but in a lab.'),
    ALLOW_PRIVATE_DNS_SERVERS: flag
      .default(false)
      .describe('`true` lets DNS credentials name servers at addresses that are not of the public internet.'),
  },
  ca: {
    CA_LIMITS: caLimitChangesSchema
      .optional()
      .describe(
        'Limits of CAs besides the presets for Let’s Encrypt: JSON, by name or directory URL of the CA: `{"letsencrypt": {"orders_per_account": "900/3h"}}`; `null` takes a limit away.',
      ),
  },
  pipeline: {
    RETRY_DELAY_SCALE: z.coerce
      .number()
      .positive()
      .max(1)
      .default(1)
      .describe('Factor on the delays between attempts. Below 1 only in a lab: CAs limit failed validations.'),
    LOCK_DURATION_MS: z.coerce
      .number()
      .int()
      .min(2_000)
      .default(8_000)
      .describe('How long a worker may be silent before another takes its jobs.'),
    STALLED_INTERVAL_MS: z.coerce.number().int().min(500).default(2_000).describe('How often that is looked for.'),
    RECONCILE_INTERVAL_MS: z.coerce
      .number()
      .int()
      .min(100)
      .default(2_000)
      .describe('How often the scheduler looks for orders without a job.'),
  },
  scheduler: {
    BULK_RETRY_PER_MINUTE: z.coerce
      .number()
      .int()
      .min(1)
      .max(60_000)
      .default(120)
      .describe('Failed orders that a bulk retry takes up in a minute.'),
    DRIFT_CHECK_MINUTES: z.coerce
      .number()
      .int()
      .min(0)
      .max(43_200)
      .default(360)
      .describe('How often each target is compared with what it should be; 0 does it on request only.'),
  },
  commands: {
    ALLOW_COMMANDS: flag
      .default(false)
      .describe(
        '`true` runs the commands of folder targets, and the programs of DNS credentials, as the user of the deployment and validation workers: whoever has an API key of scope `admin` then chooses what runs there.',
      ),
  },
  deployment: {
    DEPLOYMENT_POOLS: list
      .pipe(z.array(poolSchema).min(1))
      .default([defaultPool])
      .describe(
        'Pools of targets that the deployment worker serves, separated by commas: those whose hosts it can reach.',
      ),
    ALLOW_PRIVATE_WEBHOOKS: flag
      .default(false)
      .describe('`true` delivers to webhooks at addresses that are not of the public internet, too.'),
  },
  metrics: {
    METRICS_HOST: z
      .string()
      .default('127.0.0.1')
      .describe('Address of the metrics port of workers and scheduler (the API serves them itself).'),
    METRICS_PORT: port
      .default(9464)
      .describe('Port of `/metrics`, `/healthz` and `/readyz` of workers and scheduler; 0 takes a free one.'),
  },
} as const;

/** The sections of the configuration; a service asks for those it needs. */
export const configSections = sections;
export type SectionName = keyof typeof sections;

type UnionToIntersection<U> = (U extends unknown ? (u: U) => void : never) extends (i: infer I) => void ? I : never;
type ShapeOf<S extends SectionName> = UnionToIntersection<(typeof sections)[S]>;
export type Config<S extends SectionName> = {
  [K in keyof ShapeOf<S>]: ShapeOf<S>[K] extends z.ZodType ? z.output<ShapeOf<S>[K]> : never;
};

/** The values of some variables, those of secrets also from their files. An empty variable is one that is not set: `docker compose` makes such. */
function valuesOf(names: readonly string[], env: NodeJS.ProcessEnv, wrong: string[]): Record<string, string> {
  const values: Record<string, string> = {};
  for (const name of names) {
    const path = secretVariables.some((secret) => secret === name) ? env[`${name}_FILE`] : undefined;
    try {
      const value = env[name] || (path ? readFileSync(path, 'utf8').trim() : '');
      if (value !== '') values[name] = value;
    } catch (error) {
      wrong.push(`${name}_FILE: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return values;
}

/** What is wrong with a value. Numbers come in as text: what is none is read as NaN, which nobody gave. */
function wordsOf({ code, message }: z.core.$ZodIssue): string {
  return code === 'invalid_type' && message.endsWith('received NaN') ? 'give a number' : message;
}

/** Reads and checks the sections of a service from the environment. Throws an `Error` that names every wrong variable and why. */
export function readConfig<S extends SectionName>(names: readonly S[], env: NodeJS.ProcessEnv): Config<S> {
  const shape = Object.assign({}, ...names.map((name) => sections[name])) as z.ZodRawShape;
  const wrong: string[] = [];
  const result = z.object(shape).safeParse(valuesOf(Object.keys(shape), env, wrong));
  wrong.push(...(result.error?.issues ?? []).map((issue) => `${String(issue.path[0])}: ${wordsOf(issue)}`));
  if (!result.success || wrong.length > 0) throw new Error(`wrong configuration\n  ${wrong.join('\n  ')}`);
  return result.data as Config<S>;
}
