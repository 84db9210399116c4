import type { Response } from 'express';
import type { z } from 'zod';
import type { ErrorCode } from '#libs/errors';
import type { ApiKey, Scope } from '#libs/model/api-key';

/** What a handler is given of a request, all of it checked. */
export interface RouteRequest<B, Q> {
  params: Record<string, string>;
  query: Q;
  body: B;
  /** Lower-case names. */
  headers: Record<string, string | undefined>;
  /** Who asks; null on routes without authentication. */
  key: ApiKey | null;
  /** Aborted when the client has gone. */
  signal: AbortSignal;
}

/** An answer: JSON, bytes of a media type, or a stream that the handler writes itself. */
export type RouteAnswer =
  | { status: number; json: unknown; headers?: Record<string, string> }
  | { status: number; content: string | Buffer; type: string; headers?: Record<string, string> }
  | { stream: (response: Response) => Promise<void> };

/** One operation of the API: Express mounts it, OpenAPI describes it. */
export interface Route {
  method: 'get' | 'post' | 'put' | 'patch' | 'delete';
  /** Express form, with `:name` parameters. */
  path: string;
  /** Scope that the API key needs; null for none at all. */
  scope: Scope | null;
  tag: string;
  summary: string;
  description?: string;
  headers?: Record<string, string>;
  body?: z.ZodType;
  /** Bytes that the body may have, where that is more than usual. */
  bodyLimit?: number;
  query?: z.ZodType;
  answers: Record<number, { description: string; schema?: z.ZodType; type?: string }>;
  errors?: readonly ErrorCode[];
  handle(request: RouteRequest<never, never>): Promise<RouteAnswer>;
}

type Checked<S> = S extends z.ZodType ? z.output<S> : undefined;
type RouteOf<B, Q> = Omit<Route, 'handle' | 'body' | 'query'> & {
  body?: B;
  query?: Q;
  handle(request: RouteRequest<Checked<B>, Checked<Q>>): Promise<RouteAnswer>;
};

/** A route whose handler knows the types of its body and query. */
export function route<B extends z.ZodType | undefined = undefined, Q extends z.ZodType | undefined = undefined>(
  definition: RouteOf<B, Q>,
): Route {
  return definition as unknown as Route;
}
