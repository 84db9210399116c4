import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { dirname, extname, join, normalize } from 'node:path';

/** A web server of the folder of a site, as IIS serves it: a file whose type it does not know is not there (404.3). */
export interface SiteServer {
  /** Paths that it served. */
  readonly served: string[];
  close(): Promise<void>;
}

/**
 * Starts it. A file without an extension is served when `knows` is content with the web.config beside it, '' where there is none: an IIS by
 * default knows `fileExtension="."` there, a plain web server every file.
 */
export async function serveSite(
  root: string,
  port: number,
  knows: (webConfig: string) => boolean,
): Promise<SiteServer> {
  const served: string[] = [];
  async function find(path: string): Promise<Buffer | null> {
    const file = join(root, normalize(decodeURIComponent(path)));
    const content = await readFile(file).catch(() => null);
    if (content === null || extname(file) !== '') return content;
    const webConfig = await readFile(join(dirname(file), 'web.config'), 'utf8').catch(() => '');
    return knows(webConfig) ? content : null;
  }
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://site').pathname;
    void find(path).then((content) => {
      if (content !== null) served.push(path);
      response.writeHead(content === null ? 404 : 200).end(content ?? '404.3');
    });
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, resolve));
  return {
    served,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
