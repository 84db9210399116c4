import type { z } from 'zod';
import type { ErrorCode } from '../error-codes.ts';
import { asCertlineError, CertlineError } from '../errors.ts';
import { bindingIp } from './binding-information.ts';
import type { BindingChange, HostState, IisHost, ListenerWish, PfxImport, TestStep } from './iis-host.ts';
import {
  applySchema,
  importSchema,
  inspectSchema,
  listeningSchema,
  type ReadBack,
  refusalSchema,
  removeChallengeSchema,
  removeSchema,
  serveSchema,
  testSchema,
  writeChallengeSchema,
} from './powershell-answers.ts';
import { hostError } from './problems.ts';
import type { HostConnection, ScriptOptions, ScriptRunner } from './script-runner.ts';
import { type ScriptName, scriptText } from './script-text.ts';

/** How long things may take. */
export interface PowerShellHostOptions {
  /** For scripts that only look; 60 s unless told. */
  readMs?: number;
  /** For scripts that change something; 180 s unless told. */
  changeMs?: number;
  /** How often a commit is tried when somebody else writes the configuration at the same time; three times unless told. */
  commitAttempts?: number;
  /** Time before the second try, longer before each further one; 5 s unless told. */
  commitDelayMs?: number;
}

/**
 * A Windows host with IIS, by PowerShell scripts. `address` is where its bindings are reached.
 * Its calls throw what the runner throws and what `hostError` makes of a script's refusal. After an error of `apply` other than
 * `plan_drifted` the changes may have been made: reading the host again tells.
 */
export function createPowerShellHost(
  runner: ScriptRunner,
  address: string,
  options: PowerShellHostOptions = {},
): IisHost {
  return new PowerShellHost(runner, address, options);
}

type Limits = Omit<ScriptOptions, 'signal'>;

const isLoopback = (address: string): boolean => /^(localhost|127(\.\d{1,3}){3}|\[?::1\]?)$/.test(address);

class PowerShellHost implements IisHost {
  readonly #runner: ScriptRunner;
  readonly #address: string;
  readonly #options: Required<PowerShellHostOptions>;

  constructor(runner: ScriptRunner, address: string, options: PowerShellHostOptions) {
    this.#runner = runner;
    this.#address = address;
    this.#options = { readMs: 60_000, changeMs: 180_000, commitAttempts: 3, commitDelayMs: 5_000, ...options };
  }

  async read(signal: AbortSignal): Promise<HostState> {
    const { iis, sites } = await this.#ask('inspect', {}, inspectSchema, signal, this.#looking);
    return { iisMajor: iis.major, osBuild: iis.osBuild, sites };
  }

  async importPfx({ pfx, store, ...certificate }: PfxImport, signal: AbortSignal): Promise<void> {
    const request = { ...certificate, pfx: pfx.toString('base64'), storeName: store };
    await this.#ask('import-pfx', request, importSchema, signal, { ...this.#changing, confidential: true });
  }

  async apply(changes: readonly BindingChange[], signal: AbortSignal): Promise<void> {
    if (changes.length === 0) return;
    const { commitAttempts: attempts, commitDelayMs: delayMs } = this.#options;
    const request = { changes: changes.map(bare), attempts, delayMs };
    const { readBack } = await this.#ask('apply-changes', request, applySchema, signal, this.#changing);
    changes.forEach((change, at) => {
      const seen = readBack[at] ?? null;
      if (!isDone(change, seen)) throw notTaken(change, seen);
    });
  }

  async removeCertificate(
    thumbprint: string,
    store: string,
    signal: AbortSignal,
  ): Promise<'removed' | 'absent' | 'in use'> {
    const request = { thumbprint, storeName: store };
    const { result } = await this.#ask('remove-certificate', request, removeSchema, signal, this.#changing);
    return result;
  }

