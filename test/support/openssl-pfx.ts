import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface OpensslPfx {
  pfx: Buffer;
  password: string;
  /** SHA-1 of the DER, upper-case hexadecimal. */
  thumbprint: string;
}

const forms = {
  aes: [],
  '3des': ['-keypbe', 'PBE-SHA1-3DES', '-certpbe', 'PBE-SHA1-3DES', '-macalg', 'sha1'],
};

/** A self-signed certificate and its key as a PFX that the openssl command wrote, in a form that Windows reads since 1709 (aes) or ever since (3des). */
export async function opensslPfx(
  dir: string,
  names: readonly [string, ...string[]],
  { form = 'aes', key = 'ec' }: { form?: keyof typeof forms; key?: 'ec' | 'rsa' } = {},
): Promise<OpensslPfx> {
  const base = join(dir, `${names[0].replace('*', '_')}-${form}-${key}`);
  const password = 'pass word %1';
  const newKey = key === 'rsa' ? ['rsa:2048'] : ['ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
  const subject = ['-subj', `/CN=${names[0]}`, '-addext', `subjectAltName=${names.map((name) => `DNS:${name}`)}`];
  const files = ['-keyout', `${base}.key`, '-out', `${base}.pem`];
  await run('openssl', ['req', '-x509', '-nodes', '-newkey', ...newKey, ...files, '-days', '30', ...subject]);
  const input = ['-inkey', `${base}.key`, '-in', `${base}.pem`, '-passout', `pass:${password}`];
  await run('openssl', ['pkcs12', '-export', ...input, ...forms[form], '-out', `${base}.pfx`]);
  const certificate = new X509Certificate(await readFile(`${base}.pem`));
  return { pfx: await readFile(`${base}.pfx`), password, thumbprint: certificate.fingerprint.replaceAll(':', '') };
}
