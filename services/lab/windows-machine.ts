import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { providePshost } from './pshost.ts';

/** A record of the stand-in for http.sys; its key is `0.0.0.0:443`, `10.0.0.1:443` or, with SNI, `host:443`. */
export interface HttpSysRecord {
  Hash: string;
  Store: string;
  Flags: number;
}

/** The settings of the stand-in are described in fake-iis/server-manager.cs and powershell/windows.cs. */
export type MachineEnv = Readonly<Record<string, string>>;

export interface MachineOptions {
  /** Text of applicationHost.config, or what is in its `<sites>`. */
  config: string;
  /** Records of http.sys. */
  httpSys?: Record<string, HttpSysRecord>;
  /** Sites whose state is not Started: `Stopped`, or `error` for one that IIS cannot tell. By id. */
  siteState?: Record<number, string>;
  env?: MachineEnv;
}

/** A Windows machine with IIS, as far as the scripts can tell: a folder with its configuration, its http.sys and its stores. */
export interface Machine {
  readonly dir: string;
  /** The environment that scripts run in on it. */
  readonly env: MachineEnv;
  /** A folder for PATH with `powershell.exe`, `icacls.exe` and `netsh.exe` of this machine. */
  readonly bin: string;
  /** Text of applicationHost.config. */
  config(): Promise<string>;
  writeConfig(text: string): Promise<void>;
  /** Records of http.sys. */
  httpSys(): Promise<Record<string, HttpSysRecord>>;
  /** Commits that were tried, and that were done. */
  commits(): Promise<{ tries: number; commits: number }>;
  /** Thumbprints of the certificates with a key that are in a store. */
  store(name: string): Promise<string[]>;
  close(): Promise<void>;
}

/** Where the certificate stores of a machine lie below its folder. */
export const storesBelow = join('.dotnet', 'corefx', 'cryptography', 'x509stores');

/** Makes a machine in a temporary folder. */
export async function createMachine({
  config,
  httpSys = {},
  siteState = {},
  env: settings = {},
}: MachineOptions): Promise<Machine> {
  const program = await providePshost();
  const dir = await mkdtemp(join(tmpdir(), 'iis-'));
  const file = join(dir, 'applicationHost.config');
  const stateFile = `${file}.httpsys.json`;
  const bin = join(dir, 'bin');
  const whole = /<configuration[\s>]/.test(config)
    ? config
    : `<configuration><system.applicationHost><sites>${config}</sites></system.applicationHost></configuration>`;
  await writeFile(file, whole);
  await writeFile(stateFile, JSON.stringify({ sslcert: httpSys, siteState }));
  // The stores that a Windows machine has from the beginning.
  for (const store of ['my', 'webhosting', 'ca']) {
    await mkdir(join(dir, storesBelow, store), { recursive: true, mode: 0o700 });
  }
  await mkdir(bin);
  const env = {
    HOME: dir,
    PATH: `${bin}:${process.env.PATH ?? ''}`,
    FAKE_IIS_CONFIG: file,
    ProgramData: join(dir, 'ProgramData'),
    DOTNET_CLI_HOME: dir,
    ...settings,
  };
  const words = Object.entries(env)
    .filter(([name]) => name !== 'PATH')
    .map(([name, value]) => `export ${name}='${value.replaceAll("'", "'\\''")}'\n`)
    .join('');
  const programs = {
    'powershell.exe': `${words}PATH='${bin}':"$PATH" exec dotnet '${program}' "$@"`,
    'netsh.exe': `[ "$*" = 'http show sslcert' ] && exec dotnet '${program}' -Netsh`,
    // Writes down what it was asked.
    'icacls.exe': `[ -f "$1" ] && echo "$*" >> '${dir}/icacls.log'`,
  };
  for (const [name, text] of Object.entries(programs)) {
    await writeFile(join(bin, name), `#!/bin/sh\n${text}\n`);
    await chmod(join(bin, name), 0o755);
  }
  const state = async () => JSON.parse(await readFile(stateFile, 'utf8'));
  return {
    dir,
    env,
    bin,
    config: () => readFile(file, 'utf8'),
    writeConfig: (text) => writeFile(file, text),
    httpSys: async () => (await state()).sslcert,
    commits: async () => {
      const { tries = 0, commits = 0 } = await state();
      return { tries, commits };
    },
    store: async (name) =>
      (await readdir(join(dir, storesBelow, name.toLowerCase()))).map((one) => one.replace('.pfx', '')).sort(),
    close: () => rm(dir, { recursive: true, force: true }),
  };
}
