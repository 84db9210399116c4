import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRootCa } from '../../services/lab/certificate-authority.ts';
import { startRedis } from '../../services/lab/redis.ts';
import { freePort, withFreePorts } from '../../services/lab/running-program.ts';
import { readText } from './source-tree.ts';

/** A Redis with TLS, where certline has a user with the rights that the README names, and no others. */
export interface GuardedRedis {
  /** With user and password. */
  url: string;
  /** The CA of its certificate, PEM. */
  ca: string;
  port: number;
  /** Where it takes connections without TLS. */
  plainPort: number;
  password: string;
  close(): Promise<void>;
}

/** The lines of the README that give certline's user its rights, as `redis.conf` takes them. */
export function readmeUser(password: string): string {
  const [, line] = /^(user certline on .*)$/m.exec(readText('README.md')) ?? [];
  if (line === undefined) throw new Error('the README names no user for Redis');
  return line.replace(/>\S+/, `>${password}`);
}

export async function startGuardedRedis(more: readonly string[] = []): Promise<GuardedRedis> {
  const dir = await mkdtemp(join(tmpdir(), 'certline-redis-'));
  const ca = createRootCa('Redis CA');
  const { certificatePem, privateKeyPem } = ca.issueWithKey({ names: ['localhost'] });
  await writeFile(join(dir, 'ca.pem'), ca.certificatePem);
  await writeFile(join(dir, 'certificate.pem'), certificatePem);
  await writeFile(join(dir, 'key.pem'), privateKeyPem, { mode: 0o600 });
  const password = 'of-certline';
  const { server, port } = await withFreePorts(async () => {
    const tlsPort = await freePort();
    const settings = [
      `tls-port ${tlsPort}`,
      ...['ca-cert', 'cert', 'key'].map((name, at) => `tls-${name}-file ${['ca', 'certificate', 'key'][at]}.pem`),
      'tls-auth-clients no',
      readmeUser(password),
      ...more,
    ];
    return {
      server: await startRedis({ dir, password: 'of-default', appendfsync: 'everysec', settings }),
      port: tlsPort,
    };
  });
  return {
    ...{ ca: ca.certificatePem, port, plainPort: server.port, password },
    url: `rediss://certline:${password}@localhost:${port}`,
    async close() {
      await server.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
