import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { dnsProviders } from '#libs/dns/providers';
import { readDnsCredential } from '../../../services/api/dns-credentials.ts';
import { readText } from '../../support/source-tree.ts';

interface Example {
  name: string;
  provider: string;
  settings: unknown;
  secret: Record<string, Record<string, unknown>>;
}

const [, block = ''] = /<!-- examples: DNS providers -->\s*```json\n([\s\S]*?)```/.exec(readText('README.md')) ?? [];
const examples = block
  .trim()
  .split('\n')
  .map((line): Example => JSON.parse(line));

/** A key of Google is none unless it is whole, which no README should have. */
function withWholeKey({ secret }: Example): unknown {
  if (!secret.serviceAccount) return secret;
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' });
  return { ...secret, serviceAccount: { ...secret.serviceAccount, private_key: pem } };
}

describe('the README', () => {
  it('has a credential of every provider', () => {
    expect([...new Set(examples.map(({ provider }) => provider))]).toEqual(dnsProviders.map(({ name }) => name));
  });

  it.each(examples.map((example) => [example.name, example] as const))(
    'has a credential that its provider takes: %s',
    async (_name, example) => {
      const { provider, settings } = example;
      await expect(readDnsCredential(provider, { settings, secret: withWholeKey(example) })).resolves.toBeDefined();
    },
  );
});
