import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  // The top of the repository, so that `#libs/*` of package.json holds.
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    include: ['test/**/*.test.ts'],
    // Two files at a time: some start a Redis, a CA and all services of their own.
    maxWorkers: 2,
    testTimeout: 30_000,
    // The first use may have to install programs.
    hookTimeout: 120_000,
    // A test that fails sometimes is a bug.
    retry: 0,
    allowOnly: false,
    passWithNoTests: false,
  },
});
