import type { KeyObject } from 'node:crypto';
import { createRootCa } from '../../services/lab/certificate-authority.ts';
import {
  problem,
  type ScriptedCa,
  type ScriptedCaOptions,
  type SeenRequest,
  startScriptedCa,
  type UsualAnswer,
} from './scripted-ca.ts';
import { readTestRequest } from './test-request.ts';

type OrderStatus = 'pending' | 'ready' | 'processing' | 'valid' | 'invalid';
type AuthorizationStatus = 'pending' | 'valid' | 'invalid' | 'deactivated' | 'expired' | 'revoked';

export interface CaAuthorization {
  id: string;
  name: string;
  status: AuthorizationStatus;
  error: object | null;
  /** The type of the challenge that the CA was told to look at, if it was. */
  told: string | null;
}

/** An ACME order as the CA has it; a test may change it at any time. */
export interface CaOrder {
  id: string;
  status: OrderStatus;
  error: object | null;
  authorizations: CaAuthorization[];
  /** Ms since the epoch. */
  expires: number | null;
  /** Whether the CA has purged it: it answers 404 to all that is asked about it. */
  forgotten: boolean;
  /** PEM of what was issued. */
  certificate: string | null;
}

/** What a CA is asked to certify. */
export interface Certified {
  names: readonly string[];
  key: KeyObject;
}

/** A CA that issues: a scripted one whose usual answers follow RFC 8555, and which believes every challenge at once. */
export interface IssuingCa extends ScriptedCa {
  readonly orders: CaOrder[];
  /** How many requests of an operation came. */
  count(operation: SeenRequest['operation']): number;
  /** Called when the CA is told to look at a challenge, instead of believing it. */
  onChallenge: ((order: CaOrder, authorization: CaAuthorization) => void) | null;
  /** Answers an equal newOrder with the ACME order that is open already, as Let's Encrypt does. */
  reusesOrders: boolean;
  /** What orders are after finalize; the certificate is there with `valid`. */
  afterFinalize: OrderStatus;
  /** Makes the PEM chain of a certificate: the right one, unless a test has its own. */
  certify(request: Certified): string;
  /** Further chains of each certificate, which the answer with the first one links to (RFC 8555 §7.4.2). */
  alternates: ((request: Certified) => string)[];
  /** What the CA makes of whoever signs as the account. */
  account: 'valid' | 'deactivated' | 'unknown';
  /** Terms that the account has to agree to before anything else; null when it has. */
  newTerms: string | null;
  /** Moves newNonce, newAccount and newOrder: the directory has them at other addresses, and there is nothing at the earlier ones. */
  move(): void;
}

/** The token of an authorization's challenges. */
export const tokenOf = (authorization: string): string => `token-${authorization}`;

const root = createRootCa();
export const issuer = root.intermediate('Test Intermediate');
/** The same intermediate under another root. */
export const crossSigned = createRootCa('Other Root').intermediate('Test Intermediate', { key: issuer.privateKey });

