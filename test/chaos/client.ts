import { setTimeout as delay } from 'node:timers/promises';
import type { ApiAnswer, ApiClient } from '../../services/lab/api-client.ts';
import type { Tally } from './tally.ts';

/** A client that wants its answer, whatever happens to the API meanwhile. */
export interface Client {
  /** Asks until there is an answer that asking again would not change. Throws when it is to stop. */
  ask(
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<ApiAnswer<Record<string, unknown>>>;
}

const againMs = 300;
/** A client gives up waiting, and asks again. */
const patienceMs = 10_000;
const isRepeatable = (status: number): boolean => status >= 500 || status === 429;

export function createClient(api: ApiClient, tally: Tally, signal: AbortSignal): Client {
  return {
    async ask(method, path, body, headers) {
      for (;;) {
        signal.throwIfAborted();
        const late = delay(patienceMs, null, { ref: false });
        const answer = await Promise.race([api.request(method, path, body, headers).catch(() => null), late]);
        if (answer && !isRepeatable(answer.status)) return answer;
        if (answer) tally.refused(`${answer.status} ${String(answer.body.code)}`);
        await delay(againMs, null, { signal });
      }
    },
  };
}
