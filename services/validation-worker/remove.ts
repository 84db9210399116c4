import type { Webroots } from '#libs/challenges/webroots';
import type { HostRequests } from '#libs/queues/host-requests';
import type { DnsAccess } from '#libs/service/dns-access';
import type { CleanUp } from '#libs/store/clean-ups';
import type { Store } from '#libs/store/store';
import { requireTarget } from './answering-hosts.ts';

export interface RemoverDeps {
  dns: Pick<DnsAccess, 'open'>;
  store: Pick<Store, 'targets'>;
  requests: Pick<HostRequests, 'removeChallenge'>;
  webroots: Webroots;
}

/** Takes away what was written for a challenge, by what it was written with. */
export function createRemover({
  dns,
  store,
  requests,
  webroots,
}: RemoverDeps): (one: CleanUp, signal: AbortSignal) => Promise<void> {
  return async (one, signal) => {
    switch (one.kind) {
      case 'dns': {
        const { zone, record: name, value } = one;
        const provider = await dns.open(one.credential);
        return provider.cleanUp({ zone, name, value }, signal);
      }
      case 'target': {
        const { site, token } = one;
        return requests.removeChallenge(await requireTarget(store, one.target), { site, token }, signal);
      }
      case 'webroot':
        return webroots.remove(one.folder, one.token);
    }
  };
}
