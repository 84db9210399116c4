import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { CertlineError } from '../errors.ts';
import type { Command } from '../model/target-kinds.ts';
import { killTree } from '../process-tree.ts';
import { onWindows } from './file-system.ts';

/** What of its output an error shows. */
const tailBytes = 1_000;
/** The environment of the worker has its secrets: a command gets this instead, and what Windows itself adds. */
const searchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

type Ended = { code: number | null; signal: NodeJS.Signals | null } | { error: Error };

export interface CommandRun {
  /** The folder it runs in. */
  cwd: string;
  /** What it is told of the deployment. */
  variables: Record<string, string>;
  /** The file that its output goes to: a server that it starts may keep it open for good, which a pipe to us would not bear. */
  log: string;
  signal: AbortSignal;
}

/**
 * Runs a program with its arguments as they are, without a shell, and resolves when it ends with 0.
 *
 * @throws CertlineError `target_timeout` when it was ended for taking too long; `target_refused` when it does not start or fails, with the end of its output.
 * @throws the signal's reason when it is aborted; the command is ended.
 */
export async function runCommand(command: Command, { cwd, variables, log, signal }: CommandRun): Promise<void> {
  signal.throwIfAborted();
  const { file, timeoutSeconds } = command;
  const output = await open(log, 'w+', 0o600);
  try {
    const child = spawn(file, command.arguments, {
      cwd,
      env: { ...(onWindows ? {} : { PATH: searchPath }), ...variables },
      stdio: ['ignore', output.fd, output.fd],
      detached: !onWindows,
      windowsHide: true,
      shell: false,
    });
    const ended = new Promise<Ended>((resolve) => {
      child.once('exit', (code, by) => resolve({ code, signal: by }));
      child.on('error', (error) => resolve({ error }));
    });
    const timeout = AbortSignal.timeout(timeoutSeconds * 1000);
    const stop = AbortSignal.any([signal, timeout]);
    const end = (): void => killTree(child);
    stop.addEventListener('abort', end, { once: true });
    const how = await ended;
    stop.removeEventListener('abort', end);
    if ('error' in how)
      throw new CertlineError('target_refused', `the command ${file} does not start: ${how.error.message}`, {
        cause: how.error,
      });
    if (how.code === 0) return;
    signal.throwIfAborted();
    const tail = await readTail(output);
    const said = tail === '' ? 'and said nothing' : `and said: ${tail}`;
    if (timeout.aborted)
      throw new CertlineError('target_timeout', `the command ${file} did not end in ${timeoutSeconds} s ${said}`);
    const result = how.code === null ? `was ended by ${how.signal}` : `ended with ${how.code}`;
    throw new CertlineError('target_refused', `the command ${file} ${result} ${said}`, { evidence: { ...how } });
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
