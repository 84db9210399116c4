import type { HostState } from '#libs/iis/iis-host';
import { createLabHost } from '#libs/iis/lab-host';
import type { Target } from '#libs/model/target';
import type { HostRequests } from '#libs/queues/host-requests';
import type { TestStep } from '#libs/targets/certificate-target';

/** What the API asks of a target: it changes none. Only IIS hosts can be read. */
export interface ReadableHost {
  read(signal: AbortSignal): Promise<HostState>;
  test(signal: AbortSignal): Promise<TestStep[]>;
}
export type OpenHost = (target: Target) => ReadableHost;

/**
 * Targets as the API sees them. It holds no secret of one and need not reach it: a deployment worker of the target's pool looks for it.
 * The simulated host answers anybody on this machine.
 */
export function createHostOpener(requests: HostRequests): OpenHost {
  return (target) => {
    if (target.kind === 'iis' && target.transport.kind === 'lab') return createLabHost(target.transport);
    return {
      read: (signal) => requests.read(target, signal),
      test: (signal) => requests.test(target, signal),
    };
  };
}
