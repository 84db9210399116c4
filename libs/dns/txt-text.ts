/** The parts of a value (ASCII) that are written as a character-string each: they have 255 bytes at the most (RFC 1035 §3.3). */
export function stringsOf(value: string): string[] {
  return value.match(/.{1,255}/gs) ?? [''];
}

/** The value as character-strings of a zone file (RFC 1035 §5.1): in quotation marks. */
export function quoted(value: string): string {
  return stringsOf(value)
    .map((one) => `"${one.replace(/["\\]/g, '\\$&')}"`)
    .join(' ');
}

/** The value that one or several character-strings stand for; what is not in quotation marks is the value itself. */
export function unquoted(text: string): string {
  const strings = text.trim().match(/"(?:[^"\\]|\\.)*"/g);
  if (strings === null || !text.trim().startsWith('"')) return text;
  return strings.map((one) => one.slice(1, -1).replace(/\\(\d{3}|.)/g, unescaped)).join('');
}

function unescaped(_: string, what: string): string {
  return what.length === 3 ? String.fromCharCode(Number(what)) : what;
}
