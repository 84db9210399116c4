import { describe, expect, it } from 'vitest';
import { readConfig } from '#libs/config';
import { CertlineError } from '#libs/errors';
import { caLimitTable, claimsOf, hasNoCertificate, refusedClaims } from '#libs/model/ca-limits';
import type { Order, StageName } from '#libs/model/order';
import { cancelled, failed, orderError } from '#libs/model/transitions';
import { issuedOrder, pendingOrder, validatedOrder } from '../../support/sample-orders.ts';

const letsEncrypt = 'https://acme-v02.api.letsencrypt.org/directory';
const staging = 'https://acme-staging-v02.api.letsencrypt.org/directory';
const other = 'https://ca.example/directory';
const hour = 3_600_000;
/** Bursts, and the rates per second at which they come back: 250, 40, 20, 5, 300, 10, 1000. */
const requests = {
  requests: '125/500ms',
  requests_directory: '40/1s',
  requests_new_nonce: '10/500ms',
  requests_new_account: '15/3s',
  requests_new_order: '200/667ms',
  requests_revoke_cert: '100/10s',
  requests_renewal_info: '100/100ms',
};
const table = (json: string) => caLimitTable(readConfig(['ca'], { CA_LIMITS: json }).CA_LIMITS);
const texts = (directory: string, json = '{}') =>
  Object.entries(table(json).get(directory) ?? {}).map(([limit, rate]) => [limit, rate?.text ?? rate]);

describe('the limits of CAs', () => {
  it('are those of Let’s Encrypt and its staging until others are given', () => {
    expect(Object.fromEntries(texts(letsEncrypt))).toEqual({
      orders_per_account: '300/3h',
      certificates_per_domain: '50/7d',
      certificates_per_name_set: '5/7d',
      failed_validations_per_name: '5/1h',
      ...requests,
      renewals_exempt: true,
      ari_exempt: true,
    });
    expect(Object.fromEntries(texts(staging))).toEqual({
      orders_per_account: '1500/3h',
      failed_validations_per_name: '200/1h',
      ...{ ...requests, requests: '20/1s', requests_new_order: '40/2s' },
      renewals_exempt: true,
      ari_exempt: true,
    });
    expect(table('{}').get(letsEncrypt)?.orders_per_account).toMatchObject({ count: 300, windowMs: 3 * hour });
    expect([...table('{}').keys()]).toEqual([letsEncrypt, staging]);
  });

  it('are changed one by one, by name or directory URL, and taken away by null', () => {
    const json = JSON.stringify({
      letsencrypt: { orders_per_account: '900/3h', certificates_per_name_set: null },
      [other]: { orders_per_account: '10/1m' },
    });
    expect(Object.fromEntries(texts(letsEncrypt, json))).toEqual({
      orders_per_account: '900/3h',
      certificates_per_domain: '50/7d',
      failed_validations_per_name: '5/1h',
      ...requests,
      renewals_exempt: true,
      ari_exempt: true,
    });
    expect(texts(other, json)).toEqual([['orders_per_account', '10/1m']]);
  });

  it.each([
    ['no JSON', '300/3h', /CA_LIMITS: .*give JSON like/],
    ['no rate', `{"letsencrypt": {"orders_per_account": "300"}}`, /letsencrypt orders_per_account: 300 is no limit/],
    ['no such limit', `{"letsencrypt": {"orders": "300/3h"}}`, /letsencrypt: .*orders/],
    [
      'no such CA',
      `{"letsencript": {"orders_per_account": "300/3h"}}`,
      /letsencript: no CA has this name: give letsenc/,
    ],
  ])('are refused where there is %s', (_, json, words) => {
    expect(() => table(json)).toThrow(words);
  });
});

