import { randomUUID } from 'node:crypto';
import type { ErrorCode } from '#libs/error-codes';
import { asCertlineError, CertlineError } from '#libs/errors';
import { httpSysRecord, parseBindingInformation } from '#libs/iis/binding-information';
import type { Binding, BindingChange, HostState, IisHost } from '#libs/iis/iis-host';
import { bindingOf, putBack } from '#libs/iis/put-back';
import { type Mismatch, type VerifiedPart, verifyParts } from '#libs/iis/verify';
import type { IisTarget } from '#libs/model/target';
import type { TargetHandler } from '#libs/queues/handler';
import type { UndoRecord, UndoRecords } from '#libs/store/undo-records';

export type Context = Parameters<TargetHandler['run']>[2];

/** What was wrong with a part, and what became of its bindings. */
export type Undone = Mismatch & {
  /** Bindings that are again as they were. */
  putBack: number;
  /** Those that the host refuses to put back, with its reason; absent when there are none. */
  stuck?: string[];
};

/** Codes with which a host answers: what it refuses it has not done, or has done in part. After all others nobody knows. */
const answers: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  ...(['plan_drifted', 'commit_conflict', 'binding_conflict', 'key_unusable', 'access_denied'] as const),
  ...(['pfx_unreadable', 'iis_missing', 'target_refused'] as const),
]);
/** Refusals that may be over when the host is asked again: somebody else is writing, or holds the file. */
const passing: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['plan_drifted', 'commit_conflict', 'access_denied']);
const putBackTries = 3;
/** How long a host that has a commit, but does not answer on its ports, is given until the commit is taken back, ms. */
const silencePatienceMs = 3_600_000;

/** The machine that a target is, in words: two that differ are two machines. */
function machineOf({ transport, pool }: IisTarget): string {
  if (transport.kind === 'ssh') return `${transport.host.toLowerCase()}:${transport.port}`;
  // The worker of another pool runs on another machine.
  return transport.kind === 'lab' ? transport.url : `local in pool ${pool}`;
}

/** What a commit changes for an order. */
export type CommitPart = VerifiedPart & { order: string };

const placeOf = ({ siteId, protocol, bindingInformation }: BindingChange): string =>
  `${siteId} ${protocol} ${bindingInformation}`;

function recordOf({ bindingInformation, sslFlags }: Pick<Binding, 'bindingInformation' | 'sslFlags'>): string | null {
  const address = parseBindingInformation(bindingInformation);
  return address && httpSysRecord(address, sslFlags);
}

/** What a change has for itself: two that have one of these in common do not go into one commit. */
export function placesOf(change: BindingChange): string[] {
  const record = change.protocol === 'https' ? recordOf(change) : null;
  return [placeOf(change), ...(record === null ? [] : [record])];
}

/** What of a host the changes touch: their bindings, and those that take their certificate from the same records of http.sys. */
function touched(state: HostState, changes: readonly BindingChange[]): UndoRecord['before'] {
  const places = new Set(changes.map(placeOf));
  const records = new Set(changes.flatMap((change) => (change.protocol === 'https' ? [recordOf(change)] : [])));
  const sites = state.sites.flatMap(({ id, name, state: run, bindings, ftp }) => {
    const own = bindings.filter(
      (one) =>
        one.protocol.toLowerCase() === 'https' &&
        (places.has(`${id} https ${one.bindingInformation}`) || records.has(recordOf(one))),
    );
    const ownFtp = places.has(`${id} ftp `) ? ftp : null;
    return own.length > 0 || ownFtp ? [{ id, name, state: run, bindings: own, ftp: ownFtp }] : [];
  });
  return { iisMajor: state.iisMajor, osBuild: state.osBuild, sites };
}

const sameStore = (a: string | null, b: string | null): boolean =>
  (a ?? 'My').toLowerCase() === (b ?? 'My').toLowerCase();

function isCarriedOut(state: HostState, change: BindingChange): boolean {
  const is = bindingOf(state, change);
  if (change.op === 'remove' || !is) return change.op === 'remove' && !is;
  return is.thumbprint === change.thumbprint && is.sslFlags === change.sslFlags && sameStore(is.store, change.store);
}

