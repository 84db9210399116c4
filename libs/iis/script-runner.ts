/** How long a script may take, and what may be shown of it. */
export interface ScriptOptions {
  signal: AbortSignal;
  timeoutMs: number;
  /** The request holds a secret: nothing of what the host prints may be shown. */
  confidential?: boolean;
  /** For a script that is to run as long as it is wanted: its stdin stays open, and it ends when that does, also by a lost connection. */
  attended?: {
    /** Hears what the script says before its answer, a line of JSON each. */
    onProgress(said: unknown): void;
  };
}

/** What is known of a host once it is connected. */
export interface HostConnection {
  /** For a person: where and as whom. */
  place: string;
  /** Fingerprint of the host's key, and whether it was met for the first time; null where there is none to check. */
  hostKey: { fingerprint: string; isNew: boolean } | null;
}

/** Runs PowerShell scripts on a host. Throws as `exchange` of libs/iis/transports does; a script that was sent is never sent again. */
export interface ScriptRunner {
  /** Runs a script with a request and answers what it answered: the last line of JSON that begins with `ok`. */
  run(script: string, request: object, options: ScriptOptions): Promise<unknown>;
  /** Connects, or says why it cannot; scripts connect by themselves. */
  connect(signal: AbortSignal): Promise<HostConnection>;
  /** Gives up the connection, if there is one; the next script opens another. */
  close(): Promise<void>;
}
