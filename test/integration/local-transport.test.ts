import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLocalRunner } from '#libs/iis/transports/local';
import { createFailingPowerShell, type FailingPowerShell, failureOf, isAlive } from '../support/failing-powershell.ts';
import { eventually } from '../support/lab-session.ts';
import { createMachine, type Machine, withoutPowerShell } from '../support/powershell.ts';

const { signal } = new AbortController();
const options = { signal, timeoutMs: 30_000 };
const withCode = (code: string, more: object = {}) => expect.objectContaining({ code, ...more });
let dir: string;
let failing: FailingPowerShell;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'local-transport-'));
  failing = await createFailingPowerShell(dir);
});
afterAll(async () => {
  await failing.close();
  await rm(dir, { recursive: true });
});

/** The processes of a script that starts another one and hangs with it. */
async function hanging(): Promise<{ pids: () => Promise<number[]> }> {
  const children = join(dir, 'children');
  await failing.does(`sleep 600 & echo $$ $! > '${children}'; wait`);
  return {
    pids: () =>
      eventually('the script runs', 5_000, async () => {
        const text = await readFile(children, 'utf8').catch(() => '');
        return text.endsWith('\n') ? text.trim().split(' ').map(Number) : null;
      }),
  };
}

describe.skipIf(withoutPowerShell)('the PowerShell of this machine', () => {
  let machine: Machine;
  beforeAll(async () => {
    machine = await createMachine({ config: '' });
  }, 300_000);
  afterAll(() => machine.close());

  it('runs a script with its request, in any alphabet', async () => {
    const runner = createLocalRunner(join(machine.bin, 'powershell.exe'));
    const script = `$request = ConvertFrom-Json -InputObject (@($input) -join '')
      [Console]::Out.WriteLine('what a profile may print')
      [Console]::Out.WriteLine((ConvertTo-Json -Compress -InputObject @{ ok = ($request.name -eq 'München "$(1)"; exit') }))`;
    expect(await runner.run(script, { name: 'München "$(1)"; exit' }, options)).toEqual({ ok: true });
  });

  it('answers what a script says that ends with 1', async () => {
    const runner = createLocalRunner(join(machine.bin, 'powershell.exe'));
    expect(await runner.run(`[Console]::Out.WriteLine('{"ok":false}'); exit 1`, {}, options)).toEqual({ ok: false });
  });
});

describe('a script that hangs', () => {
  it('is ended with all that it started when its time is up', async () => {
    const { pids } = await hanging();
    const run = createLocalRunner(failing.program).run('', {}, { signal, timeoutMs: 3_000 });
    const started = pids();
    await expect(run).rejects.toEqual(
      withCode('target_timeout', { message: 'a script on this machine did not end within 3 s' }),
    );
    await eventually('both are gone', 5_000, async () => !(await started).some(isAlive));
  });

  it('is ended when it is aborted, and the reason is thrown as it is', async () => {
    const { pids } = await hanging();
    await rm(join(dir, 'children'), { force: true });
    const gone = new AbortController();
    const reason = new Error('enough');
    const run = createLocalRunner(failing.program).run('', {}, { signal: gone.signal, timeoutMs: 60_000 });
    const started = await pids();
    gone.abort(reason);
    await expect(run).rejects.toBe(reason);
    await eventually('both are gone', 5_000, async () => !started.some(isAlive));
    await expect(createLocalRunner(failing.program).run('', {}, { ...options, signal: gone.signal })).rejects.toBe(
      reason,
    );
  });
});

describe('a PowerShell that is not well', () => {
  it('and gives no answer is shown with what it said, unless the request was secret', async () => {
    await failing.does(`echo "no JSON: $request"; echo 'bad luck' >&2; exit 3`);
    const runner = createLocalRunner(failing.program);
    const request = { pfx: 'c2VjcmV0' };
    const shown = await failureOf(runner.run('', request, options));
    expect(shown).toMatchObject({
      code: 'target_refused',
      message: 'PowerShell on this machine ended with 3 and gave no answer',
    });
    expect(shown.evidence).toEqual({
      host: 'this machine',
      exitCode: 3,
      output: 'no JSON: {"pfx":"c2VjcmV0"}',
      errors: 'bad luck',
    });
    const hidden = await failureOf(runner.run('', request, { ...options, confidential: true }));
    expect(hidden).toMatchObject({ code: 'target_refused', evidence: { host: 'this machine', exitCode: 3 } });
    expect(JSON.stringify(hidden)).not.toContain('c2VjcmV0');
  });

  it('and takes no input, or breaks off in its answer, is no success', async () => {
    const runner = createLocalRunner(failing.program);
    await failing.does('exec <&-; exit 0');
    await expect(runner.run('x'.repeat(1_000_000), {}, options)).rejects.toEqual(withCode('target_refused'));
    await failing.does(`printf '{"ok":true}\\n{"ok":tr'; kill -KILL $$`);
    await expect(runner.run('', {}, options)).rejects.toEqual(
      withCode('target_refused', { message: 'PowerShell on this machine was ended by SIGKILL and gave no answer' }),
    );
  });

  it('and says more than 32 MiB is ended', async () => {
    await failing.does('exec yes 0123456789');
    const runner = createLocalRunner(failing.program);
    await expect(runner.run('', {}, options)).rejects.toEqual(
      withCode('target_refused', { message: 'this machine answers with more than 33554432 bytes' }),
    );
    const pid = (await failing.runs()).at(-1) ?? 0;
    await eventually('it is gone', 5_000, async () => !isAlive(pid));
  });

  it('or not there at all is a host that cannot be reached', async () => {
    const runner = createLocalRunner(join(dir, 'nowhere', 'powershell.exe'));
    await expect(runner.run('', {}, options)).rejects.toEqual(withCode('target_unreachable'));
  });
});
