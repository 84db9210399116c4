import { existsSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { systemClock } from '#libs/clock';
import { configSections, secretVariables } from '#libs/config';
import { dnsProviders } from '#libs/dns/providers';
import { errorCodes } from '#libs/error-codes';
import { registerCaBudgetMetric } from '#libs/metrics/ca-budget';
import { registerEstateMetrics } from '#libs/metrics/estate';
import { registerMasterKeyMetric } from '#libs/metrics/master-keys';
import { createMetrics } from '#libs/metrics/metrics';
import { paces, restartPolicy, stages } from '#libs/queues/stages';
import {
  configurationTable,
  type DescribedFields,
  type DnsProviderRow,
  dnsProvidersTable,
  errorCodesTable,
  metricsTable,
  type RetryRow,
  retriesTable,
  tableIn,
  withTable,
} from '../support/readme-tables.ts';
import { inRepository, namesBelow, packageOf, packagesBehind, readText, sourceFiles } from '../support/source-tree.ts';

const files = sourceFiles('libs', 'services');
const tests = sourceFiles('test');
const manifest = z
  .object({ dependencies: z.record(z.string(), z.string()), devDependencies: z.record(z.string(), z.string()) })
  .parse(JSON.parse(readText('package.json')));

/** The part of libs that a file belongs to: its folder, or itself when it lies at the top. */
const partOf = (path: string): string => path.split('/')[1]?.replace(/\.ts$/, '') ?? '';

/**
 * What each part of libs may import of the others; `types` are for `import type` alone. The words come first and know nothing, the
 * edges know the words, the queues hold the edges of the pipeline together. Only `service`, which composes processes, may have all.
 */
const allowed: Record<string, { imports?: string[]; types?: string[] }> = {
  'error-codes': {},
  errors: { imports: ['error-codes'] },
  clock: {},
  config: { imports: ['model'] },
  logging: {},
  version: {},
  'process-tree': {},
  'run-program': { imports: ['process-tree'] },
  outgoing: {},
  'retry-after': {},
  'side-by-side': {},
  'or-aborted': {},
  model: { imports: ['error-codes', 'errors'] },
  acme: { imports: ['error-codes', 'errors', 'or-aborted', 'retry-after'], types: ['clock'] },
  challenges: {
    imports: ['dns', 'errors', 'iis', 'outgoing', 'side-by-side', 'targets'],
    types: ['clock', 'logging', 'model', 'queues'],
  },
  crypto: { imports: ['errors'], types: ['model'] },
  dns: { imports: ['errors', 'model', 'outgoing', 'retry-after', 'run-program'], types: ['clock'] },
  iis: { imports: ['errors', 'model', 'process-tree', 'side-by-side'], types: ['clock', 'error-codes'] },
  metrics: { imports: ['model'], types: ['clock'] },
  store: { imports: ['clock', 'errors', 'model', 'or-aborted'] },
  targets: { imports: ['crypto', 'errors', 'model', 'outgoing', 'retry-after', 'run-program'], types: ['clock'] },
  queues: { imports: ['errors', 'metrics', 'model', 'store'], types: ['clock', 'iis', 'logging', 'targets'] },
};

/** Imports from one service to another, with the reason why they are right. */
const betweenServices: { from: RegExp; to: RegExp; why: string }[] = [
  {
    from: /^services\/standalone\/service\.ts$/,
    to: /^services\/(api|validation-worker|issuance-worker|deployment-worker|scheduler)\/service\.ts$/,
    why: 'it is all services in one process',
  },
  {
    from: /^services\/standalone\/main\.ts$/,
    to: /^services\/lab\/redis\.ts$/,
    why: '`npm start` brings its own Redis, started as the lab starts one',
  },
  {
    from: /^services\/lab\/bench-scale-looks\.ts$/,
    to: /^services\/(scheduler\/[a-z-]+|validation-worker\/clean-up)\.ts$/,
    why: 'it measures their rounds one by one',
  },
  {
    from: /^services\/backup\/main\.ts$/,
    to: /^services\/lab\/redis\.ts$/,
    why: 'that Redis is backed up too',
  },
];

/** Calls that have one place each, so that what they make is handed in everywhere else. */
const onePlace: { what: string; pattern: RegExp; where: RegExp }[] = [
  { what: 'new Redis', pattern: /\bnew (Batching)?Redis\(/, where: /^libs\/store\/redis\.ts$/ },
  { what: 'new Queue', pattern: /\bnew Queue(Events)?(<[^(]*>)?\(/, where: /^libs\/queues\/queues\.ts$/ },
  { what: 'new Worker', pattern: /\bnew Worker(<[^(]*>)?\(/, where: /^libs\/queues\/worker\.ts$/ },
  { what: 'pino()', pattern: /\bpino\(/, where: /^libs\/logging\.ts$/ },
  { what: 'the time of now', pattern: /\bDate\.now\(|\bnew Date\(\)/, where: /^libs\/clock\.ts$/ },
  {
    what: 'the environment',
    pattern: /\bprocess\.env\b/,
    // A `main.ts`, the one that the workers share, and the lab, which starts programs in an environment.
    where: /^services\/[^/]+\/main\.ts$|^libs\/service\/worker-process\.ts$|^services\/lab\//,
  },
];

describe('imports', () => {
  const inLibs = files.filter(({ path }) => path.startsWith('libs/'));
  const between = inLibs
    .flatMap(({ path, imports }) => imports.map(({ file, typeOnly }) => ({ path, file, typeOnly })))
    .filter(({ file }) => file?.endsWith('.ts'))
    .map(({ path, file, typeOnly }) => ({
      path,
      file: file ?? '',
      typeOnly,
      from: partOf(path),
      to: partOf(file ?? ''),
    }))
    .filter(({ file, from, to }) => from !== to || !file.startsWith('libs/'));

  it('of libs go one way, along the table', () => {
    const wrong = between.filter(({ from, to, file, typeOnly }) => {
      if (!file.startsWith('libs/')) return true;
      if (from === 'service') return false;
      const { imports = [], types = [] } = allowed[from] ?? {};
      return !imports.includes(to) && !(typeOnly && types.includes(to));
    });
    expect(wrong.map(({ path, file, typeOnly }) => `${path} imports ${file}${typeOnly ? ' (types)' : ''}`)).toEqual([]);
  });

  it('of libs need every line of the table, and every part is in it', () => {
    const unused = Object.entries(allowed).flatMap(([from, { imports = [], types = [] }]) => {
      const has = (to: string, typeOnly: boolean): boolean =>
        between.some((one) => one.from === from && one.to === to && one.typeOnly === typeOnly);
      const idle = [...imports.filter((to) => !has(to, false)), ...types.filter((to) => !has(to, true))];
      return idle.map((to) => `${from} → ${to}`);
    });
    expect(unused).toEqual([]);
    const parts = new Set(inLibs.map(({ path }) => partOf(path)));
    expect([...parts].sort()).toEqual([...Object.keys(allowed), 'service'].sort());
  });

  it('of a service stay in it or go to libs', () => {
    const wrong = files
      .filter(({ path }) => path.startsWith('services/'))
      .flatMap(({ path, imports }) => imports.map(({ file }) => ({ path, file: file ?? 'libs/' })))
      .filter(({ path, file }) => !file.startsWith('libs/') && !file.startsWith(`services/${partOf(path)}/`))
      .filter(({ path, file }) => !betweenServices.some(({ from, to }) => from.test(path) && to.test(file)));
    expect(wrong.map(({ path, file }) => `${path} imports ${file}`)).toEqual([]);
  });

  it('of ours lead to files that are there', () => {
    const paths = new Set([...files, ...tests].map(({ path }) => path));
    const lost = [...files, ...tests].flatMap(({ path, imports }) =>
      imports.filter(({ file }) => file?.endsWith('.ts') && !paths.has(file)).map(({ file }) => `${path} → ${file}`),
    );
    expect(lost).toEqual([]);
  });

  it.each([
    'services/validation-worker/validate.ts',
    'services/issuance-worker/issue.ts',
    'services/deployment-worker/deploy.ts',
  ])('of the stage handler %s reach no queue, no Redis and no metrics', (handler) => {
    const packages = packagesBehind(handler, files);
    expect(packages.size).toBeGreaterThan(0);
    expect(['bullmq', 'ioredis', 'prom-client'].map((name) => packages.get(name)).filter(Boolean)).toEqual([]);
  });
});

describe('calls', () => {
  it.each(onePlace)('of $what are where they belong', ({ pattern, where }) => {
    const makers = files.filter(({ code }) => pattern.test(code)).map(({ path }) => path);
    expect(makers.length).toBeGreaterThan(0);
    expect(makers.filter((path) => !where.test(path))).toEqual([]);
  });

  it('of tests mock no module', () => {
    const mocking = tests.filter(({ code }) => /\bvi\s*\.\s*(mock|doMock|hoisted)\(/.test(code));
    expect(mocking.map(({ path }) => path)).toEqual([]);
  });
});

describe('files', () => {
  const names = ['libs', 'services', 'test'].flatMap(namesBelow);

  it('have 300 lines at the most', () => {
    expect(files.filter(({ lines }) => lines > 300).map(({ path, lines }) => `${path} has ${lines}`)).toEqual([]);
  });

  it('lie in folders that are three deep at the most', () => {
    expect(names.filter((path) => path.replace(/\/?[^/]*$/, '').split('/').length > 3)).toEqual([]);
  });

  it('have names in kebab-case', () => {
    const odd = names
      .filter((path) => !/\/(Dockerfile|\.)[^/]*$/.test(path))
      .filter((path) => !/^[a-z0-9]+([-.][a-z0-9]+)*$/.test(path.split('/').filter(Boolean).at(-1) ?? ''));
    expect(odd).toEqual([]);
  });

  it('are called after what is in them', () => {
    expect(names.filter((path) => /\/(utils?|helpers?|common|index|misc|shared)(\.[a-z]+)*\/?$/.test(path))).toEqual(
      [],
    );
  });
});

describe('the error codes', () => {
  // A route's list of the errors it may answer is not yet a use.
  const code = files
    .filter(({ path }) => path !== 'libs/error-codes.ts')
    .map((file) => file.code.replace(/\berrors: \[[^\]]*\]/g, ''))
    .join('\n');

  it('are all used', () => {
    const unused = Object.keys(errorCodes).filter((name) => !code.includes(`'${name}'`));
    expect(unused).toEqual([]);
  });
});

describe('the packages', () => {
  const imported = new Set(
    [...files, ...tests].flatMap(({ imports }) =>
      imports.filter(({ file }) => file === null).map(({ specifier }) => packageOf(specifier)),
    ),
  );

  it('that package.json names are all imported somewhere', () => {
    expect(Object.keys(manifest.dependencies).filter((name) => !imported.has(name))).toEqual([]);
  });

  it('that run in production are no development dependencies', () => {
    const inDevelopment = files
      .filter(({ path }) => !path.startsWith('services/lab/'))
      .flatMap(({ path, imports }) =>
        imports.map(({ specifier, file }) => ({ path, name: file ?? packageOf(specifier) })),
      )
      .filter(({ name }) => name in manifest.devDependencies);
    expect(inDevelopment).toEqual([]);
  });

  it.each(['bullmq', 'ioredis', 'acme-client', 'node-forge', 'express', 'prom-client', 'pino', 'testcontainers'])(
    'include %s, which the project was to be built with',
    (name) => {
      expect({ ...manifest.dependencies, ...manifest.devDependencies }).toHaveProperty([name]);
      expect(imported).toContain(name);
    },
  );
});

describe('the README', () => {
  it('keeps everything around a table that is rewritten', () => {
    const text = 'a\n<!-- table: one -->\nold\n<!-- end -->\nb\n<!-- table: two words -->\n<!-- end -->\n';
    const once = withTable(withTable(text, 'one', '| $1 |'), 'two words', '| 2 |');
    expect(once).toBe(
      'a\n<!-- table: one -->\n\n| $1 |\n\n<!-- end -->\nb\n<!-- table: two words -->\n\n| 2 |\n\n<!-- end -->\n',
    );
    expect(withTable(once, 'one', '| $1 |')).toBe(once);
    expect([tableIn(once, 'one'), tableIn(once, 'two words'), tableIn(once, 'three')]).toEqual([
      '| $1 |',
      '| 2 |',
      null,
    ]);
    const row = { name: 'm', type: 'gauge', help: 'a | b', labelNames: [] };
    expect(metricsTable([row])).toContain('| `m` | gauge | – | a \\| b |');
  });

  const metricSchema = z.object({
    name: z.string(),
    type: z.string(),
    help: z.string(),
    labelNames: z.array(z.string()),
  });

  function metricRows(): z.infer<typeof metricSchema>[] {
    const { registry } = createMetrics('readme');
    const none = async (): Promise<number> => 0;
    const estate = {
      ...{ countOrders: none, countExpiring: none, nextExpiry: none, countRenewalDue: none, oldestJob: none },
      ...{ countTargets: none, countDrift: none, countDriftedPlaces: none },
      ...{ countAccounts: none, countCredentials: none, countParkedAccounts: none, countParkedCredentials: none },
      queueNames: async () => [],
      queueCounts: async () => ({}),
      isServed: async () => false,
    };
    registerEstateMetrics(registry, estate, systemClock);
    registerCaBudgetMetric(registry, async () => []);
    registerMasterKeyMetric(registry, async () => ({}));
    return z.array(metricSchema).parse(registry.getMetricsAsArray());
  }

  function retryRows(): RetryRow[] {
    const ofStages = Object.values(stages).map(({ name, retry, deadline }) => ({ what: name, ...retry, deadline }));
    const ofCodes = paces.map((one) => ({ ...one, attempts: null, deadline: null }));
    return [...ofStages, ...ofCodes, { what: 'a new ACME order', ...restartPolicy, deadline: null }];
  }

  const fieldsSchema = z.object({
    properties: z.record(z.string(), z.unknown()).optional(),
    required: z.array(z.string()).optional(),
  });
  const fieldsOf = (schema: z.ZodType): DescribedFields =>
    fieldsSchema.parse(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }));
  function providerRow({ name, title, rights, settings, secret }: (typeof dnsProviders)[number]): DnsProviderRow {
    return { name, title, rights, settings: fieldsOf(settings), secret: fieldsOf(secret) };
  }

  it.each([
    ['configuration', () => configurationTable(configSections, secretVariables)],
    ['retries', () => retriesTable(retryRows())],
    ['error codes', () => errorCodesTable(errorCodes)],
    ['metrics', () => metricsTable(metricRows())],
    ['DNS providers', () => dnsProvidersTable(dnsProviders.map(providerRow))],
  ])('has the table of %s as the code has it', (name, make) => {
    expect(existsSync(inRepository('README.md')), 'README.md is missing').toBe(true);
    const before = readText('README.md');
    expect(tableIn(before, name), `README.md has no <!-- table: ${name} --> … <!-- end -->`).not.toBeNull();
    if (process.env.UPDATE_README === '1') writeFileSync(inRepository('README.md'), withTable(before, name, make()));
    expect(tableIn(readText('README.md'), name), 'the table is not up to date: `npm run readme` rewrites it').toBe(
      make(),
    );
  });
});
