import { type Answer, decode, encode, type OptAnswer, type PacketOpt } from 'dns-packet';
import { describe, expect, it } from 'vitest';
import { extendedErrorWords, saysBogus } from '#libs/dns/extended-errors';
import { decodeAnswer, encodeQuery, type Question } from '#libs/dns/message';

const question: Question = { name: 'www.example.com', type: 'TXT', recursive: true };

function message(flags: number, answers: Answer[], additionals: Answer[] = []): Buffer {
  return encode({
    ...{ type: 'response', id: 7, flags, answers, additionals },
    questions: [{ name: question.name, type: question.type, class: 'IN' }],
  });
}

function options(code: number, data: Buffer, extendedRcode = 0): OptAnswer {
  return {
    ...{ type: 'OPT', name: '.', udpPayloadSize: 1232, extendedRcode, ednsVersion: 0, flags: 0, flag_do: false },
    options: [{ code, data } as PacketOpt],
  };
}

describe('A query', () => {
  it('asks for recursion and for AD, with EDNS0 of 1232 bytes, and for unchecked data only when told to', () => {
    const usual = decode(encodeQuery(7, question));
    expect(usual).toMatchObject({ id: 7, flag_rd: true, flag_ad: true, flag_cd: false, flag_qr: false });
    expect(usual.questions).toEqual([{ name: 'www.example.com', type: 'TXT', class: 'IN' }]);
    expect(usual.additionals).toMatchObject([{ type: 'OPT', udpPayloadSize: 1232, flag_do: false }]);
    const direct = decode(encodeQuery(7, { ...question, recursive: false, checkingDisabled: true }, false));
    expect(direct).toMatchObject({ flag_rd: false, flag_cd: true, additionals: [] });
  });
});

describe('An answer', () => {
  it('has the records that are known here, with names as they are compared', () => {
    const answers: Answer[] = [
      { name: 'WWW.Example.com', type: 'CNAME', class: 'IN', data: 'Target.Example.com' },
      { name: 'target.example.com', type: 'TXT', class: 'IN', data: ['one ', 'value'] },
      { name: 'target.example.com', type: 'MX', class: 'IN', data: { exchange: 'mail.example.com' } },
      { name: 'target.example.com', type: 'TXT', class: 'CH', data: ['of another class'] },
    ];
    expect(decodeAnswer(message(1 << 5, answers), 7, question)).toMatchObject({
      ...{ rcode: 'NOERROR', authenticated: true, authoritative: false, truncated: false },
      answers: [
        { name: 'www.example.com', type: 'CNAME', data: 'target.example.com' },
        { name: 'target.example.com', type: 'TXT', data: 'one value' },
      ],
    });
  });

  it('says why, with extended errors (RFC 8914)', () => {
    const expired = Buffer.from('\0\x07signature expired at 2026', 'latin1');
    const answer = decodeAnswer(message(2, [], [options(15, expired)]), 7, question);
    expect(answer).toMatchObject({
      ...{ rcode: 'SERVFAIL', extendedErrors: [{ code: 7, text: 'signature expired at 2026' }] },
    });
    expect(extendedErrorWords(answer?.extendedErrors ?? [])).toBe(' (signature expired: signature expired at 2026)');
    expect(saysBogus(answer?.extendedErrors ?? [])).toBe(true);
    expect(saysBogus([{ code: 22, text: '' }])).toBe(false);
    expect(extendedErrorWords([{ code: 22, text: '' }])).toBe(' (no reachable authority)');
    expect(extendedErrorWords([{ code: 99, text: 'a\nb' }])).toBe(' (extended error 99: a?b)');
  });

  it('has an extended rcode', () => {
    const answer = decodeAnswer(message(0, [], [options(3, Buffer.alloc(0), 1)]), 7, question);
    expect(answer?.rcode).toBe('RCODE_16');
  });

  it('that was cut in the middle of a record is one that was cut', () => {
    const whole = message(1 << 9, [{ name: 'www.example.com', type: 'TXT', class: 'IN', data: 'x'.repeat(50) }]);
    expect(decodeAnswer(whole.subarray(0, -10), 7, question)).toMatchObject({ truncated: true, answers: [] });
    whole.writeUInt16BE(0x8000, 2);
    expect(() => decodeAnswer(whole.subarray(0, -10), 7, question)).toThrow();
  });

  it('is none without its question, unless it refuses by the header alone', () => {
    const header = Buffer.alloc(12);
    header.writeUInt16BE(7, 0);
    for (const [flags, rcode] of [
      [0x8005, 'REFUSED'],
      [0x8000, undefined],
    ] as const) {
      header.writeUInt16BE(flags, 2);
      expect(decodeAnswer(header, 7, question)?.rcode).toBe(rcode);
    }
  });

  it('with thousands of records is not read', () => {
    const bomb = message(0, []);
    bomb.writeUInt16BE(60_000, 6);
    expect(() => decodeAnswer(bomb, 7, question)).toThrow('60001 records');
  });
});
