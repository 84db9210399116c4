import fc, { type Arbitrary } from 'fast-check';

export type Json = null | boolean | number | string | Json[] | { [field: string]: Json };

/** What the OpenAPI document uses of JSON Schema. */
export interface Schema {
  type?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  items?: Schema;
  anyOf?: Schema[];
  oneOf?: Schema[];
  enum?: Json[];
  const?: Json;
  pattern?: string;
  format?: string;
  minimum?: number;
  exclusiveMinimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
}

/**
 * Text of fields whose name says what belongs there. `@account:1` stands for the id of an account that is there: which, is seen when the
 * request is sent. No address leads out of this machine, as the API asks some of them.
 */
const idFields = ['account', 'target', 'credential', 'order'];
const closed = ['http://127.0.0.1:1/', 'https://127.0.0.1:1/dir'];
const byName: Record<string, string[]> = {
  ca: ['@ca:0', 'https://127.0.0.1:1/directory'],
  url: closed,
  host: ['127.0.0.1'],
  path: ['/nonexistent/certline'],
  folder: ['/nonexistent/certline'],
  type: ['http-01', 'dns-01', 'dns-persist-01', 'dns-account-01'],
  match: ['*', '*.example.com', 'a.example.com'],
  provider: ['webhook', 'rfc2136', 'cloudflare', 'exec'],
  timeZone: ['Europe/Berlin', 'UTC'],
  zone: ['example.com'],
};
const byFormat: Record<string, string[]> = {
  ipv4: ['192.0.2.1'],
  ipv6: ['2001:db8::1'],
  uri: closed,
  email: ['ops@example.com'],
};
const names = [
  'a.example.com',
  'b.example.com',
  '*.example.com',
  'xn--bcher-kva.example.com',
  'Example.COM.',
  'é.example.com',
];

/** What breaks programs. */
export const oddTexts = [
  ...[
    '',
    ' ',
    '\0',
    'a\0b',
    '\n',
    '\r\nX: y',
    '\u{1f600}',
    '\u202eabc',
    'e\u0301',
    'ﬀ',
    '\uffff',
    '%00',
    '%ff',
    '../../x',
  ],
  ...[
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    'null',
    'undefined',
    'NaN',
    '-1',
    '1e999',
    '{}',
    '[]',
    "';--",
  ],
  ...[
    'x'.repeat(300),
    'x'.repeat(5_000),
    'ä'.repeat(130),
    '<b>',
    '$(id)',
    '*',
    '*.',
    '*.*.example.com',
    'a..example.com',
  ],
  ...[
    '-a.example.com',
    `${'a'.repeat(64)}.example.com`,
    `${'a.'.repeat(130)}example.com`,
    'xn--',
    'xn--a',
    'co.uk',
    'localhost',
  ],
  ...[
    '127.0.0.1',
    '[::1]',
    'example.com:443',
    'a_b.example.com',
    'İ.example.com',
    'a.example.com/',
    '\u3002example.com',
  ],
  ...['-----BEGIN CERTIFICATE-----', '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----', 'SHA256:'],
];
const oddNumbers = [-1, 0, 0.5, 65_536, 2 ** 31, 2 ** 53, -(2 ** 53), 1e21, 1e308, Number.MIN_VALUE];
export const oddValues: Arbitrary<Json> = fc.oneof(
  fc.constantFrom<Json[]>(null, true, false, [], {}, [[]], [null], { '': null }, { a: { b: [1, '2'] } }),
  fc.constantFrom<Json[]>(...oddNumbers),
  fc.constantFrom<Json[]>(...oddTexts),
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.jsonValue({ maxDepth: 3 }) as Arbitrary<Json>,
);

function matching(pattern: string): Arbitrary<string> {
  try {
    return fc.stringMatching(new RegExp(pattern, 'u'));
  } catch {
    // It knows no classes of Unicode.
    return fc.constantFrom('a', 'svc', 'NT SERVICE\\name', 'a password');
  }
}

function textOf({ pattern, format, minLength = 0, maxLength = 60 }: Schema, name: string): Arbitrary<string> {
  const known = byName[name] ?? byFormat[format ?? ''];
  if (idFields.includes(name)) return fc.nat(5).map((at) => `@${name}:${at}`);
  if (known) return fc.constantFrom(...known);
  if (name === 'names') return fc.constantFrom(...names);
  if (name === 'name') return fc.constantFrom('one', 'two', 'three', ...names);
  if (pattern) return matching(pattern);
  return fc.string({ minLength, maxLength: Math.max(minLength, Math.min(maxLength, 60)) });
}

