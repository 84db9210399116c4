import { createHash } from 'node:crypto';
import { createAcmeConnections } from '#libs/acme/connections';
import type { AcmeSession } from '#libs/acme/session';
import { CertlineError } from '#libs/errors';
import { type Account, caLabel } from '#libs/model/account';
import type { CaLimits } from '#libs/model/ca-limits';
import { createPrivateKeys } from '#libs/store/private-keys';
import { createRequestPermits } from '#libs/store/request-permits';
import type { SecretBox } from '#libs/store/secret-box';
import { version } from '#libs/version';
import type { Resources } from './resources.ts';

/** A session with the account as it was when the session was opened. */
export interface AccountSession extends AcmeSession {
  readonly account: Account;
}

/** ACME sessions of stored accounts, over connections that all of them share. */
export interface AccountSessions {
  /** A session to order with. Throws `account_unknown`, or the reason why the account is parked. */
  open(accountId: string): Promise<AccountSession>;
  /** A session of an account as it is: to register it. */
  of(account: Account): Promise<AcmeSession>;
  close(): Promise<void>;
}

/** Name of an account's sealed key: known before the account is, so that a registration that was cut off goes on with the same key. */
export function accountKeyName({ directory, email }: Pick<Account, 'directory' | 'email'>): string {
  return `account-key.${createHash('sha256').update(`${directory} ${email.toLowerCase()}`).digest('base64url')}`;
}

/** @param limits of the CAs, by directory URL */
export function createAccountSessions(
  resources: Resources,
  box: SecretBox,
  limits: ReadonlyMap<string, CaLimits>,
): AccountSessions {
  const { redis, store, clock, metrics, log } = resources;
  const privateKeys = createPrivateKeys(store.secrets, box);
  const connections = createAcmeConnections({
    clock,
    userAgentVersion: version,
    log,
    permit: createRequestPermits({
      ...{ redis, keys: store.keys, limits, clock },
      waited: (directory, limit, seconds) =>
        metrics.acmeRequestWait.observe({ ca: caLabel(directory), limit }, seconds),
    }),
    observe(directory, operation, status, seconds) {
      const ca = caLabel(directory);
      metrics.acmeRequests.inc({ ca, operation, status: String(status) });
      metrics.acmeRequestDuration.observe({ ca, operation }, seconds);
    },
  });
  const keys = new Map<string, string>();

  async function of(account: Account): Promise<AcmeSession> {
    const { id, directory, caBundle, url } = account;
    const accountKeyPem = keys.get(id) ?? (await privateKeys.open(accountKeyName(account)));
    keys.set(id, accountKeyPem);
    return connections.session({ directoryUrl: directory, caBundle, accountKeyPem, accountUrl: url });
  }

  return {
    of,
    async open(accountId) {
      const account = await store.accounts.get(accountId);
      if (account === null) throw new CertlineError('account_unknown', `there is no account ${accountId}`);
      if (account.parked) {
        const { code, detail } = account.parked;
        throw new CertlineError(code, detail, { plan: { kind: 'park' } });
      }
      if (account.url === null) throw new CertlineError('account_missing_at_ca', `${accountId} is not registered yet`);
      return Object.assign(await of(account), { account });
    },
    close: () => connections.close(),
  };
}
