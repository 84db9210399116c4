import { ulid } from 'ulid';

const prefixes = { order: 'ord', account: 'acc', target: 'tgt', credential: 'cred', bulkRetry: 'blk' } as const;

/** A new id: a prefix that says of what, and a ULID, which sorts by time of creation. */
export function newId(kind: keyof typeof prefixes, now: number): string {
  return `${prefixes[kind]}_${ulid(now)}`;
}

/** Id of the certificate that an epoch of an order produces: known beforehand, so that saving it twice is saving it once. */
export function certificateId(orderId: string, epoch: number): string {
  return `crt_${orderId.slice('ord_'.length)}_${epoch}`;
}
