import { createHash, createPrivateKey } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPrivateKeys } from '#libs/store/private-keys';
import { connectRedis } from '#libs/store/redis';
import { createSecretBox, parseMasterKeys } from '#libs/store/secret-box';
import { createStore } from '#libs/store/store';
import { createApiClient } from '../../services/lab/api-client.ts';
import { dumpRedis } from '../support/api-session.ts';
import { type LabSession, openLabSession } from '../support/lab-session.ts';
import { addSite } from '../support/lab-sites.ts';

/** Everything certline wrote while it used every secret it has: in Redis, in its logs, in its answers. */
let session: LabSession;
const secrets = new Map<string, string[]>();
const places = new Map<string, string>();
/** What a PKCS#8 key looks like wherever it is put: lines of its PEM, its DER in other alphabets. */
function formsOfKey(pem: string): string[] {
  const key = createPrivateKey(pem);
  const der = key.export({ type: 'pkcs8', format: 'der' });
  const lines = pem.split('\n').filter((line) => line.length > 40 && !line.startsWith('-----'));
  const { d = '' } = key.export({ format: 'jwk' });
  return [...lines, der.toString('base64').slice(60, 120), der.toString('hex').slice(80, 160), String(d)];
}
const passphrase = 'Opens the "key" of the hösts';
const login = 'Lets-certline-in to the "hösts"';
const formsOfText = (text: string) => [
  ...[text, encodeURIComponent(text), JSON.stringify(text).slice(1, -1)],
  Buffer.from(text).toString('base64').replace(/=+$/, ''),
];

beforeAll(async () => {
  session = await openLabSession({
    pebble: { eabRequired: true },
    env: { LOG_LEVEL: 'trace', RETRY_DELAY_SCALE: '0.1' },
  });
  const { lab, api } = session;
  const services = ['api', 'validation-worker', 'issuance-worker', 'deployment-worker', 'scheduler'] as const;
  const running = await Promise.all(services.map((name) => lab.startService(name)));
  const host = await lab.startHost('web01');
  const answers: unknown[] = [];
  const ask = async (method: string, path: string, body?: unknown) => {
    const answer = await api.request(method, path, body);
    // A key is shown once, where it is made.
    answers.push({ ...answer.body, key: undefined, headers: [...answer.headers] });
    return answer.body;
  };

  const { keyId: kid = '', hmacKey = '' } = lab.pebble.eab ?? {};
  const { directory: ca, caBundle } = lab.pebble;
  const registration = { ca, caBundle, email: 'secret@example.com', termsOfServiceAgreed: true };
  const wrongHmac = Buffer.alloc(32, 9).toString('base64url');
  await ask('POST', '/v1/accounts', { ...registration, eab: { kid, hmacKey: wrongHmac } });
  const account = (await ask('POST', '/v1/accounts', { ...registration, eab: { kid, hmacKey } })).id;
  const made = await ask('POST', '/v1/api-keys', { name: 'secret', scopes: ['certificates:export'] });
  const transport = { kind: 'lab', url: host.url };
  const target = (await ask('POST', '/v1/targets', { name: 'web01', kind: 'iis', transport })).id;
  await addSite(host.url, 1, ['*:80:secret.example.com']);
  const id = String((await ask('POST', '/v1/orders', { account, source: { target, site: 1 } })).id);
  const { certificate } = await session.until(id, 'deployed', ({ status }) => status === 'deployed');
  for await (const event of api.events(id)) answers.push(event);

  const password = 'Pfx-Pässwort "42" & more';
  const exporter = createApiClient(lab.apiUrl, String(made.key));
  expect((await exporter.request('POST', `/v1/certificates/${certificate}/pfx`, { password })).status).toBe(200);
  // Refusals quote what was sent: not this.
  await ask('POST', `/v1/certificates/${certificate}/pfx`, { password, form: 'x' });
  await ask('POST', `/v1/certificates/${certificate}/pfx`, { passwort: password });
  await ask('POST', `/v1/certificates/${certificate}/pfx`, { password: password.repeat(20) });
  await ask('POST', '/v1/accounts', { ...registration, eab: { kid, hmacKey: `${hmacKey} ` } });
  await api.request('POST', '/v1/orders', undefined, { authorization: `Bearer ${made.key}x` });
  // A login for hosts, also in requests that are refused.
  const { private: privateKey } = ssh2.utils.generateKeyPairSync('ed25519', {
    passphrase,
    cipher: 'aes256-ctr',
    rounds: 4,
  });
  const web = { name: 'web', kind: 'ssh', username: 'svc' };
  const credential = (await ask('POST', '/v1/credentials', { ...web, privateKey, passphrase })).id;
  await ask('POST', '/v1/credentials', { ...web, privateKey, passphrase: `${passphrase}x` });
  await ask('POST', '/v1/credentials', { ...web, privateKey, password: login });
  await ask('POST', '/v1/credentials', { ...web, name: 'other', password: login, pasword: login });
  await ask('POST', '/v1/credentials', { ...web, name: 'other', password: login });
  await ask('PUT', `/v1/credentials/${credential}/secret`, { privateKey: privateKey.slice(0, -60), passphrase });
  const broken = `{"name":"x","password": ${login}}`;
  const headers = { authorization: `Bearer ${lab.apiKey}`, 'content-type': 'application/json' };
  answers.push(await (await fetch(`${lab.apiUrl}/v1/credentials`, { method: 'POST', headers, body: broken })).text());
  const ssh = { name: 'web02', kind: 'iis', transport: { kind: 'ssh', host: '127.0.0.1', port: 1, credential } };
  await ask('POST', `/v1/targets/${(await ask('POST', '/v1/targets', ssh)).id}/test`);
  secrets.set(
    'the login key',
    privateKey.split('\n').filter((line) => line.length > 40 && !line.startsWith('-----')),
  );
  secrets.set('the passphrase', formsOfText(passphrase));
  secrets.set('the login password', formsOfText(login));

  const lists = ['orders', 'accounts', 'targets', 'credentials', 'api-keys', 'certificates'].map(
    (list) => `/v1/${list}`,
  );
  for (const path of [...lists, `/v1/orders/${id}`, `/v1/certificates/${certificate}`, '/metrics'])
    await ask('GET', path);

  const redis = connectRedis(lab.redis.url, 'worker', () => {});
  const dump = await dumpRedis(redis);
  const box = createSecretBox(parseMasterKeys(lab.env.MASTER_KEY ?? ''));
  const keys = createPrivateKeys(createStore(redis, 'certline').secrets, box);
  for (const key of dump.keys()) {
    const name = key.split(':secret:')[1];
    if (name && !name.startsWith('credential'))
      secrets.set(
        name.startsWith('account') ? 'the account key' : 'the key of the certificate',
        formsOfKey(await keys.open(name)),
      );
  }
  redis.disconnect();
  secrets.set('the password of the PFX', formsOfText(password));
  secrets.set('the HMAC key', [...formsOfText(hmacKey), Buffer.from(hmacKey, 'base64url').toString('hex')]);
  secrets.set('the wrong HMAC key', formsOfText(wrongHmac));
  secrets.set('the API key', formsOfText(String(made.key)));
  secrets.set('the first API key', formsOfText(lab.apiKey));
  secrets.set('the master key', formsOfText(lab.env.MASTER_KEY?.replace('lab:', '') ?? ''));

  await Promise.all(running.map((program) => program.stop('SIGTERM', 10_000)));
  places.set('Redis', [...dump].flat().join('\n'));
  places.set('an answer', JSON.stringify(answers));
  const logs = (await readdir(lab.dir)).filter((name) => name.endsWith('.log'));
  for (const name of logs) places.set(name, await readFile(join(lab.dir, name), 'utf8'));
});
afterAll(() => session?.close());

