/** A binding as applicationHost.config has it: the certificate is in http.sys. */
export interface BindingXml {
  protocol?: string;
  bindingInformation: string;
  sslFlags?: number;
}

export interface SiteXml {
  id: number;
  name?: string;
  physicalPath?: string;
  autoStart?: boolean;
  bindings: readonly BindingXml[];
  /** The certificate of its ftp bindings. */
  ftp?: { thumbprint: string; store: string };
}

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');

/** A `<site>` of applicationHost.config; https is the protocol unless told otherwise. */
export function siteXml({ id, name = `site${id}`, physicalPath, autoStart = true, bindings, ftp }: SiteXml): string {
  const path = physicalPath ?? `C:\\sites\\${id}`;
  const rows = bindings.map(({ protocol = 'https', bindingInformation, sslFlags = 0 }) => {
    const flags = sslFlags === 0 ? '' : ` sslFlags="${sslFlags}"`;
    return `<binding protocol="${protocol}" bindingInformation="${escaped(bindingInformation)}"${flags} />`;
  });
  const ssl = ftp && `<ssl serverCertHash="${ftp.thumbprint}" serverCertStoreName="${ftp.store}" />`;
  return [
    `<site name="${escaped(name)}" id="${id}" serverAutoStart="${autoStart}">`,
    `<application path="/"><virtualDirectory path="/" physicalPath="${escaped(path)}" /></application>`,
    `<bindings>${rows.join('')}</bindings>`,
    ssl ? `<ftpServer><security>${ssl}</security></ftpServer>` : '',
    '</site>',
  ].join('');
}
