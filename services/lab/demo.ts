import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { probeThumbprint } from '#libs/iis/handshake';
import { createLabHost } from '#libs/iis/lab-host';
import { type ApiClient, createApiClient } from './api-client.ts';
import { orderOverSsh } from './demo-windows.ts';
import { type Lab, type LabHost, serviceNames, startLab } from './lab.ts';
import { changedMetrics, metricsUrls, readMetrics } from './metric-diff.ts';
import { hasDotnet } from './pshost.ts';

const once = process.argv.includes('--once');
const started = performance.now();
const failures: string[] = [];

const say = (line = ''): void => void process.stdout.write(`${line}\n`);
const heading = (text: string): void => say(`\n── ${text} ${'─'.repeat(Math.max(0, 90 - text.length))}`);
const seconds = (): string => `${((performance.now() - started) / 1000).toFixed(1)} s`.padStart(7);

/** A thing the demo claims; what turns out not to be so makes the exit code 1. */
function claim(ok: boolean, text: string): void {
  say(`${ok ? '  ✓' : '  ✗'} ${text}`);
  if (!ok) failures.push(text);
}

const sites = [
  { id: 1, name: 'Shop', bindings: ['*:80:shop.example.com', '*:80:www.shop.example.com'] },
  {
    id: 2,
    name: 'Intranet and blog',
    bindings: ['*:80:blog.example.org', '*:80:srvdevapp01.dev.example.org', '*:80:SRVDEVAPP01'],
  },
];

async function prepareHost(host: LabHost): Promise<void> {
  for (const { id, name, bindings } of sites) {
    const body = {
      id,
      name,
      bindings: bindings.map((bindingInformation) => ({ protocol: 'http', bindingInformation })),
    };
    const answer = await fetch(`${host.url}/sites`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`the simulated host refuses site ${name}: ${await answer.text()}`);
  }
}

/** Prints the events of an order as they come, and answers the order at its end. */
async function watch(api: ApiClient, title: string, id: string): Promise<Record<string, unknown>> {
  for await (const { event, data } of api.events(id)) {
    const words = [data.stage, data.code, data.detail].filter((part) => part !== undefined).join(': ');
    say(`  ${seconds()}  ${title}  ${event.replaceAll('_', ' ')}${words ? `  ${words}` : ''}`);
  }
  return api.send('GET', `/v1/orders/${id}`);
}

async function orderAndWatch(
  api: ApiClient,
  title: string,
  body: Record<string, unknown>,
): Promise<Record<string, unknown>> {
  say(`  POST /v1/orders ${JSON.stringify(body)}`);
  const order = await api.send('POST', '/v1/orders', body);
  return watch(api, title, String(order.id));
}

/** Shakes hands with every https binding of the host's sites and says what it sees. */
async function showSites(host: LabHost, expected: Map<number, string>): Promise<void> {
  const iis = createLabHost({ kind: 'lab', url: host.url });
  const signal = AbortSignal.timeout(20_000);
  const state = await iis.read(signal);
  for (const site of state.sites) {
    const https = site.bindings.filter(({ protocol }) => protocol === 'https');
    claim(https.length > 0, `site ${site.id} "${site.name}" has https bindings`);
    for (const { bindingInformation } of https) {
      const [ip = '*', port = '443', name = ''] = bindingInformation.split(':');
      const { host: address, port: real } = iis.endpoint(ip, Number(port));
      const seen = await probeThumbprint({ host: address, port: real }, name, 5_000, signal);
      const right = seen.thumbprint === expected.get(site.id);
      claim(
        right,
        `${name}:${port} (here ${address}:${real}) serves ${seen.thumbprint}, until ${new Date(seen.notAfter).toISOString()}`,
      );
    }
  }
}

