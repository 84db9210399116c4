/**
 * Changes to the code of the services, made when a process loads it: production code has no switch for them. Each text must be in its
 * file, or the process does not start.
 */
interface Change {
  file: string;
  from: string;
  to: string;
}

/** `node:process` and others are not imported by the files: an edit brings what it needs. */
const dies = `await (async () => {
  const state = (globalThis.chaosPlaced ??= { count: 0 });
  state.count += 1;
  if (String(state.count) !== process.env.CHAOS_DIES_ON) return;
  require_('node:fs').writeSync(2, 'chaos: this process kills itself\\n');
  process.kill(process.pid, 'SIGKILL');
  await new Promise(() => {});
})();`;

export const edits = {
  /** An API process that dies between storing an order and enqueueing it. */
  'api-dies': [
    {
      file: 'services/api/place-order.ts',
      from: 'if (created) await enqueueOrder(producer, placed, log);',
      to: `if (created) {
        const require_ = process.getBuiltinModule;
        ${dies}
        await enqueueOrder(producer, placed, log);
      }`,
    },
  ],
  /** The CA is told which process asks. */
  'says-who': [
    {
      file: 'libs/version.ts',
      from: 'manifest.version;',
      to: "manifest.version + ' ' + process.env.CHAOS_PART;",
    },
  ],
  /** Whoever saves last wins. */
  'compare-and-set': [
    {
      file: 'libs/store/redis.ts',
      from: "import.meta.url), 'utf8');",
      to: `import.meta.url), 'utf8').replace("if (current[1] or '') ~= ARGV[1] then return 0 end", '');`,
    },
  ],
  /** The URL of the ACME order is known to the run that opened it alone, until the names are proved. */
  'order-url': [
    {
      file: 'services/validation-worker/open-acme-order.ts',
      from: 'const saved = await context.checkpoint({ acmeOrder: { url, finalize, expires } }, words);',
      to: 'const saved = { ...order, acmeOrder: { url, finalize, expires } };',
    },
    // What is checked in later must not save it either.
    {
      file: 'services/validation-worker/validate.ts',
      from: 'return validated(context.current(), ref, context.clock.now());',
      to: 'return validated({ ...context.current(), acmeOrder: ref }, ref, context.clock.now());',
    },
  ],
  /** Nobody looks for orders without a job. */
  reconciler: [
    {
      file: 'services/scheduler/reconciler.ts',
      from: 'let added = 0;',
      to: 'let added = 0; if (added === 0) return added;',
    },
  ],
  /** Key and request are saved after finalize. */
  'saved-key': [
    {
      file: 'services/issuance-worker/issue.ts',
      from: 'return context.checkpoint(\n    { signing:',
      to: `const keep = (...words) => {
        context.keepKey = async () => { await context.checkpoint(...words); };
        return { ...order, ...words[0] };
      };
      return keep(
    { signing:`,
    },
    {
      file: 'services/issuance-worker/issue.ts',
      from: 'const acmeOrder = await obtain(order, inDoubt, ca, deps, context);',
      to: 'const acmeOrder = await obtain(order, inDoubt, ca, deps, context); await context.keepKey?.();',
    },
  ],
} as const satisfies Record<string, readonly Change[]>;

export type Edit = keyof typeof edits;

/** The safeguards that can be taken away. */
export const safeguards = ['compare-and-set', 'order-url', 'reconciler', 'saved-key'] as const satisfies Edit[];

export const isEdit = (name: string): name is Edit => Object.hasOwn(edits, name);

/** The text of a file after the edits. Throws when one has nothing to change. */
export function edited(path: string, text: string, names: readonly Edit[]): string {
  return names
    .flatMap((name): readonly Change[] => edits[name])
    .filter(({ file }) => path.endsWith(`/${file}`))
    .reduce((now, { file, from, to }) => {
      if (!now.includes(from)) throw new Error(`${file} does not have: ${from}`);
      return now.replace(from, () => to);
    }, text);
}
