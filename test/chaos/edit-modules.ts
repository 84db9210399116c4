/** Preloaded into the services under chaos (`node --import`): applies the edits that CHAOS_EDITS names to what is loaded. */
import { registerHooks } from 'node:module';
import { edited, isEdit } from './edits.ts';

const names = (process.env.CHAOS_EDITS ?? '').split(',').filter(isEdit);

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context);
    if (!url.startsWith('file:') || !loaded.source) return loaded;
    const text =
      typeof loaded.source === 'string' ? loaded.source : Buffer.from(loaded.source as Uint8Array).toString();
    const changed = edited(url, text, names);
    return changed === text ? loaded : { ...loaded, source: changed };
  },
});