describe('a secret', () => {
  it('was used in every kind, and every service wrote a log', () => {
    expect([...secrets.keys()].sort()).toEqual([
      ...['the API key', 'the HMAC key', 'the account key', 'the first API key', 'the key of the certificate'],
      ...['the login key', 'the login password', 'the master key', 'the passphrase', 'the password of the PFX'],
      'the wrong HMAC key',
    ]);
    for (const forms of secrets.values()) for (const form of forms) expect(form.length).toBeGreaterThan(20);
    const logged = ['api', 'validation-worker', 'issuance-worker', 'deployment-worker', 'scheduler'].map(
      (name) => `${name}-`,
    );
    const names = [...places.keys()];
    for (const name of logged)
      expect(
        names.some((place) => place.startsWith(name)),
        name,
      ).toBe(true);
    // The search finds what is there: the hash of a key in Redis, the order in the logs and answers.
    const hash = createHash('sha256').update(session.lab.apiKey).digest('hex');
    expect(places.get('Redis')).toContain(hash);
    expect(places.get('Redis')).toContain('secret.example.com');
    expect(places.get('an answer')).toContain('order_completed');
  });

  it('is nowhere in clear: not in Redis, its jobs and events, not in a log, not in an answer', () => {
    const found = [...places].flatMap(([place, text]) =>
      [...secrets].flatMap(([name, forms]) =>
        forms.some((form) => text.includes(form)) ? [`${name} in ${place}`] : [],
      ),
    );
    expect(found).toEqual([]);
  });

  it('is no PEM key anywhere either', () => {
    for (const [place, text] of places) expect(text.includes('PRIVATE KEY'), place).toBe(false);
  });

  it('leaves jobs with ids alone', () => {
    const jobs = places.get('Redis')?.match(/"data","[^}]*\}"/g) ?? [];
    expect(jobs.length).toBeGreaterThanOrEqual(2);
    for (const job of jobs) expect(job).toMatch(/^"data","\{\\"(order|target)\\":\\"(ord|tgt)_[0-9A-Z]{26}\\"\}"$/);
  });
});
