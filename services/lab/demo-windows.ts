import { join } from 'node:path';
import { probeThumbprint } from '#libs/iis/handshake';
import type { ApiClient } from './api-client.ts';
import { startWindowsHost, type WindowsHost } from './windows-host.ts';

const name = 'portal.example.com';
const sites = `<site name="Portal" id="1">
  <application path="/"><virtualDirectory path="/" physicalPath="C:\\inetpub\\portal" /></application>
  <bindings><binding protocol="http" bindingInformation="*:80:${name}" /></bindings>
</site>`;

/** What the demo says and claims. */
export interface Stage {
  say(line: string): void;
  claim(ok: boolean, text: string): void;
  orderAndWatch(title: string, body: Record<string, unknown>): Promise<Record<string, unknown>>;
}

async function show(host: WindowsHost, api: ApiClient, target: unknown, stage: Stage): Promise<void> {
  const test = await api.send('POST', `/v1/targets/${String(target)}/test`);
  for (const { step, ok, detail } of test.steps as { step: string; ok: boolean; detail: string }[])
    stage.say(`  ${ok ? 'ok    ' : 'not ok'}  ${step}: ${detail}`);
  const { transport } = await api.send('GET', `/v1/targets/${String(target)}`);
  const { hostKey } = transport as { hostKey: string | null };
  stage.claim(hostKey === host.sshd.hostKey, `the host’s key is pinned: ${hostKey}`);
}

/** Orders for a site of a host that is managed over SSH, by the scripts that a Windows server would run. */
export async function orderOverSsh(dir: string, api: ApiClient, account: unknown, stage: Stage): Promise<void> {
  const host = await startWindowsHost({ dir: join(dir, 'windows'), sites });
  try {
    const { sshd, tlsPort, machine } = host;
    const { username, privateKey } = sshd;
    const credential = await api.send('POST', '/v1/credentials', { name: 'web02', kind: 'ssh', username, privateKey });
    const target = await api.send('POST', '/v1/targets', {
      ...{ name: 'web02', kind: 'iis' },
      transport: { kind: 'ssh', host: sshd.host, port: sshd.port, credential: credential.id },
    });
    await show(host, api, target.id, stage);
    const order = await stage.orderAndWatch('over ssh', {
      ...{ source: { target: target.id, site: 1 }, account, challenge: { type: 'http-01' } },
      deploy: { mode: 'site', target: target.id, site: 1, port: tlsPort },
    });
    stage.claim(order.status === 'deployed', `the order is ${String(order.status)}`);
    const { thumbprint } = await api.send('GET', `/v1/certificates/${String(order.certificate)}`);
    const endpoint = { host: '127.0.0.1', port: tlsPort };
    const seen = await probeThumbprint(endpoint, name, 5_000, AbortSignal.timeout(20_000));
    stage.claim(seen.thumbprint === thumbprint, `${name}:${tlsPort} serves ${seen.thumbprint}`);
    const { commits } = await machine.commits();
    stage.claim(commits === 1, `its applicationHost.config was committed ${commits} time(s)`);
  } finally {
    await host.close();
  }
}
