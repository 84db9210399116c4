import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { CertlineError } from '../../errors.ts';
import { killTree } from '../../process-tree.ts';
import type { ScriptRunner } from '../script-runner.ts';
import { attendedArguments, powershellArguments, stdinFor } from '../script-text.ts';
import { exchange, type ScriptEnd, type ScriptProcess } from './script-exchange.ts';

const place = 'this machine';
const onWindows = process.platform === 'win32';

async function started(child: ChildProcess, program: string): Promise<void> {
  try {
    await once(child, 'spawn');
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new CertlineError('target_unreachable', `${program} does not start on ${place}: ${why}`, { cause });
  }
}

/** Runs scripts by the powershell.exe of this machine, which is the IIS host then. `program`: another one, for tests. */
export function createLocalRunner(program = 'powershell.exe'): ScriptRunner {
  return {
    async run(script, request, { confidential = false, ...options }) {
      let child: ChildProcess | undefined;
      const start = async (): Promise<ScriptProcess> => {
        // A group of its own, so that all of it can be ended; on Windows that would open a console, and taskkill finds the tree.
        const process = spawn(program, options.attended ? attendedArguments : powershellArguments, {
          stdio: 'pipe',
          detached: !onWindows,
          windowsHide: true,
        });
        child = process;
        process.on('error', () => {}); // also of a kill that comes too late
        const end = new Promise<ScriptEnd>((resolve) => {
          process.once('close', (exitCode, signal) => resolve({ exitCode, signal, lost: null }));
        });
        await started(process, program);
        return { stdin: process.stdin, stdout: process.stdout, stderr: process.stderr, end };
      };
      const abandon = (): void => {
        if (child) killTree(child);
      };
      return exchange({ ...options, place, start, abandon, input: stdinFor(script, request), confidential });
    },
    connect: async () => ({ place, hostKey: null }),
    close: async () => {},
  };
}
