import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const demo = fileURLToPath(new URL('../../services/lab/demo.ts', import.meta.url));

/** Runs the demo to its end: exit code and everything it printed. */
function runDemo(): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [demo, '--once'], { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (chunk) => {
      output += String(chunk);
    });
    child.stderr.on('data', (chunk) => {
      output += String(chunk);
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, output }));
  });
}

it('shows certificates ordered, validated, issued, bound and served, each service a process, and all of it is true', {
  timeout: 120_000,
}, async () => {
  const { code, output } = await runDemo();
  expect(output).not.toContain('✗');
  expect(code, output).toBe(0);
  for (const site of ['shop.example.com', 'www.shop.example.com', 'blog.example.org', 'srvdevapp01.dev.example.org']) {
    expect(output).toMatch(
      new RegExp(`✓ ${site.replaceAll('.', '\\.')}:443 \\(here 127\\.0\\.0\\.1:\\d+\\) serves [0-9A-F]{40}`),
    );
  }
  expect(output).toContain('SRVDEVAPP01 is refused before any CA is asked');
});
