import { isIPv6 } from 'node:net';
import { join } from 'node:path';

/** A key that signs dynamic updates and transfers (RFC 8945). */
export interface TsigKey {
  name: string;
  /** `hmac-sha256`, … */
  algorithm: string;
  /** In base64. */
  secret: string;
}

export interface BindZone {
  /** Without the final dot; `.` is the root. */
  name: string;
  /** What a primary starts with: a master file. Without one the zone is a copy of another server's. */
  text?: string;
  /** The server that it is a copy of, at the same port. */
  copyOf?: string;
  /** Names of the keys that may update it (RFC 2136). */
  updateKeys?: readonly string[];
  /** Rules of `update-policy` instead: `grant key. name _acme-challenge.example.test. TXT`. */
  updatePolicy?: readonly string[];
  /** Takes updates from this machine without a key. */
  openUpdates?: boolean;
  /** Names of the keys that may transfer it; without any everybody on this machine may. */
  transferKeys?: readonly string[];
  /** Signs it with keys of its own (DNSSEC). */
  signed?: boolean;
  /** Addresses, all at the same port, that hear of a change at once. None by default: their copies then lag. */
  notify?: readonly string[];
}

export interface BindOptions {
  /** Where it keeps its zones, journals, keys and log; made when it is not there. */
  readonly dir: string;
  /** 127.0.0.1, 127.0.0.2, …: name servers have no port in DNS, so those of one world share a port and differ in address. */
  readonly address: string;
  /** A free one of 127.0.0.1 by default. Also that at which it asks other servers. */
  readonly port?: number;
  readonly zones?: readonly BindZone[];
  readonly keys?: readonly TsigKey[];
  /** Looks everything up from here: addresses of root servers, and the DS records of the zones that are trusted. */
  readonly recursion?: { readonly roots: readonly string[]; readonly trust: readonly string[] };
}

/** Where a zone's text lies in the folder. */
export const zoneFile = (name: string): string => `${name === '.' ? 'root' : name}.zone`;

const list = (items: readonly string[]): string => `{ ${items.map((item) => `${item};`).join(' ')} }`;
const keyed = (names: readonly string[]): string => list(names.map((name) => `key "${name}"`));

function zoneStatement(zone: BindZone, port: number): string {
  const {
    name,
    copyOf,
    updateKeys = [],
    updatePolicy = [],
    openUpdates = false,
    transferKeys = [],
    signed = false,
    notify = [],
  } = zone;
  const lines = [
    `type ${copyOf === undefined ? 'primary' : 'secondary'};`,
    `file "${zoneFile(name)}";`,
    // What is passed on to it comes from 127.0.0.1.
    ...(copyOf === undefined ? [] : [`primaries port ${port} { ${copyOf}; };`, 'allow-notify { 127.0.0.1; };']),
    ...(updateKeys.length === 0 ? [] : [`allow-update ${keyed(updateKeys)};`]),
    ...(openUpdates ? ['allow-update { 127.0.0.0/8; };'] : []),
    ...(updatePolicy.length === 0 ? [] : [`update-policy ${list(updatePolicy)};`]),
    ...(transferKeys.length === 0 ? [] : [`allow-transfer ${keyed(transferKeys)};`]),
    ...(notify.length === 0 ? [] : ['notify explicit;', `also-notify port ${port} ${list(notify)};`]),
    // One that is updated is signed where it is, any other beside its file.
    ...(signed
      ? ['dnssec-policy default;', `inline-signing ${updateKeys.length + updatePolicy.length > 0 ? 'no' : 'yes'};`]
      : []),
  ];
  return `zone "${name}" {\n  ${lines.join('\n  ')}\n};\n`;
}

/** `example.test. IN DS 1 13 2 abcd…` as `trust-anchors` has it. */
function anchor(record: string): string {
  const [, name, rest] = /^(\S+)\s+(?:IN\s+)?DS\s+(.*)$/.exec(record.trim()) ?? [];
  const [tag, algorithm, digestType, ...digest] = rest?.split(/\s+/) ?? [];
  return `"${name}" static-ds ${tag} ${algorithm} ${digestType} "${digest.join('')}"`;
}

export interface BindPlace {
  dir: string;
  port: number;
  /** Where it listens: its address and port, or what is passed on from there. */
  listen: { address: string; port: number };
  controlPort: number;
  controlKey: string;
}

/** The text of `named.conf`. */
export function bindConfiguration(options: BindOptions & BindPlace): string {
  const { dir, address, port, listen, zones = [], keys = [], recursion, controlPort, controlKey } = options;
  const six = isIPv6(address);
  const settings = [
    `directory "${dir}";`,
    `key-directory "${join(dir, 'keys')}";`,
    `port ${port};`,
    `listen-on port ${listen.port} ${list([six ? 'none' : listen.address])};`,
    `listen-on-v6 port ${listen.port} ${list([six ? listen.address : 'none'])};`,
    // Queries and transfers come from the server's own address, as on a machine of its own.
    ...(six ? [] : [`query-source address ${address};`, `transfer-source ${address};`, `notify-source ${address};`]),
    'pid-file none;',
    'lock-file none;',
    'session-keyfile none;',
    'empty-zones-enable no;',
    'notify no;',
    'notify-delay 0;',
    `allow-query ${list(['any'])};`,
    `recursion ${recursion ? 'yes' : 'no'};`,
    `dnssec-validation ${recursion && recursion.trust.length > 0 ? 'yes' : 'no'};`,
    // Records of a lab change from one test to the next.
    ...(recursion ? [`allow-recursion { any; };`, 'max-cache-ttl 1;', 'max-ncache-ttl 1;', 'servfail-ttl 0;'] : []),
  ];
  const parts = [
    `options {\n  ${settings.join('\n  ')}\n};\n`,
    `key "lab-control" { algorithm hmac-sha256; secret "${controlKey}"; };\n`,
    `controls { inet ${address} port ${controlPort} allow { any; } keys { "lab-control"; }; };\n`,
    ...keys.map(({ name, algorithm, secret }) => `key "${name}" { algorithm ${algorithm}; secret "${secret}"; };\n`),
    ...(recursion && recursion.trust.length > 0 ? [`trust-anchors ${list(recursion.trust.map(anchor))};\n`] : []),
    ...(recursion ? ['zone "." { type hint; file "roots.hint"; };\n'] : []),
    ...zones.map((zone) => zoneStatement(zone, port)),
  ];
  return parts.join('');
}

/** The text of the hints that a recursive server starts from. */
export function rootHints(roots: readonly string[]): string {
  return roots.map((root, at) => `. 60 IN NS root${at}.\nroot${at}. 60 IN A ${root}\n`).join('');
}

/** The text of `rndc.conf`. */
export function rndcConfiguration(address: string, port: number, key: string): string {
  return [
    `key "lab-control" { algorithm hmac-sha256; secret "${key}"; };`,
    `options { default-key "lab-control"; default-server ${address}; default-port ${port}; };\n`,
  ].join('\n');
}
