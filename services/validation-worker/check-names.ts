import type { HttpCheck } from '#libs/challenges/http-check';
import type { Webroots } from '#libs/challenges/webroots';
import type { Clock } from '#libs/clock';
import type { CaaChecks } from '#libs/dns/caa-checks';
import { CertlineError } from '#libs/errors';
import { type Account, knownCas } from '#libs/model/account';
import { methodFor } from '#libs/model/challenge-method';
import { findAddresses, NoAddress } from '#libs/outgoing/addresses';
import { isPublicAddress } from '#libs/outgoing/public-address';
import type { HostRequests } from '#libs/queues/host-requests';
import type { ValidationAnswers } from '#libs/queues/validation-requests';
import type { AccountSession } from '#libs/service/account-sessions';
import type { DnsAccess } from '#libs/service/dns-access';
import { sideBySide } from '#libs/side-by-side';
import type { Store } from '#libs/store/store';
import type { BudgetGuard } from './budget-guard.ts';
import { createCaaLook } from './checks/caa.ts';
import { createDnsLook } from './checks/dns.ts';
import { createLooks } from './checks/finding.ts';
import { createHttpLook } from './checks/http.ts';
import type { Outlook } from './outlook.ts';
import type { FindReplacement } from './replacement.ts';

export interface NameChecksDeps {
  store: Pick<Store, 'accounts' | 'challengeAnswers' | 'targets'>;
  outlook: Pick<Outlook, 'resolver' | 'zones'>;
  /** Null where nobody looks (CAA_CHECK). */
  caa: CaaChecks | null;
  budget: Pick<BudgetGuard, 'look'>;
  replacementOf: FindReplacement;
  clock: Clock;
  httpCheck: HttpCheck;
  /** Port that the CA will ask for http-01. */
  httpPort: number;
  dns: DnsAccess;
  requests: Pick<HostRequests, 'read'>;
  webroots: Pick<Webroots, 'look'>;
  openSession(account: string): Promise<AccountSession>;
}

/** Names looked at together. */
const together = 4;
/** For all names, ms: less than whoever asks waits. */
const allMs = 50_000;

/** Whether a CA comes from the internet: one in the private network may well get to addresses there. */
async function isPublicCa(account: Account | null, signal: AbortSignal): Promise<boolean> {
  if (account === null || account.allowInternalNames) return false;
  if (Object.values(knownCas).some((known) => known === account.directory)) return true;
  try {
    // Refused is then a public one without TLS.
    const rules = { allowPrivate: true, plain: 'private' } as const;
    return (await findAddresses(new URL(account.directory), rules, signal)).some(isPublicAddress);
  } catch (thrown) {
    if (thrown instanceof NoAddress) return thrown.refused;
    throw thrown;
  }
}

/** What of an order would fail before its names are proved, for each of them. Writes nothing but an answer to http-01, which it takes away. */
export function createNameChecks(deps: NameChecksDeps): ValidationAnswers['check'] {
  const { store, outlook, budget, clock, httpCheck: check, httpPort: port, requests, webroots } = deps;
  return async (request, asker) => {
    const account = await store.accounts.get(request.account);
    const looks = createLooks(asker, allMs);
    const caIsPublic = isPublicCa(account, looks.signal);
    // It is awaited by the looks, if at all.
    caIsPublic.catch(() => {});
    const lookAtCaa = createCaaLook(deps, { request, account, looks });
    const http = createHttpLook({ ...outlook, looks, caIsPublic, check, port, store, requests, webroots });
    const lookAtDns = createDnsLook({ ...outlook, looks, dns: deps.dns, accountUrl: account?.url ?? '' });
    const [first = ''] = request.names;
    await looks.look(first, 'budget', async (signal) => {
      if (account === null) throw new CertlineError('account_unknown', `there is no account ${request.account}`);
      if (request.replaces !== undefined) {
        const replacement = await deps.replacementOf(request, await deps.openSession(account.id), clock.now(), signal);
        if (replacement?.isExempt)
          return 'the CA suggests to replace the certificate now, and holds such an order for no limit';
      }
      const shortage = await budget.look(request, account, clock.now());
      if (shortage) throw shortage;
      return 'the limits of the CA allow it now';
    });
    try {
      await sideBySide(request.names, together, async (name) => {
        const method = methodFor(request, name);
        const lookAtMethod = method?.type === 'http-01' ? http.look(name, method) : method && lookAtDns(name, method);
        await Promise.all([lookAtCaa(name), lookAtMethod]);
      });
    } finally {
      await http.end();
    }
    return looks.findings;
  };
}