  async listenForChallenges(
    { port, seconds, answers }: ListenerWish,
    onListening: (taken: readonly string[]) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const pairs = Object.entries(answers).map(([token, keyAuthorization]) => ({ token, keyAuthorization }));
    const onProgress = (said: unknown): void => {
      const listening = listeningSchema.safeParse(said);
      if (listening.success) onListening(listening.data.taken);
    };
    const limits = { timeoutMs: this.#options.readMs + seconds * 1_000, attended: { onProgress } };
    try {
      await this.#ask('serve-challenges', { port, seconds, answers: pairs }, serveSchema, signal, limits);
    } catch (error) {
      // How http.sys says that a program that does not share it has the port.
      if (!hasCode(error, 'commit_conflict')) throw error;
      throw new CertlineError('target_refused', `port ${port} belongs to a program on the host that is not IIS`, {
        cause: error,
      });
    }
  }

  async writeChallenge(challenge: Parameters<IisHost['writeChallenge']>[0], signal: AbortSignal): Promise<void> {
    try {
      await this.#ask('write-challenge', challenge, writeChallengeSchema, signal, this.#changing);
    } catch (error) {
      if (!hasCode(error, 'plan_drifted')) throw error;
      throw new CertlineError('site_not_found', `the host has no IIS site ${challenge.siteId}`, { cause: error });
    }
  }

  async removeChallenge(challenge: { siteId: number; token: string }, signal: AbortSignal): Promise<void> {
    try {
      await this.#ask('remove-challenge', challenge, removeChallengeSchema, signal, this.#changing);
    } catch (error) {
      // With its site the file is out of the web.
      if (!hasCode(error, 'plan_drifted')) throw error;
    }
  }

  async test(signal: AbortSignal): Promise<TestStep[]> {
    const { steps, goOn } = await this.#testConnection(signal);
    if (!goOn) return steps;
    try {
      steps.push(...stepsOf(await this.#ask('test-host', {}, testSchema, signal, this.#looking)));
    } catch (thrown) {
      signal.throwIfAborted();
      steps.push({ step: 'rights', ok: false, detail: asCertlineError(thrown).message });
    }
    return steps;
  }

  answersOnlyItself(ip: string): boolean {
    return isLoopback(bindingIp(ip)) && !isLoopback(this.#address);
  }

  endpoint(ip: string, port: number): { host: string; port: number } {
    const own = bindingIp(ip);
    return { host: own === '*' ? this.#address : own.replace(/^\[(.*)\]$/, '$1'), port };
  }

  close(): Promise<void> {
    return this.#runner.close();
  }

  get #looking(): Limits {
    return { timeoutMs: this.#options.readMs };
  }

  get #changing(): Limits {
    return { timeoutMs: this.#options.changeMs };
  }

  async #testConnection(signal: AbortSignal): Promise<{ steps: TestStep[]; goOn: boolean }> {
    try {
      return { steps: connectionSteps(await this.#runner.connect(signal)), goOn: true };
    } catch (thrown) {
      signal.throwIfAborted();
      const { code, message: detail, evidence } = asCertlineError(thrown);
      const connected: TestStep = { step: 'connect', ok: true, detail: 'the host answers' };
      if (code === 'host_key_changed') {
        return { steps: [connected, { step: 'host key', ok: false, detail }], goOn: false };
      }
      // Without a host key it was refused before there was a connection: the key of the credential is no key.
      if (code === 'ssh_login_refused' && evidence?.hostKey) {
        const key: TestStep = { step: 'host key', ok: true, detail: String(evidence.hostKey) };
        return { steps: [connected, key, { step: 'rights', ok: false, detail }], goOn: false };
      }
      return { steps: [{ step: 'connect', ok: false, detail }], goOn: false };
    }
  }

  async #ask<T>(
    name: ScriptName,
    request: object,
    schema: z.ZodType<T>,
    signal: AbortSignal,
    limits: Limits,
  ): Promise<T> {
    const answer = await this.#runner.run(scriptText(name), request, { ...limits, signal });
    const refusal = refusalSchema.safeParse(answer);
    if (refusal.success) throw hostError(refusal.data.error);
    const parsed = schema.safeParse(answer);
    if (parsed.success) return parsed.data;
    const issues = parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
    throw new CertlineError('target_refused', `the answer of the script ${name} is not what it should be`, {
      evidence: { issues: issues.slice(0, 5) },
    });
  }
}

const hasCode = (error: unknown, code: ErrorCode): boolean => error instanceof CertlineError && error.code === code;

/** A change without what a plan says of it besides. */
function bare(change: BindingChange): BindingChange {
  const { op, siteId, protocol, bindingInformation, sslFlags, thumbprint, store, expect } = change;
  return { op, siteId, protocol, bindingInformation, sslFlags, thumbprint, store, expect };
}

/** A binding that is not there, and an ftp site without a certificate, are both read back as nothing. */
function isDone({ op, protocol, sslFlags, thumbprint, store }: BindingChange, seen: ReadBack | null): boolean {
  const wantsNothing = op === 'remove' || (protocol === 'ftp' && thumbprint === null);
  if (wantsNothing || seen === null) return wantsNothing && seen === null;
  if (seen.sslFlags !== sslFlags || seen.thumbprint !== (thumbprint?.toUpperCase() ?? null)) return false;
  // Windows does not tell My from MY, and has no store where there is no certificate.
  return thumbprint === null || store === null || seen.store?.toLowerCase() === store.toLowerCase();
}

function notTaken(change: BindingChange, seen: ReadBack | null): CertlineError {
  const { siteId, protocol, bindingInformation, op } = change;
  const place = protocol === 'ftp' ? `ftp of site ${siteId}` : `${bindingInformation} of site ${siteId}`;
  const is =
    seen === null ? 'is not there' : `has the certificate ${seen.thumbprint ?? '(none)'} and sslFlags ${seen.sslFlags}`;
  return new CertlineError('target_refused', `after the commit (${op}) ${place} ${is}`, {
    evidence: {
      binding: place,
      seen,
      wanted:
        op === 'remove' ? null : { sslFlags: change.sslFlags, thumbprint: change.thumbprint, store: change.store },
    },
  });
}

function connectionSteps({ place, hostKey }: HostConnection): TestStep[] {
  const steps: TestStep[] = [{ step: 'connect', ok: true, detail: place }];
  if (hostKey) {
    const { fingerprint, isNew } = hostKey;
    const how = isNew ? 'met for the first time and pinned' : 'as it was pinned';
    steps.push({ step: 'host key', ok: true, detail: `${fingerprint}, ${how}` });
  }
  return steps;
}

function stepsOf({ user, admin, powershell, osBuild, iis, iisError, stores }: z.infer<typeof testSchema>): TestStep[] {
  const who = `${user} ${admin ? 'is' : 'is not'} an administrator`;
  const steps: TestStep[] = [{ step: 'rights', ok: admin, detail: `${who}; PowerShell ${powershell}` }];
  if (!admin) return steps;
  const version = iis === null ? 'there is no IIS' : `IIS ${iis.major}.${iis.minor}`;
  const reason = iisError === null ? '' : `: ${iisError}`;
  const hasIis = iis !== null && iisError === null;
  steps.push({ step: 'iis', ok: hasIis, detail: `${version} on Windows build ${osBuild}${reason}` });
  if (!hasIis) return steps;
  // IIS 7 has no WebHosting.
  const needed = stores.filter(({ name }) => name !== 'WebHosting' || iis.major >= 8);
  const closed = needed.filter(({ ok }) => !ok);
  const names = needed.map(({ name }) => name).join(', ');
  const detail = closed.map(({ name, detail: why }) => `${name}: ${why}`).join('; ');
  steps.push({ step: 'stores', ok: closed.length === 0, detail: detail === '' ? `${names} can be written` : detail });
  return steps;
}
