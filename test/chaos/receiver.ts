import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { systemClock } from '#libs/clock';
import { diceOf } from '../support/dice.ts';
import type { Tally } from './tally.ts';

const bodySchema = z.object({
  event: z.literal('certificate.deployed'),
  delivery: z.string(),
  certificate: z.object({ names: z.array(z.string()), thumbprint: z.string() }),
});

/** What came to a receiver of webhooks, whether it was answered well or not. */
export interface Delivery {
  /** `certline-delivery`. */
  id: string;
  name: string;
  thumbprint: string;
  /** Whether it was answered with success. */
  taken: boolean;
}

export interface Receiver {
  url: string;
  deliveries: Delivery[];
  /** What should not have come, in words: unsigned, unreadable. */
  wrong: string[];
  /** From now on everything is taken. */
  behave(): void;
  close(): Promise<void>;
}

export interface ReceiverOptions {
  seed: number;
  tally: Tally;
  secret: string;
}

/** Age of a signature that is refused, seconds: a worker may be frozen between signing and sending. */
const oldestS = 30;

/** Why a signature is not believed; null when it is. */
export function signatureProblem(header: string, body: string, secret: string, now: number): string | null {
  const [, t, v1] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(header) ?? [];
  if (t === undefined || v1 === undefined) return `the signature is ${header}`;
  const age = Math.abs(now / 1000 - Number(t));
  if (age > oldestS) return `the signature is ${Math.round(age)} s old`;
  return createHmac('sha256', secret).update(`${t}.${body}`).digest('hex') === v1
    ? null
    : 'the signature is of something else';
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

/** Somebody's receiver, which fails as the seed says: also after it has taken what came, so that it comes again. */
export async function startReceiver({ seed, tally, secret }: ReceiverOptions): Promise<Receiver> {
  const deliveries: Delivery[] = [];
  const wrong: string[] = [];
  const times = new Map<string, number>();
  let behaves = false;
  const server = createServer(async (request, response) => {
    const text = await textOf(request).catch(() => null);
    if (text === null) return;
    const problem = signatureProblem(String(request.headers['certline-signature']), text, secret, systemClock.now());
    const parsed = bodySchema.safeParse(JSON.parse(text));
    if (problem !== null || !parsed.success || request.headers['certline-delivery'] !== parsed.data.delivery) {
      wrong.push(`a delivery is wrong: ${problem ?? text.slice(0, 200)}`);
      response.writeHead(400).end();
      return;
    }
    const { delivery: id, certificate } = parsed.data;
    const { names, thumbprint } = certificate;
    const count = (times.get(id) ?? 0) + 1;
    times.set(id, count);
    const dice = diceOf(seed, 'receiver', names.join(), count);
    const fault = behaves || dice.chance(0.6) ? null : dice.pick(['500', '503', 'lost', 'slow'] as const);
    if (fault !== null)
      tally.fault(`webhook: ${fault === 'lost' ? 'lost reply' : fault === 'slow' ? 'slow answer' : fault}`);
    const taken = fault === null || fault === 'slow';
    deliveries.push({ id, name: names[0] ?? '', thumbprint, taken });
    if (fault === 'lost') request.socket.destroy();
    else if (fault === '500') response.writeHead(500).end();
    else if (fault === '503') response.writeHead(503, { 'retry-after': '1' }).end();
    else {
      if (fault === 'slow') await delay(700);
      response.writeHead(204).end();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/certificates`,
    deliveries,
    wrong,
    behave() {
      behaves = true;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}
