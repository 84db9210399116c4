import { CertlineError } from '#libs/errors';
import type { Certificate } from '#libs/model/certificate';
import { createPrivateKeys } from '#libs/store/private-keys';
import type { SecretBox } from '#libs/store/secret-box';
import type { Store } from '#libs/store/store';

export interface OpenedCertificate {
  certificate: Certificate;
  privateKeyPem: string;
  /** Leaf first. */
  chainPem: string;
}

/** The chain of a certificate with the leaf first, PEM. Throws `not_found`. */
export async function readChain(
  store: Pick<Store, 'certificates'>,
  id: string,
): Promise<{ certificate: Certificate; chainPem: string }> {
  const certificate = await store.certificates.get(id);
  if (certificate === null) throw new CertlineError('not_found', `there is no certificate ${id}`);
  return {
    certificate,
    chainPem: `${certificate.leaf.trimEnd()}\n${(await store.certificates.getChain(certificate.chain)) ?? ''}`,
  };
}

/** Reads certificates with their opened keys: for deployment and export alone. */
export function createCertificateReader(store: Store, box: SecretBox): (id: string) => Promise<OpenedCertificate> {
  const privateKeys = createPrivateKeys(store.secrets, box);
  return async (id) => {
    const { certificate, chainPem } = await readChain(store, id);
    return { certificate, chainPem, privateKeyPem: await privateKeys.open(certificate.privateKey) };
  };
}
