import { CertlineError, type ErrorCode } from '../errors.ts';
import type { TxtRecord } from './dns-provider.ts';
import type { TsigKey } from './tsig.ts';

/** What a server says to an update: the name of the RCODE, what it finds wrong with the signature, and its time then (seconds since the epoch). */
export interface UpdateAnswer {
  rcode: string;
  tsigError: string | null;
  serverTime: number | null;
}

export interface RefusedUpdate {
  server: string;
  key: TsigKey | null;
  record: TxtRecord;
  answer: UpdateAnswer;
  /** Ms since the epoch. */
  now: number;
}

/** The answer to an update that was not made, in words, with what to do next. */
export function updateRefusal(refused: RefusedUpdate): CertlineError {
  const { server, key, record, answer } = refused;
  const { rcode, tsigError } = answer;
  if (key !== null && tsigError !== null) return keyProblem(refused, key, tsigError);
  const [code, words] = meaning(rcode, key, record);
  // A CNAME was followed where the resolver shows one: this one is so new that it does not yet.
  const plan = rcode === 'YXRRSET' ? { plan: { kind: 'retryable' } as const } : {};
  return new CertlineError(code, `${server} ${words}`, { evidence: { rcode }, ...plan });
}

function meaning(rcode: string, key: TsigKey | null, { zone, name }: TxtRecord): [ErrorCode, string] {
  switch (rcode) {
    case 'NOTAUTH':
    case 'NOTZONE':
      return [
        'dns_zone_not_managed',
        `is not the primary of the zone ${zone}${key === null ? ', or takes no updates of it without a key' : ''} (${rcode}): give the primary in settings.server${key === null ? ', or a key' : ''}`,
      ];
    case 'REFUSED':
      return key === null
        ? [
            'dns_credential_refused',
            `refuses updates of ${zone} without a key (REFUSED): give settings.keyName and secret.key, or let it take updates from this address`,
          ]
        : [
            'dns_zone_not_managed',
            `does not let the key ${key.name} change TXT at ${name} (REFUSED): allow that in its update policy or ACL for the zone ${zone}`,
          ];
    case 'SERVFAIL':
      return ['dns_provider_unreachable', 'fails (SERVFAIL): its log says why'];
    case 'YXRRSET':
      return [
        'dns_provider_refused',
        `has a CNAME at ${name} that the resolver does not show (YXRRSET): beside it nothing can be`,
      ];
    case 'NOTIMP':
      return ['dns_provider_refused', 'takes no dynamic updates (NOTIMP)'];
    default:
      return ['dns_provider_refused', `refuses the update of ${name} (${rcode})`];
  }
}

function keyProblem({ server, answer, now }: RefusedUpdate, key: TsigKey, tsigError: string): CertlineError {
  const evidence = { rcode: answer.rcode, tsigError };
  if (tsigError === 'BADTIME') {
    const apart = answer.serverTime === null ? null : Math.round(now / 1000) - answer.serverTime;
    const words =
      apart === null
        ? 'differ too much'
        : `are ${Math.abs(apart)} s apart: this machine is ${apart > 0 ? 'ahead' : 'behind'}`;
    return new CertlineError(
      'dns_provider_refused',
      `the clocks of ${server} and of this machine ${words} (BADTIME); set the wrong one, 300 s are allowed`,
      // A clock is set while orders wait, and then it works again.
      { plan: { kind: 'retryable' }, evidence: { ...evidence, secondsApart: apart } },
    );
  }
  const words =
    tsigError === 'BADKEY'
      ? `takes no key ${key.name} of ${key.algorithm} (BADKEY): check settings.keyName and settings.algorithm`
      : `has another key under the name ${key.name} (${tsigError}): check secret.key`;
  return new CertlineError('dns_credential_refused', `${server} ${words}`, { evidence });
}
