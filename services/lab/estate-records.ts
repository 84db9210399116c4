import { randomBytes } from 'node:crypto';
import type { Account } from '#libs/model/account';
import type { OrderRequest } from '#libs/model/order';
import type { Target } from '#libs/model/target';

/** The records of a made-up installation: what hosts, accounts, names and certificates in it look like. */

const day = 86_400_000;
/** Certificates last 90 days and are renewed after 60: in an estate at rest they are up to that old. */
export const lifetimeMs = 90 * day;
export const renewalMs = 60 * day;

/** A point of [0, 1) for each number, spread evenly however many there are. */
export const spread = (index: number): number => (index * 0.618_033_988_75) % 1;

/** One name for most, four at the most: a site with `www`, and now and then further hosts of it. */
export function namesAt(index: number): string[] {
  const domain = `customer-${index + 1}.example.com`;
  const share = spread(index);
  const count = share < 0.3 ? 1 : share < 0.85 ? 2 : share < 0.95 ? 3 : 4;
  return [domain, `www.${domain}`, `shop.${domain}`, `api.${domain}`].slice(0, count);
}

export function accountAt(index: number, now: number): Account {
  const directory = `https://acme.ca-${index + 1}.example/directory`;
  return {
    ...{ id: `acc_estate${index + 1}`, ca: directory, directory, email: `certificates-${index + 1}@example.com` },
    ...{ url: `https://acme.ca-${index + 1}.example/acct/${100_000 + index}`, caBundle: null, eabKid: null },
    ...{ allowInternalNames: false, parked: null, createdAt: now },
  };
}

export function targetAt(index: number, now: number): Target {
  const name = `web${String(index + 1).padStart(4, '0')}.corp.example`;
  return {
    ...{ id: `tgt_estate${index + 1}`, name, kind: 'iis', pool: index % 10 === 9 ? 'dmz' : 'default' },
    ...{ windows: [], drift: 'report', createdAt: now - index },
    transport: {
      ...{ kind: 'ssh', host: name, port: 22, credential: 'cred_estate' },
      hostKey: `SHA256:${randomBytes(32).toString('base64').slice(0, 43)}`,
    },
  };
}

export function requestAt(index: number, account: string, target: string): OrderRequest {
  return {
    ...{ names: namesAt(index), account, challenges: [], challenge: { type: 'http-01', via: 'responder' } },
    ...{ keyType: 'rsa-2048', profile: null, preferredChain: null, source: null },
    deploy: { mode: 'site', target, site: (index % 100) + 1 },
  };
}

function pem(label: string, bytes: number): string {
  const lines =
    randomBytes(bytes)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

/**
 * What a CA answers, by its size alone: nothing in the store reads it, and to sign 100,000 certificates would take hours. As long as those of
 * Let's Encrypt for RSA-2048: a leaf of 1.3 KB and 26 bytes for each further name.
 */
export function issuedFor(names: readonly string[]) {
  return {
    leaf: pem('CERTIFICATE', 1_300 + 26 * (names.length - 1)),
    serial: randomBytes(18).toString('hex').toUpperCase(),
    thumbprint: randomBytes(20).toString('hex').toUpperCase(),
    issuer: 'R13',
  };
}

/** A chain as long as Let's Encrypt's: one intermediate. */
export const estateChain = pem('CERTIFICATE', 1_290);

/** A signing request for RSA-2048, as an order has it until its certificate is there. */
export const signingRequest = (): string => randomBytes(620).toString('base64url');

/** For what orders fail for good. */
export const failureCodes = [
  ...(['ca_wrong_answer', 'ca_connection_problem', 'ca_dns_problem'] as const),
  ...(['http01_wrong_answer', 'identifier_rejected', 'caa_forbids'] as const),
];
