import type { ClientChannel } from 'ssh2';
import { CertlineError } from '../../errors.ts';
import type { HostConnection, ScriptOptions, ScriptRunner } from '../script-runner.ts';
import { attendedArguments, bootstrapCommand, powershellArguments, stdinFor } from '../script-text.ts';
import { exchange, type ScriptProcess } from './script-exchange.ts';
import { openSshConnection, type SshConnection, type SshHost } from './ssh-connection.ts';

/**
 * Runs scripts on a Windows host by its OpenSSH server. One connection is opened by the first script and kept until `close`; one that broke
 * is opened anew by the next script. The host's key is checked before the host is told who logs in.
 *
 * Throws what `exchange` and `openSshConnection` throw.
 */
export function createSshRunner(host: SshHost): ScriptRunner {
  return new SshRunner(host);
}

class SshRunner implements ScriptRunner {
  /** With the key that it showed first. */
  #host: SshHost;
  #connection: SshConnection | null = null;

  constructor(host: SshHost) {
    this.#host = host;
  }

  async run(script: string, request: object, options: ScriptOptions): Promise<unknown> {
    const { confidential = false, ...more } = options;
    const connection = await this.#open(more.signal);
    const command = bootstrapCommand(more.attended ? attendedArguments : powershellArguments);
    return exchange({
      ...more,
      place: `${this.#host.host}:${this.#host.port}`,
      start: () => startScript(connection, command),
      // With the connection, not the channel alone: the host may be what hangs. Its process ends with the connection where it can be ended.
      abandon: () => connection.drop(),
      input: stdinFor(script, request),
      confidential,
    });
  }

  async connect(signal: AbortSignal): Promise<HostConnection> {
    const { place, hostKey } = await this.#open(signal);
    return { place, hostKey };
  }

  async close(): Promise<void> {
    const connection = this.#connection;
    this.#connection = null;
    connection?.drop();
  }

  async #open(signal: AbortSignal): Promise<SshConnection> {
    signal.throwIfAborted();
    if (this.#connection === null || this.#connection.lost() !== null) {
      this.#connection = await openSshConnection(this.#host, signal);
      this.#host = { ...this.#host, hostKey: this.#connection.hostKey.fingerprint };
    }
    return this.#connection;
  }
}

function startScript(connection: SshConnection, command: string): Promise<ScriptProcess> {
  return new Promise((resolve, reject) => {
    connection.client.exec(command, (error, channel) => {
      const lost = connection.lost();
      if (!error) resolve(scriptProcess(connection, channel));
      else if (lost)
        reject(
          new CertlineError('target_unreachable', `the connection to ${connection.place} was lost: ${lost.message}`, {
            cause: lost,
          }),
        );
      else
        reject(
          new CertlineError('target_refused', `${connection.place} runs no command: ${error.message}`, {
            cause: error,
          }),
        );
    });
  });
}

function scriptProcess(connection: SshConnection, channel: ClientChannel): ScriptProcess {
  let exitCode: number | null = null;
  let signalName: string | null = null;
  let ended = false;
  channel.once('exit', (code: number | null, name?: string) => {
    ended = true;
    exitCode = code;
    signalName = name ?? null;
  });
  return {
    stdin: channel,
    stdout: channel,
    stderr: channel.stderr,
    end: new Promise((resolve) => {
      channel.once('close', () => resolve({ exitCode, signal: signalName, lost: ended ? null : connection.lost() }));
    }),
  };
}
