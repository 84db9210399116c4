import type { SshSecret } from '../model/credential.ts';
import type { IisTarget } from '../model/target.ts';
import type { IisHost } from './iis-host.ts';
import { createLabHost } from './lab-host.ts';
import { createPowerShellHost } from './powershell-host.ts';
import { createLocalRunner } from './transports/local.ts';
import { createSshRunner } from './transports/ssh.ts';

/** What a host is opened with besides its target. */
export interface HostAccess {
  /** Login of an ssh credential. Throws `credential_unknown`, `secret_unreadable`. */
  openCredential(id: string): Promise<{ username: string; secret: SshSecret }>;
  /** Remembers the key of a host that was met for the first time. */
  pinHostKey(targetId: string, fingerprint: string): Promise<void>;
}

/** The host of a target, reached as its record says; nothing is connected yet. Whoever opens one calls its `close`. */
export function openIisHost({ id, transport }: IisTarget, access: HostAccess): IisHost {
  switch (transport.kind) {
    case 'lab':
      return createLabHost(transport);
    case 'local':
      return createPowerShellHost(createLocalRunner(), '127.0.0.1');
    case 'ssh': {
      const { host, port, credential, hostKey } = transport;
      const runner = createSshRunner({
        ...{ host, port, hostKey },
        openCredential: () => access.openCredential(credential),
        pinHostKey: (fingerprint) => access.pinHostKey(id, fingerprint),
      });
      return createPowerShellHost(runner, host);
    }
  }
}
