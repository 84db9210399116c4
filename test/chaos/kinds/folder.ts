import { X509Certificate } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isKeyOf } from '#libs/targets/pem-parts';
import type { PlaceKind } from './kind.ts';

/** certline's own folder beside those of the names. */
const ownFolder = '.certline';

/** A folder of the workers' machine. */
export const folder: PlaceKind = {
  share: 0.1,
  deploy: ({ folder: { target } }) => ({ target }),
  async audit({ folder: { path } }, ended) {
    const wrong: string[] = [];
    const deployed = ended.filter(({ order }) => order.status === 'deployed');
    for (const { plan, thumbprint } of deployed) {
      const read = (file: string): Promise<string> => readFile(join(path, plan.name, file), 'utf8').catch(() => '');
      const [pem, key] = [await read('fullchain.pem'), await read('privkey.pem')];
      if (pem === '' || key === '') wrong.push(`the folder has no files of ${plan.name}`);
      else {
        const leaf = new X509Certificate(pem);
        const its = leaf.fingerprint.replaceAll(':', '');
        if (its !== thumbprint) wrong.push(`the folder has ${its} for ${plan.name}, not ${thumbprint}`);
        if (!isKeyOf(leaf, key)) wrong.push(`the folder has the key of something else for ${plan.name}`);
      }
    }
    const known = new Set([ownFolder, ...deployed.map(({ plan }) => plan.name)]);
    const others = (await readdir(path)).filter((name) => !known.has(name));
    return [...wrong, ...others.map((name) => `the folder has ${name}, not planned`)];
  },
};
