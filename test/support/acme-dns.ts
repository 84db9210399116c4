import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, BlockList } from 'node:net';

/** An account as `/register` answers it. */
export interface AcmeDnsAccount {
  username: string;
  password: string;
  fulldomain: string;
  subdomain: string;
  allowfrom: string[];
}

/** A stand-in that follows the API of https://github.com/joohoi/acme-dns (api.go, auth.go, db.go). */
export interface AcmeDns {
  url: string;
  register(allowfrom?: string[]): Promise<AcmeDnsAccount>;
  /** The TXT values at an account's name. */
  values(account: AcmeDnsAccount): string[];
  /** How many requests it has had. */
  readonly requests: number;
  /** Its database is gone. */
  breakDown(): void;
  close(): Promise<void>;
}

const domain = 'auth.example.org';

interface Row {
  account: AcmeDnsAccount;
  /** Two, always: an update goes to the one that was written longer ago. */
  txt: { value: string; updated: number }[];
}

const maskBits = (text: string): number => Number(text.split('/')[1] ?? 32);

function isAllowed(allowfrom: readonly string[], address: string): boolean {
  if (allowfrom.length === 0) return true;
  const list = new BlockList();
  for (const one of allowfrom) list.addSubnet(one.split('/')[0] ?? '', maskBits(one), 'ipv4');
  return list.check(address.replace('::ffff:', ''), 'ipv4');
}

export async function startAcmeDns(): Promise<AcmeDns> {
  const rows: Row[] = [];
  let clock = 0;
  let requests = 0;
  let broken = false;

  function register(allowfrom: string[]): AcmeDnsAccount {
    const subdomain = randomUUID();
    const account: AcmeDnsAccount = {
      ...{ username: randomUUID(), password: randomBytes(30).toString('base64url') },
      ...{ fulldomain: `${subdomain}.${domain}`, subdomain, allowfrom },
    };
    rows.push({ account, txt: [0, 0].map((updated) => ({ value: '', updated })) });
    return account;
  }

  function update(
    row: Row | undefined,
    password: string,
    address: string,
    { subdomain, txt }: Record<string, unknown>,
  ): [number, object] {
    const isRight =
      row?.account.password === password &&
      isAllowed(row.account.allowfrom, address) &&
      subdomain === row.account.subdomain;
    if (!row || !isRight) return [401, { error: 'forbidden' }];
    if (typeof txt !== 'string' || !/^[A-Za-z0-9_-]{43}$/.test(txt)) return [400, { error: 'bad_txt' }];
    if (broken) return [500, { error: 'db_error' }];
    const [oldest] = row.txt.toSorted((a, b) => a.updated - b.updated);
    clock += 1;
    if (oldest) Object.assign(oldest, { value: txt, updated: clock });
    return [200, { txt }];
  }

  const server = createServer(async (request, response) => {
    requests += 1;
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString('utf8');
    const answer = (status: number, body: object): void => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    };
    if (request.method !== 'POST' || !['/update', '/register'].includes(request.url ?? '')) {
      response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' }).end('404 page not found\n');
      return;
    }
    const body = text === '' ? {} : JSON.parse(text);
    if (request.url === '/register') {
      answer(201, register(body.allowfrom ?? []));
      return;
    }
    const row = rows.find(({ account }) => account.username === request.headers['x-api-user']);
    const address = request.socket.remoteAddress ?? '';
    answer(...update(row, String(request.headers['x-api-key']), address, body));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    register: async (allowfrom = []) => {
      const answer = await fetch(`${url}/register`, { method: 'POST', body: JSON.stringify({ allowfrom }) });
      return (await answer.json()) as AcmeDnsAccount;
    },
    values: ({ username }) =>
      (rows.find(({ account }) => account.username === username)?.txt ?? [])
        .map(({ value }) => value)
        .filter((value) => value !== '')
        .sort(),
    get requests() {
      return requests;
    },
    breakDown: () => {
      broken = true;
    },
    close: async () => {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}
