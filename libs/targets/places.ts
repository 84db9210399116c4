import type { DeliveryTarget } from '../model/target.ts';
import { centralStoreFileOf, folderNameOf } from './file-names.ts';
import { onWindows } from './file-system.ts';

/** A place of a target that is no IIS host, with the names of a certificate that it is for. */
export interface NamedPlace {
  place: string;
  names: string[];
}

/**
 * Where a certificate of these names is kept at a target: in a folder of its own, in a file per name of a central store. A webhook keeps
 * nothing.
 *
 * @throws CertlineError `name_invalid`, `target_refused` for a name that no file can have there.
 */
export function placesAt({ kind }: Pick<DeliveryTarget, 'kind'>, names: readonly string[]): NamedPlace[] {
  switch (kind) {
    case 'folder':
      return [{ place: folderNameOf(names[0] ?? '', onWindows), names: [...names] }];
    case 'ccs':
      return [...Map.groupBy(names, centralStoreFileOf)].map(([place, some]) => ({ place, names: some }));
    case 'webhook':
      return [];
  }
}
