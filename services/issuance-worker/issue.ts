import { pollInPlace } from '#libs/acme/polling';
import type { AcmeOrder, AcmeSession } from '#libs/acme/session';
import { generatePrivateKey } from '#libs/crypto/private-key';
import { createSigningRequest } from '#libs/crypto/signing-request';
import { checkIssued, splitChain } from '#libs/crypto/x509';
import { CertlineError } from '#libs/errors';
import { renewalTime } from '#libs/model/certificate';
import { certificateId } from '#libs/model/ids';
import type { ValidatedOrder } from '#libs/model/order';
import { issued } from '#libs/model/transitions';
import type { StageContext, StageHandler } from '#libs/queues/handler';
import type { PrivateKeys } from '#libs/store/private-keys';
import type { CertificateStore } from '#libs/store/store';

export interface IssueDeps {
  openSession(account: string): Promise<AcmeSession>;
  privateKeys: Pick<PrivateKeys, 'keeping' | 'open'>;
  certificates: Pick<CertificateStore, 'create'>;
}

type Context = StageContext<ValidatedOrder>;

/** Key and CSR, saved before the CA is asked: whatever dies afterwards, the same request is sent again. */
async function prepareSigning(
  order: ValidatedOrder,
  attempt: number,
  { privateKeys }: IssueDeps,
  context: Context,
): Promise<ValidatedOrder> {
  const { names, keyType } = order.request;
  const privateKey = `${certificateId(order.id, order.epoch)}.${attempt}`;
  const pem = await generatePrivateKey(keyType);
  const csr = await createSigningRequest(pem, names);
  return context.checkpoint(
    { signing: { privateKey, attempt, csr: csr.toString('base64url') } },
    `${keyType} key made`,
    [privateKeys.keeping(privateKey, pem)],
  );
}

function csrOf(order: ValidatedOrder): Buffer {
  return Buffer.from(order.signing?.csr ?? '', 'base64url');
}

/** For one run: the key that was made here needs not be read and opened again. */
function remembering({ keeping, open }: IssueDeps['privateKeys']): IssueDeps['privateKeys'] {
  const known = new Map<string, string>();
  return {
    keeping(name, pem) {
      known.set(name, pem);
      return keeping(name, pem);
    },
    open: async (name) => known.get(name) ?? open(name),
  };
}

/** What issuance asks the CA about the ACME order of an order. */
interface Asking {
  read(): Promise<AcmeOrder>;
  finalize(csr: Buffer): Promise<AcmeOrder>;
  /** Whether the CA has taken a request. */
  readonly requestTaken: boolean;
}

function askAbout({ acmeOrder }: ValidatedOrder, session: AcmeSession, { signal }: Context): Asking {
  let requestTaken = false;
  return {
    read: () => notByPage(session.order(acmeOrder.url, signal)),
    async finalize(csr) {
      const state = await notByPage(session.finalize(acmeOrder.finalize, csr, signal));
      requestTaken = true;
      return state;
    },
    get requestTaken() {
      return requestTaken;
    },
  };
}

/** A proxy's 404 page is not the CA's word that the order is gone: a new one now could mean a second certificate, so it is asked again. */
async function notByPage(answer: Promise<AcmeOrder>): Promise<AcmeOrder> {
  try {
    return await answer;
  } catch (error) {
    if (!(error instanceof CertlineError) || error.code !== 'acme_order_gone' || error.evidence?.type !== undefined)
      throw error;
    throw new CertlineError('ca_protocol_error', error.message, error.evidence ? { evidence: error.evidence } : {});
  }
}

/** Finalizes an ACME order that is known to be ready; when the CA says it is not, its state decides. */
async function finalize(order: ValidatedOrder, ca: Asking, deps: IssueDeps, context: Context): Promise<AcmeOrder> {
  try {
    return await ca.finalize(csrOf(order));
  } catch (error) {
    if (!(error instanceof CertlineError)) throw error;
    if (error.code !== 'acme_order_not_ready' && error.code !== 'csr_rejected') throw error;
    const state = await ca.read();
    if (error.code === 'acme_order_not_ready') {
      // A replica of the CA that was behind; when it refuses again, an attempt is used.
      return state.status === 'ready' ? ca.finalize(csrOf(order)) : state;
    }
    // A refused key is replaced once, and only while that cannot cost a second certificate.
    if (state.status !== 'ready' || order.signing?.attempt !== 1) throw error;
    return ca.finalize(csrOf(await prepareSigning(order, 2, deps, context)));
  }
}

/** The ACME order once it is decided: valid, or an error with what to do. */
async function obtain(
  order: ValidatedOrder,
  inDoubt: boolean,
  ca: Asking,
  deps: IssueDeps,
  context: Context,
): Promise<AcmeOrder> {
  let state = inDoubt ? await ca.read() : null;
  if (state === null || state.status === 'ready') state = await finalize(order, ca, deps, context);
  if (state.status === 'processing' || state.status === 'ready') {
    const busy = ({ status }: AcmeOrder): boolean => status === 'processing' || status === 'ready';
    state = await pollInPlace({ read: ca.read, busy, code: 'acme_order_processing', context });
  }
  if (state.status === 'valid') return state;
  if (state.status === 'pending') throw new CertlineError('acme_order_invalid', 'the CA wants the names proved again');
  throw state.error ?? new CertlineError('acme_order_invalid', 'the CA gave the ACME order up without saying why');
}

/** Issuance: one ACME order becomes one certificate, whose key never left us. */
export function createIssueHandler(shared: IssueDeps): StageHandler<'issuance'> {
  return {
    async run(taken, context) {
      const { clock, signal } = context;
      const deps = { ...shared, privateKeys: remembering(shared.privateKeys) };
      const session = await deps.openSession(taken.request.account);
      // If a request was made before, finalize may have been sent: then the CA's order tells what became of it.
      const inDoubt = taken.signing !== null;
      const order = inDoubt ? taken : await prepareSigning(taken, 1, deps, context);
      const ca = askAbout(order, session, context);
      const acmeOrder = await obtain(order, inDoubt, ca, deps, context);
      if (!acmeOrder.certificate)
        throw new CertlineError('ca_protocol_error', 'the valid ACME order names no certificate');

      const pem = await session.certificate(acmeOrder.certificate, order.request.preferredChain ?? undefined, signal);
      const current = context.current();
      const privateKey = current.signing?.privateKey;
      if (!privateKey) throw new CertlineError('unexpected', 'the order has no signing request');
      const now = clock.now();
      const { names, account, keyType, replaces } = current.request;
      const privateKeyPem = await deps.privateKeys.open(privateKey);
      const seen = checkIssued({ chainPem: pem, names, privateKeyPem, requestTaken: ca.requestTaken, now });

      const [leaf = '', ...rest] = splitChain(pem);
      const { serial, thumbprint, issuer, notBefore, notAfter } = seen;
      // The id follows from the order: a second run writes the same record.
      const id = certificateId(current.id, current.epoch);
      const described = { serial, thumbprint, issuer, notBefore, notAfter, renewAt: renewalTime(notBefore, notAfter) };
      // By itself, before the order: called off meanwhile, it stays all the same.
      await deps.certificates.create(
        {
          ...{ id, order: current.id, account, names, keyType, leaf, privateKey, createdAt: now, ...described },
          ...(replaces === undefined ? {} : { replaces }),
        },
        rest.join(''),
      );
      return issued(current, id, now);
    },
  };
}
