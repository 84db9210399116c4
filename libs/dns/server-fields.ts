import { z } from 'zod';

/** The address of a server that people run themselves. Whether plain HTTP will do is known only when the name is looked up. */
export const serverUrlField = z
  .url({
    protocol: /^https?$/,
    error: 'a URL that begins with https://, or in the private network with http://',
    abort: true,
  })
  .max(2000)
  .refine((url) => {
    const { username, password, search, hash } = new URL(url);
    return username === '' && password === '' && search === '' && hash === '';
  }, 'a URL without user, password, query and fragment');

/** What lies below that address, which may have a path of its own. */
export function pathBelow(url: string, path: string): string {
  return `${new URL(url).pathname.replace(/\/$/, '')}/${path}`;
}
