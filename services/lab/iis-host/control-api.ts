import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { z } from 'zod';
import { commitSchema, faultsSchema, newSiteSchema, pfxSchema, removalSchema } from '#libs/iis/lab-protocol';
import type { LabFaults, LabIisHost } from './lab-iis-host.ts';
import { hresults, Refusal } from './refusal.ts';

/** Room for a commit of some ten thousand bindings. */
const maxBody = 8 * 1024 * 1024;

export interface ControlApi {
  url: string;
  close(): Promise<void>;
}

type Log = (event: Record<string, unknown>) => void;
type Route = (host: LabIisHost, body: unknown) => Promise<unknown>;

const routes: Record<string, Route> = {
  'GET /state': (host) => host.state(),
  'GET /log': (host) => host.commits(),
  'POST /sites': (host, body) => host.addSite(newSiteSchema.parse(body)),
  'POST /pfx': (host, body) => host.importPfx(pfxSchema.parse(body)),
  'POST /certificates/remove': (host, body) => host.removeCertificate(removalSchema.parse(body)),
  'POST /commit': (host, body) => host.commit(commitSchema.parse(body).changes),
  'GET /faults': async (host) => host.faults,
  'PUT /faults': (host, body) => host.setFaults(presentOnly(faultsSchema.parse(body))),
};

function presentOnly(faults: z.infer<typeof faultsSchema>): Partial<LabFaults> {
  return Object.fromEntries(Object.entries(faults).filter(([, value]) => value !== undefined));
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > maxBody) throw new Refusal('the body is too large', null, 413);
    parts.push(part);
  }
  if (size === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8'));
  } catch {
    throw new Refusal('the body is not JSON', null, 400);
  }
}

function asRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof z.ZodError) return new Refusal(z.prettifyError(error), hresults.invalidData, 400);
  return new Refusal(error instanceof Error ? error.message : String(error), null, 500);
}

async function answer(host: LabIisHost, request: IncomingMessage, response: ServerResponse, log: Log): Promise<void> {
  const path = (request.url ?? '/').split('?', 1)[0] ?? '/';
  if (host.faults.unreachable && path !== '/faults') {
    request.socket.destroy();
    return;
  }
  const send = (status: number, body: unknown) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  };
  try {
    const route = routes[`${request.method} ${path}`];
    if (!route) throw new Refusal(`there is no ${request.method} ${path}`, null, 404);
    send(200, await route(host, await readBody(request)));
  } catch (error) {
    const refusal = asRefusal(error);
    log({ event: 'refused', method: request.method, path, status: refusal.status, message: refusal.message });
    send(refusal.status, refusal.problem);
  }
}

/**
 * Starts the control API on 127.0.0.1: `GET /state`, `GET /log`, `POST /sites`, `POST /pfx`, `POST /certificates/remove`, `POST /commit`,
 * `GET` and `PUT /faults`.
 * Every answer is JSON; one that is not a success says `precondition`, `hresult` and `message`.
 */
export async function startControlApi(host: LabIisHost, port: number, log: Log): Promise<ControlApi> {
  const server = createServer((request, response) => void answer(host, request, response, log));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the control API has no port');
  return {
    url: `http://127.0.0.1:${address.port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
