import { CertlineError } from '#libs/errors';
import type { CaConnection } from './ca-connection.ts';
import { isChainOf, joinChain, readChain } from './chains.ts';
import type { AcmeDirectory } from './directory.ts';
import { readLinks } from './headers.ts';
import type { AccountSigner, ExternalAccountBinding } from './jws.ts';
import type { AcmeCall, AcmeOperation } from './operations.ts';
import {
  type AcmeChallenge,
  type AcmeOrder,
  type Authorization,
  accountResourceSchema,
  authorizationSchema,
  challengeSchema,
  orderSchema,
  type RenewalInfo,
  readResource,
  readTimed,
  renewalInfoSchema,
  unreadable,
} from './resources.ts';
import type { TransportAnswer } from './transport.ts';
import { orderError } from './validation-problems.ts';

export type { AcmeChallenge, AcmeOrder, Authorization } from './resources.ts';

export interface AcmeAccount {
  url: string;
  status: 'valid' | 'deactivated' | 'revoked';
}

/**
 * An account at work at its CA. Every method is one request, or a few more where the CA refuses a nonce; all throw `CertlineError`s with the plan
 * for the stage, or the signal's reason when it is aborted. Nothing is repeated after a lost answer: the order's state machine reads the ACME order
 * and goes on from there.
 */
export interface AcmeSession {
  /** Null until it is known. */
  readonly accountUrl: string | null;
  directory(signal?: AbortSignal): Promise<AcmeDirectory>;
  /** newAccount (RFC 8555 §7.3). A key that the CA knows gets its account back, as it is. */
  register(
    registration: {
      email: string | null;
      termsOfServiceAgreed: boolean;
      eab?: ExternalAccountBinding;
    },
    signal?: AbortSignal,
  ): Promise<AcmeAccount>;
  /** The account of the key (§7.3.1), or null when the CA has none. */
  findAccount(signal?: AbortSignal): Promise<AcmeAccount | null>;
  /** Replaces the contact (§7.3.2); null leaves none. */
  updateContact(email: string | null, signal?: AbortSignal): Promise<AcmeAccount>;
  /**
   * newOrder (§7.4). `replaces` is the ARI id of a certificate (RFC 9773 §5); where the CA refuses that, it is asked once more without, after
   * `onPlain`, which may throw.
   */
  newOrder(
    wanted: {
      names: readonly string[];
      profile?: string;
      replaces?: string;
      onPlain?(refusal: CertlineError): Promise<void>;
    },
    signal?: AbortSignal,
  ): Promise<{ url: string; order: AcmeOrder }>;
  /** What the CA suggests about renewing a certificate (RFC 9773 §4.3), by its id there; null where it suggests nothing. */
  renewalInfo(id: string, signal?: AbortSignal): Promise<RenewalInfo | null>;
  order(url: string, signal?: AbortSignal): Promise<AcmeOrder>;
  authorization(url: string, signal?: AbortSignal): Promise<Authorization>;
  /** Tells the CA to look (§7.5.1); `acme_order_not_ready` when the challenge is no longer pending: read the authorization. */
  answerChallenge(url: string, signal?: AbortSignal): Promise<AcmeChallenge>;
  /** @param csrDer PKCS#10 in DER (§7.4) */
  finalize(finalizeUrl: string, csrDer: Uint8Array, signal?: AbortSignal): Promise<AcmeOrder>;
  /**
   * The certificate and its issuers in PEM (§7.4.2): the chain under or through a CA named `preferredChain` if the CA has one, else its default.
   */
  certificate(url: string, preferredChain?: string | null, signal?: AbortSignal): Promise<string>;
  /** @param reason a CRLReason of RFC 5280 §5.3.1 (RFC 8555 §7.6) */
  revoke(certificateDer: Uint8Array, reason?: number, signal?: AbortSignal): Promise<void>;
  /** What answers a challenge with this token (§8.1). */
  keyAuthorization(token: string): string;
}

const maxAlternateChains = 10;

const contactOf = (email: string | null) => (email ? [`mailto:${email}`] : []);

