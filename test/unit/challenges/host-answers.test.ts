import { describe, expect, it } from 'vitest';
import { type AnsweringHost, answerByHost } from '#libs/challenges/host-answers';
import type { HttpCheck } from '#libs/challenges/http-check';
import { CertlineError } from '#libs/errors';
import type { PresentedHttp } from '#libs/model/order';
import { webConfigs } from '#libs/queues/host-requests';

type Challenge = PresentedHttp<'target'>;

const challenge = (token: string, site: number | null = 1): Challenge => ({
  ...{ type: 'http-01', via: 'target', target: 'tgt_1', expires: 5 },
  ...{ name: `${token}.example.com`, token, keyAuthorization: `${token}.thumb`, site },
});
const refused = new CertlineError('target_refused', 'port 80 is taken');
const { signal } = new AbortController();

interface World {
  /** Tokens that are seen by the listener while it runs. */
  heard?: string[];
  /** What IIS needs beside a file before it serves it; sites that are not named serve none. */
  serves?: Record<number, string>;
  listenError?: CertlineError;
  writeError?: CertlineError;
  looks?: boolean;
}

/** A host, and a web that shows what was set up there. */
function open({ heard = [], serves = {}, listenError, writeError, looks = true }: World) {
  const did: string[] = [];
  const log: string[] = [];
  const state = { listening: false, files: new Map<string, number>(), configs: new Map<number, string>() };
  const host: AnsweringHost = {
    name: 'web01',
    webConfigs,
    sites: async () => [],
    async listen(answers) {
      did.push(`listen ${Object.keys(answers).join(' ')}`);
      if (listenError) throw listenError;
      state.listening = true;
    },
    async endListener() {
      did.push('end');
      state.listening = false;
    },
    async write({ site, token, webConfig }) {
      did.push(`write ${token} ${site} ${webConfig}`);
      if (writeError) throw writeError;
      state.files.set(token, site);
      if (webConfig !== 'none') state.configs.set(site, webConfig);
    },
  };
  const check: HttpCheck = {
    looks,
    async look({ name, token }) {
      if (!looks || (state.listening && heard.includes(token))) return;
      const site = state.files.get(token);
      if (site !== undefined && serves[site] === (state.configs.get(site) ?? 'none')) return;
      const code = site === undefined ? 'http01_unreachable' : 'http01_wrong_answer';
      throw new CertlineError(code, `${name} shows nothing`);
    },
  };
  const info = (({ name }: { name: string }, text: string) => log.push(`${name}: ${text}`)) as never;
  return {
    did,
    log,
    answer: (...challenges: Challenge[]) => answerByHost(host, challenges, { check, port: 80, log: { info } }, signal),
  };
}

describe('a host that is to answer challenges', () => {
  it('does so by one listener for all of them, and no file is written', async () => {
    const { did, log, answer } = open({ heard: ['a', 'b'] });
    expect(await answer(challenge('a'), challenge('b', null))).toEqual(new Map());
    expect(did).toEqual(['listen a b']);
    expect(log).toEqual([
      'a.example.com: web01 answers the challenge by a listener',
      'b.example.com: web01 answers the challenge by a listener',
    ]);
  });

  it.each(webConfigs)('does so by a file with web.config %s where no listener can be had', async (needed) => {
    const { did, log, answer } = open({ listenError: refused, serves: { 1: needed } });
    expect(await answer(challenge('a'))).toEqual(new Map());
    const tried = webConfigs.slice(0, webConfigs.indexOf(needed) + 1);
    expect(did).toEqual(['listen a', 'end', ...tried.map((one) => `write a 1 ${one}`)]);
    expect(log).toEqual([expect.stringMatching(needed === 'none' ? /by a file$/ : `web.config ${needed}$`)]);
  });

  it('ends the listener before it writes files, when nobody is heard by it', async () => {
    const { did, answer } = open({ serves: { 1: 'none' } });
    expect(await answer(challenge('a'))).toEqual(new Map());
    expect(did).toEqual(['listen a', 'end', 'write a 1 none']);
  });

  it('keeps the listener for the name that it works for, and writes a file for the other', async () => {
    const { did, answer } = open({ heard: ['a'], serves: { 2: 'mime' } });
    expect(await answer(challenge('a'), challenge('b', 2))).toEqual(new Map());
    expect(did).toEqual(['listen a b', 'write b 2 none', 'write b 2 mime']);
  });

  it('finds the web.config of a site once for all of its names', async () => {
    const { did, answer } = open({ listenError: refused, serves: { 1: 'any', 2: 'none' } });
    expect(await answer(challenge('a'), challenge('b'), challenge('c', 2))).toEqual(new Map());
    expect(did.filter((one) => one.startsWith('write b'))).toEqual(['write b 1 none']);
    expect(did.filter((one) => one.startsWith('write c'))).toEqual(['write c 2 none']);
  });

  it('tells of each way that does not work, to be tried a few times', async () => {
    const { answer } = open({});
    const failed = await answer(challenge('a'));
    const error = failed.get('a');
    expect(error).toMatchObject({
      code: 'http01_wrong_answer',
      message:
        'web01 does not answer for a.example.com: a listener: a.example.com shows nothing; a file with web.config full: a.example.com shows nothing',
      plan: { kind: 'retryable', attempts: 8 },
    });
    const attempts = error?.evidence?.attempts as { way: string; code: string }[];
    expect(attempts.map(({ way, code }) => `${way} ${code}`)).toEqual([
      'a listener http01_unreachable',
      'a file http01_wrong_answer',
      ...webConfigs.slice(1).map((one) => `a file with web.config ${one} http01_wrong_answer`),
    ]);
  });

  it('says that there is no site, where only a listener could answer and none can be had', async () => {
    const { did, answer } = open({ listenError: refused });
    const failed = await answer(challenge('a', null));
    expect(failed.get('a')).toMatchObject({
      code: 'target_refused',
      message: expect.stringMatching(/a listener: port 80 is taken; a file: no site has a\.example\.com .* port 80/),
    });
    expect(did).toEqual(['listen a', 'end']);
  });

  it('tries no other web.config when it cannot write at all', async () => {
    const writeError = new CertlineError('access_denied', 'the folder is read-only');
    const { did, answer } = open({ listenError: refused, writeError });
    expect((await answer(challenge('a'))).get('a')).toMatchObject({ code: 'target_refused' });
    expect(did).toEqual(['listen a', 'end', 'write a 1 none']);
  });

  it.each(['target_unreachable', 'target_timeout', 'pool_unserved', 'ssh_login_refused', 'host_key_changed'] as const)(
    'fails as a whole with %s: no other way would be better',
    async (code) => {
      const error = new CertlineError(code, 'it is down', { plan: { kind: 'retryable', notBefore: 7 } });
      const { did, answer } = open({ listenError: error });
      await expect(answer(challenge('a'))).rejects.toBe(error);
      expect(did).toEqual(['listen a']);
      await expect(open({ writeError: error }).answer(challenge('a'))).rejects.toBe(error);
    },
  );

  it('is believed where nobody looks', async () => {
    const listening = open({ looks: false });
    expect(await listening.answer(challenge('a'))).toEqual(new Map());
    expect(listening.did).toEqual(['listen a']);
    const writing = open({ looks: false, listenError: refused });
    expect(await writing.answer(challenge('a'))).toEqual(new Map());
    expect(writing.did).toEqual(['listen a', 'end', 'write a 1 mime']);
  });
});
