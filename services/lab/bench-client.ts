import { Agent, type IncomingMessage, request } from 'node:http';

/** A client of the API that does little besides asking, since it works on the same processors as what it measures. */
export interface BenchClient {
  /** Places an order and answers its id. */
  place(body: object): Promise<string>;
  /** Follows an order's events until the API ends them; throws unless they tell of success. */
  untilCompleted(orderId: string): Promise<void>;
  close(): void;
}

export function createBenchClient(url: string, apiKey: string): BenchClient {
  const agent = new Agent({ keepAlive: true });
  const headers = { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' };

  /** The whole text of an answer: an event stream has ended when the order has. */
  function ask(method: string, path: string, body?: object): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const answered = (response: IncomingMessage): void => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
        response.on('error', reject);
      };
      const sent = request(`${url}${path}`, { method, agent, headers }, answered);
      sent.on('error', reject);
      sent.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  return {
    async place(body) {
      const { status, text } = await ask('POST', '/v1/orders', body);
      if (status !== 202) throw new Error(`POST /v1/orders answers ${status}: ${text}`);
      return (JSON.parse(text) as { id: string }).id;
    },
    async untilCompleted(orderId) {
      const { status, text } = await ask('GET', `/v1/orders/${orderId}/events`);
      if (status !== 200 || !text.includes('\nevent: order_completed\n'))
        throw new Error(`the events of ${orderId} tell of no success (${status}): ${text.slice(-1_000)}`);
    },
    close: () => agent.destroy(),
  };
}
