/** What everybody may see of a certificate. Times are ms since the epoch. */
export interface PublicCertificate {
  id: string;
  /** Lower-case ASCII, the primary name first. */
  names: readonly string[];
  /** SHA-1 of the DER, upper-case hexadecimal. */
  thumbprint: string;
  /** Upper-case hexadecimal. */
  serial: string;
  notAfter: number;
  /** PEM, the leaf first. */
  chainPem: string;
}

/** A certificate with its key on the way to a target. */
export interface DeployableCertificate extends PublicCertificate {
  /** PKCS#8 PEM. */
  privateKeyPem: string;
}

export interface DeployContext {
  /** Aborted when the worker stops: its reason is thrown, and the deployment may be run again. */
  signal: AbortSignal;
  /** Names this deployment, the same over all of its attempts: who is told of it can tell a repetition by it. */
  deployment: string;
}

export interface Deployed {
  /** False when everything was already as it should be. */
  changed: boolean;
  /** What was done, for a person. */
  detail: string;
}

/** `unknown`: the target keeps nothing that could be looked at. */
export interface Check {
  state: 'same' | 'different' | 'unknown';
  /** What is not as it should be, for a person; empty unless `different`. */
  differences: string[];
}

/** One step of the test of a target, for a person. */
export interface TestStep {
  step: string;
  ok: boolean;
  detail: string;
}

/** A place that takes one certificate at a time: every kind of target but the IIS hosts, whose certificates share a commit. */
export interface CertificateTarget {
  /** Brings a certificate there. May run twice, and be killed at any line: what is there already is left alone. Throws `CertlineError`. */
  deploy(certificate: DeployableCertificate, context: DeployContext): Promise<Deployed>;
  /** Whether what is there is what `deploy` would leave; changes nothing, needs no key. Throws `CertlineError` where nothing can be seen. */
  check(certificate: PublicCertificate, signal: AbortSignal): Promise<Check>;
  /** What works, step by step, up to the first that does not. Never throws for what it finds. */
  test(signal: AbortSignal): Promise<TestStep[]>;
}

/** Runs the steps of a test in their order, up to the first that fails; each answers what it found. */
export async function runSteps(
  signal: AbortSignal,
  steps: readonly { step: string; run: () => Promise<string> }[],
): Promise<TestStep[]> {
  const done: TestStep[] = [];
  for (const { step, run } of steps) {
    signal.throwIfAborted();
    try {
      done.push({ step, ok: true, detail: await run() });
    } catch (error) {
      signal.throwIfAborted();
      done.push({ step, ok: false, detail: error instanceof Error ? error.message : String(error) });
      break;
    }
  }
  return done;
}
