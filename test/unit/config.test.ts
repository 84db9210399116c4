import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { configSections, forgetSecrets, readConfig, type SectionName, secretVariables } from '#libs/config';

const all = Object.keys(configSections) as SectionName[];

/** The lines of the error about a configuration. */
function wrong(sections: readonly SectionName[], env: NodeJS.ProcessEnv): string[] {
  try {
    readConfig(sections, env);
    return [];
  } catch (error) {
    return error instanceof Error ? error.message.split('\n').map((line) => line.trim()) : [];
  }
}

describe('the configuration', () => {
  let dir: string;
  const file = (name: string, text: string): string => {
    writeFileSync(join(dir, name), text);
    return join(dir, name);
  };
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'certline-config-'));
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  it('has a default for everything that has one', () => {
    expect(readConfig(all, {})).toEqual({
      NAMESPACE: 'certline',
      LOG_LEVEL: 'info',
      API_HOST: '127.0.0.1',
      API_PORT: 8080,
      CHALLENGE_HOST: '127.0.0.1',
      CHALLENGE_PORT: 8081,
      RATE_LIMIT_PER_MINUTE: 3000,
      TRUSTED_PROXIES: [],
      MAX_OPEN_ORDERS_PER_KEY: 0,
      MAX_EVENT_STREAMS_PER_KEY: 100,
      MAX_CONNECTIONS: 5000,
      HTTP01_PORT: 80,
      HTTP01_SELF_CHECK: true,
      WEBROOTS: [],
      DNS_RESOLVERS: [],
      BULK_RETRY_LIMIT: 1000,
      BULK_RETRY_PER_MINUTE: 120,
      CAA_CHECK: true,
      DNS01_PORT: 53,
      ALLOW_PRIVATE_DNS_SERVERS: false,
      RETRY_DELAY_SCALE: 1,
      LOCK_DURATION_MS: 8_000,
      STALLED_INTERVAL_MS: 2_000,
      RECONCILE_INTERVAL_MS: 2_000,
      DRIFT_CHECK_MINUTES: 360,
      DEPLOYMENT_POOLS: ['default'],
      ALLOW_COMMANDS: false,
      ALLOW_PRIVATE_WEBHOOKS: false,
      METRICS_HOST: '127.0.0.1',
      METRICS_PORT: 9464,
    });
  });

  it('listens nowhere but on this machine unless told', () => {
    const { API_HOST, CHALLENGE_HOST, METRICS_HOST } = readConfig(['api', 'metrics'], {});
    expect([API_HOST, CHALLENGE_HOST, METRICS_HOST]).toEqual(['127.0.0.1', '127.0.0.1', '127.0.0.1']);
  });

  it('says what is wanted where a number is none', () => {
    expect(() => readConfig(['scheduler'], { DRIFT_CHECK_MINUTES: 'abc' })).toThrow(
      /DRIFT_CHECK_MINUTES: give a number$/,
    );
  });

  it('turns text into numbers, flags and lists', () => {
    const env = {
      API_PORT: '0',
      HTTP01_SELF_CHECK: 'false',
      DNS_RESOLVERS: ' 1.1.1.1:53, ,[::1]:5353 ',
      RETRY_DELAY_SCALE: '0.01',
      DEPLOYMENT_POOLS: 'default, dmz',
    };
    expect(readConfig(['api', 'validation', 'pipeline', 'deployment'], env)).toMatchObject({
      API_PORT: 0,
      HTTP01_SELF_CHECK: false,
      DNS_RESOLVERS: ['1.1.1.1:53', '[::1]:5353'],
      RETRY_DELAY_SCALE: 0.01,
      DEPLOYMENT_POOLS: ['default', 'dmz'],
    });
  });

  it('names every wrong variable at once', () => {
    const env = {
      API_PORT: '99999',
      LOG_LEVEL: 'loud',
      HTTP01_SELF_CHECK: 'yes',
      NAMESPACE: 'Has Blanks',
      LOCK_DURATION_MS: '1',
    };
    const lines = wrong(all, env);
    expect(lines[0]).toBe('wrong configuration');
    expect(lines.slice(1).map((line) => line.split(':')[0])).toEqual([
      ...['NAMESPACE', 'LOG_LEVEL', 'API_PORT', 'HTTP01_SELF_CHECK', 'LOCK_DURATION_MS'],
    ]);
  });

  it.each([
    ['API_PORT', '8080.5'],
    ['API_PORT', '-1'],
    ['API_PORT', 'http'],
    ['METRICS_PORT', '65536'],
    ['RATE_LIMIT_PER_MINUTE', '0'],
    ['TRUSTED_PROXIES', '10.0.0.0/8,proxy.example'],
    ['MAX_OPEN_ORDERS_PER_KEY', '-1'],
    ['MAX_EVENT_STREAMS_PER_KEY', '0'],
    ['MAX_CONNECTIONS', 'many'],
    ['RETRY_DELAY_SCALE', '2'],
    ['RETRY_DELAY_SCALE', '0'],
    ['STALLED_INTERVAL_MS', '10'],
    ['RECONCILE_INTERVAL_MS', '1'],
    ['REDIS_URL', 'redis://a.example,http://b.example'],
    ['REDIS_URL', 'redis://a.example,'],
    ['REDIS_URL', 'redis://a.example,redis://:other@b.example'],
    ['REDIS_URL', 'redis://a.example/1,redis://b.example/1'],
    ['REDIS_CA', '/etc/ca.pem'],
    ['DRIFT_CHECK_MINUTES', '-1'],
    ['DRIFT_CHECK_MINUTES', '50000'],
    ['BOOTSTRAP_API_KEY', 'short'],
    ['DEPLOYMENT_POOLS', 'dmz,Head Office'],
    ['DEPLOYMENT_POOLS', ','],
    ['EXTERNAL_CHECK_URL', 'ftp://look.example/'],
  ])('refuses %s=%s', (name, value) => {
    expect(wrong(all, { [name]: value }).slice(1)).toEqual([expect.stringMatching(new RegExp(`^${name}: `))]);
  });

  it('does not repeat a secret that is wrong', () => {
    expect(wrong(['api'], { BOOTSTRAP_API_KEY: 'hunter2' }).join()).not.toContain('hunter2');
  });

  it('looks at nothing but the sections that are asked for', () => {
    const env = { API_PORT: 'bad', MASTER_KEY_FILE: join(dir, 'is-not-there'), REDIS_URL: 'redis://127.0.0.1' };
    expect(readConfig(['redis'], env)).toEqual({ REDIS_URL: 'redis://127.0.0.1', NAMESPACE: 'certline' });
  });

  it('takes an empty variable for one that is not set', () => {
    expect(readConfig(['api', 'secrets'], { API_PORT: '', MASTER_KEY: '', BOOTSTRAP_API_KEY: '' })).toEqual(
      readConfig(['api', 'secrets'], {}),
    );
  });

  it('leaves none of its secrets in the environment that was read', () => {
    const env = { ...Object.fromEntries(secretVariables.map((name) => [name, 'secret'])), LOG_LEVEL: 'info' };
    forgetSecrets(env);
    expect(env).toEqual({ LOG_LEVEL: 'info' });
  });

  it.each(secretVariables)('takes %s from the file that its _FILE variable names, without the line end', (name) => {
    const value = name === 'REDIS_URL' ? 'redis://redis.example' : `-----BEGIN ${'x'.repeat(40)}`;
    const path = file(name, `${value}\n`);
    expect(readConfig(all, { [`${name}_FILE`]: path })).toMatchObject({ [name]: value });
    expect(readConfig(all, { [`${name}_FILE`]: path, [name]: '' })).toMatchObject({ [name]: value });
  });

  it('prefers a secret that is given itself', () => {
    const env = { MASTER_KEY: 'given', MASTER_KEY_FILE: file('other', 'from the file') };
    expect(readConfig(['secrets'], env).MASTER_KEY).toBe('given');
  });

  it('names the variable whose file cannot be read, beside all others that are wrong', () => {
    const lines = wrong(all, { MASTER_KEY_FILE: join(dir, 'is-not-there'), API_PORT: 'bad' });
    expect(lines.slice(1)).toEqual([
      expect.stringMatching(/^MASTER_KEY_FILE: ENOENT/),
      expect.stringMatching(/^API_PORT: /),
    ]);
  });

  it('reads no file for a variable that holds no secret', () => {
    expect(readConfig(['log'], { LOG_LEVEL_FILE: file('level', 'trace') }).LOG_LEVEL).toBe('info');
  });

  it('describes every variable', () => {
    const without = Object.values(configSections)
      .flatMap((section) => Object.entries(section))
      .filter(([, schema]) => !schema.description);
    expect(without.map(([name]) => name)).toEqual([]);
  });
});