function objectOf({ properties = {}, required = [], additionalProperties }: Schema): Arbitrary<Json> {
  const fields = Object.entries(properties).map(([field, schema]) => [field, valuesOf(schema, field)] as const);
  const optional = Object.keys(properties).filter((field) => !required.includes(field));
  // All options together are never right.
  const known = fc.subarray(optional, { maxLength: Math.min(3, optional.length) }).chain((chosen) => {
    const wanted = fields.filter(([field]) => required.includes(field) || chosen.includes(field));
    return fc.record(Object.fromEntries(wanted));
  });
  if (typeof additionalProperties !== 'object') return known;
  const more = fc.dictionary(
    fc.constantFrom('url', 'server', 'keyName', 'key', 'secret', 'token', 'constructor', 'toString', ''),
    oddValues,
    { maxKeys: 4 },
  );
  return fc.tuple(known, more).map(([a, b]) => ({ ...b, ...(a as object) }));
}

/** Values that fit a schema, or nearly so: what no schema tells is not known here. `name`: of the field they are for. */
export function valuesOf(schema: Schema, name: string): Arbitrary<Json> {
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (name === 'ca') return textOf({}, name);
  if (schema.enum) return fc.constantFrom(...schema.enum);
  const choice = schema.anyOf ?? schema.oneOf;
  if (choice) return fc.oneof(...choice.map((one) => valuesOf(one, name)));
  switch (schema.type) {
    case 'object':
      return objectOf(schema);
    case 'array': {
      const { items = {}, minItems = 0, maxItems = 4 } = schema;
      return fc.array(valuesOf(items, name === 'targets' ? 'target' : name), {
        minLength: minItems,
        maxLength: Math.max(minItems, Math.min(maxItems, 4)),
      });
    }
    case 'string':
      return textOf(schema, name);
    case 'boolean':
      return fc.boolean();
    case 'null':
      return fc.constant(null);
    case 'integer':
    case 'number': {
      const min = schema.minimum ?? (schema.exclusiveMinimum ?? -1) + 1;
      return fc.integer({ min, max: Math.min(schema.maximum ?? 100, min + 70_000) });
    }
    default:
      return oddValues;
  }
}

/** One change to a value: at the field `at` counted through, in the manner of `how`. */
export interface Mutation {
  at: number;
  how: 'replace' | 'drop' | 'add' | 'repeat';
  value: Json;
  field: string;
}
export const mutations: Arbitrary<Mutation> = fc.record({
  at: fc.nat(30),
  how: fc.constantFrom('replace', 'replace', 'replace', 'drop', 'add', 'repeat'),
  value: oddValues,
  field: fc.constantFrom('more', '', 'constructor', 'toString', 'é', 'x'.repeat(200), 'id', 'name', 'site'),
});

type Place = { holder: Json[] | { [field: string]: Json }; key: string };

function placesIn(value: Json): Place[] {
  if (value === null || typeof value !== 'object') return [];
  return Object.entries(value).flatMap(([key, inner]) => [{ holder: value, key }, ...placesIn(inner)]);
}

/** A changed copy. The address of a CA stays: nothing is to be asked beyond this machine. */
export function mutated(value: Json, { at, how, value: odd, field }: Mutation): Json {
  const copy = structuredClone(value);
  const places = placesIn(copy).filter(({ key }) => key !== 'ca');
  const place = places[at % Math.max(places.length, 1)];
  if (place === undefined) return how === 'replace' ? odd : copy;
  const holder = place.holder as Record<string, Json>;
  const old = holder[place.key] ?? null;
  if (how === 'replace') holder[place.key] = odd;
  else if (how === 'add') holder[Array.isArray(holder) ? String(holder.length) : field] = odd;
  else if (how === 'repeat')
    holder[place.key] = Array.isArray(old) ? Array.from({ length: 300 }, () => old[0] ?? null) : [old, old];
  else if (Array.isArray(holder)) holder.splice(Number(place.key), 1);
  else delete holder[place.key];
  return copy;
}
