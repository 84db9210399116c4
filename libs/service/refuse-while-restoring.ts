import type { Store } from '#libs/store/store';

/** Throws an Error while a backup is being put back, or was put back by half: what is there then is no whole installation. */
export async function refuseWhileRestoring(store: Pick<Store, 'isRestoring'>): Promise<void> {
  if (await store.isRestoring())
    throw new Error(
      'a backup is being put back into this Redis: wait, or run `npm run restore` again if it was cut off',
    );
}
