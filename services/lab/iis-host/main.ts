import { z } from 'zod';
import { startLabIisHost } from './lab-iis-host.ts';

/** The simulated IIS host as a process: prints one line of JSON with the URL of its control API, and ends with SIGTERM or SIGINT. */

const number = z.coerce.number().int();
const settings = z
  .object({
    LAB_DIR: z.string().min(1),
    LAB_CONTROL_PORT: number.min(0).max(65_535).default(0),
    LAB_IIS_MAJOR: number.default(10),
    LAB_OS_BUILD: number.default(20_348),
    LAB_PORT_OFFSET: number.optional(),
  })
  .parse(process.env);

const host = await startLabIisHost({
  dir: settings.LAB_DIR,
  controlPort: settings.LAB_CONTROL_PORT,
  iisMajor: settings.LAB_IIS_MAJOR,
  osBuild: settings.LAB_OS_BUILD,
  ...(settings.LAB_PORT_OFFSET === undefined ? {} : { portOffset: settings.LAB_PORT_OFFSET }),
  log: (event) => process.stderr.write(`${JSON.stringify(event)}\n`),
});

// Before the line: whoever reads it may send a signal at once.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void host.close());
process.stdout.write(`${JSON.stringify({ listening: true, url: host.url })}\n`);
