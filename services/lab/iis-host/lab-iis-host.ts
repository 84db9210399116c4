import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type Clock, systemClock } from '#libs/clock';
import type { BindingChange, Site } from '#libs/iis/iis-host';
import type { LabPfx, LabRemoved, LabSite, LabState } from '#libs/iis/lab-protocol';
import { ApplicationHostConfig } from './application-host-config.ts';
import { CertificateStores } from './certificate-store.ts';
import { carryOut, readSites } from './commit.ts';
import { type ControlApi, startControlApi } from './control-api.ts';
import { type HttpSysRecords, recordsSchema } from './http-sys.ts';
import { Listeners } from './listeners.ts';
import { hresults, Refusal } from './refusal.ts';
import { finishInterrupted, readIfThere, writeTogether, writeWhole } from './whole-files.ts';

const commitLogSchema = z.object({ count: z.number().int(), commits: z.array(z.unknown()) });
const keptCommits = 1000;
const configName = 'applicationHost.config';
const recordsName = 'httpsys.json';
const commitsName = 'commits.json';
const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;

export interface LabIisHostOptions {
  /** Folder of all that the host keeps; a restart goes on with it. */
  dir: string;
  /** Port of the control API on 127.0.0.1; 0 or nothing for any. */
  controlPort?: number;
  /** 10 unless told. */
  iisMajor?: number;
  /** 20348 (Server 2022) unless told. */
  osBuild?: number;
  /** Listen for TLS on the binding's port plus this; without it on ports the system gives. */
  portOffset?: number;
  log?: (event: Record<string, unknown>) => void;
  clock?: Clock;
}

export interface LabFaults {
  failCommits: number;
  serveOld: boolean;
  unreachable: boolean;
}

