import { describe, expect, it } from 'vitest';
import { centralStoreSettingsSchema, folderSettingsSchema, webhookSettingsSchema } from '#libs/model/target-kinds';

const folder = (path: string) => folderSettingsSchema.safeParse({ kind: 'folder', path });
const command = (settings: object) =>
  folderSettingsSchema.safeParse({ kind: 'folder', path: '/etc/ssl', command: settings });
const webhook = (url: string, more: object = {}) =>
  webhookSettingsSchema.safeParse({ kind: 'webhook', url, credential: 'crd_1', ...more });

describe('the settings of a folder', () => {
  it.each([
    '/etc/ssl/certline',
    'C:\\certificates',
    'd:/certificates',
    '\\\\files01\\certs',
    '\\\\files01\\certs\\iis\\',
  ])('take the absolute path %s', (path) => {
    expect(folder(path).success).toBe(true);
    expect(centralStoreSettingsSchema.safeParse({ kind: 'ccs', path, credential: 'crd_1' }).success).toBe(true);
  });

  it.each([
    '',
    '.',
    'certs',
    '../x',
    '/etc/../root',
    'C:certs',
    'C:\\a\\..\\b',
    '\\certs',
    '\\\\files01',
    '\\\\.\\pipe\\x',
    '\\\\?\\C:\\x',
    '/a\nb',
    '/a\0',
  ])('do not take %j', (path) => expect(folder(path).success).toBe(false));

  it('want neither a PFX nor a command unless they are told so', () => {
    expect(folder('/etc/ssl').data).toEqual({ kind: 'folder', path: '/etc/ssl', pfx: null, command: null });
    expect(command({ file: '/bin/x' }).data?.command).toEqual({ file: '/bin/x', arguments: [], timeoutSeconds: 60 });
  });

  it.each([
    { file: 'systemctl' },
    { file: 'sh -c x' },
    { file: '/bin/x', arguments: 'reload' },
    { file: '/bin/x', arguments: ['a\0b'] },
    { file: '/bin/x', timeoutSeconds: 0 },
    { file: '/bin/x', shell: true },
  ])('do not take the command %j', (settings) => expect(command(settings).success).toBe(false));
});

describe('the settings of a webhook', () => {
  it.each([
    'https://hooks.example.com/certline?x=1',
    'http://127.0.0.1:9000/',
    'http://localhost/x',
    'http://[::1]:1/',
  ])('take %s', (url) => expect(webhook(url).success).toBe(true));

  it.each([
    'http://hooks.example.com/',
    'http://127.0.0.1.example.com/',
    'http://localhost.example.com/',
    'http://10.0.0.1/',
    'https://user:secret@hooks.example.com/',
    'https://hooks.example.com/#x',
    'ftp://hooks.example.com/',
    'file:///etc/passwd',
    'hooks.example.com',
    '',
  ])('do not take %j', (url) => expect(webhook(url).success).toBe(false));

  it('take CA certificates, and no key in their place', () => {
    expect(webhook('https://a.example.com/', { caBundle: '-----BEGIN CERTIFICATE-----\n…' }).success).toBe(true);
    const key = '-----BEGIN PRIVATE KEY-----\n…';
    for (const caBundle of [key, `-----BEGIN CERTIFICATE-----\n…\n${key}`])
      expect(webhook('https://a.example.com/', { caBundle }).success).toBe(false);
  });
});
