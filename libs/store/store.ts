import { createHash } from 'node:crypto';
import { type Clock, systemClock } from '../clock.ts';
import { type Account, accountSchema } from '../model/account.ts';
import { type ApiKey, apiKeySchema } from '../model/api-key.ts';
import { nameSetKey } from '../model/ca-limits.ts';
import { type Certificate, certificateSchema } from '../model/certificate.ts';
import { type Credential, credentialSchema } from '../model/credential.ts';
import { type Target, targetSchema } from '../model/target.ts';
import { type BulkRetryStore, createBulkRetries } from './bulk-retries.ts';
import { type CaBudget, createCaBudget, redisTime } from './ca-budget.ts';
import { type ChallengeAnswers, createChallengeAnswers } from './challenge-answers.ts';
import { type ChallengeListeners, createChallengeListeners } from './challenge-listeners.ts';
import { type CleanUps, createCleanUps } from './clean-ups.ts';
import { createDriftReports, type DriftReports } from './drift-reports.ts';
import { createDriftSchedule, type DriftSchedule } from './drift-schedule.ts';
import { createExpectations, type ExpectationStore } from './expectations.ts';
import { createKeys, type Keys } from './keys.ts';
import { createLeases, type Leases } from './leases.ts';
import { createMasterKeyRecords, type MasterKeyRecords } from './master-key-records.ts';
import { type OrderEvent, readHistory } from './order-events.ts';
import { createOrderStore, type OrderStore } from './orders.ts';
import { parkingCommands } from './parking.ts';
import type { ParkedKind } from './parking-events.ts';
import { createRecordStore, type RecordStore } from './records.ts';
import type { Command, RedisClient } from './redis.ts';

export interface CertificateStore extends Omit<RecordStore<Certificate>, 'create' | 'put' | 'update' | 'remove'> {
  /** Stores a certificate whose id is new with its chain (PEM of what follows the leaf), which is kept once however many have it. Doing it twice is harmless. */
  create(certificate: Omit<Certificate, 'chain'>, chainPem: string): Promise<Certificate>;
  getChain(name: string): Promise<string | null>;
  findByThumbprint(thumbprint: string): Promise<Certificate | null>;
  /** Whether there was a certificate for exactly these names lately: another one is a renewal to the CA, whatever the account. */
  hasIssued(names: readonly string[]): Promise<boolean>;
  /** Those of some thumbprints (upper-case hexadecimal) that are of certificates of certline. */
  knownThumbprints(thumbprints: readonly string[]): Promise<Set<string>>;
  /** Certificates whose end lies in (from, to], ms since the epoch. */
  countExpiring(from: number, to: number): Promise<number>;
  /** End of the certificate that expires next after `now`, ms since the epoch. */
  nextExpiry(now: number): Promise<number | null>;
  /** Certificates that ought to have been renewed by `now`. */
  countRenewalDue(now: number): Promise<number>;
}

/** Records that somebody may refuse, whose orders are then held: `parked` of a record is told of, and counted, by whoever it is changed. */
export interface ParkingStore<T> extends Omit<RecordStore<T>, 'put'> {
  /** Those whose orders are held. */
  countParked(): Promise<number>;
}

export interface TargetStore extends RecordStore<Target> {
  /** Every pool that a target names. */
  pools(): Promise<Set<string>>;
}

/** Sealed secrets by name. */
export interface SecretStore {
  /** Keeps a sealed secret under a name that is free; answers the one that counts: the first. */
  putOnce(name: string, sealed: string): Promise<string>;
  get(name: string): Promise<string | null>;
  /** The command that keeps a sealed secret, whatever was there: to be done in one step with the record it belongs to. */
  putting(name: string, sealed: string): Command;
  /** The command that takes a secret away, as `putting`. */
  removing(name: string): Command;
}

/** The system of record: all that certline knows. */
export interface Store {
  keys: Keys;
  orders: OrderStore;
  history(orderId: string): Promise<OrderEvent[]>;
  certificates: CertificateStore;
  accounts: ParkingStore<Account>;
  targets: TargetStore;
  expectations: ExpectationStore;
  driftReports: DriftReports;
  driftSchedule: DriftSchedule;
  credentials: ParkingStore<Credential>;
  apiKeys: RecordStore<ApiKey>;
  secrets: SecretStore;
  masterKeys: MasterKeyRecords;
  challengeAnswers: ChallengeAnswers;
  challengeListeners: ChallengeListeners;
  cleanUps: CleanUps;
  leases: Leases;
  caBudget: CaBudget;
  bulkRetries: BulkRetryStore;
  /** Whether a backup is being put back, or was half put back. */
  isRestoring(): Promise<boolean>;
  /** Throws when Redis does not answer, or takes no writes. */
  ping(): Promise<void>;
}

/** How long Let's Encrypt takes the same names again for a renewal (Boulder, wfe2: 120 days). */
const renewalMemoryMs = 120 * 86_400_000;

