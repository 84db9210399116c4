import type { HttpLimits } from './http-server.ts';

type PortLimits = Omit<HttpLimits, 'connections'>;

/** Of the API. */
export const apiLimits: PortLimits = {
  headerBytes: 16 << 10,
  headers: 100,
  headersMs: 15_000,
  requestMs: 60_000,
  silenceMs: 300_000,
  lingerMs: 5_000,
  pipelined: 16,
};

/** Of the port for challenges, where anybody at all may ask: a CA needs less. */
export const challengeLimits: PortLimits = {
  headerBytes: 8 << 10,
  headers: 50,
  headersMs: 5_000,
  requestMs: 10_000,
  silenceMs: 15_000,
  lingerMs: 1_000,
  pipelined: 4,
};
