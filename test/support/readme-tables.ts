/** The tables of the README, made from what the code has. Everything comes in as an argument: nothing here reads the code. */

/** The little of a zod schema that a table shows. */
export interface Described {
  description?: string | undefined;
  safeParse(value: undefined): { success: boolean; data?: unknown };
}

export interface ErrorCodeRow {
  status: number;
  plan: string;
  title: string;
  advice: string;
}

export interface MetricRow {
  name: string;
  type: string;
  help: string;
  labelNames: readonly string[];
}

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ').trim();
const code = (text: string): string => `\`${text}\``;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

function defaultOf(schema: Described): string {
  const { success, data } = schema.safeParse(undefined);
  const text = success && data !== undefined ? String(data) : '';
  return text === '' ? '–' : code(text);
}

/** One row for each variable, in the order of the sections. */
export function configurationTable(
  sections: Readonly<Record<string, Readonly<Record<string, Described>>>>,
  secretVariables: readonly string[],
): string {
  const rows = Object.values(sections).flatMap((section) =>
    Object.entries(section).map(([name, schema]) => {
      const note = secretVariables.includes(name)
        ? ` Or ${code(`${name}_FILE`)}, the path of a file that holds it.`
        : '';
      return [code(name), defaultOf(schema), `${schema.description ?? ''}${note}`];
    }),
  );
  return table(['Variable', 'Default', 'What it is'], rows);
}

/** One row for each code, in the order of the registry. */
export function errorCodesTable(codes: Readonly<Record<string, ErrorCodeRow>>): string {
  const rows = Object.entries(codes).map(([name, { status, plan, title, advice }]) => {
    return [code(name), String(status), plan, title, advice];
  });
  return table(['Code', 'HTTP', 'Plan', 'What it means', 'What to do'], rows);
}

/** What prom-client measures of Node and the process by itself. */
const ofNode = /^certline_(nodejs|process)_/;

/** One row for each metric, by name; those of Node are one. */
export function metricsTable(metrics: readonly MetricRow[]): string {
  const ours = metrics.filter(({ name }) => !ofNode.test(name)).toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const rows = ours.map(({ name, type, labelNames, help }) => {
    return [code(name), type, labelNames.map(code).join(', ') || '–', help];
  });
  const node = `${code('certline_process_*')}, ${code('certline_nodejs_*')}`;
  return table(
    ['Metric', 'Type', 'Labels', 'What it tells'],
    [
      ...rows,
      [
        node,
        'various',
        'various',
        'The process and Node: CPU, memory, event loop, garbage collection (prom-client’s own).',
      ],
    ],
  );
}

/** How something is tried again. Times in ms; null where those of the stage hold. */
export interface RetryRow {
  what: string;
  codes?: readonly string[];
  attempts: number | null;
  pace: readonly number[];
  deadline: number | null;
}

function spell(ms: number): string {
  const units = [
    ['days', 86_400_000],
    ['h', 3_600_000],
    ['min', 60_000],
  ] as const;
  const [unit, size] = units.find(([, one]) => ms >= 2 * one || ms === one) ?? ['s', 1_000];
  const count = Math.round(ms / size);
  return `${count} ${count === 1 && unit === 'days' ? 'day' : unit}`;
}

/** As `5 s, 10 s, 20 s … 1 h`. */
function growth(pace: readonly number[]): string {
  const steps = pace.map(spell);
  return steps.length <= 5 ? steps.join(', ') : `${steps.slice(0, 3).join(', ')} … ${steps.at(-1)}`;
}

/** One row for whatever is tried again: how often, how soon and for how long. */
export function retriesTable(rows: readonly RetryRow[]): string {
  const lines = rows.map(({ what, codes = [], attempts, pace, deadline }) => {
    const delays = Array.from({ length: (attempts ?? 1) - 1 }, (_, at) => pace[Math.min(at, pace.length - 1)] ?? 0);
    const together = attempts === null ? '–' : spell(delays.reduce((sum, delay) => sum + delay, 0));
    const name = codes.length === 0 ? what : `${what}: ${codes.map(code).join(', ')}`;
    return [name, String(attempts ?? '–'), growth(pace), together, deadline === null ? '–' : spell(deadline)];
  });
  const head = ['what', 'attempts', 'delays between them (± 20 %)', 'together', 'never longer than, waits included'];
  return table(head, lines);
}

/** The little of a DNS provider that a table shows: the fields are those of JSON Schema. */
export interface DnsProviderRow {
  name: string;
  title: string;
  rights: string;
  settings: DescribedFields;
  secret: DescribedFields;
}
export interface DescribedFields {
  properties?: Readonly<Record<string, unknown>> | undefined;
  required?: readonly string[] | undefined;
}

/** One row for each provider; what may be left out has a question mark. */
export function dnsProvidersTable(providers: readonly DnsProviderRow[]): string {
  const fields = ({ properties = {}, required = [] }: DescribedFields): string =>
    Object.keys(properties)
      .map((name) => code(required.includes(name) ? name : `${name}?`))
      .join(', ') || '–';
  const rows = providers.map(({ name, title, rights, settings, secret }) => [
    code(name),
    title,
    rights,
    fields(settings),
    fields(secret),
  ]);
  return table(['`provider`', 'What it is', 'What the credential needs there', '`settings`', '`secret`'], rows);
}

function marked(name: string): RegExp {
  return new RegExp(`(<!-- table: ${name} -->\\n)([\\s\\S]*?)(<!-- end -->)`);
}

/** The table between the markers of this name; null when they are missing. */
export function tableIn(markdown: string, name: string): string | null {
  return marked(name).exec(markdown)?.[2]?.trim() ?? null;
}

/** The text with the table put between its markers. */
export function withTable(markdown: string, name: string, rows: string): string {
  return markdown.replace(marked(name), (_all, start: string, _old, end: string) => `${start}\n${rows}\n\n${end}`);
}
