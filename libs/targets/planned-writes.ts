import { isIP } from 'node:net';
import type { DeliveryTarget } from '../model/target.ts';
import { isPublicAddress } from '../outgoing/public-address.ts';
import { centralStoreFileOf, folderNameOf } from './file-names.ts';

/** A path below another one, in the style of that one: who asks need not be on the system that writes. */
function below(path: string, name: string): string {
  const separator = path.startsWith('/') ? '/' : '\\';
  return path.endsWith('/') || path.endsWith('\\') ? path + name : path + separator + name;
}

/**
 * What a deployment of a certificate of these names leaves at a target, a line each, for a person.
 *
 * @throws CertlineError `name_invalid`, `target_refused` for a name that no file can have there.
 */
export function plannedWrites(target: DeliveryTarget, names: readonly string[]): string[] {
  switch (target.kind) {
    case 'folder': {
      const onWindows = !target.path.startsWith('/');
      const folder = below(target.path, folderNameOf(names[0] ?? '', onWindows));
      const files = ['privkey.pem', 'cert.pem', 'chain.pem', 'fullchain.pem'];
      const written = [...files, ...(target.pfx ? ['certificate.pfx'] : [])].map((file) => below(folder, file));
      return [...written, ...(target.command ? [`then the command ${target.command.file}`] : [])];
    }
    case 'ccs':
      return [...new Set(names.map(centralStoreFileOf))].map((file) => below(target.path, file));
    case 'webhook':
      return [`a signed POST to ${new URL(target.url).origin}: the certificate with its chain, without its key`];
  }
}

/** Whether a URL says by itself that it leads to no address of the public internet; what a name leads to, only a worker knows. */
function isPrivate({ hostname }: URL): boolean {
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  return host === 'localhost' || (isIP(host) !== 0 && !isPublicAddress(host));
}

/** What the workers of a target have to be set up for, as far as the target itself shows it; for a person. */
export function plannedWarnings(target: DeliveryTarget): string[] {
  const refused = `is refused unless the deployment workers of pool ${target.pool} have`;
  if (target.kind === 'folder' && target.command !== null)
    return [`the command ${target.command.file}, and with it the deployment, ${refused} ALLOW_COMMANDS=true`];
  if (target.kind === 'webhook' && isPrivate(new URL(target.url)))
    return [`a URL that is not of the public internet ${refused} ALLOW_PRIVATE_WEBHOOKS=true`];
  return [];
}
