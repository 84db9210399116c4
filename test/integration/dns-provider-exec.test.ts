import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DnsProvider } from '#libs/dns/dns-provider';
import { exec, openExec } from '#libs/dns/providers/exec';
import { never, providerDeps, refusalOf, shownOf } from '../support/dns-providers.ts';

let path: string;
let zoneFile: string;
beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), 'certline-dns-exec-'));
  zoneFile = join(path, 'zone');
  await writeFile(zoneFile, '_acme-challenge.example.com theirs\n');
});
afterEach(() => rm(path, { recursive: true, force: true }));

const zone = 'example.com';
const record = { zone, name: `_acme-challenge.${zone}`, value: '-gfj9Xq_Rg85nM-DdLkQp3aJt0FZpGmYz3qHkzuT0Wx' };

async function program(body: string): Promise<string> {
  const file = join(path, 'dns program');
  await writeFile(file, `#!/bin/sh\n${body}\n`);
  await chmod(file, 0o700);
  return file;
}

interface Given {
  arguments?: string[];
  timeoutSeconds?: number;
  variables?: Record<string, string>;
  allowPrograms?: boolean;
}
async function open(file: string, { variables, allowPrograms = true, ...more }: Given = {}): Promise<DnsProvider> {
  const settings = exec.settings.parse({ program: file, ...more });
  const secret = exec.secret.parse(variables === undefined ? {} : { variables });
  return openExec(settings, secret, { ...providerDeps, allowPrograms });
}

/** A name server for the poor: one file, a value each line. */
const keeper = (): Promise<string> =>
  program(`
    [ "$TOKEN" = right ] || { echo "the token $TOKEN is wrong"; exit 77; }
    [ "$2" = example.com ] || { echo "no zone $2" >&2; exit 68; }
    case $1 in
      present) grep -qxF -- "$3 $4" '${zoneFile}' || echo "$3 $4" >> '${zoneFile}' ;;
      cleanUp) grep -vxF -- "$3 $4" '${zoneFile}' > '${zoneFile}.new'; mv '${zoneFile}.new' '${zoneFile}' ;;
    esac`);
const values = async (): Promise<string[]> => (await readFile(zoneFile, 'utf8')).trim().split('\n');
const foldersOf = async (): Promise<string[]> =>
  (await readdir(tmpdir())).filter((one) => one.startsWith('certline-exec-'));

