import { describe, expect, it } from 'vitest';
import { planDeployment } from '#libs/iis/deployment-plan';
import { certificate, hostWith, http, https } from './plan-cases.ts';

describe('the plan of a deployment', () => {
  const planned = certificate('a.example.com');
  const host = hostWith({
    1: [http('*:80:other.example.net')],
    2: [https('*:443:a.example.com', 1, planned.thumbprint)],
  });

  it('is refused where the chosen site has nothing that fits, also when another site has the certificate', () => {
    expect(() => planDeployment(host, planned, { mode: 'site', target: 'tgt_1', site: 1 })).toThrow(
      expect.objectContaining({ code: 'nothing_to_bind' }),
    );
  });

  it('is empty where what was meant has the certificate already', () => {
    for (const deploy of [{ mode: 'site', site: 2 } as const, { mode: 'auto' } as const])
      expect(planDeployment(host, planned, { ...deploy, target: 'tgt_1' }).changes).toEqual([]);
  });
});
