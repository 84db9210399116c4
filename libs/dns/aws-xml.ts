import { XMLParser } from 'fast-xml-parser';
import type { z } from 'zod';
import { CertlineError } from '../errors.ts';
import type { ApiAnswer } from './http-api.ts';

const lists = new Set(['HostedZone', 'ResourceRecordSet', 'ResourceRecord', 'Message']);
const parser = new XMLParser({
  ignoreAttributes: true,
  // "1e3" and "007" are names and ids
  parseTagValue: false,
  // else &#34; stays as it is
  htmlEntities: true,
  isArray: (name, path) => lists.has(name) && !String(path).startsWith('ErrorResponse'),
});

/** The document as objects; an empty one when it is no XML. Values are text; those of a list are arrays even when there is one. */
export function parseXml(text: string): Record<string, unknown> {
  try {
    const read: unknown = parser.parse(text, true);
    return typeof read === 'object' && read !== null ? (read as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** The answer as the schema wants it. */
export function readXml<T>(title: string, schema: z.ZodType<T>, { text, status }: ApiAnswer): T {
  const read = schema.safeParse(parseXml(text));
  if (read.success) return read.data;
  const where = read.error.issues[0]?.path.join('.');
  throw new CertlineError(
    'dns_provider_unreachable',
    `${title}: the answer ${status} is not of the form that its documentation says (${where})`,
    { evidence: { status } },
  );
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;' };

/** Text of an element. */
export function escapeXml(text: string): string {
  return text.replace(/[&<>"']/g, (one) => entities[one] ?? one);
}
