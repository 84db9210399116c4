import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Lab } from './lab.ts';

/** Values of the counters of all processes of a lab, by metric and labels, summed. */
export type MetricValues = Map<string, number>;

/** Ports of the services that serve metrics, as their logs tell them. */
export async function metricsUrls(lab: Lab): Promise<string[]> {
  const urls = [`${lab.apiUrl}/metrics`];
  for (const file of await readdir(lab.dir)) {
    if (!file.endsWith('.log')) continue;
    const port = /"metricsPort":(\d+)/.exec(await readFile(join(lab.dir, file), 'utf8'))?.[1];
    if (port) urls.push(`http://127.0.0.1:${port}/metrics`);
  }
  return urls;
}

/** Reads certline's own counters: unless told otherwise without those of Node and histograms' buckets. */
export async function readMetrics(
  lab: Lab,
  wanted = /^certline_(?!nodejs_|process_)\w+(?<!_bucket|_sum)$/,
): Promise<MetricValues> {
  const values: MetricValues = new Map();
  for (const url of await metricsUrls(lab)) {
    for (const line of (await (await fetch(url)).text()).split('\n')) {
      const [, name = '', labels = '', value] = /^(certline_[a-z0-9_]+?)(?:\{(.*)\})? ([-\d.e+]+)$/.exec(line) ?? [];
      if (value === undefined || !wanted.test(name)) continue;
      const own = labels.replace(/,?service="[^"]*"/, '').replace(/^,/, '');
      const key = own ? `${name}{${own}}` : name;
      values.set(key, (values.get(key) ?? 0) + Number(value));
    }
  }
  return values;
}

/** Lines `metric before → after` of what is not as it was, sorted. */
export function changedMetrics(before: MetricValues, after: MetricValues): string[] {
  const lines = [...after].filter(([key, value]) => value !== (before.get(key) ?? 0));
  return lines.map(([key, value]) => `${key}  ${before.get(key) ?? 0} → ${value}`).sort();
}
