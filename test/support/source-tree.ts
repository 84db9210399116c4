import { readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { fileURLToPath } from 'node:url';

/** An import statement of a source file. */
export interface Import {
  /** As it is written. */
  specifier: string;
  /** The file of ours it leads to, from the top of the repository; null for a package. */
  file: string | null;
  /** Gone when it runs: `import type`, `export type … from`. */
  typeOnly: boolean;
}

export interface SourceFile {
  /** From the top of the repository, with `/`. */
  path: string;
  lines: number;
  /** Without comments. */
  code: string;
  imports: Import[];
}

const root = new URL('../../', import.meta.url);

/** A file of the repository as a path for Node's functions. */
export const inRepository = (path: string): string => fileURLToPath(new URL(path, root));
export const readText = (path: string): string => readFileSync(inRepository(path), 'utf8');

/** Every file and folder below a folder; folders end with `/`. */
export function namesBelow(folder: string): string[] {
  return readdirSync(inRepository(folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    return entry.isDirectory() ? [`${path}/`, ...namesBelow(path)] : [path];
  });
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1');
}

// What Biome formats: one statement begins its line, a clause is a name, a namespace or a list in braces.
const statement =
  /^(?:import|export)\s+(type\s+)?(?:\*(?:\s+as\s+\w+)?|\w+(?:\s*,\s*\{[^}]*\})?|\{[^}]*\})\s+from\s+'([^']+)'/gm;
const others = [/^import\s+'([^']+)'/gm, /\bimport\(\s*'([^']+)'/g];

function fileOf(specifier: string, importer: string): string | null {
  if (specifier.startsWith('#libs/')) return `libs/${specifier.slice('#libs/'.length)}.ts`;
  if (specifier.startsWith('.')) return posix.join(posix.dirname(importer), specifier);
  return null;
}

function importsOf(code: string, path: string): Import[] {
  const found = [...code.matchAll(statement)].map(([, type, specifier = '']) => ({
    specifier,
    typeOnly: Boolean(type),
  }));
  for (const pattern of others) {
    for (const [, specifier = ''] of code.matchAll(pattern)) found.push({ specifier, typeOnly: false });
  }
  return found.map((one) => ({ ...one, file: fileOf(one.specifier, path) }));
}

/** The TypeScript files below some folders. */
export function sourceFiles(...folders: string[]): SourceFile[] {
  return folders
    .flatMap(namesBelow)
    .filter((path) => path.endsWith('.ts'))
    .map((path) => {
      const text = readText(path);
      const code = withoutComments(text);
      return { path, code, lines: text.trimEnd().split('\n').length, imports: importsOf(code, path) };
    });
}

/** Name of the package that a specifier means. */
export function packageOf(specifier: string): string {
  const [first = '', second = ''] = specifier.split('/');
  return first.startsWith('@') ? `${first}/${second}` : first;
}

/** What runs when a file is imported: packages, each with the way of files that leads to it. */
export function packagesBehind(start: string, files: readonly SourceFile[]): Map<string, string> {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const ways = new Map([[start, start]]);
  const packages = new Map<string, string>();
  // A Map hands out what is added while it is walked.
  for (const [path, way] of ways) {
    for (const { specifier, file, typeOnly } of byPath.get(path)?.imports ?? []) {
      if (typeOnly) continue;
      if (file === null) packages.set(packageOf(specifier), way);
      else if (!ways.has(file)) ways.set(file, `${way} → ${file}`);
    }
  }
  return packages;
}
