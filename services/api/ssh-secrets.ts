import ssh2 from 'ssh2';
import { z } from 'zod';
import { CertlineError } from '#libs/errors';
import type { SshCredential, SshSecret } from '#libs/model/credential';

/** What a credential is logged in with: goes in, and never comes out again. */
export const sshSecretFields = {
  privateKey: z
    .string()
    .min(1)
    .max(20_000)
    .optional()
    .describe('A private key in the form of OpenSSH or in PEM; its public half belongs on the host'),
  passphrase: z.string().min(1).max(1_000).optional().describe('Opens the private key'),
  password: z.string().min(1).max(1_000).optional().describe('Instead of a private key'),
};

const secretBody = z.strictObject(sshSecretFields);
export type SshSecretBody = z.output<typeof secretBody>;

function refuse(path: keyof SshSecretBody, detail: string): never {
  throw new CertlineError('request_invalid', detail, { problems: [{ path, code: 'request_invalid', detail }] });
}

const convert = '`ssh-keygen -p -f <file>` rewrites it in the form of OpenSSH';

/** Refuses what no login could use. The words of the parser are not passed on: they might quote the key. */
function checkPrivateKey(privateKey: string, passphrase: string | undefined): void {
  if (privateKey.trimStart().startsWith('PuTTY-User-Key-File')) {
    refuse('privateKey', 'this is a key of PuTTY: export it with `puttygen <file> -O private-openssh-new`');
  }
  if (/-----BEGIN (ENCRYPTED )?PRIVATE KEY-----/.test(privateKey)) {
    refuse('privateKey', `this is a key in PKCS#8, which cannot be used: ${convert}`);
  }
  const parsed = ssh2.utils.parseKey(privateKey, passphrase);
  if (!(parsed instanceof Error)) {
    const keys = [parsed].flat();
    if (keys.every((key) => key.isPrivateKey())) return;
    refuse('privateKey', 'this is a public key: give the private one, the file without .pub');
  }
  if (/no passphrase given/i.test(parsed.message))
    refuse('passphrase', 'the private key is encrypted: give its passphrase');
  if (/bad passphrase/i.test(parsed.message)) refuse('passphrase', 'the passphrase does not open the private key');
  refuse('privateKey', `this is no private key that can be read: give all of its file, with the BEGIN and END lines`);
}

/** The secret of a request, when a login could use it. Throws `request_invalid` with the field that is wrong. */
export function readSshSecret({ privateKey, passphrase, password }: SshSecretBody): SshSecret {
  if (password !== undefined) {
    if (privateKey !== undefined) refuse('password', 'give a private key or a password, not both');
    if (passphrase !== undefined) refuse('passphrase', 'a passphrase belongs to a private key');
    return { password };
  }
  if (privateKey === undefined) refuse('privateKey', 'give a private key or a password');
  checkPrivateKey(privateKey, passphrase);
  return passphrase === undefined ? { privateKey } : { privateKey, passphrase };
}

/** What a secret is, for the record. */
export function methodOf(secret: SshSecret): SshCredential['method'] {
  return 'password' in secret ? 'password' : 'private-key';
}
