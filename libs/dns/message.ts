import { type Answer, decode, encode, type PacketOpt } from 'dns-packet';

/** A property of a CAA record (RFC 8659 §4.1). */
export interface CaaRecord {
  flags: number;
  /** As it was sent; tags are compared without regard to case. */
  tag: string;
  value: string;
}

/** What a record of a type says. Names in it are lower case, without the final dot; the root is `.`. */
export interface RecordData {
  A: string;
  AAAA: string;
  CAA: CaaRecord;
  CNAME: string;
  NS: string;
  SOA: { primary: string; serial: number };
  /** Its strings joined, as a CA reads them (RFC 8555 §8.4). */
  TXT: string;
}

export type RecordType = keyof RecordData;
export type DnsRecord = { [T in RecordType]: { name: string; type: T; data: RecordData[T] } }[RecordType];

export interface Question {
  name: string;
  type: RecordType;
  /** Whether the server is to find out what it does not know itself. */
  recursive: boolean;
  /** Asks a validating resolver for what it could not validate, too (CD, RFC 4035 §3.2.2). */
  checkingDisabled?: boolean;
}

/** Why a server says what it says (RFC 8914). */
export interface ExtendedError {
  code: number;
  text: string;
}

/** What a server answered, with the records of the types above. */
export interface DnsAnswer {
  /** `NOERROR`, `NXDOMAIN`, `SERVFAIL`, …; `RCODE_16` where there is no name for it here. */
  rcode: string;
  /** AA: the server has the zone. */
  authoritative: boolean;
  /** AD: a resolver has validated it (RFC 4035 §3.2.3). */
  authenticated: boolean;
  /** TC: it did not fit; ask over TCP. */
  truncated: boolean;
  answers: DnsRecord[];
  authorities: DnsRecord[];
  additionals: DnsRecord[];
  extendedErrors: ExtendedError[];
}

/** UDP payload that passes every network unfragmented (DNS flag day 2020). */
const udpPayload = 1232;
/** Far above what any zone of ours has; names in a message can be made slow to read. */
const mostRecords = 2_000;
const flag = { authenticData: 1 << 5, checkingDisabled: 1 << 4, recursionDesired: 1 << 8 };
const rcodes = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'];
/** Refusals that some servers send with the header alone. */
const mayLackQuestion = new Set(['FORMERR', 'SERVFAIL', 'NOTIMP', 'REFUSED']);
const extendedErrorOption = 15;

/** A name as it is compared: lower case, without the final dot. */
export function canonicalName(name: string): string {
  return name === '.' ? name : name.replace(/\.$/, '').toLowerCase();
}

/** The query as it is sent over UDP. AD asks for AD back, without the signatures themselves (RFC 6840 §5.7). */
export function encodeQuery(id: number, question: Question, withEdns = true): Buffer {
  const { name, type, recursive, checkingDisabled = false } = question;
  const options = {
    ...{ type: 'OPT' as const, name: '.', udpPayloadSize: udpPayload },
    ...{ extendedRcode: 0, ednsVersion: 0, flags: 0, flag_do: false, options: [] },
  };
  return encode({
    ...{ type: 'query', id, questions: [{ name, type, class: 'IN' }] },
    flags:
      flag.authenticData | (recursive ? flag.recursionDesired : 0) | (checkingDisabled ? flag.checkingDisabled : 0),
    additionals: withEdns ? [options] : [],
  });
}

function recordOf(answer: Answer): DnsRecord[] {
  const name = canonicalName(answer.name);
  if (!('class' in answer) || answer.class !== 'IN') return [];
  switch (answer.type) {
    case 'A':
    case 'AAAA':
      return [{ name, type: answer.type, data: answer.data }];
    case 'CNAME':
    case 'NS':
      return [{ name, type: answer.type, data: canonicalName(answer.data) }];
    case 'CAA': {
      const { flags = 0, tag, value } = answer.data;
      return [{ name, type: 'CAA', data: { flags, tag, value } }];
    }
    case 'SOA':
      return [
        {
          ...{ name, type: 'SOA' },
          data: { primary: canonicalName(answer.data.mname), serial: answer.data.serial ?? 0 },
        },
      ];
    case 'TXT': {
      const parts = Array.isArray(answer.data) ? answer.data : [answer.data];
      return [{ name, type: 'TXT', data: Buffer.concat(parts.map((part) => Buffer.from(part))).toString('utf8') }];
    }
    default:
      return [];
  }
}

function extendedError({ code, data }: PacketOpt): ExtendedError[] {
  if (Number(code) !== extendedErrorOption || data === undefined || data.length < 2) return [];
  return [{ code: data.readUInt16BE(0), text: data.toString('utf8', 2).replace(/\0+$/, '') }];
}

const answersNothing = { answers: [], authorities: [], additionals: [], extendedErrors: [] };

/**
 * A message as the answer to a question; null when it answers another one or none (other id, other question).
 * Throws an `Error` when it cannot be read.
 */
export function decodeAnswer(message: Buffer, id: number, question: Question): DnsAnswer | null {
  if (message.length < 12) throw new Error(`${message.length} bytes are no DNS message`);
  const flags = message.readUInt16BE(2);
  const isResponse = (flags & 0x8000) !== 0 && (flags & 0x7800) === 0;
  if (message.readUInt16BE(0) !== id || !isResponse) return null;
  const records = [4, 6, 8, 10].reduce((sum, at) => sum + message.readUInt16BE(at), 0);
  if (records > mostRecords) throw new Error(`a message with ${records} records`);
  const head = {
    authoritative: (flags & 0x0400) !== 0,
    truncated: (flags & 0x0200) !== 0,
    authenticated: (flags & 0x0020) !== 0,
  };
  const packet = (() => {
    try {
      const whole = decode(message);
      // It reads strings past the end as if they were short.
      if (decode.bytes > message.length) throw new Error('a message that ends within a record');
      return whole;
    } catch (error) {
      // Some cut in the middle of a record.
      if (head.truncated) return null;
      throw error;
    }
  })();
  if (packet === null) return { rcode: 'NOERROR', ...head, ...answersNothing };

  const { questions = [], answers = [], authorities = [], additionals = [] } = packet;
  const options = additionals.find((one) => one.type === 'OPT');
  const code = (flags & 0xf) | ((options?.extendedRcode ?? 0) << 4);
  const rcode = rcodes[code] ?? `RCODE_${code}`;
  const [asked, ...more] = questions;
  if (asked === undefined ? !mayLackQuestion.has(rcode) : more.length > 0) return null;
  if (asked && (canonicalName(asked.name) !== canonicalName(question.name) || asked.type !== question.type)) {
    return null;
  }
  return {
    ...{ rcode, ...head },
    answers: answers.flatMap(recordOf),
    authorities: authorities.flatMap(recordOf),
    additionals: additionals.flatMap(recordOf),
    extendedErrors: (options?.options ?? []).flatMap(extendedError),
  };
}

/** The data of the records of one type, at a name. */
export function dataOf<T extends RecordType>(records: readonly DnsRecord[], type: T, name?: string): RecordData[T][] {
  return records
    .filter((one): one is Extract<DnsRecord, { type: T }> => one.type === type)
    .filter((one) => name === undefined || one.name === name)
    .map((one) => one.data as RecordData[T]);
}
