import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** What takes minutes begins first: at the end it would run alone. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification): boolean => /\/test\/chaos\//.test(moduleId);
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

export default defineConfig({
  // The top of the repository, so that `#libs/*` of package.json holds.
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    sequence: { sequencer: LongestFirst },
    // Two files at a time: some start a Redis, a CA and all services of their own.
    maxWorkers: 2,
    testTimeout: 30_000,
    // The first use may have to install programs.
    hookTimeout: 120_000,
    // A test that fails sometimes is a bug.
    retry: 0,
    allowOnly: false,
    passWithNoTests: false,
    projects: [
      {
        extends: true,
        // They keep nothing and start nothing, so that one process may run them all: that halves their time.
        test: { name: 'unit', include: ['test/unit/**/*.test.ts'], isolate: false, sequence: { groupOrder: 0 } },
      },
      {
        extends: true,
        // Whatever else there is, after the unit tests.
        test: {
          name: 'real',
          include: ['test/**/*.test.ts'],
          exclude: ['test/unit/**'],
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
