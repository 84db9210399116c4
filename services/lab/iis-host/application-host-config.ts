import { XMLBuilder, XMLParser } from 'fast-xml-parser';
import type { StoredCertificate } from '#libs/iis/iis-host';
import type { LabSite } from '#libs/iis/lab-protocol';
import {
  attributesOf,
  childrenOf,
  elementNamed,
  insertAfterLast,
  newElement,
  readAttribute,
  type XmlNode,
} from './xml-nodes.ts';

/** Entities are left as they stand, so that what is not ours comes out as it went in. */
const xmlOptions = {
  preserveOrder: true,
  ignoreAttributes: false,
  attributeNamePrefix: '',
  parseTagValue: false,
  parseAttributeValue: false,
  trimValues: false,
  commentPropName: '#comment',
  cdataPropName: '#cdata',
  processEntities: false,
  suppressEmptyNode: true,
  suppressBooleanAttributes: false,
};

const emptyConfig = `<?xml version="1.0" encoding="UTF-8"?>
<configuration>
  <system.applicationHost>
    <sites>
    </sites>
  </system.applicationHost>
</configuration>
`;

/** A binding as the file has it: the certificate is elsewhere, in http.sys. */
export interface ConfiguredBinding {
  protocol: string;
  bindingInformation: string;
  sslFlags: number;
}

export interface ConfiguredSite {
  id: number;
  name: string;
  state: 'Started' | 'Stopped';
  bindings: ConfiguredBinding[];
  /** Null for a site without ftp bindings. The certificate stands in the file, not in http.sys. */
  ftp: StoredCertificate | null;
}

/** The sites of an applicationHost.config; elements and attributes it does not know stay in the file. */
export class ApplicationHostConfig {
  readonly #document: XmlNode[];

  constructor(text: string | null) {
    this.#document = new XMLParser(xmlOptions).parse(text ?? emptyConfig) as XmlNode[];
  }

