import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import { createLogger } from '#libs/logging';
import type { Certificate } from '#libs/model/certificate';
import type { Target } from '#libs/model/target';
import { newDeployment } from '#libs/model/transitions';
import type { TargetOutcome } from '#libs/queues/handler';
import type { CertificateTarget, DeployContext } from '#libs/targets/certificate-target';
import { createDeliverHandler, type DeliverDeps } from '../../../services/deployment-worker/deliver.ts';
import { fakeClock } from '../../support/fake-clock.ts';
import { orderRequest } from '../../support/sample-orders.ts';

const folder: Target = {
  ...{ id: 'tgt_1', name: 'files', kind: 'folder', path: '/srv', pfx: null, command: null },
  ...{ pool: 'default', windows: [], drift: 'report' as const, createdAt: 0 },
};
const certificate: Certificate = {
  ...{ id: 'crt_1', order: 'ord_1', account: 'acc_1', names: ['a.example.com'], keyType: 'ec-p256', serial: '01' },
  ...{ issuer: 'CA', thumbprint: 'AB', notBefore: 0, notAfter: 1, renewAt: 1, createdAt: 1, leaf: 'leaf', chain: 'c' },
  privateKey: 'k',
};
const orderOf = (id: string) => newDeployment(id, orderRequest(), `crt_of_${id}`, 0);

/** What becomes of orders at a target that does this with each. */
async function outcomes(
  deploy: (certificate: string, context: DeployContext) => Promise<void>,
  changes: Partial<DeliverDeps> = {},
  { ids = ['ord_1', 'ord_2', 'ord_3'], signal = new AbortController().signal } = {},
): Promise<string[]> {
  const target: CertificateTarget = {
    async deploy({ id }, context) {
      await deploy(id, context);
      return { changed: true, detail: 'done' };
    },
    check: async () => expect.fail('nobody checks'),
    test: async () => expect.fail('nobody tests'),
  };
  const handler = createDeliverHandler({
    findTarget: async () => folder,
    openTarget: async () => target,
    certificates: { get: async (id) => ({ ...certificate, id }) },
    orders: { get: async () => expect.fail('no order is a part of another') },
    expectations: { of: async () => [], recording: () => [] },
    openCertificate: async (id) => ({ certificate: { ...certificate, id }, privateKeyPem: 'key', chainPem: 'chain' }),
    ...changes,
  });
  const context = { clock: fakeClock(), log: createLogger('test', 'silent'), signal };
  const words = (one: TargetOutcome): string =>
    `${one.id} ${'deployed' in one ? one.deployed.status : `${one.error.code} ${one.error.plan.kind}`}`;
  return (await handler.run('tgt_1', ids.map(orderOf), context)).map(words);
}

describe('a delivery', () => {
  it('that fails holds up no other, whatever it fails with', async () => {
    const deploy = async (id: string): Promise<void> => {
      if (id === 'crt_of_ord_1') throw new CertlineError('access_denied', 'no');
      if (id === 'crt_of_ord_2') throw new Error('nobody foresaw it');
    };
    const open = async (id: string) => {
      if (id === 'crt_of_ord_4') throw new CertlineError('secret_unreadable', 'no key');
      return { certificate: { ...certificate, id }, privateKeyPem: 'key', chainPem: 'chain' };
    };
    const ids = ['ord_1', 'ord_2', 'ord_3', 'ord_4', 'ord_5'];
    expect(await outcomes(deploy, { openCertificate: open }, { ids })).toEqual([
      'ord_1 access_denied retryable',
      'ord_2 unexpected retryable',
      'ord_3 deployed',
      expect.stringMatching(/^ord_4 secret_unreadable /),
      'ord_5 deployed',
    ]);
  });

  it('is ended when it takes too long, and its command has time of its own', async () => {
    const slow = async (id: string, { signal }: DeployContext): Promise<void> => {
      if (id === 'crt_of_ord_1') await delay(60_000, null, { signal });
    };
    const late = ['ord_1 target_timeout retryable', 'ord_2 deployed', 'ord_3 deployed'];
    expect(await outcomes(slow, { deadlineMs: 20 })).toEqual(late);
    const command = { file: '/bin/true', arguments: [], timeoutSeconds: 600 };
    const findTarget = async (): Promise<Target> => ({ ...folder, command }) as Target;
    const patient = (_id: string, { signal }: DeployContext) => delay(100, undefined, { signal });
    expect(await outcomes(patient, { deadlineMs: 20, findTarget }, { ids: ['ord_1'] })).toEqual(['ord_1 deployed']);
  });

  it('is called the same in every attempt, and otherwise for another order', async () => {
    const called: string[] = [];
    const note = async (_id: string, { deployment }: DeployContext): Promise<void> => {
      called.push(deployment);
    };
    await outcomes(note, {}, { ids: ['ord_1'] });
    await outcomes(note, {}, { ids: ['ord_1', 'ord_2'] });
    expect(called).toEqual(['ord_1.1', 'ord_1.1', 'ord_2.1']);
  });

  it('is of one certificate at a time in a folder', async () => {
    let [now, most] = [0, 0];
    await outcomes(async () => {
      now += 1;
      most = Math.max(most, now);
      await delay(5);
      now -= 1;
    });
    expect(most).toBe(1);
  });

  it('is handed back when the worker stops', async () => {
    const stop = new AbortController();
    const run = outcomes(
      async (_id, { signal }) => {
        stop.abort(new Error('stopping'));
        signal.throwIfAborted();
      },
      {},
      { signal: stop.signal },
    );
    await expect(run).rejects.toThrow('stopping');
  });

  it('to a target that is gone, or whose credential is, is an error of each order', async () => {
    const never = async () => expect.fail('nothing is there to deploy to');
    const gone = await outcomes(never, { findTarget: async () => null }, { ids: ['ord_1'] });
    expect(gone).toEqual([expect.stringMatching(/^ord_1 target_unknown /)]);
    const openTarget = async () => {
      throw new CertlineError('credential_unknown', 'there is no credential');
    };
    expect(await outcomes(never, { openTarget }, { ids: ['ord_1', 'ord_2'] })).toEqual([
      'ord_1 credential_unknown permanent',
      'ord_2 credential_unknown permanent',
    ]);
  });
});
