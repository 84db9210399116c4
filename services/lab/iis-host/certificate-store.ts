import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import forge from 'node-forge';
import type { LabPfx } from '#libs/iis/lab-protocol';
import { hresults, Refusal } from './refusal.ts';
import { readIfThere, writeWhole } from './whole-files.ts';

const storeNames = ['My', 'WebHosting'] as const;

/** PBES2 (1.2.840.113549.1.5.13) in DER: the sign of a PFX that is not of the old 3DES kind. */
const pbes2 = Buffer.from('06092a864886f70d01050d', 'hex');
/** The first build that reads such a PFX. */
const firstAesBuild = 17_763;

const pem = (label: string, der: Buffer) =>
  `-----BEGIN ${label}-----\n${der.toString('base64').replace(/.{1,64}/g, '$&\n')}-----END ${label}-----\n`;

interface Opened {
  key: KeyObject;
  certificates: X509Certificate[];
}

function derOf(node: forge.asn1.Asn1): Buffer {
  return Buffer.from(forge.asn1.toDer(node).getBytes(), 'binary');
}

/** forge derives keys in JavaScript unless the hash is given by name, and then Node does it: a hundred times faster. */
const derive = forge.pkcs5.pbkdf2 as (
  password: string,
  salt: string,
  count: number,
  length: number,
  hash?: { algorithm: string } | string,
) => string;
Object.assign(forge.pkcs5, {
  pbkdf2: (...[password, salt, count, length, hash]: Parameters<typeof derive>) =>
    derive(password, salt, count, length, typeof hash === 'object' ? hash.algorithm : hash),
});

/** forge reads RSA itself and leaves other keys and their certificates as ASN.1. */
function openPfx(pfx: Buffer, password: string): Opened {
  const { pkcs8ShroudedKeyBag, keyBag, certBag } = forge.pki.oids;
  const read = forge.pkcs12.pkcs12FromAsn1(forge.asn1.fromDer(pfx.toString('binary')), false, password);
  const bags = (type: string | undefined) => (type ? (read.getBags({ bagType: type })[type] ?? []) : []);
  const certificates = bags(certBag).map(
    (bag) => new X509Certificate(derOf(bag.cert ? forge.pki.certificateToAsn1(bag.cert) : bag.asn1)),
  );
  const bag = [...bags(pkcs8ShroudedKeyBag), ...bags(keyBag)][0];
  if (!bag) throw new Error('no private key');
  const key = bag.key
    ? createPrivateKey(forge.pki.privateKeyToPem(bag.key))
    : createPrivateKey({ key: derOf(bag.asn1), format: 'der', type: 'pkcs8' });
  return { key, certificates };
}

/** The LocalMachine certificate stores of the host: `<thumbprint>.pem` with the chain and `<thumbprint>.key` in a folder per store. */
export class CertificateStores {
  readonly #dir: string;
  readonly #osBuild: number;

  constructor(dir: string, osBuild: number) {
    this.#dir = dir;
    this.#osBuild = osBuild;
  }

  /** Imports a certificate with its key; one that is there already stays as it is. Throws `Refusal` as Windows would. */
  async import(spec: LabPfx): Promise<{ thumbprint: string; alreadyPresent: boolean }> {
    const store = this.#canonical(spec.store);
    if (await this.load(store, spec.thumbprint)) return { thumbprint: spec.thumbprint, alreadyPresent: true };
    const bytes = Buffer.from(spec.pfx, 'base64');
    const unreadable = new Refusal('The specified network password is not correct.', hresults.invalidPassword);
    if (this.#osBuild < firstAesBuild && bytes.includes(pbes2)) throw unreadable;
    let opened: Opened;
    try {
      opened = openPfx(bytes, spec.password);
    } catch {
      throw unreadable;
    }
    const leaf = opened.certificates.find((one) => one.checkPrivateKey(opened.key));
    if (!leaf) throw new Refusal('the PFX has no certificate for its private key', hresults.invalidData);
    const thumbprint = leaf.fingerprint.replaceAll(':', '');
    if (thumbprint !== spec.thumbprint) {
      throw new Refusal(`the PFX holds ${thumbprint}, not ${spec.thumbprint}`, hresults.invalidData);
    }
    const chain = [leaf, ...opened.certificates.filter((one) => one !== leaf)].map((one) =>
      pem('CERTIFICATE', one.raw),
    );
    const key = String(opened.key.export({ format: 'pem', type: 'pkcs8' }));
    // The key first: where there is a certificate file, there is its key.
    await writeWhole(this.#path(store, thumbprint, 'key'), key, 0o600);
    const { friendlyName, exportable, readers } = spec;
    const title = Object.entries({ friendlyName, exportable, readers })
      .map(([name, value]) => `${name}: ${JSON.stringify(value)}\n`)
      .join('');
    await writeWhole(this.#path(store, thumbprint, 'pem'), title + chain.join(''));
    return { thumbprint, alreadyPresent: false };
  }

  /** Chain and key in PEM, null when the store does not have both. */
  async load(store: string, thumbprint: string): Promise<{ cert: string; key: string } | null> {
    const canonical = this.#canonical(store);
    const cert = await readIfThere(this.#path(canonical, thumbprint, 'pem'));
    return cert === null ? null : { cert, key: await readFile(this.#path(canonical, thumbprint, 'key'), 'utf8') };
  }

  /** Takes a certificate with its key out; false when it was not there. */
  async remove(store: string, thumbprint: string): Promise<boolean> {
    const canonical = this.#canonical(store);
    if (!(await this.load(canonical, thumbprint))) return false;
    for (const ending of ['pem', 'key'] as const) await rm(this.#path(canonical, thumbprint, ending));
    return true;
  }

  /** The name of the store as it is spelled; unknown ones are not made, as with OpenExistingOnly. */
  #canonical(name: string): string {
    const found = storeNames.find((one) => one.toLowerCase() === name.toLowerCase());
    if (found) return found;
    throw new Refusal('The system cannot find the file specified.', hresults.fileNotFound);
  }

  #path(store: string, thumbprint: string, ending: 'pem' | 'key'): string {
    return join(this.#dir, 'stores', store, `${thumbprint}.${ending}`);
  }
}