/** `clock`: for the time of events that follow from a change. */
export function createStore(redis: RedisClient, namespace: string, clock: Pick<Clock, 'now'> = systemClock): Store {
  const keys = createKeys(namespace);
  const parking = (kind: ParkedKind) => ({
    follows: parkingCommands(keys, kind, () => clock.now()),
    countParked: () => redis.scard(keys.parked(kind)),
  });
  const [ofAccounts, ofCredentials] = [parking('account'), parking('credential')];
  const certificates = createRecordStore(redis, certificateSchema, {
    record: keys.certificate,
    index: keys.certificates,
    scores: ({ notAfter, renewAt }) => [
      [keys.certificatesByExpiry, notAfter],
      [keys.certificatesByRenewal, renewAt],
    ],
  });
  return {
    keys,
    orders: createOrderStore(redis, keys),
    history: (orderId) => readHistory(redis, keys, orderId),
    certificates: {
      ...certificates,
      async create(certificate, chainPem) {
        const chain = createHash('sha256').update(chainPem).digest('hex');
        const record = { ...certificate, chain };
        const issued = keys.issuedNames(nameSetKey(record.names));
        await certificates.create(record, [
          ['SET', issued, '1', 'PX', String(renewalMemoryMs)],
          // The next one that its order asks for counts anew at the CA.
          ['DEL', keys.caBudgetOrder(record.order)],
          ['SET', keys.chain(chain), chainPem, 'NX'],
          ['HSET', keys.certificateByThumbprint, certificate.thumbprint, certificate.id],
        ]);
        const { id, replaces } = record;
        // When this is lost, the order is not issued yet either: whoever takes it up does it.
        if (replaces !== undefined)
          await certificates.update(replaces, (one) => ({ ...one, replacedBy: one.replacedBy ?? id }));
        return record;
      },
      hasIssued: async (names) => (await redis.exists(keys.issuedNames(nameSetKey(names)))) === 1,
      async findByThumbprint(thumbprint) {
        const id = await redis.hget(keys.certificateByThumbprint, thumbprint);
        return id === null ? null : certificates.get(id);
      },
      async knownThumbprints(thumbprints) {
        if (thumbprints.length === 0) return new Set();
        const ids = await redis.hmget(keys.certificateByThumbprint, ...thumbprints);
        return new Set(thumbprints.filter((_thumbprint, i) => ids[i] !== null));
      },
      getChain: (name) => redis.get(keys.chain(name)),
      countExpiring: (from, to) => redis.zcount(keys.certificatesByExpiry, `(${from}`, to),
      async nextExpiry(now) {
        const rows = await redis.zrangebyscore(
          keys.certificatesByExpiry,
          `(${now}`,
          '+inf',
          'WITHSCORES',
          'LIMIT',
          0,
          1,
        );
        return rows[1] === undefined ? null : Number(rows[1]);
      },
      countRenewalDue: (now) => redis.zcount(keys.certificatesByRenewal, '-inf', now),
    },
    accounts: {
      ...createRecordStore(redis, accountSchema, {
        record: keys.account,
        index: keys.accounts,
        byName: {
          key: keys.accountByContact,
          name: ({ directory, email }) => `${directory} ${email.toLowerCase()}`,
        },
        follows: ofAccounts.follows,
      }),
      countParked: ofAccounts.countParked,
    },
    targets: {
      ...createRecordStore(redis, targetSchema, {
        record: keys.target,
        index: keys.targets,
        byName: {
          key: keys.targetByName,
          name: ({ name }) => name.toLowerCase(),
        },
        values: ({ pool }) => [[keys.targetPools, pool]],
      }),
      pools: async () => new Set(await redis.hvals(keys.targetPools)),
    },
    expectations: createExpectations(redis, keys),
    driftReports: createDriftReports(redis, keys),
    driftSchedule: createDriftSchedule(redis, keys),
    credentials: {
      ...createRecordStore(redis, credentialSchema, {
        record: keys.credential,
        index: keys.credentials,
        byName: {
          key: keys.credentialByName,
          name: ({ name }) => name.toLowerCase(),
        },
        follows: ofCredentials.follows,
      }),
      countParked: ofCredentials.countParked,
    },
    apiKeys: createRecordStore(redis, apiKeySchema, {
      record: keys.apiKey,
      index: keys.apiKeys,
    }),
    secrets: {
      async putOnce(name, sealed) {
        // Answers what was there before: also what an earlier copy of this command, sent again after a reconnect, has put there.
        return (await redis.set(keys.secret(name), sealed, 'NX', 'GET')) ?? sealed;
      },
      get: (name) => redis.get(keys.secret(name)),
      putting: (name, sealed) => ['SET', keys.secret(name), sealed],
      removing: (name) => ['DEL', keys.secret(name)],
    },
    masterKeys: createMasterKeyRecords(redis, keys),
    challengeAnswers: createChallengeAnswers(redis, keys),
    challengeListeners: createChallengeListeners(redis, keys),
    cleanUps: createCleanUps(redis, keys),
    leases: createLeases(redis, keys),
    bulkRetries: createBulkRetries(redis, keys),
    caBudget: createCaBudget(redis, keys, () => redisTime(redis)),
    isRestoring: async () => (await redis.exists(keys.restoring)) === 1,
    async ping() {
      // Writes nothing, but is refused whenever a write would be.
      await redis.setrange(`${keys.tag}:ready`, 0, '');
    },
  };
}
