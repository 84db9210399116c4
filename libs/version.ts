import manifest from '../package.json' with { type: 'json' };

/** Version of certline, as in package.json. */
export const version: string = manifest.version;
