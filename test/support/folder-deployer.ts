/**
 * A process that deploys certificates to a folder, one after the other, until it is killed; a line for each that is done. Its settings come as
 * the first argument, and it begins when it is sent something.
 */
import { once } from 'node:events';
import { systemClock } from '#libs/clock';
import { folderSettingsSchema } from '#libs/model/target-kinds';
import type { DeployableCertificate } from '#libs/targets/certificate-target';
import { createFolderTarget } from '#libs/targets/folder';

const { settings, certificates, pfxPassword } = JSON.parse(process.argv[2] ?? '{}') as {
  settings: unknown;
  certificates: DeployableCertificate[];
  pfxPassword: string | null;
};
const target = createFolderTarget(folderSettingsSchema.parse(settings), {
  ...{ clock: systemClock, pfxPassword, allowCommands: true },
});
const context = { deployment: 'ord_1.1', signal: new AbortController().signal };
process.stdout.write('ready\n');
await once(process.stdin, 'data');
for (let at = 0; ; at += 1) {
  const certificate = certificates[at % certificates.length];
  if (!certificate) break;
  await target.deploy(certificate, context);
  process.stdout.write(`${certificate.thumbprint}\n`);
}
