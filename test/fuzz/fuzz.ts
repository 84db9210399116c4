import fc from 'fast-check';
import { createProber } from './probe.ts';
import { type FuzzRequest, requestsOf } from './requests.ts';
import type { FuzzWorld } from './world.ts';

export interface FuzzReport {
  requests: number;
  /** How often which operation answered what: `post /v1/orders 422`. */
  answers: Map<string, number>;
  /** What is wrong, each once, with the smallest request found that shows it. */
  findings: Map<string, string>;
}

export interface FuzzOptions {
  seed: number;
  /** So many requests, or for so long. */
  requests?: number;
  ms?: number;
}

const shown = ({ method, url, headers, key, body }: FuzzRequest): string =>
  `${method} ${url} ${JSON.stringify(headers)} with key ${key}: ${body === null ? 'no body' : body.slice(0, 2_000)}`;

/** Sends requests made by the OpenAPI document; the same seed makes the same. */
export async function fuzz(
  world: FuzzWorld,
  { seed, requests = 1_000_000, ms = 3_600_000 }: FuzzOptions,
): Promise<FuzzReport> {
  const prober = createProber(world);
  const report: FuzzReport = { requests: 0, answers: new Map(), findings: new Map() };
  const deadline = Date.now() + ms;
  const batch = 100;
  const arbitrary = requestsOf(world.document);
  for (let round = 0; report.requests < requests && Date.now() < deadline; round += 1) {
    for (const asked of fc.sample(arbitrary, { seed: seed + round, numRuns: batch })) {
      if (Date.now() >= deadline) break;
      const { answer, wrong } = await prober.probe(asked);
      report.requests += 1;
      const operation = `${asked.operation} ${asked.path}`;
      const line = `${operation} ${answer.status}`;
      report.answers.set(line, (report.answers.get(line) ?? 0) + 1);
      for (const one of wrong) {
        const name = `${operation} answers ${answer.status}: ${one}`;
        const text = `${shown(asked)} → ${answer.text.slice(0, 1_000)}`;
        if (text.length < (report.findings.get(name)?.length ?? Number.POSITIVE_INFINITY))
          report.findings.set(name, text);
      }
    }
  }
  prober.close();
  for (const line of await world.errors()) report.findings.set(`the log has ${line.slice(0, 2_000)}`, '');
  if (!(await world.isAlive())) report.findings.set('the API does not answer any more', '');
  return report;
}
