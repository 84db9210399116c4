import { hostKey, httpSysRecord, parseBindingInformation, sslFlag } from '#libs/iis/binding-information';
import type { Binding, BindingChange, Site } from '#libs/iis/iis-host';
import { bindingOf } from '#libs/iis/put-back';
import type { ApplicationHostConfig, ConfiguredSite } from './application-host-config.ts';
import type { CertificateStores } from './certificate-store.ts';
import type { HttpSysRecords } from './http-sys.ts';
import { drifted, hresults, Refusal } from './refusal.ts';

/** The http.sys record of an https binding, null where it has none. */
function recordOf(one: { protocol: string; bindingInformation: string; sslFlags: number }): string | null {
  const address = parseBindingInformation(one.bindingInformation);
  if (one.protocol !== 'https' || !address || (one.sslFlags & sslFlag.centralStore) !== 0) return null;
  return httpSysRecord(address, one.sslFlags);
}

/** The sites as the host tells of them: configuration and http.sys together. */
export function readSites(config: ApplicationHostConfig, records: HttpSysRecords): Site[] {
  return config.sites().map((site) => ({
    ...site,
    bindings: site.bindings.map((binding): Binding => {
      const record = records[recordOf(binding) ?? ''];
      return { ...binding, thumbprint: record?.thumbprint ?? null, store: record?.store ?? null };
    }),
  }));
}

function checkExpectation(sites: readonly Site[], change: BindingChange): void {
  const { siteId, bindingInformation, expect } = change;
  if (!sites.some(({ id }) => id === siteId)) throw drifted(`site ${siteId} is gone`);
  const place = `${change.protocol === 'ftp' ? 'ftp' : bindingInformation} of site ${siteId}`;
  const current = bindingOf({ sites }, change);
  if ((expect === null) !== (change.op === 'add')) {
    throw new Refusal(`${change.op} of ${place} does not go with what it expects`, hresults.invalidData);
  }
  if (expect === null) {
    if (current) throw drifted(`${place} exists already`);
    return;
  }
  if (!current) throw drifted(`${place} is gone`);
  if (current.thumbprint !== expect.thumbprint) throw drifted(`${place} has the certificate ${current.thumbprint}`);
  if (current.sslFlags !== expect.sslFlags) throw drifted(`${place} has sslFlags ${current.sslFlags}`);
}

/** Two started sites cannot have the same address and host, and one site cannot have them twice. */
function checkDuplicates(sites: readonly ConfiguredSite[], changes: readonly BindingChange[]): void {
  const keyOf = (information: string) => {
    const address = parseBindingInformation(information);
    return address ? `${address.ip}:${address.port}:${hostKey(address.host)}` : information;
  };
  const all = sites.flatMap((site) =>
    site.bindings
      .filter(({ protocol }) => protocol === 'https')
      .map(({ bindingInformation }) => ({ key: keyOf(bindingInformation), site })),
  );
  const byKey = Map.groupBy(all, ({ key }) => key);
  for (const change of changes.filter(({ op }) => op === 'add')) {
    const taken = byKey.get(keyOf(change.bindingInformation)) ?? [];
    const own = taken.find(({ site }) => site.id === change.siteId)?.site;
    const twins = taken.filter(({ site }) => site === own || (site.state === 'Started' && own?.state === 'Started'));
    if (twins.length > 1) {
      throw new Refusal(
        `Cannot add duplicate collection entry of type 'binding' with combined key attributes 'protocol, bindingInformation' respectively set to 'https, ${change.bindingInformation}'`,
        hresults.alreadyExists,
      );
    }
  }
}

async function checkCertificate(stores: CertificateStores, change: BindingChange): Promise<void> {
  if (change.thumbprint === null || change.op === 'remove') return;
  if (await stores.load(change.store ?? 'My', change.thumbprint)) return;
  throw new Refusal(
    'A specified logon session does not exist. It may already have been terminated.',
    hresults.noSuchLogonSession,
  );
}

/**
 * Carries the changes out on `config` and answers the records http.sys has after them; nothing is written yet, and after a throw `config`
 * is of no use. Expectations are checked on the host as it was before the first change.
 * A record that a change leaves behind goes when no binding uses it any more, so that it cannot answer for a host later on.
 */
export async function carryOut(
  changes: readonly BindingChange[],
  config: ApplicationHostConfig,
  records: HttpSysRecords,
  stores: CertificateStores,
  iisMajor: number,
): Promise<HttpSysRecords> {
  const before = readSites(config, records);
  const after = { ...records };
  const left = new Set<string>();
  for (const change of changes) {
    checkExpectation(before, change);
    await checkCertificate(stores, change);
    if (change.protocol === 'ftp') {
      if (change.op !== 'update')
        throw new Refusal('the certificate of an ftp site can only be set', hresults.invalidData);
      config.setFtpCertificate(change.siteId, change);
      continue;
    }
    if (!parseBindingInformation(change.bindingInformation)) {
      throw new Refusal(`${change.bindingInformation} is not an https binding`, hresults.invalidData);
    }
    if (iisMajor < 8 && change.sslFlags !== 0) {
      throw new Refusal("Unrecognized attribute 'sslFlags'.", hresults.invalidData);
    }
    const old = change.expect && recordOf({ ...change, sslFlags: change.expect.sslFlags });
    if (old) left.add(old);
    if (change.op === 'remove') config.removeBinding(change.siteId, change);
    else config.putBinding(change.siteId, change);
  }
  const sites = config.sites();
  checkDuplicates(sites, changes);
  const inUse = new Set(sites.flatMap((site) => site.bindings).map(recordOf));
  for (const record of left) if (!inUse.has(record)) delete after[record];
  for (const change of changes) {
    const record = recordOf(change);
    if (change.op === 'remove' || record === null) continue;
    if (change.thumbprint === null) delete after[record];
    else after[record] = { thumbprint: change.thumbprint, store: change.store ?? 'My' };
  }
  return after;
}
