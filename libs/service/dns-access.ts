import type { Clock } from '#libs/clock';
import type { DnsProvider, ProviderDeps } from '#libs/dns/dns-provider';
import { dnsProviders } from '#libs/dns/providers';
import { CertlineError } from '#libs/errors';
import { credentialSecretName, type DnsCredential } from '#libs/model/credential';
import type { SecretBox } from '#libs/store/secret-box';
import type { Store } from '#libs/store/store';

/** DNS providers by the credentials of the store. */
export interface DnsAccess {
  /**
   * Throws `credential_unknown`, `secret_unreadable`; the reason why the credential is parked, with the plan to park. That also is the plan of
   * what the provider refuses the credential with, then or later; unless its settings or secret were changed meanwhile, then it is tried again.
   */
  open(credential: string): Promise<DnsProvider>;
  /** As `open`, also when the credential is parked: whether it still has to be is found out by trying. */
  openToTest(credential: string): Promise<DnsProvider>;
}

export interface DnsAccessDeps extends Pick<ProviderDeps, 'allowPrivate' | 'allowPrograms'> {
  store: Pick<Store, 'credentials' | 'secrets'>;
  box: SecretBox;
  clock: Clock;
}

/** What a provider was opened with, as it is stored. */
interface Opened {
  sealed: string;
  settings: string;
}

/** Seconds. The values are needed for a minute, and differ each time. */
const ttlSeconds = 60;

const settingsText = ({ provider, settings }: DnsCredential): string => JSON.stringify([provider, settings]);

/** A provider with settings and secret that its definition has checked. Throws `secret_unreadable` for what another version has stored. */
export async function openProvider(
  { id, provider: name, settings }: Pick<DnsCredential, 'id' | 'provider' | 'settings'>,
  secret: unknown,
  deps: ProviderDeps,
): Promise<DnsProvider> {
  const definition = dnsProviders.find((one) => one.name === name);
  if (definition === undefined)
    throw new CertlineError('credential_unknown', `${id} is for ${name}, which is not known`);
  const [known, opened] = [definition.settings.safeParse(settings), definition.secret.safeParse(secret)];
  // Without its cause: the words of a parser may quote the secret.
  if (!known.success || !opened.success)
    throw new CertlineError('secret_unreadable', `settings or secret of ${id} are none for ${name}`);
  return definition.open(known.data, opened.data, deps);
}

export function createDnsAccess({ store, box, clock, allowPrivate, allowPrograms }: DnsAccessDeps): DnsAccess {
  /** Kept as long as secret and settings are the same: some hold a token for an hour. */
  const open = new Map<string, Opened & { provider: Promise<DnsProvider> }>();

  function parse(id: string, name: string, sealed: string): unknown {
    try {
      return JSON.parse(box.open(name, sealed).toString('utf8'));
    } catch (error) {
      if (error instanceof CertlineError) throw error;
      throw new CertlineError('secret_unreadable', `the secret of ${id} cannot be read`);
    }
  }

  /** A refused credential is of no use to any order until somebody mends it: which may have been while the provider was asked. */
  async function refusal(thrown: unknown, id: string, was: Opened): Promise<unknown> {
    if (!(thrown instanceof CertlineError) || thrown.code !== 'dns_credential_refused') return thrown;
    const { code, message, evidence } = thrown;
    const [credential, sealed] = await Promise.all([
      store.credentials.get(id),
      store.secrets.get(credentialSecretName(id)),
    ]);
    const isReplaced =
      sealed !== was.sealed || (credential?.kind === 'dns' && settingsText(credential) !== was.settings);
    return new CertlineError(code, message, {
      plan: isReplaced ? { kind: 'retryable' } : { kind: 'park', on: id },
      ...(evidence ? { evidence } : {}),
      cause: thrown,
    });
  }

  function guarded(provider: DnsProvider, id: string, was: Opened): DnsProvider {
    const guard =
      <A extends unknown[], R>(work: (...given: A) => Promise<R>) =>
      (...given: A): Promise<R> =>
        work(...given).catch(async (thrown: unknown) => {
          throw await refusal(thrown, id, was);
        });
    return {
      ...provider,
      present: guard(provider.present),
      cleanUp: guard(provider.cleanUp),
      zones: guard(provider.zones),
    };
  }

  async function obtain(id: string, evenParked: boolean): Promise<DnsProvider> {
    const name = credentialSecretName(id);
    const [credential, sealed] = await Promise.all([store.credentials.get(id), store.secrets.get(name)]);
    if (credential?.kind !== 'dns' || sealed === null)
      throw new CertlineError('credential_unknown', `there is no credential ${id} for DNS`);
    if (credential.parked && !evenParked) {
      const { code, detail } = credential.parked;
      throw new CertlineError(code, detail, { plan: { kind: 'park', on: id } });
    }
    const settings = settingsText(credential);
    const known = open.get(id);
    if (known?.sealed === sealed && known.settings === settings) return known.provider;
    const was = { sealed, settings };
    const deps = { clock, ttlSeconds, allowPrivate, allowPrograms };
    const provider = openProvider(credential, parse(id, name, sealed), deps).then(
      (opened) => guarded(opened, id, was),
      async (thrown: unknown) => {
        if (open.get(id)?.provider === provider) open.delete(id);
        throw await refusal(thrown, id, was);
      },
    );
    open.set(id, { ...was, provider });
    return provider;
  }

  return { open: (id) => obtain(id, false), openToTest: (id) => obtain(id, true) };
}
