import { usesSni } from './binding-information.ts';
import type { SharedRecord } from './binding-plan.ts';
import { type PlannedBinding, usesCentralStore } from './plan-scope.ts';

function byRecord(after: readonly PlannedBinding[]): [string, PlannedBinding[]][] {
  const groups = Map.groupBy(after, (one) => one.record);
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1));
}

const place = (one: PlannedBinding) => `${one.binding.bindingInformation} of site ${one.site.id}`;

/** The records that changed bindings share with others, and a warning where one that is not in the plan gets the certificate with them. */
export function sharedRecords(
  after: readonly PlannedBinding[],
  thumbprint: string,
): { shared: SharedRecord[]; warnings: string[] } {
  const shared: SharedRecord[] = [];
  const warnings: string[] = [];
  for (const [record, members] of byRecord(after)) {
    if (members.length < 2 || !members.some((one) => one.changed)) continue;
    const siteIds = [...new Set(members.map((one) => one.site.id))].sort((a, b) => a - b);
    shared.push({ record, siteIds });
    for (const one of members.filter((member) => member.binding.thumbprint !== thumbprint)) {
      warnings.push(`http.sys keeps one certificate for ${record}: ${place(one)} gets the new one too`);
    }
  }
  return { shared, warnings };
}

/**
 * http.sys looks for the exact ip:port before it looks at the host name: a certificate without SNI on an IP of its own hides the SNI
 * bindings of that port from the clients of that IP. One warning per such record that concerns the plan.
 */
export function hidingWarnings(after: readonly PlannedBinding[]): string[] {
  const named = after.filter((one) => usesSni(one.address, one.binding.sslFlags) && !usesCentralStore(one.binding));
  const own = after.filter(
    (one) => one.address.ip !== '*' && !usesSni(one.address, one.binding.sslFlags) && !usesCentralStore(one.binding),
  );
  const warnings: string[] = [];
  for (const [record, [first, ...others]] of byRecord(own)) {
    if (!first) continue;
    const hidden = named.filter(
      ({ address }) => address.port === first.address.port && (address.ip === '*' || address.ip === first.address.ip),
    );
    if (hidden.length === 0 || ![first, ...others, ...hidden].some((one) => one.changed)) continue;
    const example = hidden.find((one) => one.changed) ?? hidden[0];
    const more = hidden.length > 1 ? ` and ${hidden.length - 1} more` : '';
    warnings.push(
      `${place(first)} has no SNI: clients of ${record} get its certificate whatever host they ask for, also instead of ${example ? place(example) : ''}${more}`,
    );
  }
  return warnings;
}