describe('a program for DNS', () => {
  it('adds a value beside those of others, twice or not, and leaves them alone afterwards', async () => {
    const provider = await open(await keeper(), { variables: { TOKEN: 'right' } });
    for (let times = 0; times < 2; times += 1) await provider.present(record, never);
    expect(await values()).toEqual([`${record.name} theirs`, `${record.name} ${record.value}`]);
    for (let times = 0; times < 2; times += 1) await provider.cleanUp(record, never);
    expect(await values()).toEqual([`${record.name} theirs`]);
    expect(await provider.zones(never)).toBeNull();
  });

  it('gets its arguments as they are, with what is in braces put in once, and no shell', async () => {
    const file = await program(`for one in "$@"; do printf '%s\\n' "$one"; done > '${path}/arguments'`);
    const template = ['--do={action}', '{zone}/{name}', 'a b', '$(touch pwned)', '; {ttl}', '*', '{"a":1}', '{value}'];
    const odd = { ...record, value: '{name} $HOME "\'' };
    await (await open(file, { arguments: template })).present(odd, never);
    expect((await readFile(join(path, 'arguments'), 'utf8')).trimEnd().split('\n')).toEqual([
      ...['--do=present', `${zone}/${record.name}`, 'a b', '$(touch pwned)', '; 60', '*', '{"a":1}'],
      odd.value,
    ]);
  });

  it('is told in its environment too, and gets nothing of that of the worker', async () => {
    const file = await program(`env > '${path}/environment'; pwd > '${path}/where'`);
    process.env.CERTLINE_TEST_SECRET = 'a secret of the worker';
    try {
      await (await open(file, { variables: { TOKEN: 'right' } })).cleanUp(record, never);
    } finally {
      delete process.env.CERTLINE_TEST_SECRET;
    }
    const environment = (await readFile(join(path, 'environment'), 'utf8')).split('\n');
    expect(environment).toEqual(
      expect.arrayContaining([
        ...['TOKEN=right', 'CERTLINE_ACTION=cleanUp', `CERTLINE_ZONE=${zone}`, 'CERTLINE_TTL=60'],
        ...[`CERTLINE_NAME=${record.name}`, `CERTLINE_VALUE=${record.value}`],
      ]),
    );
    expect(environment.join()).not.toContain('a secret of the worker');
    const where = (await readFile(join(path, 'where'), 'utf8')).trim();
    expect(where).toContain('certline-exec-');
    expect(await foldersOf()).not.toContain(where.split('/').at(-1));
  });

  it('says by its exit status what is wrong, and what it prints is told without its secrets', async () => {
    const file = await keeper();
    const wrong = await refusalOf((await open(file, { variables: { TOKEN: 'not-right' } })).present(record, never));
    expect(wrong).toMatchObject({ code: 'dns_credential_refused', plan: { kind: 'park' } });
    expect(wrong.message).toContain('the token *** is wrong');
    expect(shownOf(wrong)).not.toContain('not-right');
    const provider = await open(file, { variables: { TOKEN: 'right' } });
    const elsewhere = await refusalOf(provider.present({ ...record, zone: 'example.net' }, never));
    expect(elsewhere).toMatchObject({
      ...{ code: 'dns_zone_not_managed', message: expect.stringContaining('no zone example.net') },
    });
  });

  it.each([
    [69, 'dns_provider_unreachable', { kind: 'retryable' }],
    [75, 'dns_provider_unreachable', { kind: 'retryable' }],
    [1, 'dns_provider_refused', { kind: 'retryable', attempts: 3 }],
    [127, 'dns_provider_refused', { kind: 'retryable', attempts: 3 }],
  ])('that ends with %i means %s', async (status, code, plan) => {
    const provider = await open(await program(`exit ${status}`));
    const refused = await refusalOf(provider.present(record, never));
    expect(refused).toMatchObject({ code, plan, message: expect.stringContaining(`ended with ${status}`) });
  });

  it('is ended when it takes too long, and when the worker stops', async () => {
    const slow = await program(`echo begun >> '${path}/begun'; sleep 60`);
    const late = await refusalOf((await open(slow, { timeoutSeconds: 1 })).present(record, never));
    expect(late).toMatchObject({
      ...{ code: 'dns_provider_unreachable', message: expect.stringContaining('did not end in 1 s') },
    });
    const stop = new AbortController();
    const work = expect((await open(slow)).present(record, stop.signal)).rejects.toThrow('stopping');
    await expect.poll(() => readFile(join(path, 'begun'), 'utf8')).toBe('begun\nbegun\n');
    stop.abort(new Error('stopping'));
    await work;
  });

  it('that is not there says so', async () => {
    expect(await refusalOf((await open('/no/such/program')).present(record, never))).toMatchObject({
      ...{ code: 'dns_provider_refused', message: expect.stringContaining('does not start') },
    });
  });

  it('does not run unless that is allowed, and the setting is named', async () => {
    const provider = await open(await program(`touch '${path}/ran'`), { allowPrograms: false });
    for (const work of [provider.present, provider.cleanUp]) {
      const refused = await refusalOf(work(record, never));
      expect(refused).toMatchObject({
        code: 'dns_provider_refused',
        message: expect.stringContaining('ALLOW_COMMANDS'),
      });
    }
    expect(await readdir(path)).not.toContain('ran');
  });

  it('has an absolute path, and no words in braces that nobody knows', () => {
    const isGood = (more: object): boolean => exec.settings.safeParse({ program: '/bin/true', ...more }).success;
    expect([isGood({}), isGood({ arguments: ['{name}'] }), isGood({ arguments: ['{"a":1}'] })]).toEqual([
      true,
      true,
      true,
    ]);
    const bad = [{ program: 'true' }, { program: '/a/../b' }, { arguments: ['{nmae}'] }, { arguments: ['a\nb'] }];
    expect(bad.map(isGood)).toEqual([false, false, false, false]);
    expect(exec.secret.safeParse({ variables: { 'a b': 'x' } }).success).toBe(false);
  });
});
