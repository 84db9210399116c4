import type { ProofKind } from './kind.ts';

/** http-01, answered by a file below the root of a web server. */
export const webroot: ProofKind = {
  share: 0.15,
  // All of these are at the address of the web server.
  name: (label, zone) => `${label}.static.${zone}`,
  challenge: ({ webServer }, { name }) => ({ type: 'http-01', via: 'webroot', folder: webServer.rootOf(name) }),
  audit: async ({ webServer }) => (await webServer.left()).map((path) => `${path} is left on the web server`),
};
