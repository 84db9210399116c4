import { describe, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import type { Transport } from '#libs/model/target';
import { changedTransport, isSameTransport, transportChange } from '../../../services/api/transport-change.ts';

const key = `SHA256:${'a'.repeat(43)}`;
const other = `SHA256:${'b'.repeat(43)}`;
const ssh: Transport = { kind: 'ssh', host: 'web01.corp', port: 22, credential: 'cred_1', hostKey: key };
const lab: Transport = { kind: 'lab', url: 'http://127.0.0.1:1' };

describe('a change of a transport', () => {
  it.each<[string, Transport, object, Transport]>([
    ['keeps what it does not name', ssh, { port: 2222 }, { ...ssh, port: 2222 }],
    ['keeps the pinned key for another credential', ssh, { credential: 'cred_2' }, { ...ssh, credential: 'cred_2' }],
    ['sets a new key', ssh, { hostKey: other }, { ...ssh, hostKey: other }],
    ['forgets the key when told so', ssh, { hostKey: null }, { ...ssh, hostKey: null }],
    ['forgets the key of another host', ssh, { host: 'web02.corp' }, { ...ssh, host: 'web02.corp', hostKey: null }],
    [
      'takes the key that comes with another host',
      ssh,
      { host: 'web02.corp', hostKey: other },
      { ...ssh, host: 'web02.corp', hostKey: other },
    ],
    ['knows a host by its name, not by its letters', ssh, { host: 'WEB01.corp' }, { ...ssh, host: 'WEB01.corp' }],
    ['to another kind starts anew', ssh, { kind: 'lab', url: lab.url }, lab],
    [
      'to ssh has its defaults',
      lab,
      { kind: 'ssh', host: 'web01.corp', credential: 'cred_1' },
      { ...ssh, hostKey: null },
    ],
    ['to the host itself needs nothing', ssh, { kind: 'local' }, { kind: 'local' }],
  ])('%s', (_what, current, change, expected) => {
    expect(changedTransport(current, transportChange.parse(change))).toEqual(expected);
  });

  it.each<[string, Transport, object, string[]]>([
    ['a field of another kind', lab, { host: 'web01.corp' }, ['transport.host']],
    ['another kind without its fields', lab, { kind: 'ssh' }, ['transport.host', 'transport.credential']],
    ['a field that the new kind lacks', ssh, { kind: 'local', port: 22 }, ['transport.port']],
  ])('is refused with %s', (_what, current, change, paths) => {
    const refused = (): unknown => changedTransport(current, transportChange.parse(change));
    expect(refused).toThrow(CertlineError);
    try {
      refused();
    } catch (error) {
      const { code, problems } = error as CertlineError;
      expect({ code, paths: problems?.map(({ path }) => path) }).toEqual({ code: 'request_invalid', paths });
    }
  });
});

describe('a transport that is asked for again', () => {
  it('is the same whatever the order of its fields, and though a key was pinned since', () => {
    const { kind, ...rest } = ssh;
    expect(isSameTransport(ssh, { ...rest, kind } as Transport)).toBe(true);
    expect(isSameTransport(ssh, { ...ssh, hostKey: null })).toBe(true);
  });

  it('is another one with another key, host, port, credential or kind', () => {
    for (const change of [{ hostKey: other }, { host: 'web02.corp' }, { port: 23 }, { credential: 'cred_2' }])
      expect(isSameTransport(ssh, { ...ssh, ...change }), JSON.stringify(change)).toBe(false);
    expect(isSameTransport({ ...ssh, hostKey: null }, ssh)).toBe(false);
    expect(isSameTransport(lab, { kind: 'local' })).toBe(false);
  });
});
