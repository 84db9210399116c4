/** Names of everything in Redis. All share one hash tag, so that a Lua script may touch them together in Redis Cluster too. */
export interface Keys {
  /** The hash tag, also the prefix of BullMQ's keys. */
  tag: string;
  order(id: string): string;
  orderHistory(id: string): string;
  orders: string;
  ordersByStatus(status: string): string;
  ordersByName(name: string): string;
  /** Failed orders by the code of their error, by account, and by the targets they were to be deployed to. */
  failedByCode(code: string): string;
  failedByAccount(account: string): string;
  failedByTarget(target: string): string;
  bulkRetry(id: string): string;
  /** Orders that wait for their turn in a bulk retry. */
  bulkRetryWaiting(id: string): string;
  /** A hash from order to what became of it in a bulk retry. */
  bulkRetryResults(id: string): string;
  /** Bulk retries that are not done, by when their next order is due. */
  runningBulkRetries: string;
  /** Unfinished orders by the time the reconciler ought to look at them: the outbox. */
  openOrders: string;
  /** Orders held until an account or a credential is mended. */
  parkedOrders(on: string): string;
  /** Accounts, or credentials, whose orders are held. */
  parked(kind: 'account' | 'credential'): string;
  /** Orders to deploy on a target, by the time they are due. */
  dueOrders(target: string): string;
  /** What a commit to a target's host changes, and what was there before, until the commit is verified. */
  undo(target: string): string;
  /** Unfinished orders that are to be deployed on a target, whatever their stage. */
  targetOrders(target: string): string;
  /** Unfinished orders with a challenge that the host of a target answers, whatever their stage. */
  answeringOrders(target: string): string;
  /** Unfinished orders that an API key has placed, where it may have so many only. */
  ordersPlacedBy(key: string): string;
  /** Unfinished orders with a challenge that a credential is for, whatever their stage. */
  credentialOrders(credential: string): string;
  idempotency(key: string): string;
  events: string;
  certificate(id: string): string;
  certificates: string;
  certificatesByExpiry: string;
  certificatesByRenewal: string;
  certificateByThumbprint: string;
  chain(sha256: string): string;
  secret(name: string): string;
  /** A hash from the id of a master key to something sealed with it. */
  masterKeys: string;
  /** There while a backup is put back: nothing else is true then. */
  restoring: string;
  /** Processes with master keys, by the time until which they are believed to be there. */
  keyHolders: string;
  /** A hash from the id of a master key to the number of secrets that are to be sealed with another. */
  secretsLeft: string;
  account(id: string): string;
  accounts: string;
  accountByContact: string;
  target(id: string): string;
  targets: string;
  targetByName: string;
  /** A hash from target to pool. */
  targetPools: string;
  /** A hash from place of a target to what should be there. */
  expectations(target: string): string;
  /** What the last look at a target found. */
  drift(target: string): string;
  /** Targets that were looked at, by the time since when they are in their state. */
  drifts: string;
  driftsByState(state: string): string;
  /** A hash from target to the number of its places that are not as they should be; those without are not in it. */
  driftPlaces: string;
  /** Targets by the time of their next look. */
  driftSchedule: string;
  /** A hash from place to the times it was repaired. */
  driftRepairs(target: string): string;
  credential(id: string): string;
  credentials: string;
  credentialByName: string;
  apiKey(hash: string): string;
  apiKeys: string;
  challenge(token: string): string;
  /** What was written for challenges and is to be taken away, by the time it is due. */
  cleanUps: string;
  /** The orders that want what is written for a challenge, by `writtenName`. */
  written(name: string): string;
  /** There as long as an order wants its challenges answered by a listener on the host of a target. */
  challengeListener(order: string, target: string): string;
  /** What precedes the names of the counts of a limit: sorted sets, see `take-budget.lua`. */
  caBudget(directory: string): string;
  /** Limits of CAs that are held since the CA said so, by the end of that. */
  heldCaLimits: string;
  /** What an order has taken of the budget of its CA. */
  caBudgetOrder(order: string): string;
  /** There when what nobody asks for, a failed validation for one, was counted. */
  countedOnce(what: string): string;
  /** There while a CA takes another certificate for a set of names for a renewal. */
  issuedNames(set: string): string;
  lease(name: string): string;
}

export function createKeys(namespace: string): Keys {
  const tag = `{${namespace}}`;
  const under =
    (kind: string) =>
    (id: string): string =>
      `${tag}:${kind}:${id}`;
  return {
    tag,
    order: under('order'),
    orderHistory: under('order-history'),
    orders: `${tag}:orders`,
    ordersByStatus: under('orders:status'),
    ordersByName: under('orders:name'),
    failedByCode: under('orders:failed:code'),
    failedByAccount: under('orders:failed:account'),
    failedByTarget: under('orders:failed:target'),
    bulkRetry: under('bulk-retry'),
    bulkRetryWaiting: under('bulk-retry:waiting'),
    bulkRetryResults: under('bulk-retry:results'),
    runningBulkRetries: `${tag}:bulk-retries:running`,
    openOrders: `${tag}:orders:open`,
    parkedOrders: under('orders:parked'),
    parked: under('parked'),
    dueOrders: under('orders:due'),
    undo: under('undo'),
    targetOrders: under('orders:target'),
    answeringOrders: under('orders:answering'),
    ordersPlacedBy: under('orders:placed-by'),
    credentialOrders: under('orders:credential'),
    idempotency: under('idempotency'),
    events: `${tag}:events`,
    certificate: under('certificate'),
    certificates: `${tag}:certificates`,
    certificatesByExpiry: `${tag}:certificates:expiry`,
    certificatesByRenewal: `${tag}:certificates:renewal`,
    certificateByThumbprint: `${tag}:certificates:thumbprint`,
    chain: under('chain'),
    secret: under('secret'),
    masterKeys: `${tag}:master-keys`,
    restoring: `${tag}:restoring`,
    keyHolders: `${tag}:master-keys:holders`,
    secretsLeft: `${tag}:master-keys:left`,
    account: under('account'),
    accounts: `${tag}:accounts`,
    accountByContact: `${tag}:accounts:contact`,
    target: under('target'),
    targets: `${tag}:targets`,
    targetByName: `${tag}:targets:name`,
    targetPools: `${tag}:targets:pool`,
    expectations: under('expectations'),
    drift: under('drift'),
    drifts: `${tag}:drifts`,
    driftsByState: under('drifts:state'),
    driftPlaces: `${tag}:drifts:places`,
    driftSchedule: `${tag}:drifts:due`,
    driftRepairs: under('drift-repairs'),
    credential: under('credential'),
    credentials: `${tag}:credentials`,
    credentialByName: `${tag}:credentials:name`,
    apiKey: under('api-key'),
    apiKeys: `${tag}:api-keys`,
    challenge: under('challenge'),
    cleanUps: `${tag}:clean-ups`,
    written: under('written'),
    challengeListener: (order, target) => `${tag}:challenge-listener:${order}.${target}`,
    caBudget: under('ca-budget'),
    heldCaLimits: `${tag}:ca-budget-held`,
    caBudgetOrder: under('ca-budget-order'),
    countedOnce: under('counted-once'),
    issuedNames: under('issued-names'),
    lease: under('lease'),
  };
}
