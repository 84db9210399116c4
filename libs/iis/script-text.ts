import { readFileSync } from 'node:fs';

/** What a Windows host is asked to do: the files of `libs/iis/scripts`, but for the prelude that they share. */
export type ScriptName =
  | 'inspect'
  | 'import-pfx'
  | 'apply-changes'
  | 'remove-certificate'
  | 'test-host'
  | 'serve-challenges'
  | 'write-challenge'
  | 'remove-challenge';

const folder = new URL('scripts/', import.meta.url);
const texts = new Map<ScriptName, string>();

/** The whole text of a script: the prelude and the script itself, ASCII. Read from the disk once. */
export function scriptText(name: ScriptName): string {
  let text = texts.get(name);
  if (text === undefined) {
    text = ['prelude.ps1', `${name}.ps1`].map((file) => readFileSync(new URL(file, folder), 'utf8')).join('\n');
    texts.set(name, text);
  }
  return text;
}

// Runs what comes on the first line of stdin with the second line as its input. Short, because Windows takes command
// lines of 8191 characters at the most, and the same for every script, so that no value ever needs quoting for a shell.
const bootstrap =
  '$l=@($input);$s=[Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($l[0]));$l[1]|&([scriptblock]::Create($s))';

// The same without $input, which has all of stdin read before the script begins: this one leaves what comes after two lines to the script.
const attendedBootstrap =
  '$i=[Console]::In;$s=[Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($i.ReadLine()));$i.ReadLine()|&([scriptblock]::Create($s))';

const argumentsFor = (command: string): readonly string[] => [
  '-NoProfile',
  '-NonInteractive',
  '-ExecutionPolicy',
  'Bypass',
  '-EncodedCommand',
  Buffer.from(command, 'utf16le').toString('base64'),
];

/** The arguments of `powershell.exe` that make it run a script from stdin. No word needs quoting in any shell. */
export const powershellArguments = argumentsFor(bootstrap);
/** The same for a script that is told by the end of stdin when to end. */
export const attendedArguments = argumentsFor(attendedBootstrap);

/** The command line that runs a script from stdin, the same for every script and request. */
export function bootstrapCommand(words = powershellArguments): string {
  return ['powershell.exe', ...words].join(' ');
}

/** What to write to stdin: the script's text and the request, a line each, ASCII whatever they hold. */
export function stdinFor(script: string, request: object): string {
  // Windows PowerShell reads stdin in the code page of the console.
  const json = JSON.stringify(request).replace(
    /[^\x20-\x7e]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return `${Buffer.from(script, 'utf8').toString('base64')}\n${json}\n`;
}
