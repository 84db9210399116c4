import { errorCodes } from '#libs/error-codes';
import { CertlineError } from '#libs/errors';
import type { Logger } from '#libs/logging';

/** A started part of a process. */
export interface Service {
  /** Takes no new work, lets what is under way finish for a while, hands the rest back. */
  stop(): Promise<void>;
}

/** Milliseconds a process lets work finish before it hands it back; well inside the 10 s that supervisors give. */
export const graceMs = 7_000;

/** Runs a process until SIGTERM or SIGINT: start, wait, stop. A start that fails ends it with exit code 1 and the reason. */
export async function runProcess(start: () => Promise<{ service: Service; log: Logger }>): Promise<void> {
  let started: { service: Service; log: Logger };
  try {
    started = await start();
  } catch (error) {
    const words = error instanceof Error ? error.message : String(error);
    const advice = error instanceof CertlineError ? ` (${error.code})\n  ${errorCodes[error.code].advice}` : '';
    process.stderr.write(`certline: ${words}${advice}\n`);
    process.exit(1);
  }
  const { service, log } = started;
  let stopping = false;
  const stop = (signal: NodeJS.Signals): void => {
    if (stopping) process.exit(1);
    stopping = true;
    log.info({ signal }, 'stopping');
    service.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        log.error({ err: error }, 'did not stop cleanly');
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}