/** A session over shared connections; `createAcmeConnections` calls it. */
export function openSession(ca: CaConnection, signer: AccountSigner, knownUrl: string | null): AcmeSession {
  let accountUrl = knownUrl;

  /** Signed with the key itself: for requests that come before the account is known. */
  const postByKey = (call: AcmeCall, payload: unknown, signal?: AbortSignal) =>
    ca.post(call, (nonce) => signer.signRequest({ url: call.url, nonce, kid: null, payload }), signal);

  /** Signed in the name of the account; a null payload reads (POST-as-GET, §6.3). */
  async function post(call: AcmeCall, payload: unknown, signal?: AbortSignal) {
    const kid = accountUrl ?? (await lookUp(signal));
    return ca.post(call, (nonce) => signer.signRequest({ url: call.url, nonce, kid, payload }), signal);
  }

  async function lookUp(signal?: AbortSignal): Promise<string> {
    const found = await findAccount(signal);
    if (found) return found.url;
    throw new CertlineError('account_missing_at_ca', 'The CA has no account with this key.');
  }

  function takeAccount(answer: TransportAnswer, call: AcmeCall): AcmeAccount {
    const { status } = readResource(accountResourceSchema, answer, call);
    accountUrl = locationOf(answer, call);
    return { url: accountUrl, status };
  }

  async function findAccount(signal?: AbortSignal) {
    const { newAccount } = await ca.directory(signal);
    const call: AcmeCall = { operation: 'newAccount', url: newAccount };
    try {
      const payload = { onlyReturnExisting: true };
      return takeAccount(await postByKey(call, payload, signal), call);
    } catch (error) {
      const missing = error instanceof CertlineError && error.code === 'account_missing_at_ca';
      if (missing) return null;
      throw error;
    }
  }

  async function readOrder(
    operation: AcmeOperation,
    url: string,
    payload: unknown,
    signal?: AbortSignal,
  ): Promise<AcmeOrder> {
    const call = { operation, url };
    const answer = await post(call, payload, signal);
    return takeOrder(answer, call);
  }

  function takeOrder(answer: TransportAnswer, call: AcmeCall): AcmeOrder {
    const { error, ...order } = readTimed(orderSchema, answer, call, ca.clock.now());
    const names = order.identifiers.map(({ value }) => value);
    return { ...order, error: error === null ? null : orderError(names, error, ca.clock.now()) };
  }

  async function chainAt(url: string, signal?: AbortSignal) {
    const call = { operation: 'certificate', url } as const;
    const answer = await post(call, null, signal);
    const chain = readChain(answer.body);
    if (chain.length === 0) throw unreadable(answer, call, 'no PEM chain');
    return { chain, alternates: readLinks(answer.headers, 'alternate', url) };
  }

  return {
    get accountUrl() {
      return accountUrl;
    },
    directory: (signal) => ca.directory(signal),
    async register({ email, termsOfServiceAgreed, eab }, signal) {
      const { newAccount } = await ca.directory(signal);
      const call: AcmeCall = {
        operation: 'newAccount',
        url: newAccount,
        eab: eab !== undefined,
      };
      const binding = eab && signer.bindExternalAccount(newAccount, eab);
      const payload = {
        contact: contactOf(email),
        termsOfServiceAgreed,
        ...(binding ? { externalAccountBinding: binding } : {}),
      };
      return takeAccount(await postByKey(call, payload, signal), call);
    },
    findAccount,
    async updateContact(email, signal) {
      const url = accountUrl ?? (await lookUp(signal));
      const call: AcmeCall = { operation: 'account', url };
      const answer = await post(call, { contact: contactOf(email) }, signal);
      const { status } = readResource(accountResourceSchema, answer, call);
      return { url, status };
    },
    async newOrder({ names, profile, replaces, onPlain }, signal) {
      const { newOrder: url } = await ca.directory(signal);
      const call: AcmeCall = { operation: 'newOrder', url, profile: profile !== undefined };
      const payload = {
        identifiers: names.map((value) => ({ type: 'dns', value })),
        ...(profile === undefined ? {} : { profile }),
      };
      const plain = () => post(call, payload, signal);
      const answer = await (replaces === undefined
        ? plain()
        : // What it replaces is a wish: one that is refused, as after a lost answer, costs the exemption from limits and not the certificate.
          post({ ...call, replaces: true }, { ...payload, replaces }, signal).catch(async (thrown: unknown) => {
            if (!(thrown instanceof CertlineError && thrown.code === 'already_replaced')) throw thrown;
            await onPlain?.(thrown);
            return plain();
          }));
      return {
        url: locationOf(answer, call),
        order: takeOrder(answer, call),
      };
    },
    async renewalInfo(id, signal) {
      const { renewalInfo } = await ca.directory(signal);
      if (renewalInfo === undefined) return null;
      const call = { operation: 'renewalInfo', url: `${renewalInfo.replace(/\/$/, '')}/${id}` } as const;
      return readTimed(renewalInfoSchema, await ca.get(call, signal), call, ca.clock.now());
    },
    order: (url, signal) => readOrder('order', url, null, signal),
    async authorization(url, signal) {
      const call = { operation: 'authorization', url } as const;
      const answer = await post(call, null, signal);
      return readTimed(authorizationSchema, answer, call, ca.clock.now());
    },
    async answerChallenge(url, signal) {
      const call = { operation: 'challenge', url } as const;
      const answer = await post(call, {}, signal);
      return readTimed(challengeSchema, answer, call, ca.clock.now());
    },
    finalize(finalizeUrl, csrDer, signal) {
      const csr = Buffer.from(csrDer).toString('base64url');
      return readOrder('finalize', finalizeUrl, { csr }, signal);
    },
    async certificate(url, preferredChain, signal) {
      const { chain, alternates } = await chainAt(url, signal);
      if (!preferredChain || isChainOf(chain, preferredChain)) return joinChain(chain);
      for (const alternate of alternates.slice(0, maxAlternateChains)) {
        try {
          const other = await chainAt(alternate, signal);
          if (isChainOf(other.chain, preferredChain)) return joinChain(other.chain);
        } catch (error) {
          // the certificate is there: a chain that is not must not hold it up
          if (!(error instanceof CertlineError)) throw error;
          ca.log?.warn({ url: alternate, code: error.code }, 'an alternate chain could not be read');
        }
      }
      ca.log?.warn({ url, preferredChain }, 'the CA has no chain of that name; its default is used');
      return joinChain(chain);
    },
    async revoke(certificateDer, reason, signal) {
      const { revokeCert: url } = await ca.directory(signal);
      if (url === undefined) {
        throw new CertlineError('ca_protocol_error', 'The CA’s directory has no revokeCert.', {
          plan: { kind: 'permanent' },
        });
      }
      const certificate = Buffer.from(certificateDer).toString('base64url');
      const payload = {
        certificate,
        ...(reason === undefined ? {} : { reason }),
      };
      await post({ operation: 'revokeCert', url }, payload, signal);
    },
    keyAuthorization: (token) => signer.keyAuthorization(token),
  };
}

/** The URL of what was made (§7.4, §7.3). */
function locationOf(answer: TransportAnswer, call: AcmeCall): string {
  const { location } = answer.headers;
  if (!location || !URL.canParse(location, call.url)) throw unreadable(answer, call, 'no Location');
  return new URL(location, call.url).href;
}