/** The changes that take `changes` back where the host has them, whole or in part; what somebody else has set since is left alone. */
function inverse(before: HostState, now: HostState, changes: readonly BindingChange[]): BindingChange[] {
  const ours = changes.flatMap((change) => {
    const is = bindingOf(now, change);
    const flags = [change.sslFlags, bindingOf(before, change)?.sslFlags];
    if (is && !flags.includes(is.sslFlags)) return [];
    // A commit that broke off between the file and http.sys leaves a binding without a certificate, which nobody would set up.
    return [is && is.thumbprint === null ? { ...change, thumbprint: null } : change];
  });
  return putBack(before, now, ours);
}

/** Commits that a host is never left between: what was there is kept in the store until what came is proved. */
export interface GuardedCommits {
  /**
   * Applies the parts in one commit and looks whether they are served; those that are not are put back. Answers what was wrong, by part.
   * A host that refuses is as it was when the error is thrown; after a lost connection, or when a passing refusal keeps bindings from being
   * put back (thrown as retryable), the next `settle` sees to it.
   */
  commit(
    host: IisHost,
    target: IisTarget,
    before: HostState,
    parts: readonly CommitPart[],
    context: Context,
  ): Promise<(Undone | null)[]>;
  /**
   * Ends what an earlier run left unproved: a commit that is served is left, all else put back. On another machine than that of the commit
   * nothing is done. Throws, retryable, what keeps it from that: passing refusals, and `target_unreachable` while ports do not answer.
   */
  settle(host: IisHost, target: IisTarget, context: Context): Promise<void>;
}

