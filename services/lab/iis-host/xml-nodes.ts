/** A node as fast-xml-parser keeps it with `preserveOrder`: one key that is its name, and `:@` with its attributes. */
export type XmlNode = Record<string, unknown>;

const attributesKey = ':@';

/** The children of an element, to be read and changed; of another node an empty list. */
export function childrenOf(node: XmlNode): XmlNode[] {
  const children = Object.entries(node).find(([name]) => name !== attributesKey)?.[1];
  return Array.isArray(children) ? children : [];
}

/** The attributes of an element, to be read and changed; entities stand as in the file. */
export function attributesOf(node: XmlNode): Record<string, string> {
  node[attributesKey] ??= {};
  return node[attributesKey] as Record<string, string>;
}

export function elementNamed(parent: XmlNode, name: string): XmlNode | undefined {
  return childrenOf(parent).find((node) => name in node);
}

const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

/** The value of an attribute with its entities resolved. */
export function readAttribute(node: XmlNode, name: string): string | undefined {
  return attributesOf(node)[name]?.replace(
    /&(?:#x([0-9a-f]{1,6})|#(\d{1,7})|(\w+));/gi,
    (whole, hex, decimal, word) => {
      if (word !== undefined) return entities[word] ?? whole;
      const code = hex === undefined ? Number(decimal) : Number.parseInt(hex, 16);
      return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
    },
  );
}

function escaped(text: string): string {
  const names: Record<string, string> = { '&': 'amp', '<': 'lt', '>': 'gt', '"': 'quot' };
  return text.replace(/[&<>"\r\n\t]/g, (char) => (names[char] ? `&${names[char]};` : `&#${char.charCodeAt(0)};`));
}

/** An element with these attributes and no children. */
export function newElement(name: string, attributes: Record<string, string>): XmlNode {
  const quoted = Object.entries(attributes).map(([key, value]) => [key, escaped(value)]);
  return { [name]: [], [attributesKey]: Object.fromEntries(quoted) };
}

/** Puts a child behind the last element (of a name, if one is given and there is one), indented as told; `close` stands before the end tag. */
export function insertAfterLast(parent: XmlNode, child: XmlNode, indent: string, close: string, name?: string): void {
  const children = childrenOf(parent);
  const named = name === undefined ? -1 : children.findLastIndex((node) => name in node);
  const last = named >= 0 ? named : children.findLastIndex((node) => !('#text' in node));
  children.splice(last + 1, 0, { '#text': indent }, child);
  if (last + 3 === children.length) children.push({ '#text': close });
}
