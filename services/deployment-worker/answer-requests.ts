import { CertlineError } from '#libs/errors';
import type { IisHost } from '#libs/iis/iis-host';
import type { IisTarget, Target } from '#libs/model/target';
import type { DriftLooks } from '#libs/queues/drift-looks';
import type { HostAsker } from '#libs/queues/host-requests';
import type { ChallengeListeners } from './challenge-listeners.ts';
import type { OpenTarget } from './open-target.ts';

export interface AnswerDeps {
  findTarget(id: string): Promise<Target | null>;
  openHost(target: IisTarget): IisHost;
  openTarget: OpenTarget;
  looks: DriftLooks;
  listeners: ChallengeListeners;
}

/** Reads or tests a target, looks for drift of it, or has it answer challenges, for a process that does not open any. */
export function createHostAsker({ findTarget, openHost, openTarget, looks, listeners }: AnswerDeps): HostAsker {
  return async (asked, targetId, signal) => {
    const { question } = asked;
    const target = await findTarget(targetId);
    if (target === null) throw new CertlineError('target_unknown', `there is no target ${targetId}`);
    if (question === 'drift') return looks.look(target, signal);
    if (target.kind !== 'iis') {
      if (question === 'test') return (await openTarget(target)).test(signal);
      throw new CertlineError('request_invalid', `${target.name} is of kind ${target.kind}: it has no sites`);
    }
    if (question === 'listen') return listeners.listen(target, asked.listener, signal);
    const host = openHost(target);
    try {
      switch (question) {
        case 'read':
          return await host.read(signal);
        case 'test':
          return await host.test(signal);
        case 'write-challenge': {
          const { site: siteId, ...file } = asked.file;
          return await host.writeChallenge({ siteId, ...file }, signal);
        }
        case 'remove-challenge':
          return await host.removeChallenge({ siteId: asked.file.site, token: asked.file.token }, signal);
      }
    } finally {
      await host.close?.();
    }
  };
}
