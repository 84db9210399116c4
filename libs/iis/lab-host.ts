import type { z } from 'zod';
import { asCertlineError, CertlineError } from '../errors.ts';
import type { Transport } from '../model/target.ts';
import { bindingIp } from './binding-information.ts';
import type { BindingChange, HostState, IisHost, PfxImport, TestStep } from './iis-host.ts';
import { type LabEndpoint, labProblemSchema, labStateSchema, removedSchema } from './lab-protocol.ts';
import { hostError } from './problems.ts';

/** Longer than a host under load takes for a commit. */
const timeoutMs = 30_000;

/**
 * The simulated IIS host of services/lab, over its control API.
 * Its calls throw `target_unreachable` when it does not answer in 30 s or not in its own words, `plan_drifted`, `binding_conflict`,
 * `pfx_unreadable`, else `target_refused`; an aborted signal's reason is thrown as it is.
 */
export function createLabHost(transport: Extract<Transport, { kind: 'lab' }>): IisHost {
  return new LabHost(transport.url);
}

class LabHost implements IisHost {
  readonly #url: string;
  /** Of the last read or apply: `endpoint` cannot ask. */
  #endpoints: LabEndpoint[] = [];

  constructor(url: string) {
    this.#url = url.replace(/\/$/, '');
  }

  async read(signal: AbortSignal): Promise<HostState> {
    return this.#remember(await this.#call('GET', '/state', undefined, signal));
  }

  async importPfx(certificate: PfxImport, signal: AbortSignal): Promise<void> {
    await this.#call('POST', '/pfx', { ...certificate, pfx: certificate.pfx.toString('base64') }, signal);
  }

  async apply(changes: readonly BindingChange[], signal: AbortSignal): Promise<void> {
    if (changes.length === 0) return;
    this.#remember(await this.#call('POST', '/commit', { changes }, signal));
  }

  async removeCertificate(
    thumbprint: string,
    store: string,
    signal: AbortSignal,
  ): Promise<'removed' | 'absent' | 'in use'> {
    const answer = await this.#call('POST', '/certificates/remove', { thumbprint, store }, signal);
    return this.#parse(removedSchema, answer).result;
  }

  async test(signal: AbortSignal): Promise<TestStep[]> {
    try {
      const { iisMajor, osBuild } = await this.read(signal);
      return [
        { step: 'connect', ok: true, detail: `${this.#url}, a simulated host` },
        { step: 'iis', ok: true, detail: `as IIS ${iisMajor} on Windows build ${osBuild}` },
      ];
    } catch (thrown) {
      signal.throwIfAborted();
      return [{ step: 'connect', ok: false, detail: asCertlineError(thrown).message }];
    }
  }

  async listenForChallenges(): Promise<never> {
    return this.#answerNoChallenges();
  }

  async writeChallenge(): Promise<never> {
    return this.#answerNoChallenges();
  }

  async removeChallenge(): Promise<never> {
    return this.#answerNoChallenges();
  }

  endpoint(ip: string, port: number): { host: string; port: number } {
    const found = this.#endpoints.find((one) => one.ip === bindingIp(ip) && one.port === port);
    if (found) return { host: found.host, port: found.listeningPort };
    throw new CertlineError('target_unreachable', `the host does not listen on ${ip}:${port}`, {
      evidence: { host: this.#url, ip, port },
    });
  }

  #answerNoChallenges(): never {
    throw new CertlineError('target_refused', `${this.#url} is a simulated host, which answers no challenges`);
  }

  #remember(body: unknown): HostState {
    const { endpoints, ...state } = this.#parse(labStateSchema, body);
    this.#endpoints = endpoints;
    return state;
  }

  #parse<T>(schema: z.ZodType<T>, body: unknown): T {
    const parsed = schema.safeParse(body);
    if (parsed.success) return parsed.data;
    throw new CertlineError('target_refused', `${this.#url} does not answer as an IIS host: ${parsed.error.message}`);
  }

  async #call(method: string, path: string, body: unknown, signal: AbortSignal): Promise<unknown> {
    signal.throwIfAborted();
    const evidence = { host: this.#url };
    let response: { ok: boolean; status: number; text: string };
    try {
      const answer = await fetch(`${this.#url}${path}`, {
        method,
        signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
        redirect: 'error',
        ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
      });
      response = { ok: answer.ok, status: answer.status, text: await answer.text() };
    } catch (cause) {
      signal.throwIfAborted();
      throw new CertlineError('target_unreachable', `${this.#url} does not answer: ${reasonOf(cause)}`, {
        evidence,
        cause,
      });
    }
    const answer = jsonOf(response.text);
    if (response.ok) return answer;
    const problem = labProblemSchema.safeParse(answer);
    if (problem.success) throw hostError(problem.data);
    const code = response.status >= 500 ? 'target_unreachable' : 'target_refused';
    throw new CertlineError(code, `${this.#url}${path} answers ${response.status} and does not say why`, {
      evidence: { ...evidence, status: response.status, body: response.text.slice(0, 200) },
    });
  }
}

/** fetch hides what went wrong ("fetch failed") in its cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error && error.cause.message !== '' ? error.cause.message : error.message;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