/** A simulated IIS host: what it keeps is on disk, and every read looks there. */
export class LabIisHost {
  readonly faults: LabFaults = { failCommits: 0, serveOld: false, unreachable: false };
  readonly #dir: string;
  readonly #iisMajor: number;
  readonly #osBuild: number;
  readonly #clock: Clock;
  readonly #log: (event: Record<string, unknown>) => void;
  readonly #stores: CertificateStores;
  readonly #listeners: Listeners;
  /** What http.sys went on serving when `serveOld` was switched on. */
  #served: HttpSysRecords | null = null;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: LabIisHostOptions) {
    this.#dir = options.dir;
    this.#iisMajor = options.iisMajor ?? 10;
    this.#osBuild = options.osBuild ?? 20_348;
    this.#clock = options.clock ?? systemClock;
    this.#log = options.log ?? (() => {});
    this.#stores = new CertificateStores(this.#dir, this.#osBuild);
    const { dir, portOffset } = options;
    this.#listeners = new Listeners({ dir, stores: this.#stores, ...(portOffset === undefined ? {} : { portOffset }) });
  }

  /** Finishes what a killed process had begun to write, and listens. */
  async open(): Promise<void> {
    await mkdir(this.#dir, { recursive: true });
    await finishInterrupted(this.#dir);
    const config = await this.#config();
    if ((await readIfThere(join(this.#dir, configName))) === null) {
      await writeWhole(join(this.#dir, configName), config.toString());
    }
    await this.state();
  }

  state(): Promise<LabState> {
    return this.#alone(() => this.#state());
  }

  importPfx(pfx: LabPfx): Promise<{ thumbprint: string; alreadyPresent: boolean }> {
    return this.#alone(() => this.#stores.import(pfx));
  }

  /** Takes a certificate out of its store, unless http.sys or an ftp site uses it. */
  removeCertificate({ thumbprint, store }: { thumbprint: string; store: string }): Promise<LabRemoved> {
    return this.#alone(async () => {
      const isIt = (one: { thumbprint: string | null; store: string | null } | null): boolean =>
        one?.thumbprint?.toUpperCase() === thumbprint && (one.store ?? 'My').toLowerCase() === store.toLowerCase();
      const records = Object.entries(await this.#records()).filter(([, record]) => isIt(record));
      const ftp = (await this.#config()).sites().filter((site) => isIt(site.ftp));
      const usedBy = [...records.map(([name]) => name), ...ftp.map(({ id }) => `ftp of site ${id}`)];
      if (usedBy.length > 0) return { result: 'in use', usedBy };
      return { result: (await this.#stores.remove(store, thumbprint)) ? 'removed' : 'absent', usedBy };
    });
  }

  /** Adds a site without certificates; names and ids are unique. */
  addSite(site: LabSite): Promise<{ id: number }> {
    return this.#alone(async () => {
      const config = await this.#config();
      const same = config.sites().find((one) => one.name === site.name || one.id === site.id);
      if (same) throw new Refusal(`there is a site ${same.id} "${same.name}" already`, hresults.alreadyExists);
      const id = config.addSite(site);
      await writeWhole(join(this.#dir, configName), config.toString());
      await this.#state();
      return { id };
    });
  }

  /** All changes or none; answers the state after them. */
  commit(changes: readonly BindingChange[]): Promise<LabState> {
    return this.#alone(async () => {
      if (changes.length === 0) return await this.#state();
      if (this.faults.failCommits > 0) {
        this.faults.failCommits -= 1;
        throw new Refusal(
          'Cannot commit configuration changes because the file has changed on disk',
          hresults.sharingViolation,
          503,
        );
      }
      const config = await this.#config();
      const records = await carryOut(changes, config, await this.#records(), this.#stores, this.#iisMajor);
      const { count, commits } = await this.commits();
      const commit = { at: new Date(this.#clock.now()).toISOString(), changes };
      await writeTogether(this.#dir, {
        [configName]: config.toString(),
        [recordsName]: json(records),
        [commitsName]: json({ count: count + 1, commits: [...commits, commit].slice(-keptCommits) }),
      });
      this.#log({ event: 'commit', number: count + 1, changes: changes.length });
      return await this.#state();
    });
  }

  async commits(): Promise<z.infer<typeof commitLogSchema>> {
    const text = await readIfThere(join(this.#dir, commitsName));
    return text === null ? { count: 0, commits: [] } : commitLogSchema.parse(JSON.parse(text));
  }

  setFaults(faults: Partial<LabFaults>): Promise<LabFaults> {
    return this.#alone(async () => {
      Object.assign(this.faults, faults);
      if (!this.faults.serveOld) this.#served = null;
      else this.#served ??= await this.#records();
      await this.#state();
      return this.faults;
    });
  }

  async close(): Promise<void> {
    await this.#turn;
    await this.#listeners.close();
  }

  async #state(): Promise<LabState> {
    const records = await this.#records();
    const sites: Site[] = readSites(await this.#config(), records);
    await this.#listeners.sync(sites, this.#served ?? records);
    return { iisMajor: this.#iisMajor, osBuild: this.#osBuild, sites, endpoints: this.#listeners.endpoints() };
  }

  async #config(): Promise<ApplicationHostConfig> {
    return new ApplicationHostConfig(await readIfThere(join(this.#dir, configName)));
  }

  async #records(): Promise<HttpSysRecords> {
    const text = await readIfThere(join(this.#dir, recordsName));
    return text === null ? {} : recordsSchema.parse(JSON.parse(text));
  }

  /** One thing at a time: every operation reads and writes the same files. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {});
    return result;
  }
}

/** Starts a simulated IIS host: real TLS on loopback addresses, a control API on 127.0.0.1, everything else in files of `dir`. */
export async function startLabIisHost(
  options: LabIisHostOptions,
): Promise<{ url: string; close: () => Promise<void> }> {
  const host = new LabIisHost(options);
  await host.open();
  let api: ControlApi;
  try {
    api = await startControlApi(host, options.controlPort ?? 0, options.log ?? (() => {}));
  } catch (error) {
    await host.close();
    throw error;
  }
  return {
    url: api.url,
    close: async () => {
      await api.close();
      await host.close();
    },
  };
}
