import { type JSONPath, visit } from 'jsonc-parser';
import { CertlineError } from '#libs/errors';
import { pathText } from './problem-json.ts';

/** How deep lists and objects may lie in each other: what goes through a body by recursion has an end. */
const deepest = 32;

/** Where something is, without a piece of the text: that might be a piece of a secret. */
const at = (line: number, column: number): string => `at line ${line + 1}, column ${column + 1}`;

function refuse(path: JSONPath, detail: string): never {
  const problems = [{ path: pathText(path.slice(0, deepest)), code: 'json_invalid', detail } as const];
  throw new CertlineError('json_invalid', `${problems[0]?.path || 'body'}: ${detail}`, { problems });
}

/**
 * A body as I-JSON (RFC 7493): no field twice, as two readers would take different ones, and no half of a surrogate pair, which no store
 * keeps. Nor a field `__proto__`, which becomes the prototype of what is made of it. Throws `json_invalid` with the place.
 */
export function readJson(text: string): unknown {
  const fields: Set<string>[] = [];
  let depth = 0;
  let wrong = '';
  const enter = (path: () => JSONPath): void => {
    depth += 1;
    if (depth > deepest) refuse(path(), `lists and objects may lie ${deepest} deep in each other`);
  };
  visit(
    text,
    {
      onObjectBegin(_offset, _length, _line, _column, path) {
        enter(path);
        fields.push(new Set());
      },
      onObjectEnd() {
        depth -= 1;
        fields.pop();
      },
      onArrayBegin: (_offset, _length, _line, _column, path) => enter(path),
      onArrayEnd() {
        depth -= 1;
      },
      onObjectProperty(name, _offset, _length, line, column, path) {
        const seen = fields.at(-1);
        if (seen?.has(name)) refuse([...path(), name], `the field is there twice, again ${at(line, column)}`);
        if (name === '__proto__') refuse([...path(), name], 'no field may have this name');
        if (!name.isWellFormed()) refuse(path(), `a field has half a surrogate pair in its name, ${at(line, column)}`);
        seen?.add(name);
      },
      onLiteralValue(value, _offset, _length, line, column, path) {
        if (typeof value === 'string' && !value.isWellFormed())
          refuse(path(), `there is half a surrogate pair, ${at(line, column)}`);
      },
      onError(_error, _offset, _length, line, column) {
        wrong ||= ` ${at(line, column)}`;
      },
    },
    { disallowComments: true },
  );
  try {
    return JSON.parse(text);
  } catch {
    throw new CertlineError('json_invalid', `the body is not JSON${wrong}`);
  }
}
