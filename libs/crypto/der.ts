/** The little of DER that certificates and PFX files need, with Buffers, over node-forge's asn1 (which speaks binary strings). */
import forge from 'node-forge';

const { asn1 } = forge;
const { Class, Type } = asn1;

export type Asn1 = forge.asn1.Asn1;

const primitive = (type: forge.asn1.Type, bytes: Buffer): Asn1 =>
  asn1.create(Class.UNIVERSAL, type, false, bytes.toString('binary'));

export const sequence = (...items: Asn1[]): Asn1 => asn1.create(Class.UNIVERSAL, Type.SEQUENCE, true, items);

/** SET OF: DER wants its members in the order of their encodings (X.690 §11.6), which forge does not see to. */
export function setOf(...items: Asn1[]): Asn1 {
  const sorted = items
    .map((item) => ({ item, der: encode(item) }))
    .sort((a, b) => Buffer.compare(a.der, b.der))
    .map(({ item }) => item);
  return asn1.create(Class.UNIVERSAL, Type.SET, true, sorted);
}

export const objectId = (oid: string): Asn1 =>
  asn1.create(Class.UNIVERSAL, Type.OID, false, asn1.oidToDer(oid).getBytes());

/** A whole number from 0 to 2^31 - 1, or the big-endian two's complement bytes of any other. */
export const integer = (value: number | Buffer): Asn1 =>
  typeof value === 'number'
    ? asn1.create(Class.UNIVERSAL, Type.INTEGER, false, asn1.integerToDer(value).getBytes())
    : primitive(Type.INTEGER, value);

export const octetString = (bytes: Buffer): Asn1 => primitive(Type.OCTETSTRING, bytes);

export const nullValue = (): Asn1 => primitive(Type.NULL, Buffer.alloc(0));

/** BMPString as Windows and OpenSSL write it: UTF-16BE, with surrogate pairs beyond the basic plane. forge encodes the text of this type itself. */
export const bmpString = (text: string): Asn1 => asn1.create(Class.UNIVERSAL, Type.BMPSTRING, false, text);

/** A constructed context tag, `[number]` around items. */
export const tagged = (number: number, ...items: Asn1[]): Asn1 =>
  asn1.create(Class.CONTEXT_SPECIFIC, number, true, items);

/** A primitive context tag, `[number] IMPLICIT` of a string type. */
export const taggedBytes = (number: number, bytes: Buffer): Asn1 =>
  asn1.create(Class.CONTEXT_SPECIFIC, number, false, bytes.toString('binary'));

export const utf16be = (text: string): Buffer => Buffer.from(text, 'utf16le').swap16();

export const encode = (node: Asn1): Buffer => Buffer.from(asn1.toDer(node).getBytes(), 'binary');

/** @throws Error if the bytes are not one DER value. */
export const decode = (der: Buffer): Asn1 => asn1.fromDer(der.toString('binary'));

/** The parts of a constructed value; none of a primitive one. */
export const partsOf = (node: Asn1 | undefined): Asn1[] =>
  node !== undefined && Array.isArray(node.value) ? node.value : [];

/** The content of a primitive value; empty for a constructed one. */
export const bytesOf = (node: Asn1 | undefined): Buffer =>
  typeof node?.value === 'string' ? Buffer.from(node.value, 'binary') : Buffer.alloc(0);

/** The dotted form of an object identifier; undefined for anything else. */
export const objectIdOf = (node: Asn1 | undefined): string | undefined =>
  node?.tagClass === Class.UNIVERSAL && node.type === Type.OID && typeof node.value === 'string'
    ? asn1.derToOid(node.value)
    : undefined;

/** Whether a value has the context tag `[number]`. */
export const isTagged = (node: Asn1, number: number): boolean =>
  node.tagClass === Class.CONTEXT_SPECIFIC && Number(node.type) === number;
