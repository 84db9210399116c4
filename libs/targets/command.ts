import { CertlineError } from '../errors.ts';
import type { Command } from '../model/target-kinds.ts';
import { runProgram } from '../run-program.ts';

export interface CommandRun {
  /** The folder it runs in. */
  cwd: string;
  /** What it is told of the deployment. */
  variables: Record<string, string>;
  /** The file that its output goes to. */
  log: string;
  signal: AbortSignal;
}

/**
 * Runs a program with its arguments as they are, without a shell, and resolves when it ends with 0.
 *
 * @throws CertlineError `target_timeout` when it was ended for taking too long; `target_refused` when it does not start or fails, with the end of its output.
 * @throws the signal's reason when it is aborted; the command is ended.
 */
export async function runCommand(command: Command, run: CommandRun): Promise<void> {
  const { file, timeoutSeconds } = command;
  const end = await runProgram({ ...run, file, arguments: command.arguments, timeoutMs: timeoutSeconds * 1000 });
  if (end.kind === 'success') return;
  if (end.kind === 'not started')
    throw new CertlineError('target_refused', `the command ${file} does not start: ${end.error.message}`, {
      cause: end.error,
    });
  const said = end.output === '' ? 'and said nothing' : `and said: ${end.output}`;
  if (end.kind === 'timeout')
    throw new CertlineError('target_timeout', `the command ${file} did not end in ${timeoutSeconds} s ${said}`);
  const { code, signal } = end;
  const result = code === null ? `was ended by ${signal}` : `ended with ${code}`;
  throw new CertlineError('target_refused', `the command ${file} ${result} ${said}`, { evidence: { code, signal } });
}
