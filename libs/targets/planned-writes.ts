import type { DeliveryTarget } from '../model/target.ts';
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
