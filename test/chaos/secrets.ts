import { createPrivateKey } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { accountKeyName } from '#libs/service/account-sessions';
import { createPrivateKeys } from '#libs/store/private-keys';
import { createSecretBox, parseMasterKeys } from '#libs/store/secret-box';
import type { Store } from '#libs/store/store';
import type { PlacedOrder } from './plan.ts';
import type { World } from './world.ts';

/** What would show a private key: a line of its PEM, and the number in its JWK. */
function piecesOf(pem: string): string[] {
  const lines = pem.split('\n').filter((line) => line !== '' && !line.startsWith('-----'));
  return [lines[0] ?? '', String(createPrivateKey(pem).export({ format: 'jwk' }).d)];
}

/** Where below a folder one of the secrets is: `the API key in api-1.log`. Only files that `wanted` says are read. */
export async function secretsIn(
  dir: string,
  secrets: ReadonlyMap<string, string>,
  wanted: (path: string) => boolean,
): Promise<string[]> {
  const found: string[] = [];
  for (const path of await readdir(dir, { recursive: true })) {
    if (!wanted(path)) continue;
    const bytes = await readFile(join(dir, path));
    for (const [what, secret] of secrets) if (bytes.includes(secret)) found.push(`${what} is readable in ${path}`);
  }
  return found;
}

/** The logs of all parts, and all that Redis has ever been told: records, events, jobs and errors. Its own settings have its password. */
const isSearched = (path: string): boolean => /^[^/]+\.log$|^redis\/(.*\.aof|.*\.rdb|redis\.log)$/.test(path);

/** Secrets that can be read somewhere: the planted ones, the account key and the keys of certificates, one of which is exported first. */
export async function secretsFound(world: World, placed: readonly PlacedOrder[], store: Store): Promise<string[]> {
  const { masterKey, planted, api, dir } = world;
  const keys = createPrivateKeys(store.secrets, createSecretBox(parseMasterKeys(`chaos:${masterKey}`)));
  const secrets = new Map(planted);
  const account = await store.accounts.get(world.account);
  if (account === null) throw new Error('the account is gone');
  for (const piece of piecesOf(await keys.open(accountKeyName(account))))
    secrets.set(`the account key ${piece}`, piece);
  for (const { id, name } of placed) {
    const order = await store.orders.get(id);
    const certificate = order?.status === 'deployed' ? await store.certificates.get(order.certificate) : null;
    if (certificate === null) continue;
    for (const piece of piecesOf(await keys.open(certificate.privateKey))) secrets.set(`the key of ${name}`, piece);
    const password = planted.get('the password of a PFX');
    await api.request('POST', `/v1/certificates/${certificate.id}/pfx`, { password });
  }
  return secretsIn(dir, secrets, isSearched);
}
