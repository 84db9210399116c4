/** What the stand-ins of DNS APIs have in common: zones with TXT records, faults on demand, reads that lag behind. */
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface StandInRequest {
  method: string;
  url: URL;
  headers: IncomingMessage['headers'];
  body: string;
}

export interface StandInAnswer {
  status: number;
  body?: object | string;
  headers?: Record<string, string>;
}

export interface StandInRecord {
  id: number;
  /** Absolute, without the final dot. */
  name: string;
  /** As it is in DNS: without quotation marks. */
  value: string;
  ttl: number;
}

export interface StandInZone {
  id: string;
  name: string;
  isPrivate: boolean;
  records: StandInRecord[];
}

export interface Fault {
  answer: StandInAnswer;
  /** Which request; any write unless given. */
  on?: (request: StandInRequest) => boolean;
  /** The request is done, and only its answer is another. */
  done?: boolean;
}

export interface World {
  zones: StandInZone[];
  addZone(name: string, options?: { isPrivate?: boolean; id?: string }): StandInZone;
  add(zone: StandInZone, name: string, value: string, ttl?: number): StandInRecord;
  /** The records as a read sees them, which may be behind. */
  seen(zone: StandInZone): readonly StandInRecord[];
  values(zone: StandInZone, name: string): string[];
}

export interface StandIn extends World {
  /** With a final slash. */
  baseUrl: string;
  requests: StandInRequest[];
  fail(fault: Fault): void;
  /** Once, after the next write has arrived and before it is done. */
  beforeWrite(action: () => void): void;
  /** The next `reads` reads after a write see what was before it. */
  lag(reads: number): void;
  close(): Promise<void>;
}

export const isWrite = ({ method }: StandInRequest): boolean => method !== 'GET';

/** @param answer the API. @param writes which requests change records; all but GET unless given */
export async function startStandIn(
  answer: (request: StandInRequest, world: World) => StandInAnswer,
  writes: (request: StandInRequest) => boolean = isWrite,
): Promise<StandIn> {
  let lastId = 1000;
  let before: Map<string, StandInRecord[]> | null = null;
  let lagging = 0;
  let readsLeft = 0;
  let action: (() => void) | null = null;
  const faults: Fault[] = [];
  const requests: StandInRequest[] = [];
  const zones: StandInZone[] = [];
  const world: World = {
    zones,
    addZone(name, { isPrivate = false, id } = {}) {
      lastId += 1;
      const zone = { id: id ?? `Z${lastId}`, name, isPrivate, records: [] };
      zones.push(zone);
      return zone;
    },
    add(zone, name, value, ttl = 120) {
      lastId += 1;
      const record = { id: lastId, name, value, ttl };
      zone.records.push(record);
      return record;
    },
    seen(zone) {
      const old = before?.get(zone.id);
      if (readsLeft === 0 || old === undefined) return zone.records;
      readsLeft -= 1;
      return old;
    },
    values: (zone, name) =>
      zone.records
        .filter((one) => one.name === name)
        .map(({ value }) => value)
        .sort(),
  };

  function handle(request: StandInRequest): StandInAnswer {
    requests.push(request);
    const fault = faults.find(({ on = writes }) => on(request));
    if (fault !== undefined) faults.splice(faults.indexOf(fault), 1);
    if (fault !== undefined && fault.done !== true) return fault.answer;
    if (writes(request)) {
      const now = action;
      action = null;
      now?.();
      if (lagging > 0) {
        before = new Map(zones.map(({ id, records }) => [id, [...records]]));
        readsLeft = lagging;
      }
    }
    const real = answer(request, world);
    return fault?.answer ?? real;
  }

  const server = createServer((incoming, response) => {
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', () => {
      const { method = '', headers } = incoming;
      const url = new URL(incoming.url ?? '', `http://${headers.host}`);
      let told: StandInAnswer;
      try {
        told = handle({ method, url, headers, body: Buffer.concat(chunks).toString('utf8') });
      } catch (thrown) {
        told = { status: 599, body: { standInBroke: String(thrown) } };
      }
      const { status, body = '' } = told;
      const isJson = typeof body !== 'string';
      response.writeHead(status, { ...(isJson ? { 'content-type': 'application/json' } : {}), ...told.headers });
      response.end(isJson ? JSON.stringify(body) : body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    ...world,
    ...{ baseUrl: `http://127.0.0.1:${port}/`, requests },
    fail: (fault) => faults.push(fault),
    beforeWrite(wanted) {
      action = wanted;
    },
    lag(reads) {
      lagging = reads;
      readsLeft = 0;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The name that a relative one stands for in the zone. */
export function absolute(zone: StandInZone, relative: string, apex: string): string {
  return relative === apex ? zone.name : `${relative}.${zone.name}`;
}

/** A value that must be in quotation marks; null when it is not. */
export function inQuotes(text: unknown): string | null {
  return typeof text === 'string' && /^"[^"]{1,255}"$/.test(text) ? text.slice(1, -1) : null;
}

/** A page of a list whose first page is 1. */
export function pageOf<T>(all: readonly T[], page: number, size: number): { items: readonly T[]; total: number } {
  return { items: all.slice((page - 1) * size, page * size), total: Math.max(1, Math.ceil(all.length / size)) };
}
