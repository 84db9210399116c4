import { z } from 'zod';

const identifierSchema = z.object({ type: z.string(), value: z.string() });

const urn = 'urn:ietf:params:acme:error:';

/** A type of the ACME registry by its last word (`dns`); any other as it stands. */
const typeSchema = z
  .string()
  .catch('about:blank')
  .transform((type) => (type.startsWith(urn) ? type.slice(urn.length) : type));

// A problem is read leniently: a CA that errs about one member must not hide what the others say.
const memberSchemas = {
  type: typeSchema,
  detail: z
    .string()
    .catch('')
    .transform((text) => clip(text, 1000)),
  identifier: identifierSchema.nullable().catch(null),
};

/** A problem document (RFC 9457) as ACME extends it (RFC 8555 §6.7). */
export const problemSchema = z.object({
  ...memberSchemas,
  status: z.number().nullable().catch(null),
  /** Where userActionRequired sends a person (RFC 8555 §7.3.3). */
  instance: z.string().nullable().catch(null),
  /** What the CA takes, with badSignatureAlgorithm (§6.2). */
  algorithms: z.array(z.string()).catch([]),
  subproblems: z.array(z.object(memberSchemas)).catch([]),
});
export type AcmeProblem = z.infer<typeof problemSchema>;
export type AcmeSubproblem = AcmeProblem['subproblems'][number];

/** The problem document in a body, or null: a proxy answers in HTML, some CAs answer 404 with nothing. */
export function readProblem(body: string): AcmeProblem | null {
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    return null;
  }
  const problem = problemSchema.safeParse(json);
  if (!problem.success) return null;
  const { type, detail } = problem.data;
  return type === 'about:blank' && detail === '' ? null : problem.data;
}

/** Foreign words made fit for one line: no control characters, at most `length` of them. */
export function clip(text: string, length: number): string {
  const line = text.replace(/[\p{Cc}\s]+/gu, ' ').trim();
  return line.length > length ? `${line.slice(0, length - 1)}…` : line;
}

const firstSubproblems = 10;

/** What a problem says, its subproblems with their names included: for `detail`, which a person reads. */
export function wordsOf(problem: AcmeProblem): string {
  const own = problem.detail || problem.type;
  const named = problem.identifier ? `${problem.identifier.value}: ` : '';
  const words = problem.subproblems
    .slice(0, firstSubproblems)
    .map((sub) => {
      const name = sub.identifier ? `${sub.identifier.value}: ` : '';
      return `${name}${sub.detail || sub.type} (${sub.type})`;
    })
    .filter((text) => !own.includes(text));
  const more = problem.subproblems.length - firstSubproblems;
  if (more > 0) words.push(`and ${more} more`);
  return `${named}${own}${words.length > 0 ? ` [${words.join('; ')}]` : ''}`;
}