/** `challenges`: the types that it offers. */
export async function startIssuingCa(
  options: Omit<ScriptedCaOptions, 'usual'> & { challenges?: readonly string[] } = {},
): Promise<IssuingCa> {
  const { challenges: types = ['http-01'], ...scriptedOptions } = options;
  const orders: CaOrder[] = [];
  const certified = new Map<string, Certified>();
  let generation = 0;
  const find = (id: string): CaOrder => {
    const order = orders.find((one) => one.id === id.split('-')[0]);
    if (!order) throw new Error(`the CA has no order ${id}`);
    return order;
  };
  const authorizationOf = (id: string) => {
    const order = find(id);
    const authorization = order.authorizations.find((one) => one.id === id);
    if (!authorization) throw new Error(`the CA has no authorization ${id}`);
    return { order, authorization };
  };

  const orderBody = (order: CaOrder, base: string): object => ({
    status: order.status,
    identifiers: order.authorizations.map(({ name }) => ({ type: 'dns', value: name })),
    authorizations: order.authorizations.map(({ id }) => `${base}/authorization/${id}`),
    finalize: `${base}/finalize/${order.id}`,
    ...(order.status === 'valid' ? { certificate: `${base}/certificate/${order.id}` } : {}),
    ...(order.error === null ? {} : { error: order.error }),
    ...(order.expires === null ? {} : { expires: new Date(order.expires).toISOString() }),
  });
  const challengeBody = ({ id, status, error, told }: CaAuthorization, type: string, base: string): object => {
    const decided = (status === 'valid' || status === 'invalid') && (told ?? type) === type;
    return {
      ...{ type, url: `${base}/challenge/${id}.${type}`, token: tokenOf(id) },
      status: decided ? status : told === type ? 'processing' : 'pending',
      ...(decided && error !== null ? { error } : {}),
    };
  };

  const at = (path: string): string => (generation === 0 ? path : `${path}/${generation}`);
  const newAddresses = ['newNonce', 'newAccount', 'newOrder'] as const;
  const notFound: UsualAnswer = { status: 404, body: problem('malformed', 'there is nothing at this address') };

  /** What is refused before anybody looks at what is asked. */
  function refused({ operation, id, nonce, jwk }: SeenRequest): UsualAnswer | null {
    const isMoved =
      newAddresses.some((one) => one === operation) && id !== (generation === 0 ? '' : String(generation));
    const isGone = ['order', 'authorization', 'challenge', 'finalize', 'certificate'].includes(operation);
    if (isMoved || (isGone && find(id.split('.')[0] ?? '').forgotten)) return notFound;
    if (nonce === undefined || jwk !== undefined) return null;
    const { account, newTerms } = ca;
    // As Boulder says it.
    const words = `Account is not valid, has status "${account}"`;
    if (account === 'deactivated') return { status: 403, body: problem('unauthorized', words) };
    if (account === 'unknown') return { status: 400, body: problem('accountDoesNotExist', 'no such account') };
    if (newTerms === null) return null;
    const link = `<${newTerms}>; rel="terms-of-service"`;
    return { status: 403, headers: { link }, body: problem('userActionRequired', 'the terms have changed') };
  }

  const answers: Partial<Record<SeenRequest['operation'], (request: SeenRequest, base: string) => UsualAnswer>> = {
    directory: (_, base) => ({
      ...{ status: 200 },
      body: Object.fromEntries(newAddresses.map((one) => [one, `${base}/${at(one)}`])),
    }),
    newOrder({ payload }, base) {
      const names = (payload as { identifiers: { value: string }[] }).identifiers.map(({ value }) => value);
      const equal = orders.find(
        ({ status, authorizations }) =>
          (status === 'pending' || status === 'ready') &&
          authorizations.map(({ name }) => name).join() === names.join(),
      );
      if (ca.reusesOrders && equal) {
        return { status: 201, headers: { location: `${base}/order/${equal.id}` }, body: orderBody(equal, base) };
      }
      const id = String(orders.length + 1);
      const order: CaOrder = {
        ...{ id, status: 'pending', error: null, expires: null, forgotten: false, certificate: null },
        authorizations: names.map((name, i) => ({
          id: `${id}-${i}`,
          name,
          status: 'pending',
          error: null,
          told: null,
        })),
      };
      orders.push(order);
      return { status: 201, headers: { location: `${base}/order/${id}` }, body: orderBody(order, base) };
    },
    order: ({ id }, base) => ({ status: 200, body: orderBody(find(id), base) }),
    authorization({ id }, base) {
      const { authorization } = authorizationOf(id);
      const { name, status } = authorization;
      const challenges = types.map((type) => challengeBody(authorization, type, base));
      return { status: 200, body: { status, identifier: { type: 'dns', value: name }, challenges } };
    },
    challenge({ id: challenge }, base) {
      const [id = '', type = ''] = challenge.split('.');
      const { order, authorization } = authorizationOf(id);
      authorization.told = type;
      if (ca.onChallenge) ca.onChallenge(order, authorization);
      else authorization.status = 'valid';
      if (order.authorizations.every(({ status }) => status === 'valid')) order.status = 'ready';
      return { status: 200, body: challengeBody(authorization, type, base) };
    },
    finalize({ id, payload }, base) {
      const order = find(id);
      if (order.status !== 'ready')
        return { status: 403, body: problem('orderNotReady', `the order is ${order.status}`) };
      order.status = ca.afterFinalize;
      const { csr } = payload as { csr: string };
      const { names, publicKey: key } = readTestRequest(Buffer.from(csr, 'base64url'));
      certified.set(id, { names, key });
      order.certificate = ca.certify({ names, key });
      return { status: 200, body: orderBody(order, base) };
    },
    certificate({ id }, base) {
      const [own = '', alternate] = id.split('.');
      const request = certified.get(own);
      if (alternate !== undefined && request)
        return { status: 200, body: ca.alternates[Number(alternate)]?.(request) ?? '' };
      const link = ca.alternates.map((_, i) => `<${base}/certificate/${own}.${i}>; rel="alternate"`).join(', ');
      return { status: 200, headers: link === '' ? {} : { link }, body: find(own).certificate ?? '' };
    },
  };

  const scripted = await startScriptedCa({
    ...scriptedOptions,
    usual: (request, base) => refused(request) ?? answers[request.operation]?.(request, base) ?? null,
  });
  const ca: IssuingCa = Object.assign(scripted, {
    orders,
    count: (operation: SeenRequest['operation']) => scripted.seen.filter((one) => one.operation === operation).length,
    onChallenge: null,
    reusesOrders: false,
    afterFinalize: 'valid' as const,
    certify: ({ names, key }: Certified) => issuer.issue({ names, key }) + issuer.chainPem,
    alternates: [],
    account: 'valid' as const,
    newTerms: null,
    move: () => {
      generation += 1;
    },
  });
  return ca;
}
