import { describe, expect, it } from 'vitest';
import { answeringSite } from '#libs/challenges/answering-site';
import type { Site } from '#libs/iis/iis-host';

function site(id: number, bindings: readonly string[], more: Partial<Site> = {}): Site {
  return {
    ...{ id, name: `site ${id}`, state: 'Started', ftp: null },
    bindings: bindings.map((text) => {
      const [protocol = '', bindingInformation = ''] = text.split(' ');
      return { protocol, bindingInformation, sslFlags: 0, thumbprint: null, store: null };
    }),
    ...more,
  };
}

describe('the site that serves a name', () => {
  const all = [
    site(1, ['http *:80:']),
    site(2, ['http *:80:*.example.com']),
    site(3, ['http *:80:shop.example.com']),
    site(4, ['http *:80:*.eu.example.com']),
  ];

  it.each([
    ['shop.example.com', 3, 'has the name itself'],
    ['other.example.com', 2, 'has a wildcard above it'],
    ['deep.below.example.com', 2, 'has a wildcard far above it'],
    ['www.eu.example.com', 4, 'has the nearest wildcard'],
    ['example.com', 1, 'answers every name: a wildcard does not cover its own domain'],
    ['example.org', 1, 'answers every name'],
  ])('for %s is %i, which %s', (name, id) => {
    expect(answeringSite(all, name, 80)).toBe(id);
    expect(answeringSite(all.toReversed(), name, 80)).toBe(id);
  });

  it('is none where no http binding of the port has it', () => {
    const sites = [
      site(1, ['http *:8080:a.example.com', 'https *:80:a.example.com', 'http *:80:b.example.com', 'net.tcp 808:*']),
    ];
    expect(answeringSite(sites, 'a.example.com', 80)).toBeNull();
    expect(answeringSite(sites, 'a.example.com', 8080)).toBe(1);
    expect(answeringSite([], 'a.example.com', 80)).toBeNull();
  });

  it('is no site that is stopped', () => {
    const name = 'a.example.com';
    const stopped = site(1, [`http *:80:${name}`], { state: 'Stopped' });
    expect(answeringSite([stopped], name, 80)).toBeNull();
    expect(answeringSite([stopped, site(2, ['http *:80:'])], name, 80)).toBe(2);
    expect(answeringSite([site(1, [`http *:80:${name}`], { state: 'Unknown' })], name, 80)).toBe(1);
  });

  it('is found however IIS keeps the name: in capitals, or as it was typed', () => {
    expect(answeringSite([site(1, ['http *:80:SHOP.Example.com'])], 'shop.example.com', 80)).toBe(1);
    expect(answeringSite([site(1, ['http *:80:b\u00fccher.example'])], 'xn--bcher-kva.example', 80)).toBe(1);
    expect(answeringSite([site(1, ['http *:80:*.b\u00fccher.example'])], 'www.xn--bcher-kva.example', 80)).toBe(1);
  });

  it('is the one for all addresses before the one for a single address, then the oldest', () => {
    const sites = [site(1, ['http 10.0.0.5:80:']), site(3, ['http *:80:']), site(2, ['http 0.0.0.0:80:'])];
    expect(answeringSite(sites, 'a.example.com', 80)).toBe(2);
    expect(answeringSite(sites.slice(0, 1), 'a.example.com', 80)).toBe(1);
    // The host counts more than the address.
    expect(answeringSite([...sites, site(9, ['http [::1]:80:a.example.com'])], 'a.example.com', 80)).toBe(9);
  });
});
