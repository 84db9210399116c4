import type { IncomingHttpHeaders } from 'node:http';

/** Every target of the Link headers (RFC 8288) with the relation `rel`, as absolute URLs. */
export function readLinks(headers: IncomingHttpHeaders, rel: string, base: string): string[] {
  const value = headers.link;
  // node joins repeated Link headers with a comma; the types allow either
  const text = Array.isArray(value) ? value.join(', ') : (value ?? '');
  const links: string[] = [];
  for (const [, target, parameters] of text.matchAll(
    /<([^>]*)>((?:\s*;\s*[\w*!-]+\s*(?:=\s*(?:"[^"]*"|[^\s;,"]+))?)*)/g,
  )) {
    const relation = /;\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))/i.exec(parameters ?? '');
    const relations = (relation?.[1] ?? relation?.[2] ?? '').split(/\s+/);
    if (target === undefined || !relations.includes(rel)) continue;
    if (URL.canParse(target, base)) links.push(new URL(target, base).href);
  }
  return links;
}
