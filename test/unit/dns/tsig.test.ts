import { describe, expect, it } from 'vitest';
import { readMac, signMessage, type TsigAlgorithm, type TsigKey, verifyAnswer, verifyRequest } from '#libs/dns/tsig';

/** Sent by nsupdate of BIND 9.18.49 (`update delete _acme-challenge.example.com TXT "old"`), signed with the key below, at 0x6b048426. */
const start =
  '28000001000000010001076578616d706c6503636f6d00000600010f5f61636d652d6368616c6c656e6765c00c001000fe000000000004036f6c64';
const keyOwner = '08636572746c696e65076578616d706c650000fa00ff00000000';
const sent: [TsigAlgorithm, id: string, rest: string][] = [
  ['hmac-sha1', 'ea02', '002f09686d61632d736861310000006b048426012c0014bbbeeb22900535f14a04454830c72f0990034426'],
  [
    'hmac-sha256',
    '97c4',
    '003d0b686d61632d7368613235360000006b048426012c0020958ce5bc1202fa375e9ff6d7b3c3c9e2764a4c5df06cb0a417928d14fcfb4340',
  ],
  [
    'hmac-sha384',
    '19de',
    '004d0b686d61632d7368613338340000006b048426012c00301fde28603d318e7669a75538b100b443e95547a4768e4cd7fcd6d681b84d208947eb016b5eccc5f9a9e8a213baef6355',
  ],
  [
    'hmac-sha512',
    '4e74',
    '005d0b686d61632d7368613531320000006b048426012c004019892f41d4ad1036cce12c1d4f75703286e37e646c8c745d84155a5aaccf6e615f746aaf8ab956d2bdbec9cee5381290343411e005c69c11c7f28321d9a5a777',
  ],
];
const now = 0x6b048426 * 1000;
const secret = Buffer.from('a key of the tests, 32 bytes long');
const keyOf = (algorithm: TsigAlgorithm): TsigKey => ({ name: 'Certline.Example.', algorithm, secret });
const messageOf = (id: string, rest: string): Buffer =>
  Buffer.from(`${id}${start}${keyOwner}${rest}${id}00000000`, 'hex');
/** The same before it was signed. */
function unsignedOf(id: string): Buffer {
  const message = Buffer.from(id + start, 'hex');
  message.writeUInt16BE(0, 10);
  return message;
}
const key = keyOf('hmac-sha256');
const [, sha256] = sent;
const signedByNsupdate = messageOf(sha256?.[1] ?? '', sha256?.[2] ?? '');

describe('a TSIG record', () => {
  it.each(sent)('of %s is made byte for byte as nsupdate makes it', (algorithm, id, rest) => {
    const { signed, mac } = signMessage(unsignedOf(id), keyOf(algorithm), now + 999);
    expect(signed.toString('hex')).toBe(messageOf(id, rest).toString('hex'));
    expect(readMac(signed)).toEqual(mac);
  });

  it.each(sent)('of %s that nsupdate made is good', (algorithm, id, rest) => {
    const verdict = verifyRequest(messageOf(id, rest), keyOf(algorithm), now);
    expect(verdict).toEqual({ kind: 'good', error: null, serverTime: null });
  });

  it('is good for five minutes before and after', () => {
    const at = (seconds: number): string => verifyRequest(signedByNsupdate, key, now + seconds * 1000).kind;
    expect([-300, 0, 300].map(at)).toEqual(['good', 'good', 'good']);
    expect([-302, 302, 1e6].map(at)).toEqual(['bad', 'bad', 'bad']);
  });

  it('is not good with a byte changed, wherever that is', () => {
    for (let at = 0; at < signedByNsupdate.length; at += 1) {
      const changed = Buffer.from(signedByNsupdate);
      // The id is the sender's and may change on the way (RFC 8945 §4.2), letters count in either case.
      if (at < 2) continue;
      changed.writeUInt8(changed.readUInt8(at) ^ 0x40, at);
      const kind = (() => {
        try {
          return verifyRequest(changed, key, now).kind;
        } catch {
          return 'unreadable';
        }
      })();
      expect(kind, `byte ${at}`).not.toBe('good');
    }
  });

  it('is not good when it breaks off, nor as a part of it', () => {
    for (let length = 12; length < signedByNsupdate.length; length += 1)
      expect(() => verifyRequest(signedByNsupdate.subarray(0, length), key, now)).toThrow();
    // A truncated MAC (RFC 8945 §5.2.2.1), which is easier to guess.
    const mac = readMac(signedByNsupdate);
    const at = signedByNsupdate.indexOf(mac);
    const short = Buffer.concat([signedByNsupdate.subarray(0, at + 16), signedByNsupdate.subarray(at + 32)]);
    short.writeUInt16BE(16, at - 2);
    short.writeUInt16BE(0x3d - 16, signedByNsupdate.indexOf('003d0b', 0, 'hex'));
    expect(verifyRequest(short, key, now)).toEqual({ kind: 'bad', why: 'is not of the key' });
  });

  it('is not good under another name, algorithm or secret', () => {
    const others: TsigKey[] = [
      { ...key, name: 'other' },
      { ...key, algorithm: 'hmac-sha512' },
      { ...key, secret: Buffer.from('another') },
    ];
    for (const other of others) expect(verifyRequest(signedByNsupdate, other, now).kind).toBe('bad');
    expect(verifyRequest(signedByNsupdate, { ...key, name: 'CERTLINE.example' }, now).kind).toBe('good');
  });

  it('of an answer is of that request', () => {
    const { mac } = signMessage(unsignedOf('97c4'), key, now);
    const { signed } = signMessage(unsignedOf('97c4'), key, now, mac);
    expect(verifyAnswer(signed, key, mac, now).kind).toBe('good');
    expect(verifyAnswer(signed, key, Buffer.alloc(32), now).kind).toBe('bad');
    expect(verifyRequest(signed, key, now).kind).toBe('bad');
  });

  it('that is missing, or without a signature, is told from a wrong one', () => {
    expect(verifyRequest(unsignedOf('97c4'), key, now)).toEqual({ kind: 'unsigned', error: null });
    // BADKEY (17), as servers send it: no MAC, the id, the error, nothing else.
    const rdata = '001d0b686d61632d7368613235360000006b048426012c000097c400110000';
    const badKey = Buffer.from(`97c4${start}${keyOwner}${rdata}`, 'hex');
    expect(verifyRequest(badKey, key, now)).toEqual({ kind: 'unsigned', error: 'BADKEY' });
  });
});
