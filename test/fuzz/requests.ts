import fc, { type Arbitrary } from 'fast-check';
import { type Json, mutated, mutations, oddTexts, type Schema, valuesOf } from './values.ts';

export interface Operation {
  'x-scope'?: string;
  parameters: { name: string; in: 'path' | 'query' | 'header'; required?: boolean; schema: Schema }[];
  requestBody?: { required: boolean; content: Record<string, { schema: Schema }> };
  responses: Record<string, { description: string; content?: Record<string, { schema: Schema }> }>;
}
export interface OpenApi {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: { Problem: Schema } };
}

/** A request before it is sent; `@account:1` in its texts stands for an id. */
export interface FuzzRequest {
  /** As in the document: `/v1/orders/{id}`. */
  path: string;
  operation: string;
  method: string;
  url: string;
  headers: Record<string, string>;
  /** The scope of its key; `none` for no key, `junk` for one that is none. */
  key: string;
  /** Null without a body. */
  body: string | null;
}

export const keys = [
  'admin',
  'orders:read',
  'orders:write',
  'certificates:read',
  'certificates:export',
  'none',
  'junk',
] as const;

const often = <T>(weight: number, usual: Arbitrary<T>, odd: Arbitrary<T>): Arbitrary<T> =>
  fc.oneof({ weight, arbitrary: usual }, { weight: 1, arbitrary: odd });

/** Which kind of id a path has. */
const kindIn = (path: string): string => /^\/v1\/([a-z-]+?)s\//.exec(path)?.[1] ?? 'order';

/** Parts of a path that are no part of it when they stand there bare. */
const oddSegments = oddTexts.filter((text) => text !== '').map((text) => encodeURIComponent(text));
const segments = (kind: string): Arbitrary<string> =>
  often(
    6,
    fc.nat(5).map((at) => `@${kind}:${at}`),
    fc.constantFrom(...oddSegments, '%ff', '%', '%c0%80', '..%2f..', 'nobody', `${'y'.repeat(3_000)}`),
  );

function queryOf(operation: Operation): Arbitrary<string> {
  const known = operation.parameters.filter((one) => one.in === 'query');
  const pairs = known.map(({ name, schema, required = false }) => {
    const value = often(
      5,
      valuesOf(schema, name === 'order' ? 'order' : name).map(String),
      fc.constantFrom(...oddTexts),
    ).map((text) => `${name}=${encodeURIComponent(text).replace(/^%40/, '@').replace('%3A', ':')}`);
    return required ? value : fc.option(value, { nil: '' });
  });
  const odd = fc.constantFrom(
    'limit=1&limit=2',
    'limit[]=1',
    'cursor[a]=b',
    '__proto__=1',
    'unknown=1',
    '%ff=%ff',
    '&&&',
    '=',
    'cursor=9'.padEnd(400, '9'),
    `cursor=${'9'.repeat(400)}.x`,
    'limit=0x10',
    'limit=1e1',
  );
  const usual = fc.tuple(...pairs).map((all) => all.filter((pair) => pair !== '').join('&'));
  return often(
    6,
    usual,
    fc.tuple(usual, odd).map((both) => both.join('&')),
  );
}

const oddHeaders: [string, string][] = [
  ['idempotency-key', 'once'],
  ['idempotency-key', 'twice'],
  ['idempotency-key', ''],
  ['idempotency-key', 'x'.repeat(256)],
  ['idempotency-key', '\u00e4\u00ff'],
  ['last-event-id', '1-0'],
  ['last-event-id', '99999999999999999999999-1e9'],
  ['last-event-id', '-'],
  ['accept', 'application/xml;q=0.00001'],
  ['accept-encoding', 'br;q=x'],
  ['x-forwarded-for', 'unknown, ,'],
  ['range', 'bytes=0-1'],
  ['if-none-match', '*'],
  ['content-type', 'text/plain'],
  ['content-type', 'application/json; charset=latin1'],
  ['content-type', ';;;'],
  ['content-encoding', 'gzip'],
  ['expect', '200-ok'],
  ['upgrade', 'websocket'],
  ['x-http-method-override', 'DELETE'],
];
const headers: Arbitrary<Record<string, string>> = often(
  2,
  fc.constant({}),
  fc
    .uniqueArray(fc.constantFrom(...oddHeaders), { minLength: 1, maxLength: 3, selector: ([name]) => name })
    .map((all) => Object.fromEntries(all)),
);

