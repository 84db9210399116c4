import type { Response } from 'express';
import { CertlineError } from '#libs/errors';

/** A line now and then keeps proxies from closing a quiet stream. */
const heartbeatMs = 15_000;
/** Bytes that may wait for a reader. */
const mostWaiting = 1 << 20;

/** Server-sent events (WHATWG HTML §9.2) on an answer. */
export interface EventStream {
  /** Sends the headers; everything before may still fail with an answer of its own. */
  begin(): void;
  /** Sends an event; with `id` a reader can say how far it came. One that does not take what waits for it is cut off: it may come again. */
  send(type: string, data: unknown, id?: string): void;
  end(): void;
  /** Resolves when it was ended, or the client has gone. */
  ended: Promise<void>;
  /** To be called at the end in any case. */
  close(): void;
}

/** @param signal aborted when the client has gone */
export function openEventStream(response: Response, signal: AbortSignal): EventStream {
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  let heartbeat: NodeJS.Timeout | undefined;
  const write = (text: string): void => {
    response.write(text);
    if (response.writableLength > mostWaiting) response.destroy();
  };
  signal.addEventListener('abort', () => end(), { once: true });
  if (signal.aborted) end();
  return {
    begin() {
      response.writeHead(200, {
        'content-type': 'text/event-stream',
        'cache-control': 'no-store',
        'x-accel-buffering': 'no',
      });
      response.flushHeaders();
      heartbeat = setInterval(() => write(': still here\n\n'), heartbeatMs);
    },
    send(type, data, id) {
      write(`${id === undefined ? '' : `id: ${id}\n`}event: ${type}\ndata: ${JSON.stringify(data)}\n\n`);
    },
    end,
    ended,
    close() {
      clearInterval(heartbeat);
      if (response.headersSent) response.end();
    },
  };
}

export interface StreamLimit {
  /** Does what sends the stream of an API key. Throws `too_many_event_streams` when the key has as many as it may. */
  within(key: string, send: () => Promise<void>): Promise<void>;
}

/** Counts the streams of this process. */
export function createStreamLimit(mostPerKey: number): StreamLimit {
  const open = new Map<string, number>();
  return {
    async within(key, send) {
      const count = open.get(key) ?? 0;
      if (count >= mostPerKey)
        throw new CertlineError('too_many_event_streams', `the key follows ${count} event streams at this process`);
      open.set(key, count + 1);
      try {
        await send();
      } finally {
        const left = (open.get(key) ?? 1) - 1;
        if (left > 0) open.set(key, left);
        else open.delete(key);
      }
    },
  };
}