async function run(lab: Lab): Promise<void> {
  const host = await lab.startHost('web01');
  await prepareHost(host);
  say(`  ${seconds()}  Redis, Pebble (ACME), its DNS server and a simulated IIS host are up`);
  await Promise.all(serviceNames.map((name) => lab.startService(name)));
  say(`  ${seconds()}  ${serviceNames.join(', ')} are up, each a process of its own`);
  const api = createApiClient(lab.apiUrl, lab.apiKey);
  const before = await readMetrics(lab);

  heading('Account and target');
  const account = await api.send('POST', '/v1/accounts', {
    ...{
      ca: lab.pebble.directory,
      email: 'ops@example.com',
      termsOfServiceAgreed: true,
      caBundle: lab.pebble.caBundle,
    },
  });
  say(`  ${seconds()}  registered ${String(account.email)} with the CA: ${String(account.id)}`);
  const target = await api.send('POST', '/v1/targets', {
    name: 'web01',
    kind: 'iis',
    transport: { kind: 'lab', url: host.url },
  });
  say(`  ${seconds()}  target web01: ${String(target.id)}`);

  heading('An order by names, deployed to site 1');
  const byNames = await orderAndWatch(api, 'by names', {
    names: ['shop.example.com', 'www.shop.example.com'],
    account: account.id,
    challenge: { type: 'http-01' },
    deploy: { mode: 'site', target: target.id, site: 1 },
  });
  claim(byNames.status === 'deployed' && byNames.complete === true, `the order is ${String(byNames.status)}`);

  heading('An order with the names of site 2, deployed back to it');
  const bySite = await orderAndWatch(api, 'by site', {
    source: { target: target.id, site: 2 },
    account: account.id,
    challenge: { type: 'http-01' },
  });
  const { skipped } = bySite.source as { skipped: { host: string; code: string }[] };
  for (const { host: name, code } of skipped) say(`  left out, since nobody can prove it: ${name} (${code})`);
  claim(
    bySite.status === 'deployed' && bySite.complete === true,
    `the order is ${String(bySite.status)} for ${String(bySite.names)}`,
  );

  heading('An order for a host over SSH, deployed by the PowerShell scripts');
  const overSsh = hasDotnet ? 1 : 0;
  if (hasDotnet) {
    const watchOrder = (title: string, body: Record<string, unknown>) => orderAndWatch(api, title, body);
    await orderOverSsh(lab.dir, api, account.id, { say, claim, orderAndWatch: watchOrder });
  } else say('  left out: there is no .NET SDK (dotnet) here to run PowerShell’s engine');

  heading('An order that must fail');
  const bad = await api.request('POST', '/v1/orders', {
    names: ['SRVDEVAPP01'],
    account: account.id,
    challenge: { type: 'http-01' },
  });
  say(`  ${bad.status} ${String(bad.body.code)}: ${String(bad.body.detail)}`);
  claim(bad.status === 422 && bad.body.code === 'name_not_public', 'SRVDEVAPP01 is refused before any CA is asked');
  const issued = lab.pebble.issued().length;
  const ordered = 2 + overSsh;
  claim(issued === ordered, `the CA counts ${issued} certificates for ${ordered} orders`);

  heading('What the sites serve now');
  const thumbprints = new Map<number, string>();
  for (const [site, order] of [
    [1, byNames],
    [2, bySite],
  ] as const) {
    const certificate = await api.send('GET', `/v1/certificates/${String(order.certificate)}`);
    thumbprints.set(site, String(certificate.thumbprint));
  }
  await showSites(host, thumbprints);

  heading('Metrics that moved');
  const moved = changedMetrics(before, await readMetrics(lab));
  const shown = moved.filter((line) =>
    /^certline_(stage_attempts_total|orders\{|deployments_total|acme_requests_total)/.test(line),
  );
  for (const line of shown) say(`  ${line}`);
  const metrics = await metricsUrls(lab);
  say(`  and ${moved.length - shown.length} more`);
  claim(
    moved.some((line) => line.startsWith('certline_stage_attempts_total')),
    'every stage has counted its attempts',
  );

  if (once) return;
  heading('Where to look');
  say(`  documentation  ${lab.apiUrl}/docs`);
  say(`  metrics        ${metrics.join('  ')}`);
  say(`  logs           ${lab.dir}`);
  say('  To go on with the README, paste this:');
  say(`  API=${lab.apiUrl} KEY=${lab.apiKey} ACCOUNT=${String(account.id)} TARGET=${String(target.id)}`);
}

/** Resolves when the demo is told to end, by Ctrl-C or by whoever started it. */
const told = new Promise<'told'>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve('told'));
});
// The reader of our output may go away (`| head`): that ends the demo too, cleanly.
const unread = new Promise<'told'>((resolve) => process.stdout.on('error', () => resolve('told')));

const dir = await mkdtemp(join(tmpdir(), 'certline-demo-'));
heading('Starting the lab');
const lab = await startLab({ dir });
let code = 1;
let keepLogs = false;
try {
  if ((await Promise.race([run(lab), told, unread])) !== 'told') {
    code = failures.length === 0 ? 0 : 1;
    say(
      failures.length === 0 ? `\nAll of it is true, after ${seconds().trim()}.` : `\nNot true: ${failures.join('; ')}`,
    );
    if (!once) {
      say('It stays up until Ctrl-C.');
      await Promise.race([told, unread, new Promise(() => setInterval(() => {}, 2 ** 30))]);
    }
  }
  keepLogs = failures.length > 0;
} catch (error) {
  keepLogs = true;
  say(`\nThe demo failed: ${error instanceof Error ? error.message : String(error)}\nLogs are in ${dir}`);
} finally {
  await lab.close();
}
if (!keepLogs) await rm(dir, { recursive: true, force: true });
process.exit(code);