/** What becomes of the text of a body on its way. */
const textChanges: Arbitrary<(text: string) => string> = fc.oneof(
  fc.nat(200).map((at) => (text: string) => text.slice(0, at)),
  fc.tuple(fc.nat(200), fc.constantFrom('"', '{', ']', ',', '\0', '\\', '\ud800', '\\ud800', '//')).map(
    ([at, extra]) =>
      (text: string) =>
        text.slice(0, at % (text.length + 1)) + extra + text.slice(at % (text.length + 1)),
  ),
  fc.constantFrom(
    (text: string) => text.replace('{', '{"__proto__":{"admin":true},'),
    (text: string) => text.replace('{', '{"names":[],'),
    (text: string) => text.replace('"', '"\\udc00'),
    (text: string) => `${'['.repeat(2_000)}${text}`,
    (text: string) => `\ufeff${text}`,
    () => '1e99999',
    () => '',
  ),
);

/** Bodies that are taken, as a start: what fits a schema need not make sense. */
const named = { account: '@account:0', names: ['a.example.com', 'b.example.com'] };
const deploy = { mode: 'store', target: '@target:0' };
const examples: Record<string, Json[]> = {
  'post /v1/orders': [
    named,
    { ...named, deploy: { mode: 'none' }, key: { type: 'ec-p256' }, profile: 'x' },
    { ...named, challenges: [{ match: '*', type: 'dns-01', credential: '@credential:2' }] },
    { ...named, deploy: { targets: ['@target:0', '@target:1'], waves: [1, 'rest'] } },
    { account: '@account:0', source: { target: '@target:0', site: 1 } },
  ],
  'post /v1/orders/preview': [named, { ...named, deploy }],
  'post /v1/certificates/{id}/deployments': [{ deploy }, { deploy: { targets: ['@target:0', '@target:1'] } }],
  'post /v1/certificates/{id}/deployments/preview': [{ deploy }],
  'post /v1/certificates/{id}/pfx': [{ password: 'secret', friendlyName: 'x' }],
  'patch /v1/targets/{id}': [{ name: 'changed' }, { windows: [] }, { pool: 'dmz' }],
  'patch /v1/credentials/{id}': [{ name: 'changed' }, { settings: { url: 'http://127.0.0.1:1/' } }],
  'put /v1/credentials/{id}/secret': [
    { password: 'another' },
    { secret: 'another one' },
    { secret: { secret: 'x'.repeat(40) } },
  ],
  'post /v1/accounts': [
    { ca: '@ca:0', email: 'ops@example.com', termsOfServiceAgreed: true, caBundle: '@caBundle:0' },
    { ca: '@ca:0', email: 'Other@example.com', termsOfServiceAgreed: true, caBundle: '@caBundle:0' },
  ],
};

function bodyOf(name: string, operation: Operation): Arbitrary<string | null> {
  const schema = operation.requestBody?.content['application/json']?.schema;
  if (!schema) return often(9, fc.constant(null), fc.constantFrom('{}', 'x'));
  const fitting = valuesOf(schema, '');
  const known = examples[name];
  const good = known ? fc.oneof(fitting, fc.constantFrom(...known)) : fitting;
  const bad = fc
    .tuple(good, fc.array(mutations, { minLength: 1, maxLength: 3 }))
    .map(([value, changes]) => changes.reduce(mutated, value as Json));
  const value = fc
    .oneof({ weight: 3, arbitrary: good }, { weight: 5, arbitrary: bad })
    .map((one) => JSON.stringify(one));
  return fc.oneof(
    { weight: 12, arbitrary: value },
    { weight: 2, arbitrary: fc.tuple(value, textChanges).map(([text, change]) => change(text)) },
    { weight: 1, arbitrary: fc.constant(null) },
  );
}

/** Requests to all operations of the document, good, half good and bad. */
export function requestsOf(document: OpenApi): Arbitrary<FuzzRequest> {
  const operations = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
  );
  return fc.oneof(
    ...operations.map(({ path, method, operation }) =>
      fc
        .record({
          id: segments(kindIn(path)),
          query: queryOf(operation),
          headers,
          key: fc.oneof(
            { weight: 8, arbitrary: fc.constantFrom('admin', operation['x-scope'] ?? 'admin') },
            { weight: 1, arbitrary: fc.constantFrom(...keys) },
          ),
          body: bodyOf(`${method} ${path}`, operation),
          verb: often(
            20,
            fc.constant(method.toUpperCase()),
            fc.constantFrom('OPTIONS', 'HEAD', 'PUT', 'PATCH', 'DELETE', 'PROPFIND'),
          ),
        })
        .map(
          ({ id, query, headers: more, key, body, verb }): FuzzRequest => ({
            ...{ path, operation: method, method: verb, key, body },
            url: path.replace('{id}', id) + (query === '' ? '' : `?${query}`),
            headers: { ...(body === null ? {} : { 'content-type': 'application/json' }), ...more },
          }),
        ),
    ),
  );
}
