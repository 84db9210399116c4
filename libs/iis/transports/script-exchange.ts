import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { CertlineError } from '../../errors.ts';
import type { ScriptOptions } from '../script-runner.ts';

/** Far more than a host with ten thousand bindings says. */
const maxOutput = 32 * 1024 * 1024;
const excerptLength = 300;

/** How a PowerShell process ended. */
export interface ScriptEnd {
  exitCode: number | null;
  /** Name of the signal that ended it. */
  signal: string | null;
  /** The connection to it broke before it was known how it ended. */
  lost: Error | null;
}

/** A PowerShell process that was started, here or on a host. */
export interface ScriptProcess {
  stdin: Writable;
  stdout: Readable;
  stderr: Readable;
  /** Settles when it has ended and all of its output has come; never rejects. */
  end: Promise<ScriptEnd>;
}

export interface ExchangeOptions {
  /** Where it runs, for messages. */
  place: string;
  start(): Promise<ScriptProcess>;
  /** Ends what was started, or is being started. */
  abandon(): void;
  input: string;
  signal: AbortSignal;
  /** From the start to the answer. */
  timeoutMs: number;
  /** The request holds a secret: nothing of what the host prints is shown. */
  confidential: boolean;
  /** As in `ScriptOptions`. */
  attended?: ScriptOptions['attended'];
}

/** How the prelude of the scripts begins an answer; other objects are what a script says on the way. */
const answerBegins = '{"ok":';

/** What a line of a script says; undefined when it says nothing, or when it is not all there. */
function jsonIn(line: string | undefined): unknown {
  if (!line?.startsWith('{')) return undefined;
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** The answer in what a script printed: the last one. Undefined when there is none, or not all of it. */
const answerIn = (output: string): unknown =>
  jsonIn(output.split(/\r?\n/).findLast((one) => one.startsWith(answerBegins)));

/** Tells of what a script says on the way. */
function tellProgress(stream: Readable, onProgress: (said: unknown) => void): void {
  createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY }).on('line', (line) => {
    const said = line.startsWith(answerBegins) ? undefined : jsonIn(line);
    if (said !== undefined) onProgress(said);
  });
}

/** The beginning of a stream as text. */
function beginningOf(stream: Readable): () => string {
  let text = '';
  stream.on('data', (chunk: Buffer) => {
    if (text.length < excerptLength) text += chunk.toString('latin1');
  });
  return () => text.slice(0, excerptLength).trim();
}

function silence({ place, confidential }: ExchangeOptions, end: ScriptEnd, output: string, errors: string): Error {
  // 127 is what a Unix shell says of a program it does not find, 9009 what cmd says.
  const missing = end.exitCode === 127 || end.exitCode === 9009;
  const how = end.exitCode === null ? `was ended by ${end.signal ?? 'the host'}` : `ended with ${end.exitCode}`;
  const detail = missing
    ? `there is no powershell.exe on ${place}`
    : `PowerShell on ${place} ${how} and gave no answer`;
  return new CertlineError('target_refused', detail, {
    evidence: { host: place, exitCode: end.exitCode, ...(confidential ? {} : { output, errors }) },
  });
}

/** Gives the process its input and waits for its answer. `giveUp` ends it when it says too much. */
async function talk(options: ExchangeOptions, giveUp: (reason: Error) => void): Promise<unknown> {
  const { place, input, attended } = options;
  const { stdin, stdout, stderr, end } = await options.start();
  // A process that ends early takes no input any more; how it ended says more than the broken pipe.
  for (const stream of [stdin, stdout, stderr]) stream.on('error', () => {});
  const parts: Buffer[] = [];
  let size = 0;
  stdout.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size <= maxOutput) parts.push(chunk);
    else giveUp(new CertlineError('target_refused', `${place} answers with more than ${maxOutput} bytes`));
  });
  const errors = beginningOf(stderr);
  if (attended) {
    tellProgress(stdout, attended.onProgress);
    stdin.write(input);
  } else stdin.end(input);
  const how = await end;
  const output = Buffer.concat(parts).toString('latin1');
  const answer = answerIn(output);
  if (answer !== undefined) return answer;
  if (how.lost === null) throw silence(options, how, output.slice(0, excerptLength).trim(), errors());
  throw new CertlineError(
    'target_unreachable',
    `the connection to ${place} was lost while a script ran: ${how.lost.message}; what it had done by then shows when the host is read again`,
    { evidence: { host: place }, cause: how.lost },
  );
}

/**
 * Runs one script and answers what it answered. It is never started a second time: after an error a script may have done its work or not.
 *
 * @throws CertlineError `target_timeout` after `timeoutMs`, `target_unreachable` when the connection is lost meanwhile, `target_refused` when
 * there is no answer in the output or more than 32 MiB of it, and what `start` throws.
 * @throws the signal's reason when it is aborted.
 */
export async function exchange(options: ExchangeOptions): Promise<unknown> {
  const { place, signal, timeoutMs, abandon } = options;
  signal.throwIfAborted();
  const stopped = Promise.withResolvers<never>();
  const giveUp = (reason: unknown): void => {
    stopped.reject(reason);
    abandon();
  };
  const abort = (): void => giveUp(signal.reason);
  const timer = setTimeout(() => {
    const detail = `a script on ${place} did not end within ${timeoutMs / 1_000} s`;
    giveUp(new CertlineError('target_timeout', detail, { evidence: { host: place, timeoutMs } }));
  }, timeoutMs);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([stopped.promise, talk(options, giveUp)]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
  }
}
