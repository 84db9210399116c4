/** An answer of the API as it came. */
export interface ApiAnswer<T = unknown> {
  status: number;
  headers: Headers;
  body: T;
}

/** A server-sent event. */
export interface ServerSentEvent {
  id: string;
  event: string;
  data: Record<string, unknown>;
}

/** A client of the API, as anybody could write one: for the demo, the benchmark and the tests. */
export interface ApiClient {
  request(
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<ApiAnswer<Record<string, unknown>>>;
  /** As `request`, but an answer other than 2xx is thrown with the API's own words. */
  send(method: string, path: string, body?: unknown): Promise<Record<string, unknown>>;
  /** The events of an order until the stream ends, or the reader stops reading. */
  events(orderId: string): AsyncGenerator<ServerSentEvent>;
}

export function createApiClient(url: string, apiKey: string): ApiClient {
  async function request(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${apiKey}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json') ?? false;
    const parsed = (isJson ? JSON.parse(text) : { text }) as Record<string, unknown>;
    return { status: response.status, headers: response.headers, body: parsed };
  }

  return {
    request,
    async send(method, path, body) {
      const answer = await request(method, path, body);
      if (answer.status < 300) return answer.body;
      throw new Error(
        `${method} ${path} answers ${answer.status}: ${String(answer.body.code)}: ${String(answer.body.detail)}`,
      );
    },
    async *events(orderId) {
      const response = await fetch(`${url}/v1/orders/${orderId}/events`, {
        headers: { authorization: `Bearer ${apiKey}`, accept: 'text/event-stream' },
      });
      if (!response.ok || !response.body) throw new Error(`the events of ${orderId} answer ${response.status}`);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let buffered = '';
      try {
        for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
          const blocks = (buffered + chunk.value).split('\n\n');
          buffered = blocks.pop() ?? '';
          for (const block of blocks) {
            const fields = new Map(block.split('\n').map((line) => line.split(/: (.*)/s, 2) as [string, string]));
            const data = fields.get('data');
            if (data === undefined) continue;
            yield {
              id: fields.get('id') ?? '',
              event: fields.get('event') ?? '',
              data: JSON.parse(data) as Record<string, unknown>,
            };
          }
        }
      } finally {
        // Whoever stops listening closes the connection.
        await reader.cancel();
      }
    },
  };
}
