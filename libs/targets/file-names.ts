import { domainToUnicode } from 'node:url';
import { CertlineError } from '../errors.ts';
import { toAsciiName } from '../model/domain-name.ts';

const label = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
/** Windows takes these for devices, whatever follows the first dot (learn.microsoft.com, "Naming Files, Paths, and Namespaces"). */
const device = /^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])$/;
/** What separates paths or means something in them, on any system. */
const notInFiles = /[\p{Cc}<>:"/\\|?*]/u;

/** A name of a certificate without its wildcard. The names come from our own records: this is what keeps a file inside its folder if those are wrong. */
function bareName(name: string): string {
  const bare = name.replace(/^\*\./, '');
  if (toAsciiName(name) !== name || bare.length > 253 || !bare.split('.').every((part) => label.test(part)))
    throw new CertlineError(
      'name_invalid',
      `${JSON.stringify(name)} is no host name, so that no file is named after it`,
    );
  return bare;
}

function refuseDevice(name: string, file: string): void {
  if (device.test(file.split('.')[0] ?? ''))
    throw new CertlineError(
      'target_refused',
      `Windows reserves the file name ${file}, so that there can be none for ${name}`,
      {
        plan: { kind: 'permanent' },
      },
    );
}

/** Name of the folder of a certificate whose first name is `name`: in ASCII, `_` for `*`. */
export function folderNameOf(name: string, onWindows: boolean): string {
  const bare = bareName(name);
  const folder = name.startsWith('*.') ? `_.${bare}` : bare;
  if (onWindows) refuseDevice(name, folder);
  return folder;
}

/**
 * The file in which the central certificate store of IIS looks for the certificate of a host: `<host>.pfx`, a wildcard's under `_`,
 * names in Unicode (win-acme, `CentralSsl.cs`). Whatever system writes it: Windows is to read it.
 *
 * @throws CertlineError `name_invalid`; `target_refused` for a name that no file can have on Windows.
 */
export function centralStoreFileOf(name: string): string {
  const bare = bareName(name);
  const unicode = domainToUnicode(bare);
  if (unicode === '' || notInFiles.test(unicode) || toAsciiName(unicode) !== bare)
    throw new CertlineError('name_invalid', `${JSON.stringify(name)} has no form in Unicode that could name a file`);
  const file = `${name.startsWith('*.') ? '_.' : ''}${unicode}.pfx`;
  refuseDevice(name, file);
  if (file.length > 255)
    throw new CertlineError('target_refused', `${name} is too long for the name of a file`, {
      plan: { kind: 'permanent' },
    });
  return file;
}
