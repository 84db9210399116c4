import { Agent, type IncomingMessage, request } from 'node:http';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { z } from 'zod';
import { errorCodes } from '#libs/error-codes';
import type { RedisClient } from '#libs/store/redis';
import type { FuzzRequest, Operation } from './requests.ts';
import type { FuzzWorld } from './world.ts';

/** What says of each key what is in it, in one go: it is asked after every write. */
const digestScript = `local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  found[#found + 1] = key
  found[#found + 1] = redis.sha1hex(redis.call('DUMP', key))
end
return found`;
/** What processes say of themselves, and questions to workers: none of it is anything that was asked for. */
const passing = /:(lease|served):|:stalled-check$|-requests:|:master-keys:holders$/;

async function digests(redis: RedisClient): Promise<Map<string, string>> {
  const found = z.array(z.string()).parse(await redis.eval(digestScript, 0));
  const pairs = found.flatMap((key, i) =>
    i % 2 === 0 && !passing.test(key) ? [[key, found[i + 1] ?? ''] as const] : [],
  );
  return new Map(pairs);
}

interface Answer {
  status: number;
  type: string;
  headers: IncomingMessage['headers'];
  /** Empty where it is a stream. */
  text: string;
}

/** Places of the code, and words of what it is made of. */
const internals =
  /\bat (async )?\S+ \(|\.(ts|js|mjs|lua):\d+|node_modules|node:internal|ioredis|ReplyError|user_script|(Type|Range|Syntax|Reference)Error|\[object /;

/** What of an answer is wrong by what the document says; empty when nothing is. */
export interface Prober {
  probe(asked: FuzzRequest): Promise<{ answer: Answer; wrong: string[] }>;
  close(): void;
}

export function createProber({ url, document, redis, keys, known }: FuzzWorld): Prober {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ajv = new Ajv2020({ strict: false, formats: { includes: true } });
  formats.default(ajv);
  ajv.addSchema({ $id: 'api', components: document.components });
  const validators = new Map<object, ValidateFunction>();
  function fits(schema: object, value: unknown): string | null {
    const validate =
      validators.get(schema) ??
      ajv.compile(JSON.parse(JSON.stringify(schema).replaceAll('"#/components', '"api#/components')));
    validators.set(schema, validate);
    return validate(value) ? null : ajv.errorsText(validate.errors);
  }

  const resolve = (text: string, inJson: boolean): string =>
    text.replace(/@([a-zA-Z-]+):(\d+)/g, (all, kind: string, at: string) => {
      const ids = known[kind];
      const id = ids?.[Number(at) % ids.length];
      if (id === undefined) return all;
      return inJson ? JSON.stringify(id).slice(1, -1) : id;
    });

  function send({ method, url: wanted, headers, key, body }: FuzzRequest): Promise<Answer> {
    // Something of each kind is left for the others.
    const kept = method === 'DELETE' ? /@([a-z-]+):\d+/.exec(wanted)?.[1] : undefined;
    const path = (known[kept ?? '']?.length ?? 9) > 3 ? wanted : wanted.replace(/@[a-z-]+:\d+/, 'nobody');
    const secret = keys[key];
    const text = body === null ? null : Buffer.from(resolve(body, true));
    const all = {
      ...(secret ? { authorization: `Bearer ${secret}` } : {}),
      ...(text ? { 'content-length': text.length } : {}),
      ...headers,
    };
    return new Promise((done, fail) => {
      const outgoing = request(url + resolve(path, false), { agent, method, headers: all }, (incoming) => {
        const { statusCode: status = 0, headers: got } = incoming;
        const type = (got['content-type'] ?? '').split(';')[0] ?? '';
        const chunks: Buffer[] = [];
        const finish = () => done({ status, type, headers: got, text: Buffer.concat(chunks).toString('utf8') });
        // It need not end.
        if (type === 'text/event-stream') {
          finish();
          incoming.destroy();
          return;
        }
        incoming
          .on('data', (chunk: Buffer) => chunks.push(chunk))
          .on('end', finish)
          .on('error', fail);
      });
      outgoing.on('error', fail).end(text ?? undefined);
    });
  }

  const problemSchema = z.object({ code: z.string(), detail: z.string(), errors: z.array(z.unknown()).optional() });

  function wrongWithProblem({ status, type, text }: Answer, operation: Operation): string[] {
    if (type !== 'application/problem+json') return [`a refusal of type ${type}`];
    const schemaError = fits(document.components.schemas.Problem, JSON.parse(text));
    if (schemaError) return [`no problem: ${schemaError}`];
    const { code, errors } = problemSchema.parse(JSON.parse(text));
    const wrong: string[] = [];
    if (!(code in errorCodes)) wrong.push(`the code ${code} is none`);
    if (status === 500) wrong.push('500');
    if (!operation.responses[status]?.description.includes(`\`${code}\``))
      wrong.push(`${code} is not documented for ${status}`);
    if (code === 'request_invalid' && !errors?.length) wrong.push('no field is named');
    return wrong;
  }

  function wrongWithSuccess(asked: FuzzRequest, { status, type, text }: Answer, operation: Operation): string[] {
    const wrong: string[] = [];
    const content = operation.responses[status]?.content ?? {};
    const schema = content[type]?.schema;
    if (schema === undefined && status !== 204) wrong.push(`${status} ${type} is not documented`);
    if (schema && type === 'application/json' && asked.method !== 'HEAD') {
      const error = fits(schema, JSON.parse(text));
      if (error) wrong.push(`the answer does not fit: ${error}`);
    }
    const body = operation.requestBody?.content['application/json']?.schema;
    if (body && asked.body) {
      const error = fits(body, JSON.parse(resolve(asked.body, true).replace(/^\ufeff/, '')));
      if (error) wrong.push(`a body was taken that does not fit: ${error}`);
    }
    return wrong;
  }

  /** How often Redis was written to. */
  const writes = async (): Promise<string> =>
    /rdb_changes_since_last_save:(\d+)/.exec(
      await (redis as { info(section: string): Promise<string> }).info('persistence'),
    )?.[1] ?? '';
  let contents: Map<string, string> | null = null;
  let written = '';

  async function wrongWithStore({ path }: FuzzRequest, { status }: Answer): Promise<string[]> {
    const now = await writes();
    if (now === written) return [];
    const before = contents;
    [contents, written] = [await digests(redis), now];
    if (status < 400 || before === null) return [];
    const changed = new Set([...before.keys(), ...contents.keys()]);
    const differing = [...changed].filter((name) => {
      // It is kept before the CA hears of it: whoever asks again after a failure goes on with the same.
      const isAccountKey = path === '/v1/accounts' && name.includes(':secret:account-key.');
      return before.get(name) !== contents?.get(name) && !isAccountKey;
    });
    return differing.length > 0 ? [`was refused, and stored ${differing.join(', ')}`] : [];
  }

  /** What a request is for: undefined where the path has no such method. */
  function operationOf({ path, method }: FuzzRequest): Operation | undefined {
    const name = method === 'HEAD' ? 'get' : method.toLowerCase();
    // To other methods the last word of a path may be an id.
    return document.paths[path]?.[name] ?? document.paths[path.replace(/\/[a-z]+$/, '/{id}')]?.[name];
  }

  return {
    async probe(asked) {
      if (contents === null) [contents, written] = [await digests(redis), await writes()];
      const answer = await send(asked);
      const operation = operationOf(asked);
      const wrong = internals.test(answer.text) && answer.type.includes('json') ? ['internals are in the answer'] : [];
      if (answer.headers['x-content-type-options'] !== 'nosniff') wrong.push('no nosniff');
      if (operation && answer.status < 400) wrong.push(...wrongWithSuccess(asked, answer, operation));
      else if (operation && asked.method === 'HEAD')
        wrong.push(...(operation.responses[answer.status] ? [] : [`${answer.status} is not documented`]));
      else if (operation) wrong.push(...wrongWithProblem(answer, operation));
      else if ([204, 405].includes(answer.status)) wrong.push(...(answer.headers.allow ? [] : ['no Allow']));
      // The path is decoded first.
      else if (answer.status !== 400) wrong.push(`${asked.method} is no method of the path`);
      wrong.push(...(await wrongWithStore(asked, answer)));
      remember(asked, answer);
      return { answer, wrong };
    },
    close: () => agent.destroy(),
  };

  /** What was made is used by the requests that follow. */
  function remember({ path, method }: FuzzRequest, { status, type, text }: Answer): void {
    const kind = /^\/v1\/([a-z-]+)s$/.exec(path)?.[1] ?? '';
    if (method === 'DELETE' && status === 200) forget(JSON.parse(text));
    if (method !== 'POST' || (status !== 201 && status !== 202) || type !== 'application/json') return;
    const { id } = z.object({ id: z.string() }).parse(JSON.parse(text));
    const ids = known[kind] ?? [];
    if (kind !== 'api-key' && ids.length < 50) ids.push(id);
  }

  function forget({ id }: { id: string }): void {
    for (const [kind, ids] of Object.entries(known)) known[kind] = ids.filter((one) => one !== id);
  }
}
