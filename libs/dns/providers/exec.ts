import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { CertlineError, type ErrorCode, type Plan } from '../../errors.ts';
import { absolutePath, hasNoControls } from '../../model/target-kinds.ts';
import { type ProgramEnd, runProgram } from '../../run-program.ts';
import { type DnsProvider, defineProvider, type ProviderDeps, type TxtRecord } from '../dns-provider.ts';

const placeholders = ['action', 'zone', 'name', 'value', 'ttl'] as const;
const placeholder = /\{([a-z]+)\}/g;

const settings = z.strictObject({
  program: absolutePath.describe('The program on the validation workers; there is no search in PATH and no shell.'),
  arguments: z
    .array(
      z
        .string()
        .max(4096)
        .refine(hasNoControls, 'no control characters')
        .refine(
          (text) => [...text.matchAll(placeholder)].every(([, word]) => placeholders.some((one) => one === word)),
          `only ${placeholders.map((one) => `{${one}}`).join(', ')}`,
        ),
    )
    .max(50)
    .default(['{action}', '{zone}', '{name}', '{value}'])
    .describe(
      'Its arguments, with {action} (present or cleanUp), {zone}, {name}, {value} and {ttl}. A value may begin with a hyphen: `--value={value}`.',
    ),
  timeoutSeconds: z.number().int().min(1).max(600).default(60).describe('After this it is ended with all it started.'),
});
const secret = z.strictObject({
  variables: z
    .record(z.string().regex(/^[A-Z_][A-Z0-9_]{0,99}$/, 'a name such as API_TOKEN'), z.string().min(1).max(10_000))
    .default({})
    .describe('Environment variables of the program, for what it logs in with; the worker’s own are not passed on.'),
});

/** What an exit status says, after sysexits.h: EX_NOHOST, EX_UNAVAILABLE, EX_TEMPFAIL, EX_NOPERM. */
const meanings: Record<number, ErrorCode> = {
  68: 'dns_zone_not_managed',
  69: 'dns_provider_unreachable',
  75: 'dns_provider_unreachable',
  77: 'dns_credential_refused',
};
/** Most programs end with 1 whatever it was: perhaps it works the next time. */
const perhapsLater: Plan = { kind: 'retryable', attempts: 3 };

function failure(program: string, end: Exclude<ProgramEnd, { kind: 'success' }>, seconds: number): CertlineError {
  if (end.kind === 'not started')
    return new CertlineError('dns_provider_refused', `${program} does not start: ${end.error.message}`);
  const said = end.output === '' ? 'and said nothing' : `and said: ${end.output}`;
  if (end.kind === 'timeout')
    return new CertlineError('dns_provider_unreachable', `${program} did not end in ${seconds} s ${said}`);
  const { code, signal } = end;
  const result = code === null ? `was ended by ${signal}` : `ended with ${code}`;
  const meaning = code === null ? undefined : meanings[code];
  return new CertlineError(meaning ?? 'dns_provider_refused', `${program} ${result} ${said}`, {
    ...(meaning === undefined ? { plan: perhapsLater } : {}),
    evidence: { code, signal },
  });
}

/**
 * A program of somebody's own. It gets what is to be done as arguments, and as CERTLINE_ACTION, CERTLINE_ZONE, CERTLINE_NAME, CERTLINE_VALUE and
 * CERTLINE_TTL, and ends with 0 when that is done, or already was; other values at the name stay. 77 says that its credential is refused, 68 that it
 * does not have the zone, 69 or 75 that it is to be tried later. It runs in an empty folder that is removed afterwards.
 */
export async function openExec(
  { program, arguments: template, timeoutSeconds }: z.infer<typeof settings>,
  { variables }: z.infer<typeof secret>,
  { allowPrograms, ttlSeconds }: ProviderDeps,
): Promise<DnsProvider> {
  /** A program that shows its environment, or a URL with its token, must not have that told on. */
  function withoutSecrets(text: string): string {
    return Object.values(variables).reduce((rest, value) => rest.replaceAll(value, '***'), text);
  }

  async function run(
    action: 'present' | 'cleanUp',
    { zone, name, value }: TxtRecord,
    signal: AbortSignal,
  ): Promise<void> {
    if (!allowPrograms)
      throw new CertlineError(
        'dns_provider_refused',
        'programs are not run here: set ALLOW_COMMANDS=true for the validation workers, or use another provider',
        { evidence: { sent: false } },
      );
    const values: Record<string, string> = { action, zone, name, value, ttl: String(ttlSeconds) };
    const given = Object.entries(values).map(([key, text]) => [`CERTLINE_${key.toUpperCase()}`, text]);
    const folder = await mkdtemp(join(tmpdir(), 'certline-exec-'));
    try {
      const end = await runProgram({
        file: program,
        // In one go: a value that looks like a placeholder is none.
        arguments: template.map((text) => text.replace(placeholder, (whole, word) => values[word] ?? whole)),
        ...{ cwd: folder, variables: { ...variables, ...Object.fromEntries(given) }, log: join(folder, 'output') },
        ...{ timeoutMs: timeoutSeconds * 1000, signal },
      });
      if (end.kind === 'success') return;
      throw failure(program, 'output' in end ? { ...end, output: withoutSecrets(end.output) } : end, timeoutSeconds);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  return {
    present: (record, signal) => run('present', record, signal),
    cleanUp: (record, signal) => run('cleanUp', record, signal),
    zones: async () => null,
  };
}

export const exec = defineProvider({
  ...{ name: 'exec', title: 'A program of your own on the validation workers' },
  rights: '`ALLOW_COMMANDS`; the program has those of the validation worker’s user.',
  ...{ settings, secret, open: openExec },
});
