import { Duplex } from 'node:stream';
import { createSecureContext, TLSSocket } from 'node:tls';
import type { PfxForm } from '../crypto/pfx.ts';

/** DER of the object id of PBES2, 1.2.840.113549.1.5.13: it stands in the clear in a PFX of the AES form, and in no other. */
const pbes2 = Buffer.from('06092a864886f70d01050d', 'hex');

export type PfxContents =
  | { readable: true; thumbprint: string; form: PfxForm }
  /** `wrongPassword`: it is a PFX, but with another password. */
  | { readable: false; wrongPassword: boolean; reason: string };

/** What a PFX holds, as a TLS server would load it: a certificate with its own key, or it is not readable. */
export function readPfx(pfx: Buffer, password: string): PfxContents {
  let socket: TLSSocket | undefined;
  try {
    const secureContext = createSecureContext({ pfx, passphrase: password });
    // Nothing is sent over it: of all that Node documents, only a socket tells which certificate it would show.
    const nowhere = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
    socket = new TLSSocket(nowhere, { isServer: true, secureContext });
    const certificate = socket.getX509Certificate();
    if (!certificate) return { readable: false, wrongPassword: false, reason: 'there is no certificate in it' };
    const thumbprint = certificate.fingerprint.replaceAll(':', '');
    return { readable: true, thumbprint, form: pfx.includes(pbes2) ? 'aes-256' : '3des' };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { readable: false, wrongPassword: /mac verify failure/i.test(reason), reason };
  } finally {
    socket?.destroy();
  }
}
