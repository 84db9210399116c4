import { describe, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import type { Deployment, PendingOrder } from '#libs/model/order';
import {
  cancelled,
  deployed,
  failed,
  isCancellable,
  issued,
  newDeployment,
  newOrder,
  orderError,
  partOfRollout,
  restarted,
  resumed,
  retried,
  validated,
} from '#libs/model/transitions';
import {
  acmeOrder,
  failure,
  issuedOrder,
  orderRequest,
  pendingOrder,
  placedAt,
  validatedOrder,
} from '../../support/sample-orders.ts';

const later = placedAt + 60_000;
const presented = [
  {
    type: 'http-01' as const,
    via: 'responder' as const,
    name: 'a.example.com',
    token: 't',
    keyAuthorization: 't.k',
    expires: later,
  },
];

/** An order in the middle of its troubles. */
const troubled: PendingOrder = pendingOrder({
  version: 7,
  epoch: 3,
  attempts: { validation: 4, issuance: 1, deployment: 0 },
  restarts: 2,
  error: failure,
  nextAttemptAt: later + 5,
  parkedOn: 'acc_1',
  presented,
  identifiers: [
    { name: 'a.example.com', status: 'valid' },
    { name: 'b.example.com', status: 'invalid' },
  ],
  acmeOrder,
});
/** What a transition leaves alone. */
const kept = { id: 'ord_1', version: 7, createdAt: placedAt, request: troubled.request };
/** What it makes fresh. */
const fresh = { updatedAt: later, nextAttemptAt: null, parkedOn: null, presented: [] };

const statuses = (...all: string[]) => all.map((status) => ({ status }));

describe('a new order', () => {
  it('stands before validation with nothing used up', () => {
    expect(newOrder('ord_9', orderRequest(), later)).toMatchObject({
      id: 'ord_9',
      version: 0,
      epoch: 1,
      status: 'pending',
      identifiers: [
        { name: 'a.example.com', status: 'pending' },
        { name: 'b.example.com', status: 'pending' },
      ],
      attempts: { validation: 0, issuance: 0, deployment: 0 },
      restarts: 0,
      error: null,
      acmeOrder: null,
      createdAt: later,
      stageSince: later,
    });
  });

  it('shares nothing with the next one', () => {
    const one = newOrder('ord_1', orderRequest(), later);
    one.attempts.validation = 5;
    expect(newOrder('ord_2', orderRequest(), later).attempts.validation).toBe(0);
  });
});

describe('on its way, an order that was', () => {
  const forward = {
    ...kept,
    ...fresh,
    epoch: 3,
    error: null,
    stageSince: later,
    attempts: troubled.attempts,
    restarts: 2,
  };

  it('validated has every name proved, nothing presented, and the ACME order', () => {
    const order = validated(troubled, acmeOrder, later);
    expect(order).toMatchObject({ ...forward, status: 'validated', acmeOrder, signing: null });
    expect(order.identifiers).toMatchObject(statuses('valid', 'valid'));
  });

  it('issued has its certificate and neither ACME order nor signing request', () => {
    const order = issued(validated(troubled, acmeOrder, placedAt), 'crt_1', later);
    expect(order).toMatchObject({ ...forward, status: 'issued', certificate: 'crt_1' });
    expect(order).not.toHaveProperty('acmeOrder');
    expect(order).not.toHaveProperty('signing');
  });

  it('deployed keeps its certificate', () => {
    const before = issued(validated(troubled, acmeOrder, placedAt), 'crt_1', placedAt);
    expect(deployed(before, later)).toMatchObject({ ...forward, status: 'deployed', certificate: 'crt_1' });
  });
});

describe('an order that failed', () => {
  it('keeps the error, its budgets and what it had of the CA', () => {
    expect(failed(troubled, 'validation', failure, later)).toMatchObject({
      ...kept,
      ...fresh,
      status: 'failed',
      stage: 'validation',
      error: failure,
      acmeOrder,
      certificate: null,
      attempts: troubled.attempts,
      restarts: 2,
      epoch: 3,
      identifiers: troubled.identifiers,
    });
  });

  it('in deployment keeps its certificate', () => {
    expect(failed(issuedOrder(), 'deployment', failure, later)).toMatchObject({
      certificate: 'crt_1',
      acmeOrder: null,
    });
  });
});

describe('an order that was called off', () => {
  it('keeps the stage it was in, its last error and its certificate', () => {
    expect(cancelled(troubled, later)).toMatchObject({ ...kept, ...fresh, status: 'cancelled', stage: 'validation' });
    expect(cancelled(troubled, later).error).toEqual(failure);
    expect(cancelled(issuedOrder(), later)).toMatchObject({ stage: 'deployment', certificate: 'crt_1' });
  });

  it('had not ended: nothing else can be called off', () => {
    const ended = failed(pendingOrder(), 'validation', failure, later);
    expect([pendingOrder(), validatedOrder(), issuedOrder()].map(isCancellable)).toEqual([true, true, true]);
    const others = [issuedOrder({ mode: 'none' }), deployed(issuedOrder(), later), ended, cancelled(troubled, later)];
    expect(others.map(isCancellable)).toEqual([false, false, false, false]);
  });
});

describe('an order that starts over by itself', () => {
  it('is of the next epoch, has no ACME order, and keeps its attempts and the time it has', () => {
    const order = restarted(troubled, later);
    expect(order).toMatchObject({
      ...kept,
      ...fresh,
      status: 'pending',
      epoch: 4,
      restarts: 3,
      attempts: troubled.attempts,
      error: null,
      stageSince: placedAt,
      acmeOrder: null,
    });
    expect(order.identifiers).toMatchObject(statuses('pending', 'pending'));
  });

  it('does so from issuance too, without its signing request', () => {
    const signing = { privateKey: 'k', csr: 'c', attempt: 1 };
    expect(restarted(validatedOrder({ signing }), later)).not.toHaveProperty('signing');
  });
});

describe('an order that was held for its account', () => {
  it('goes on where it was, in the next epoch, with the time of its stage beginning anew', () => {
    const order = resumed(troubled, later);
    expect(order).toEqual({
      ...troubled,
      epoch: 4,
      updatedAt: later,
      stageSince: later,
      nextAttemptAt: null,
      parkedOn: null,
    });
    expect(resumed(issuedOrder(), later)).toMatchObject({ status: 'issued', certificate: 'crt_1', epoch: 2 });
  });
});

describe('a failed order is taken up again', () => {
  const inValidation = failed(troubled, 'validation', failure, placedAt);
  const inIssuance = failed(validatedOrder(), 'issuance', failure, placedAt);
  const inDeployment = failed(issuedOrder(), 'deployment', failure, placedAt);

  it('at validation with everything fresh but its history', () => {
    const order = retried(inValidation, 'validation', later);
    expect(order).toMatchObject({
      ...kept,
      ...fresh,
      status: 'pending',
      epoch: 4,
      restarts: 0,
      attempts: { validation: 0, issuance: 0, deployment: 0 },
      error: null,
      stageSince: later,
      acmeOrder: null,
    });
    expect(order.identifiers).toMatchObject(statuses('pending', 'pending'));
  });

  it('at issuance with the same ACME order and a new key', () => {
    const order = retried(inIssuance, 'issuance', later);
    expect(order).toMatchObject({ status: 'validated', acmeOrder, signing: null, epoch: 2, stageSince: later });
    expect(order.identifiers).toMatchObject(statuses('valid', 'valid'));
  });

  it('at deployment with the same certificate', () => {
    expect(retried(inDeployment, 'deployment', later)).toMatchObject({
      status: 'issued',
      certificate: 'crt_1',
      epoch: 2,
    });
  });

  it('at validation where the stage asked for has nothing to begin with', () => {
    expect(retried(inValidation, 'deployment', later).status).toBe('pending');
    expect(retried({ ...inIssuance, acmeOrder: null }, 'issuance', later).status).toBe('pending');
  });
});

describe('an order for several targets', () => {
  const to = (target: string) => ({ mode: 'site', target, site: 1 }) as const;
  const deploy = { mode: 'rollout' as const, waves: [[to('tgt_a')], [to('tgt_b'), to('tgt_c')]] };
  const request = orderRequest({ deploy });
  const waiting: Deployment[] = [
    { target: 'tgt_a', wave: 1, order: null, status: 'waiting' },
    { target: 'tgt_b', wave: 2, order: null, status: 'waiting' },
    { target: 'tgt_c', wave: 2, order: null, status: 'waiting' },
  ];
  const begun = waiting.map((one, at) => ({
    ...{ ...one, order: `ord_${at}` },
    status: (['deployed', 'failed', 'cancelled'] as const)[at] ?? ('waiting' as const),
  }));
  const ended = failed(issuedOrder(deploy, { deployments: begun }), 'deployment', failure, later);

  it('has them all before it from the start, and on its way', () => {
    expect(newOrder('ord_9', request, later)).toMatchObject({ partOf: null, deployments: waiting });
    expect(newOrder('ord_9', orderRequest(), later)).toMatchObject({ partOf: null, deployments: [] });
    expect(newDeployment('ord_9', request, 'crt_1', later)).toMatchObject({ status: 'issued', deployments: waiting });
    const pending = newOrder('ord_9', request, later);
    const proved = validated(pending, acmeOrder, later);
    for (const order of [proved, issued(proved, 'crt_1', later), restarted(pending, later)])
      expect(order.deployments).toEqual(waiting);
  });

  it('keeps what became of them when it ends', () => {
    const under = issuedOrder(deploy, { deployments: begun });
    for (const order of [deployed(under, later), ended, cancelled(under, later)])
      expect(order.deployments).toEqual(begun);
  });

  it('has those that were not begun called off with it', () => {
    const under = issuedOrder(deploy, { deployments: [...begun.slice(0, 1), ...waiting.slice(1)] });
    expect(cancelled(under, later).deployments.map(({ status }) => status)).toEqual([
      ...['deployed', 'cancelled', 'cancelled'],
    ]);
  });

  it('leaves what is deployed as it is when it is retried from deployment', () => {
    expect(retried(ended, 'deployment', later)).toMatchObject({
      ...{ status: 'issued', epoch: 2, error: null },
      deployments: [begun[0], waiting[1], waiting[2]],
    });
  });

  it('begins with all of them anew when it is retried from validation: that gives another certificate', () => {
    expect(retried(ended, 'validation', later)).toMatchObject({ status: 'pending', epoch: 2, deployments: waiting });
  });

  it('has a part for each that is an order for one target, of the same certificate', () => {
    const whole = issuedOrder(deploy, {
      request,
      certificate: 'crt_7',
      attempts: { ...ended.attempts, validation: 3 },
    });
    const part = partOfRollout(whole, to('tgt_b'), 'ord_b', later);
    expect(part).toMatchObject({
      ...{ id: 'ord_b', version: 0, epoch: 1, status: 'issued', certificate: 'crt_7', partOf: whole.id },
      ...{ createdAt: later, stageSince: later, deployments: [], attempts: { validation: 0 } },
      identifiers: statuses('valid', 'valid'),
    });
    expect(part.request).toEqual({ ...request, deploy: to('tgt_b') });
  });
});

describe('the record of a failure', () => {
  it('has the code, the words and the evidence', () => {
    const evidence = { status: 404 };
    const error = new CertlineError('http01_wrong_answer', 'status 404', { evidence });
    expect(orderError(error, 'validation', later)).toEqual({
      ...{
        code: 'http01_wrong_answer',
        detail: 'status 404',
        stage: 'validation',
        at: later,
        plan: 'retryable',
        evidence,
      },
    });
    expect(orderError(new CertlineError('unexpected', 'oh'), 'issuance', later)).not.toHaveProperty('evidence');
  });
});
