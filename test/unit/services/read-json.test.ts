import { describe, expect, it } from 'vitest';
import { readJson } from '../../../services/api/read-json.ts';

function refusalOf(text: string): unknown {
  try {
    readJson(text);
  } catch (error) {
    return error;
  }
  throw new Error('nothing is refused');
}
const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`;

describe('a body', () => {
  it.each([
    '{"names":["a.example","ä\\u00e4\\ud83d\\ude00"],"deploy":{"site":1,"sni":false,"port":null}}',
    ' [1, -2.5e-3, true, {}, [], ""] ',
    '"text"',
    '"\\u0000"',
    '{"constructor":1,"toString":2,"":3}',
    nested(32),
  ])('is read as JSON: %s', (text) => {
    expect(readJson(text)).toEqual(JSON.parse(text));
  });

  it.each([
    ['{"names":["a" "b"]}', 1, 15],
    ['{\n  "names": [],\n  "account": tru\n}', 3, 14],
    ['{"a":1,}', 1, 8],
    ['{"a":1}}', 1, 8],
    ['{"a":1', 1, 7],
    ["{'a':1}", 1, 2],
    ['{"a":1} // why', 1, 9],
    ['{"a":01}', 1, 7],
    ['{"a":"\t"}', 1, 6],
  ])('that is no JSON is refused with the place: %s', (text, line, column) => {
    expect(refusalOf(text)).toMatchObject({
      code: 'json_invalid',
      message: `the body is not JSON at line ${line}, column ${column}`,
    });
  });

  it('that is no JSON is not quoted: a piece of it might be a secret', () => {
    expect(String(refusalOf('{"password": hunter2}'))).not.toContain('hunter');
  });

  it.each([
    ['has a field twice', '{"a":{"b":1,"c":2,"b":3}}', 'a.b', 'again at line 1, column 19'],
    ['has a field twice in other spellings', '{"a":1,"\\u0061":2}', 'a', 'again at line 1, column 8'],
    ['has a field that would become a prototype', '{"x":[{"__proto__":{"admin":true}}]}', 'x[0].__proto__', 'name'],
    ['has half a surrogate pair', '{"name":"\\ud800"}', 'name', 'at line 1, column 9'],
    ['has half a surrogate pair in the name of a field', '{"s":{"\\udc00":1}}', 's', 'at line 1, column 7'],
  ])('that %s is refused, with the field', (_what, text, path, words) => {
    expect(refusalOf(text)).toMatchObject({
      code: 'json_invalid',
      problems: [{ path, code: 'json_invalid', detail: expect.stringContaining(words) }],
    });
  });

  it.each([
    ['lists', nested(33)],
    ['very many lists', nested(500_000)],
    ['lists that never end', '['.repeat(1_000_000)],
    ['objects', `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`],
  ])('of %s in each other is refused', (_what, text) => {
    expect(refusalOf(text)).toMatchObject({
      code: 'json_invalid',
      message: expect.stringContaining('32 deep'),
    });
  });
});