export function createGuardedCommits(undo: UndoRecords): GuardedCommits {
  /** Puts the bindings of the changes back; answers the changes that did so, and the reasons where the host refuses for good. Throws passing refusals. */
  async function takeBack(
    host: IisHost,
    before: HostState,
    changes: readonly BindingChange[],
    { signal }: Context,
  ): Promise<{ done: BindingChange[]; stuck: { change: BindingChange; error: CertlineError }[] }> {
    const attempt = async (inverted: readonly BindingChange[]): Promise<CertlineError | null> => {
      try {
        await host.apply(inverted, signal);
        return null;
      } catch (thrown) {
        signal.throwIfAborted();
        const error = asCertlineError(thrown);
        if (answers.has(error.code)) return error;
        throw error;
      }
    };
    let inverted: BindingChange[] = [];
    for (let tries = 1; changes.length > 0 && tries <= putBackTries; tries += 1) {
      inverted = inverse(before, await host.read(signal), changes);
      const refusal = inverted.length === 0 ? null : await attempt(inverted);
      if (refusal === null) return { done: inverted, stuck: [] };
      if (!passing.has(refusal.code)) break;
    }
    // One binding that cannot be put back, because its old certificate is gone for one, must not keep the others from it.
    const done: BindingChange[] = [];
    const stuck: { change: BindingChange; error: CertlineError }[] = [];
    for (const change of inverted) {
      const error = await attempt([change]);
      if (error) stuck.push({ change, error });
      else done.push(change);
    }
    const held = stuck.find(({ error }) => passing.has(error.code))?.error;
    if (held) {
      // The record stays: it is all that the next run can put the rest back with.
      const { code, evidence, message } = held;
      throw new CertlineError(code, `not all bindings are put back yet: ${message}`, {
        ...{ plan: { kind: 'retryable' }, cause: held },
        ...(evidence === undefined ? {} : { evidence }),
      });
    }
    return { done, stuck };
  }

  async function verify(
    host: IisHost,
    before: HostState,
    parts: readonly VerifiedPart[],
    context: Context,
  ): Promise<(Undone | null)[]> {
    const mismatches = await verifyParts(host, await host.read(context.signal), parts, context);
    const bad = parts.filter((_, at) => mismatches[at]);
    if (bad.length === 0) return parts.map(() => null);
    const wrong = bad.flatMap(({ changes }) => changes);
    const { done, stuck } = await takeBack(host, before, wrong, context);
    return parts.map((part, at) => {
      const mismatch = mismatches[at];
      if (!mismatch) return null;
      const places = new Set(part.changes.map(placeOf));
      const left = stuck.filter(({ change }) => places.has(placeOf(change)));
      const reasons = left.map(({ change, error }) => `${change.bindingInformation || 'ftp'}: ${error.message}`);
      const putBack = done.filter((change) => places.has(placeOf(change))).length;
      return { ...mismatch, putBack, ...(reasons.length > 0 ? { stuck: reasons } : {}) };
    });
  }

  /** A commit that the host refuses may have been written in part: not where it found its expectations unmet, which it looks at first. */
  async function afterRefusal(
    host: IisHost,
    target: string,
    record: UndoRecord,
    error: CertlineError,
    context: Context,
  ): Promise<void> {
    const changes = record.parts.flatMap((part) => part.changes);
    if (error.code !== 'plan_drifted') {
      const { stuck } = await takeBack(host, record.before, changes, context);
      for (const { change, error: reason } of stuck)
        context.log.error({ change, code: reason.code }, `cannot be put back: ${reason.message}`);
    }
    await undo.remove(target, record.id);
  }

  return {
    async commit(host, target, before, parts, context) {
      const changes = parts.flatMap((part) => part.changes);
      if (changes.length === 0) return verify(host, before, parts, context);
      const record: UndoRecord = {
        id: randomUUID(),
        savedAt: context.clock.now(),
        place: machineOf(target),
        before: touched(before, changes),
        parts: parts
          .filter((part) => part.changes.length > 0)
          .map(({ order, certificate: { thumbprint, names }, changes: own }) => ({
            order,
            certificate: { thumbprint, names: [...names] },
            changes: own.map(bare),
          })),
      };
      await undo.save(target.id, record);
      try {
        await host.apply(changes, context.signal);
      } catch (thrown) {
        context.signal.throwIfAborted();
        const error = asCertlineError(thrown);
        if (answers.has(error.code)) await afterRefusal(host, target.id, record, error, context);
        throw error;
      }
      const outcome = await verify(host, record.before, parts, context);
      await undo.remove(target.id, record.id);
      return outcome;
    },

    async settle(host, target, context) {
      const record = await undo.get(target.id);
      if (record === null) return;
      const { signal, log, clock } = context;
      const machine = machineOf(target);
      if (record.place !== machine) {
        log.error(
          { commit: record.id, savedAt: record.savedAt, before: record.before, parts: record.parts },
          `${target.id} was pointed from ${record.place} to ${machine} before a commit to ${record.place} was verified: what it left there is not made up for`,
        );
        await undo.remove(target.id, record.id);
        return;
      }
      const state = await host.read(signal);
      const parts = record.parts.map(({ certificate, changes }) => ({
        certificate,
        changes: changes.filter((change) => isCarriedOut(state, change)),
      }));
      const mismatches = await verifyParts(host, state, parts, context);
      // No handshake says nothing of the certificate: a port may be shut for a while, and the old one may have expired.
      const isPatient = clock.now() - record.savedAt < silencePatienceMs;
      const silent = record.parts.map(({ changes }, at) => {
        const isMeant = parts[at]?.changes.length === changes.length;
        return isPatient && isMeant && mismatches[at]?.seen === null ? mismatches[at] : null;
      });
      // Of a part that is served only what the commit left half done has to go.
      const wrong = record.parts.flatMap(({ changes }, at) => {
        if (silent[at]) return [];
        return mismatches[at] ? changes : changes.filter((change) => !isCarriedOut(state, change));
      });
      const { done, stuck } = await takeBack(host, record.before, wrong, context);
      for (const { change, error } of stuck)
        log.error({ change, code: error.code }, `cannot be put back: ${error.message}`);
      const [waiting] = silent.filter((mismatch) => mismatch !== null);
      if (waiting) {
        const detail = `the host has the commit, but ${waiting.binding} does not answer: ${waiting.error}`;
        throw new CertlineError('target_unreachable', detail, {
          plan: { kind: 'retryable' },
          evidence: { ...waiting },
        });
      }
      const seen = mismatches.filter((mismatch) => mismatch !== null);
      log.warn(
        { commit: record.id, savedAt: record.savedAt, mismatches: seen, putBack: done.length, stuck: stuck.length },
        'an earlier run ended before its commit was verified: that was made up for',
      );
      await undo.remove(target.id, record.id);
    },
  };
}

/** A change without what is only for people. */
function bare(change: BindingChange): BindingChange {
  const { op, siteId, protocol, bindingInformation, sslFlags, thumbprint, store, expect } = change;
  return { op, siteId, protocol, bindingInformation, sslFlags, thumbprint, store, expect };
}