describe('an order counts', () => {
  const names = ['*.shop.example.co.uk', 'shop.example.co.uk', 'a.b.github.io'];
  const limits = table('{}').get(letsEncrypt) ?? {};
  const rows = (isRenewal: boolean, of = limits) =>
    claimsOf({ account: 'acc_1', names }, of, isRenewal).map(
      ({ limit, about, rate }) => `${limit} ${about} ${rate?.text}`,
    );

  it('for its account, each registered domain once, the set of its names, and each name without its wildcard', () => {
    expect(rows(false)).toEqual([
      'orders_per_account account acc_1 300/3h',
      'certificates_per_domain example.co.uk 50/7d',
      'certificates_per_domain b.github.io 50/7d',
      'certificates_per_name_set exactly these names 5/7d',
      'failed_validations_per_name shop.example.co.uk 5/1h',
      'failed_validations_per_name a.b.github.io 5/1h',
    ]);
  });

  it('neither for account nor domain when it renews and the CA exempts that', () => {
    const renewal = rows(true);
    expect(renewal.slice(0, 3).every((row) => row.endsWith('undefined'))).toBe(true);
    expect(renewal.slice(3)).toEqual(rows(false).slice(3));
    expect(rows(true, { ...limits, renewals_exempt: false })).toEqual(rows(false));
  });

  it('for the same set of names whatever their order', () => {
    const key = (...set: string[]) =>
      claimsOf({ account: 'acc_1', names: set }, {}, false).find(({ limit }) => limit === 'certificates_per_name_set')
        ?.key;
    expect(key('b.example', 'a.example')).toBe(key('a.example', 'b.example'));
    expect(key('a.example')).not.toBe(key('a.example', 'b.example'));
  });
});

describe('a refusal of the CA', () => {
  const names = ['www.one.example', 'www.two.example', 'www.some-one.example'];
  const claims = claimsOf({ account: 'acc_1', names }, {}, false);
  it.each([
    ['too many new orders (300) from this account in the last 3h0m0s', ['account acc_1']],
    ['slow down', ['account acc_1']],
    [
      'too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s',
      ['exactly these names'],
    ],
    ['too many certificates (50) already issued for "one.example" in the last 168h0m0s', ['one.example']],
    ['too many certificates already issued. Retry after tomorrow', ['one.example', 'two.example', 'some-one.example']],
    ['too many failed authorizations (5) for "www.two.example" in the last 1h0m0s', ['www.two.example']],
  ])('is about what its words name: %s', (words, abouts) => {
    expect(
      refusedClaims(claims, `The CA answers newOrder: ${words} (HTTP 429, rateLimited).`).map(({ about }) => about),
    ).toEqual(abouts);
  });
});

describe('what was counted for the certificate of an order', () => {
  const signing = { privateKey: 'key', csr: 'csr', attempt: 1 };
  const fail = (order: Order, stage: StageName, code: 'acme_order_invalid' | 'ca_unavailable' | 'csr_rejected') =>
    failed(order, stage, orderError(new CertlineError(code, 'no'), stage, 0), 0);
  it.each<[string, Order, boolean]>([
    ['the order is under way', validatedOrder(), false],
    ['it failed in validation', fail(pendingOrder(), 'validation', 'ca_unavailable'), true],
    ['it was called off in validation', cancelled(pendingOrder(), 0), true],
    ['it was called off before finalize', cancelled(validatedOrder(), 0), true],
    ['it was called off after finalize', cancelled(validatedOrder({ signing }), 0), false],
    ['nobody knows what became of finalize', fail(validatedOrder({ signing }), 'issuance', 'ca_unavailable'), false],
    ['its ACME order is still open', fail(validatedOrder({ signing }), 'issuance', 'csr_rejected'), false],
    ['the CA gave its ACME order up', fail(validatedOrder({ signing }), 'issuance', 'acme_order_invalid'), true],
    ['it was called off in deployment', cancelled(issuedOrder(), 0), false],
  ])('is free again only where there is none for sure: %s', (_, order, isFree) => {
    expect(hasNoCertificate(order)).toBe(isFree);
  });
});
