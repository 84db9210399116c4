import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CertlineError } from '#libs/errors';

/** A `powershell.exe` for what the real one does not do on request: hang, break off, answer nonsense. */
export interface FailingPowerShell {
  /** Folder for PATH. */
  readonly bin: string;
  readonly program: string;
  /** What it does from now on, once it has read script and request: shell text, with the request in `$request`. */
  does(shell: string): Promise<void>;
  /** Process ids of its runs so far. */
  runs(): Promise<number[]>;
  /** Ends what still hangs. */
  close(): Promise<void>;
}

export const answering = (answer: object): string => `printf '%s\\n' '${JSON.stringify(answer)}'`;

/** Whether a process is there. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** The error of ours that something fails with. */
export async function failureOf(work: Promise<unknown>): Promise<CertlineError> {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (error instanceof CertlineError) return error;
  throw new Error('it did not fail with a CertlineError', { cause: error });
}

export async function createFailingPowerShell(dir: string): Promise<FailingPowerShell> {
  const bin = join(dir, 'failing');
  const program = join(bin, 'powershell.exe');
  const behaviour = join(bin, 'behaviour');
  const pids = join(bin, 'pids');
  await mkdir(bin);
  await writeFile(pids, '');
  await writeFile(behaviour, answering({ ok: true }));
  await writeFile(program, `#!/bin/sh\necho $$ >> '${pids}'\nread -r script\nread -r request\n. '${behaviour}'\n`);
  await chmod(program, 0o755);
  const runs = async (): Promise<number[]> => (await readFile(pids, 'utf8')).split('\n').filter(Boolean).map(Number);
  return {
    bin,
    program,
    does: (shell) => writeFile(behaviour, `${shell}\n`),
    runs,
    async close() {
      for (const pid of await runs()) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // It has ended.
        }
      }
    },
  };
}
