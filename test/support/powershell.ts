import { execFile, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { powershellArguments, type ScriptName, scriptText, stdinFor } from '#libs/iis/script-text';
import { hasDotnet, providePshost } from '../../services/lab/pshost.ts';
import type { Machine, MachineEnv } from '../../services/lab/windows-machine.ts';

export { providePshost } from '../../services/lab/pshost.ts';
export {
  createMachine,
  type HttpSysRecord,
  type Machine,
  type MachineEnv,
  type MachineOptions,
} from '../../services/lab/windows-machine.ts';

const run = promisify(execFile);

/**
 * For `describe.skipIf`: whether this machine cannot run PowerShell scripts. Never true on CI, where the tests fail instead.
 */
export const withoutPowerShell = !hasDotnet && process.env.CI !== 'true';
if (withoutPowerShell) console.warn('no .NET 10 SDK (dotnet): the tests of the PowerShell scripts are skipped');

export interface ScriptRun {
  exit: number | null;
  stdout: string;
  stderr: string;
  /** The last line of stdout that begins with `{`, parsed; null when there is none. */
  answer: Record<string, unknown> | null;
}

function answerIn(stdout: string): Record<string, unknown> | null {
  const line = stdout.split(/\r?\n/).findLast((one) => one.startsWith('{'));
  return line === undefined ? null : JSON.parse(line);
}

/** Runs a script on a machine as the runners do, in a process of its own. */
export async function runScript(
  machine: Machine,
  name: ScriptName,
  request: object,
  { env = {}, timeoutMs = 60_000 }: { env?: MachineEnv; timeoutMs?: number } = {},
): Promise<ScriptRun> {
  const program = await providePshost();
  return new Promise((resolve, reject) => {
    const child = spawn('dotnet', [program, ...powershellArguments], {
      env: { ...process.env, ...machine.env, ...env },
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (data) => {
      stdout += data;
    });
    child.stderr.setEncoding('utf8').on('data', (data) => {
      stderr += data;
    });
    child.on('error', reject);
    child.on('close', (exit) => resolve({ exit, stdout, stderr, answer: answerIn(stdout) }));
    child.stdin.on('error', () => undefined);
    child.stdin.end(stdinFor(scriptText(name), request));
  });
}

/** One process that runs scripts one after another: some 30 ms each, where a process of its own takes a second. */
export interface ScriptSession {
  run(machine: Machine, name: ScriptName, request: object, env?: MachineEnv): Promise<ScriptRun>;
  close(): Promise<void>;
}

/** Starts a session. */
export async function openScriptSession(): Promise<ScriptSession> {
  const program = await providePshost();
  const child = spawn('dotnet', [program, '-Serve'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const answers: ((line: string) => void)[] = [];
  createInterface(child.stdout).on('line', (line) => answers.shift()?.(line));
  const command = Buffer.from(powershellArguments.at(-1) ?? '', 'base64').toString('utf16le');
  return {
    async run(machine, name, request, env = {}) {
      const lost = ended.then(() => {
        throw new Error('the PowerShell process has ended');
      });
      const line = new Promise<string>((resolve) => answers.push(resolve));
      const stdin = stdinFor(scriptText(name), request);
      child.stdin.write(`${JSON.stringify({ command, stdin, env: { ...machine.env, ...env } })}\n`);
      const { exit, stdout, stderr } = JSON.parse(await Promise.race([line, lost]));
      return { exit, stdout, stderr, answer: answerIn(stdout) };
    },
    async close() {
      child.stdin.end();
      await ended;
    },
  };
}

/** What the lint for Windows PowerShell 5.1 has to say about files: a line for each find, `file:line:column: rule: message`. */
export async function lintScripts(files: readonly string[]): Promise<string[]> {
  const program = await providePshost();
  const { stdout } = await run('dotnet', [program, '-Lint', ...files]).catch((error) => {
    if (error.code !== 1) throw error;
    return error;
  });
  return stdout.split('\n').filter(Boolean);
}
