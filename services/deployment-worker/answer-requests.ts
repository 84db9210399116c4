import { CertlineError } from '#libs/errors';
import type { IisHost } from '#libs/iis/iis-host';
import type { IisTarget, Target } from '#libs/model/target';
import type { DriftLooks } from '#libs/queues/drift-looks';
import type { HostAsker } from '#libs/queues/host-requests';
import type { OpenTarget } from './open-target.ts';

export interface AnswerDeps {
  findTarget(id: string): Promise<Target | null>;
  openHost(target: IisTarget): IisHost;
  openTarget: OpenTarget;
  looks: DriftLooks;
}

/** Reads or tests a target, or looks for drift of it, for a process that does not open any. */
export function createHostAsker({ findTarget, openHost, openTarget, looks }: AnswerDeps): HostAsker {
  return async (question, targetId, signal) => {
    const target = await findTarget(targetId);
    if (target === null) throw new CertlineError('target_unknown', `there is no target ${targetId}`);
    if (question === 'drift') return looks.look(target, signal);
    if (target.kind !== 'iis') {
      if (question === 'test') return (await openTarget(target)).test(signal);
      throw new CertlineError('request_invalid', `${target.name} is of kind ${target.kind}: it has no sites`);
    }
    const host = openHost(target);
    try {
      return await (question === 'read' ? host.read(signal) : host.test(signal));
    } finally {
      await host.close?.();
    }
  };
}
