import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { killTree } from './process-tree.ts';

const onWindows = process.platform === 'win32';
/** How much of the end of its output is kept. */
const tailBytes = 1_000;
/** The environment of the worker has its secrets: a program gets this instead, and what Windows itself adds. */
const searchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface ProgramRun {
  /** The program; there is no search in PATH. */
  file: string;
  arguments: readonly string[];
  /** The folder it runs in. */
  cwd: string;
  /** Its environment, besides the search path. */
  variables: Record<string, string>;
  /** The file that its output goes to: a server that it starts may keep it open for good, which a pipe to us would not bear. */
  log: string;
  timeoutMs: number;
  signal: AbortSignal;
}

/** `output` is the end of what it wrote to standard output and standard error. */
export type ProgramEnd =
  | { kind: 'success'; output: string }
  | { kind: 'failed'; code: number | null; signal: NodeJS.Signals | null; output: string }
  | { kind: 'timeout'; output: string }
  | { kind: 'not started'; error: Error };

/**
 * Runs a program with its arguments as they are, without a shell, until it ends or takes too long; then it is ended with all that it started.
 * Throws the signal's reason when it is aborted; the program is ended.
 */
export async function runProgram({ file, log, timeoutMs, signal, ...run }: ProgramRun): Promise<ProgramEnd> {
  signal.throwIfAborted();
  const output = await open(log, 'w+', 0o600);
  try {
    const child = spawn(file, run.arguments, {
      cwd: run.cwd,
      env: { ...(onWindows ? {} : { PATH: searchPath }), ...run.variables },
      stdio: ['ignore', output.fd, output.fd],
      detached: !onWindows,
      windowsHide: true,
      shell: false,
    });
    const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null } | Error>((resolve) => {
      child.once('exit', (code, by) => resolve({ code, signal: by }));
      child.on('error', resolve);
    });
    const timeout = AbortSignal.timeout(timeoutMs);
    const stop = AbortSignal.any([signal, timeout]);
    const end = (): void => killTree(child);
    stop.addEventListener('abort', end, { once: true });
    const how = await ended;
    stop.removeEventListener('abort', end);
    if (how instanceof Error) return { kind: 'not started', error: how };
    if (how.code !== 0) signal.throwIfAborted();
    const tail = await readTail(output);
    if (how.code === 0) return { kind: 'success', output: tail };
    return timeout.aborted ? { kind: 'timeout', output: tail } : { kind: 'failed', ...how, output: tail };
  } finally {
    await output.close();
  }
}

async function readTail(output: Awaited<ReturnType<typeof open>>): Promise<string> {
  const { size } = await output.stat();
  const length = Math.min(size, tailBytes);
  const { buffer, bytesRead } = await output.read(Buffer.alloc(length), 0, length, size - length);
  return buffer.subarray(0, bytesRead).toString('utf8').trim();
}
