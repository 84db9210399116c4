import type { ProviderDefinition } from './dns-provider.ts';
import { acmeDns } from './providers/acme-dns.ts';
import { azure } from './providers/azure.ts';
import { cloudflare } from './providers/cloudflare.ts';
import { digitalocean } from './providers/digitalocean.ts';
import { dnsMadeEasy } from './providers/dns-made-easy.ts';
import { exec } from './providers/exec.ts';
import { godaddy } from './providers/godaddy.ts';
import { googleCloud } from './providers/google-cloud.ts';
import { powerdns } from './providers/powerdns.ts';
import { rfc2136 } from './providers/rfc2136.ts';
import { route53 } from './providers/route53.ts';
import { webhook } from './providers/webhook.ts';

/** All kinds of provider, by their names in the API. */
export const dnsProviders: readonly ProviderDefinition<unknown, unknown>[] = [
  acmeDns,
  azure,
  cloudflare,
  digitalocean,
  dnsMadeEasy,
  exec,
  godaddy,
  googleCloud,
  powerdns,
  rfc2136,
  route53,
  webhook,
];
