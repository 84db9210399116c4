import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { StageName } from '../model/order.ts';

const latency = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
const waiting = [0.1, 0.5, 1, 5, 30, 60, 300, 900, 3600, 14_400, 86_400];

/** Everything a process measures: prefix `certline_`, base units, labels from closed lists, never a domain or an id. */
export interface Metrics {
  registry: Registry;
  /** outcome: completed, retry, wait, restart, parked, failed, stale. code: the error's, or none. */
  stageAttempts: Counter<'stage' | 'outcome' | 'code'>;
  stageDuration: Histogram<'stage' | 'outcome'>;
  stageWait: Histogram<'stage'>;
  lastSuccess: Gauge<'stage'>;
  orderDuration: Histogram<'outcome'>;
  deployments: Counter<'kind' | 'outcome' | 'code'>;
  /** outcome: the state that was found, or deployment_under_way. */
  driftChecks: Counter<'outcome'>;
  driftRepairs: Counter;
  acmeRequests: Counter<'ca' | 'operation' | 'status'>;
  acmeRequestDuration: Histogram<'ca' | 'operation'>;
  acmeRequestWait: Histogram<'ca' | 'limit'>;
  redisDurable: Gauge;
  httpRequests: Counter<'route' | 'method' | 'status'>;
  httpRequestDuration: Histogram<'route' | 'method'>;
}

const prefix = 'certline_';

/** Makes the metrics of a process, with Node's default ones, in a registry of its own. */
export function createMetrics(service: string): Metrics {
  const registry = new Registry();
  registry.setDefaultLabels({ service });
  collectDefaultMetrics({ register: registry, prefix });
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, labelNames: L[]): Counter<L> =>
    new Counter({ name: prefix + name, help, labelNames, registers });
  const histogram = <L extends string>(name: string, help: string, labelNames: L[], buckets: number[]): Histogram<L> =>
    new Histogram({
      name: prefix + name,
      help,
      labelNames,
      buckets,
      registers,
    });
  return {
    registry,
    stageAttempts: counter('stage_attempts_total', 'Attempts of a stage by how they ended.', [
      'stage',
      'outcome',
      'code',
    ]),
    stageDuration: histogram('stage_duration_seconds', 'Time an attempt took.', ['stage', 'outcome'], latency),
    stageWait: histogram(
      'stage_wait_seconds',
      'Time from when an attempt was due to when it started.',
      ['stage'],
      waiting,
    ),
    lastSuccess: new Gauge({
      name: `${prefix}last_success_timestamp_seconds`,
      help: 'When the stage last succeeded in this process.',
      labelNames: ['stage'],
      registers,
    }),
    orderDuration: histogram('order_duration_seconds', 'Time from the order to its end.', ['outcome'], waiting),
    deployments: counter('deployments_total', 'Deployments to targets by how they ended.', ['kind', 'outcome', 'code']),
    driftChecks: counter('drift_checks_total', 'Looks at targets by what they found.', ['outcome']),
    driftRepairs: counter('drift_repairs_total', 'Orders placed to put targets right that had drifted.', []),
    acmeRequests: counter('acme_requests_total', 'Requests to the CA.', ['ca', 'operation', 'status']),
    acmeRequestDuration: histogram(
      'acme_request_duration_seconds',
      'Time of a request to the CA.',
      ['ca', 'operation'],
      latency,
    ),
    acmeRequestWait: histogram(
      'acme_request_wait_seconds',
      'Time a request to the CA waited for the limit that the CA has for requests, of those that did.',
      ['ca', 'limit'],
      latency,
    ),
    redisDurable: new Gauge({
      name: `${prefix}redis_durable`,
      help: '1 when Redis keeps what it acknowledged through a crash (`appendfsync always`), 0 when it does not or does not say, as of the start of the process.',
      registers,
    }),
    httpRequests: counter('http_requests_total', 'Requests to the API.', ['route', 'method', 'status']),
    httpRequestDuration: histogram(
      'http_request_duration_seconds',
      'Time of a request to the API.',
      ['route', 'method'],
      latency,
    ),
  };
}

/** Counts one attempt of a stage. */
export function observeAttempt(
  metrics: Metrics,
  stage: StageName,
  attempt: { outcome: string; code: string | null; seconds: number },
): void {
  const { outcome, code, seconds } = attempt;
  metrics.stageAttempts.inc({ stage, outcome, code: code ?? 'none' });
  metrics.stageDuration.observe({ stage, outcome }, seconds);
}
