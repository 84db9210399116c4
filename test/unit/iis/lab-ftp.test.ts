import { describe, expect, it } from 'vitest';
import type { BindingChange } from '#libs/iis/iis-host';
import { ApplicationHostConfig } from '../../../services/lab/iis-host/application-host-config.ts';
import type { CertificateStores } from '../../../services/lab/iis-host/certificate-store.ts';
import { carryOut } from '../../../services/lab/iis-host/commit.ts';

const thumbprint = 'A'.repeat(40);
const update: BindingChange = {
  ...{ op: 'update', siteId: 1, protocol: 'ftp', bindingInformation: '', sslFlags: 0 },
  ...{ thumbprint, store: 'WebHosting', expect: { thumbprint: null, sslFlags: 0 } },
};

/** The certificate is in every store. */
const stores = { load: async () => ({}) } as unknown as CertificateStores;

function configWith(protocol: string): ApplicationHostConfig {
  const config = new ApplicationHostConfig(null);
  config.addSite({
    name: 'files',
    state: 'Started',
    bindings: [{ protocol, bindingInformation: '*:21:', sslFlags: 0 }],
  });
  return config;
}
const commit = (config: ApplicationHostConfig, change: BindingChange) => carryOut([change], config, {}, stores, 10);

describe('the simulated host', () => {
  it('has no ftp certificate in a site without ftp bindings', () => {
    expect(configWith('http').sites()[0]?.ftp).toBeNull();
  });

  it('keeps the certificate of an ftp site in the configuration, and none of it in http.sys', async () => {
    const config = configWith('ftp');
    expect(config.sites()[0]?.ftp).toEqual({ thumbprint: null, store: null });
    expect(await commit(config, update)).toEqual({});
    expect(new ApplicationHostConfig(config.toString()).sites()[0]?.ftp).toEqual({ thumbprint, store: 'WebHosting' });
    expect(config.toString()).toContain(
      `        <ftpServer>
          <security>
            <ssl serverCertHash="${thumbprint}" serverCertStoreName="WebHosting"/>
          </security>
        </ftpServer>
`,
    );
  });

  it('takes the certificate of an ftp site away again', async () => {
    const config = configWith('ftp');
    await commit(config, update);
    await commit(config, { ...update, thumbprint: null, store: null, expect: { thumbprint, sslFlags: 0 } });
    expect(config.sites()[0]?.ftp).toEqual({ thumbprint: null, store: null });
    expect(config.toString()).not.toContain('serverCert');
  });

  it('changes nothing when the ftp certificate is not the one that is expected', async () => {
    const other = { ...update, expect: { thumbprint: 'B'.repeat(40), sslFlags: 0 } };
    await expect(commit(configWith('ftp'), other)).rejects.toThrow('ftp of site 1 has the certificate null');
    await expect(commit(configWith('http'), update)).rejects.toThrow('ftp of site 1 is gone');
  });
});
