import { type Logger, pino } from 'pino';

export type { Logger } from 'pino';

/** Fields whose values never reach a log, wherever they stand in a logged object. */
const secretFields = [
  'password',
  'pfx',
  'privateKey',
  'hmacKey',
  'authorization',
  'keyAuthorization',
  'masterKey',
  'apiKey',
];

/** The logger of a process: JSON lines on standard output. `level` is one of pino's. */
export function createLogger(service: string, level: string): Logger {
  const paths = secretFields.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]);
  return pino({
    level,
    base: { service, pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: { paths, censor: '[secret]' },
  });
}
