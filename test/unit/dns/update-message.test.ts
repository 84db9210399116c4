import { type DecodedPacket, decode } from 'dns-packet';
import { describe, expect, it } from 'vitest';
import { readServer } from '#libs/dns/update-exchange';
import { encodeEmptyUpdate, encodeUpdate, rcodeOf } from '#libs/dns/update-message';
import { encodeName, encodeText, readName, readRecords } from '#libs/dns/wire';

const record = { zone: 'example.com', name: '_acme-challenge.WWW.example.com', value: 'a-value_1' };
/** The sections by their names in a query: zone, prerequisites, updates. */
const read = (message: Buffer) => {
  const { opcode, questions, answers } = decode(message) as DecodedPacket & { opcode: string };
  return { opcode, questions, answers, records: readRecords(message).records };
};

describe('an update', () => {
  it('that adds a value has it alone, and wants no CNAME there', () => {
    const message = encodeUpdate(7, { ...record, change: { add: true, ttl: 60 } });
    const { opcode, questions, answers, records } = read(message);
    expect(opcode).toBe('UPDATE');
    expect(questions).toEqual([{ name: 'example.com', type: 'SOA', class: 'IN' }]);
    expect(answers).toMatchObject([{ name: '_acme-challenge.www.example.com', type: 'CNAME', ttl: 0 }]);
    expect(records.map(({ klass, ttl, data }) => [klass, ttl, data.toString('latin1')])).toEqual([
      [254, 0, ''],
      [1, 60, '\x09a-value_1'],
    ]);
  });

  it('that takes a value away names it, so that no other goes', () => {
    const { records } = read(encodeUpdate(7, { ...record, change: { add: false } }));
    expect(records.map(({ type, klass, ttl, data }) => [type, klass, ttl, data.toString('latin1')])).toEqual([
      [16, 254, 0, '\x09a-value_1'],
    ]);
  });

  it('may change nothing', () => {
    expect(read(encodeEmptyUpdate(7, 'example.com'))).toMatchObject({ opcode: 'UPDATE', answers: [], records: [] });
  });

  it('is answered by an answer to an update with its id', () => {
    const answer = encodeEmptyUpdate(7, 'example.com');
    expect(rcodeOf(answer, 7)).toBeNull();
    answer.writeUInt16BE(0xa805, 2);
    expect(rcodeOf(answer, 7)).toBe('REFUSED');
    expect(rcodeOf(answer, 8)).toBeNull();
    answer.writeUInt16BE(0x8005, 2);
    expect(rcodeOf(answer, 7)).toBeNull();
    expect(rcodeOf(Buffer.alloc(5), 7)).toBeNull();
    answer.writeUInt16BE(0xa80f, 2);
    expect(rcodeOf(answer, 7)).toBe('RCODE 15');
  });
});

describe('a name on the wire', () => {
  it('is lower case, with or without the final dot', () => {
    expect(encodeName('Example.COM.')).toEqual(encodeName('example.com'));
    expect(encodeName('.')).toEqual(Buffer.of(0));
  });

  it.each(['a..b', '.a', `${'a'.repeat(64)}.com`, `${'abcdefg.'.repeat(32)}com`])('cannot be %s', (name) => {
    expect(() => encodeName(name)).toThrow();
  });

  it('is read through pointers, which may not go round, nor out of the message', () => {
    const message = Buffer.concat([encodeName('example.com'), Buffer.from('\x03www\xc0\x00', 'latin1')]);
    expect(readName(message, 13)).toEqual({ name: 'www.example.com', next: 19 });
    expect(() => readName(Buffer.from('\xc0\x00', 'latin1'), 0)).toThrow('without end');
    expect(() => readName(Buffer.from('\x01a\xc0\x00', 'latin1'), 0)).toThrow('without end');
    for (const bytes of ['\x05ab', '\xc0\x09', '\x80a', '']) {
      expect(() => readName(Buffer.from(bytes, 'latin1'), 0)).toThrow();
    }
  });

  it('has values beside it, in strings of 255 bytes at the most', () => {
    expect(encodeText('')).toEqual(Buffer.of(0));
    expect(encodeText('x'.repeat(255))).toEqual(Buffer.from(`\xff${'x'.repeat(255)}`, 'latin1'));
    expect(encodeText('x'.repeat(256))).toEqual(Buffer.from(`\xff${'x'.repeat(255)}\x01x`, 'latin1'));
  });
});

describe('the address of a server', () => {
  it.each([
    ['ns1.example.com', { host: 'ns1.example.com', port: 53 }],
    ['ns1.example.com:5353', { host: 'ns1.example.com', port: 5353 }],
    ['192.0.2.1:53', { host: '192.0.2.1', port: 53 }],
    ['[2001:db8::1]:5353', { host: '2001:db8::1', port: 5353 }],
    ['[2001:db8::1]', { host: '2001:db8::1', port: 53 }],
  ])('may be %s', (text, place) => expect(readServer(text)).toEqual(place));

  it.each(['', ':53', 'a:0', 'a:65536', 'a:b', '2001:db8::1', 'https://a', 'a b', '[a]:1:2'])('may not be %j', (text) =>
    expect(readServer(text)).toBeNull(),
  );
});