  /** The sites in the order of the file; `serverAutoStart="false"` stands for a stopped one. */
  sites(): ConfiguredSite[] {
    return this.#siteNodes().map((node) => {
      const bindings = this.#bindingNodes(node).map(readBinding);
      return {
        id: Number(readAttribute(node, 'id')),
        name: readAttribute(node, 'name') ?? '',
        state: readAttribute(node, 'serverAutoStart') === 'false' ? 'Stopped' : 'Started',
        bindings,
        ftp: bindings.some(({ protocol }) => protocol === 'ftp') ? readFtpCertificate(node) : null,
      };
    });
  }

  /** Adds a site and answers its id: the one given or the next free one. */
  addSite(site: LabSite): number {
    const id = site.id ?? 1 + Math.max(0, ...this.sites().map((one) => one.id));
    const node = newElement('site', {
      name: site.name,
      id: String(id),
      ...(site.state === 'Stopped' ? { serverAutoStart: 'false' } : {}),
    });
    const bindings = newElement('bindings', {});
    for (const binding of site.bindings) insertAfterLast(bindings, bindingNode(binding), '\n          ', '\n        ');
    insertAfterLast(node, bindings, '\n        ', '\n      ');
    insertAfterLast(this.#sites(), node, '\n      ', '\n    ', 'site');
    return id;
  }

  /** Adds the binding, or sets the flags of the one there is and keeps its other attributes. */
  putBinding(siteId: number, binding: ConfiguredBinding): void {
    const site = this.#siteNodes().find((node) => readAttribute(node, 'id') === String(siteId));
    if (!site) return;
    const existing = this.#bindingNodes(site).find((node) => isSame(readBinding(node), binding));
    if (existing) {
      const attributes = attributesOf(existing);
      if (binding.sslFlags === 0) delete attributes.sslFlags;
      else attributes.sslFlags = String(binding.sslFlags);
      return;
    }
    let bindings = elementNamed(site, 'bindings');
    if (!bindings) {
      bindings = newElement('bindings', {});
      insertAfterLast(site, bindings, '\n        ', '\n      ');
    }
    insertAfterLast(bindings, bindingNode(binding), '\n          ', '\n        ');
  }

  removeBinding(siteId: number, binding: ConfiguredBinding): void {
    const site = this.#siteNodes().find((node) => readAttribute(node, 'id') === String(siteId));
    const siblings = childrenOf((site && elementNamed(site, 'bindings')) ?? {});
    const at = siblings.findIndex((node) => 'binding' in node && isSame(readBinding(node), binding));
    if (at < 0) return;
    const indented = at > 0 && '#text' in (siblings[at - 1] ?? {});
    siblings.splice(indented ? at - 1 : at, indented ? 2 : 1);
  }

  /** Sets the certificate of the site's ftp bindings, or takes it away. */
  setFtpCertificate(siteId: number, { thumbprint, store }: StoredCertificate): void {
    let node = this.#siteNodes().find((one) => readAttribute(one, 'id') === String(siteId));
    if (!node) return;
    for (const [depth, name] of ftpElements.entries()) {
      let child = elementNamed(node, name);
      if (!child) {
        child = newElement(name, {});
        const indent = `\n        ${'  '.repeat(depth)}`;
        insertAfterLast(node, child, indent, indent.slice(0, -2));
      }
      node = child;
    }
    const attributes = attributesOf(node);
    delete attributes.serverCertHash;
    delete attributes.serverCertStoreName;
    if (thumbprint !== null) attributes.serverCertHash = thumbprint;
    if (thumbprint !== null && store !== null) attributes.serverCertStoreName = store;
  }

  /** The file as text. */
  toString(): string {
    const text = String(new XMLBuilder(xmlOptions).build(this.#document));
    return `${text.replace(/^(<\?xml[^>]*\?>)</, '$1\n<').trimEnd()}\n`;
  }

  #sites(): XmlNode {
    let node: XmlNode = { document: this.#document };
    for (const name of ['configuration', 'system.applicationHost', 'sites']) {
      const next = elementNamed(node, name);
      if (!next) throw new Error(`applicationHost.config has no element ${name}`);
      node = next;
    }
    return node;
  }

  #siteNodes(): XmlNode[] {
    return childrenOf(this.#sites()).filter((node) => 'site' in node);
  }

  #bindingNodes(site: XmlNode): XmlNode[] {
    const bindings = elementNamed(site, 'bindings');
    return bindings ? childrenOf(bindings).filter((node) => 'binding' in node) : [];
  }
}

/** Where a site keeps its ftp certificate. */
const ftpElements = ['ftpServer', 'security', 'ssl'];

function readFtpCertificate(site: XmlNode): StoredCertificate {
  let node: XmlNode | undefined = site;
  for (const name of ftpElements) node = node && elementNamed(node, name);
  const thumbprint = (node && readAttribute(node, 'serverCertHash')) || null;
  const store = (node && readAttribute(node, 'serverCertStoreName')) || 'MY';
  return { thumbprint, store: thumbprint === null ? null : store };
}

function isSame(a: ConfiguredBinding, b: ConfiguredBinding): boolean {
  return a.protocol === b.protocol && a.bindingInformation === b.bindingInformation;
}

function readBinding(node: XmlNode): ConfiguredBinding {
  return {
    protocol: readAttribute(node, 'protocol') ?? '',
    bindingInformation: readAttribute(node, 'bindingInformation') ?? '',
    sslFlags: Number(readAttribute(node, 'sslFlags') ?? 0),
  };
}

function bindingNode({ protocol, bindingInformation, sslFlags }: ConfiguredBinding): XmlNode {
  const flags: Record<string, string> = sslFlags === 0 ? {} : { sslFlags: String(sslFlags) };
  return newElement('binding', { protocol, bindingInformation, ...flags });
}
