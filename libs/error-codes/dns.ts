import { type ErrorCodeEntry, entry } from './entry.ts';

/** What goes wrong with DNS and its providers. */
export const dnsCodes = {
  dns_credential_refused: entry(
    502,
    'park',
    'The DNS provider refuses the credential',
    'Replace the secret with PUT /v1/credentials/:id/secret, or mend it at the provider and `POST /v1/credentials/:id/test`: its orders go on by themselves. `detail` has the provider’s words.',
  ),
  dns_zone_not_found: entry(
    502,
    'permanent',
    'No zone was found for the name',
    'Check that the domain is registered and delegated, and that the name is right.',
  ),
  dns_zone_not_managed: entry(
    502,
    'permanent',
    'The credential cannot change the zone',
    'Give the credential the right to this zone, or name another credential for the name.',
  ),
  dns_provider_unreachable: entry(
    502,
    'retryable',
    'The DNS provider does not answer',
    'Check the network between the validation worker and the provider; it is tried again.',
  ),
  dns_provider_busy: entry(
    503,
    'retryable',
    'The DNS provider wants fewer requests, or another change is under way',
    'Nothing: it is tried again when the provider says.',
  ),
  dns_provider_refused: entry(
    502,
    'permanent',
    'The DNS provider refuses the change',
    'See `detail` for the provider’s words; mend it there, then retry the order.',
  ),
  dns_record_not_visible: entry(
    502,
    'retryable',
    'A name server of the zone does not show the record',
    'See `detail` for the name server: mend its transfer or its answer. It is looked at again until the CA’s deadline.',
  ),
  dns_record_awaited: entry(
    409,
    'retryable',
    'A person has to make a TXT record',
    'Make each record that `detail` names beside what is there at that name, and leave it until the order is validated; one of dns-persist-01 is to stay. It is looked for by itself; `POST /v1/orders/:id/continue` does so at once. If the order has failed, retry it, and look at `records` again.',
  ),
  dns_delegation_lame: entry(
    502,
    'retryable',
    'A name server that the zone is delegated to does not answer for it',
    'Mend the delegation at the registrar, or the name server that `detail` names.',
  ),
  dnssec_bogus: entry(
    502,
    'permanent',
    'The DNSSEC signatures of the zone do not hold',
    'Mend the signatures, or the DS record at the registrar: a CA refuses such a zone. Then retry the order.',
  ),
  dns_lookup_failed: entry(
    502,
    'retryable',
    'A name could not be looked up',
    'See `detail` for the name and the server; check DNS_RESOLVERS of the validation worker.',
  ),
} as const satisfies Record<string, ErrorCodeEntry>;
