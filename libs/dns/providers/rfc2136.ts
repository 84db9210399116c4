import { randomInt } from 'node:crypto';
import { z } from 'zod';
import { CertlineError } from '../../errors.ts';
import { type DnsProvider, defineProvider, type ProviderDeps, type TxtRecord } from '../dns-provider.ts';
import { signMessage, type TsigKey, type TsigVerdict, tsigAlgorithms, verifyAnswer } from '../tsig.ts';
import { exchangeOverTcp, readServer } from '../update-exchange.ts';
import { encodeEmptyUpdate, encodeUpdate, rcodeOf, type TxtUpdate } from '../update-message.ts';
import { type UpdateAnswer, updateRefusal } from '../update-refusals.ts';

const title = 'RFC 2136';

const settings = z.strictObject({
  server: z
    .string()
    .max(300)
    .refine((text) => readServer(text) !== null, 'host:port, or [address]:port for IPv6')
    .describe('The primary name server of the zones, `host:port` or `[address]:port`; port 53 without one. TCP.'),
  keyName: z
    .string()
    .min(1)
    .max(255)
    .regex(/^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?$/, 'the name of a TSIG key, as the server has it')
    .optional()
    .describe('Name of the TSIG key. Without it updates are not signed: for servers that take them by address.'),
  algorithm: z
    .enum(tsigAlgorithms)
    .default('hmac-sha256')
    .describe('Algorithm of the key. `hmac-sha1` is for servers that have nothing better.'),
});
const secret = z.strictObject({
  key: z
    .base64('is not base64')
    .min(1)
    .max(1000)
    .optional()
    .describe('The TSIG key, base64, as `tsig-keygen` prints it. None where `settings.keyName` is left out.'),
});

type Settings = z.infer<typeof settings>;

function keyOf({ keyName, algorithm }: Settings, { key }: z.infer<typeof secret>): TsigKey | null {
  if (keyName === undefined && key === undefined) return null;
  if (keyName === undefined || key === undefined) {
    const [path, words] =
      keyName === undefined
        ? ['settings.keyName', 'there is a key, and not its name: give settings.keyName']
        : ['secret.key', `settings.keyName is ${keyName}, and there is no key: give secret.key`];
    const problems = [{ path, code: 'request_invalid' as const, detail: words }];
    throw new CertlineError('dns_credential_refused', words, { problems });
  }
  return { name: keyName, algorithm, secret: Buffer.from(key, 'base64') };
}

/**
 * Dynamic updates (RFC 2136), signed with TSIG (RFC 8945), over TCP: BIND, Knot, PowerDNS with `dnsupdate`, and
 * Microsoft DNS where a zone takes "Nonsecure and secure" updates, then without a key: it has GSS-TSIG (Kerberos) instead of TSIG, which is not spoken
 * here. One update adds or takes away one value, which the server does in one step, so nothing of others can get lost; all values at a name have one
 * TTL, which servers set to that of the last one added. What says success is believed only with its signature.
 */
export async function openRfc2136(
  given: Settings,
  itsSecret: z.infer<typeof secret>,
  { clock, ttlSeconds }: ProviderDeps,
): Promise<DnsProvider> {
  const { server } = given;
  const key = keyOf(given, itsSecret);

  const unreachable = (why: string, cause?: unknown): CertlineError =>
    new CertlineError('dns_provider_unreachable', `${title}: ${server} ${why}`, { cause });

  async function send(message: Buffer, signal: AbortSignal): Promise<UpdateAnswer> {
    const sent = key === null ? { signed: message, mac: null } : signMessage(message, key, clock.now());
    let answer: Buffer;
    try {
      answer = await exchangeOverTcp(server, sent.signed, signal);
    } catch (cause) {
      signal.throwIfAborted();
      throw unreachable(cause instanceof Error ? cause.message : String(cause), cause);
    }
    const rcode = rcodeOf(answer, message.readUInt16BE(0));
    if (rcode === null) throw unreachable('answers with something else than an answer to an update');
    if (key === null || sent.mac === null) return { rcode, tsigError: null, serverTime: null };
    let verdict: TsigVerdict;
    try {
      verdict = verifyAnswer(answer, key, sent.mac, clock.now());
    } catch {
      verdict = { kind: 'bad', why: 'cannot be read' };
    }
    if (verdict.kind === 'bad')
      throw unreachable(`answers ${rcode}, and the signature ${verdict.why}: it is not believed`);
    const { error: tsigError } = verdict;
    if (verdict.kind === 'unsigned' && tsigError === null && rcode === 'NOERROR')
      throw unreachable('answers NOERROR without a signature: it is not believed');
    return { rcode, tsigError, serverTime: verdict.kind === 'good' ? verdict.serverTime : null };
  }

  /** Knot says BADKEY both of a key that it does not know and of one that may not change the name; it takes an empty update of one that it knows. */
  async function knowsKey(zone: string, signal: AbortSignal): Promise<boolean> {
    const { rcode, tsigError } = await send(encodeEmptyUpdate(randomInt(0x1_0000), zone), signal);
    return rcode === 'NOERROR' && tsigError === null;
  }

  async function update(record: TxtRecord, change: TxtUpdate['change'], signal: AbortSignal): Promise<void> {
    const message = encodeUpdate(randomInt(0x1_0000), { ...record, change });
    let answer = await send(message, signal);
    if (answer.tsigError === 'BADKEY' && (await knowsKey(record.zone, signal)))
      answer = { ...answer, rcode: 'REFUSED', tsigError: null };
    if (answer.tsigError !== null || answer.rcode !== 'NOERROR')
      throw updateRefusal({ server, key, record, answer, now: clock.now() });
  }

  return {
    present: (record, signal) => update(record, { add: true, ttl: ttlSeconds }, signal),
    cleanUp: (record, signal) => update(record, { add: false }, signal),
    // DNS has no way to tell which zones a key may change.
    zones: async () => null,
  };
}

export const rfc2136 = defineProvider({
  ...{ name: 'rfc2136', title: 'Dynamic updates (RFC 2136): BIND, Knot, Microsoft DNS' },
  rights: 'A TSIG key that may change TXT records: BIND `update-policy`, Knot `acl`. Microsoft DNS takes no TSIG.',
  ...{ settings, secret, open: openRfc2136 },
});
