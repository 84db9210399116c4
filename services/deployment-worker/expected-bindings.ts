import { carriersAfter } from '#libs/iis/carriers';
import type { HostState } from '#libs/iis/iis-host';
import { bindingKey, type Expectation } from '#libs/model/drift';
import type { TargetDeploy } from '#libs/model/order';
import type { Job } from './plan-orders.ts';

/** The deployment as it would be asked for again: without what was for this one time. */
export function lastingDeploy({ planHash: _hash, only: _only, ...deploy }: TargetDeploy): TargetDeploy {
  return deploy;
}

/**
 * What a host should have once a job is done on it: `kept` where it has the certificate then, `gone` where a binding was removed. A place
 * that had the certificate before keeps its expectation, with the order that brought it there. Nothing of a certificate that is only
 * imported: a host does not tell what is in its stores.
 */
export function expectationsOf(
  { order, deploy, opened, plan }: Pick<Job, 'order' | 'deploy' | 'opened' | 'plan'>,
  before: HostState,
  expected: readonly Expectation[],
  now: number,
): { kept: Expectation[]; gone: string[] } {
  const gone = plan.changes.filter(({ op }) => op === 'remove').map(bindingKey);
  if (deploy.mode === 'store') return { kept: [], gone };
  const { id: certificate, thumbprint } = opened.certificate;
  const asBefore = new Map(expected.filter((one) => one.thumbprint === thumbprint).map((one) => [one.place, one]));
  const kept = carriersAfter(before, plan.changes, thumbprint, deploy).flatMap((carrier) => {
    const place = bindingKey(carrier);
    const { changed, store, sslFlags } = carrier;
    if (!changed && asBefore.get(place)?.store === store) return [];
    return [
      {
        ...{ place, order: order.id, certificate, thumbprint, store, sslFlags },
        ...{ deploy: lastingDeploy(deploy), at: now },
      },
    ];
  });
  return { kept, gone };
}
