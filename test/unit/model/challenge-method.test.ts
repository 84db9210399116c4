import { describe, expect, it } from 'vitest';
import {
  type ChallengeMethod,
  type ChallengeRule,
  credentialsOf,
  matches,
  methodFor,
} from '#libs/model/challenge-method';

describe('a pattern', () => {
  it.each<[string, string, boolean]>([
    ['*', 'example.com', true],
    ['*', '*.example.com', true],
    ['www.example.com', 'www.example.com', true],
    ['www.example.com', 'example.com', false],
    ['www.example.com', 'a.www.example.com', false],
    ['example.com', '*.example.com', false],
    ['*.example.com', 'www.example.com', true],
    ['*.example.com', 'a.b.example.com', true],
    ['*.example.com', '*.example.com', true],
    ['*.example.com', '*.sub.example.com', true],
    ['*.example.com', 'example.com', false],
    ['*.example.com', 'badexample.com', false],
    ['*.example.com', 'www.example.com.evil.org', false],
  ])('%s for %s: %s', (pattern, name, expected) => {
    expect(matches(pattern, name)).toBe(expected);
  });
});

describe('the method for a name', () => {
  const http: ChallengeMethod = { type: 'http-01', via: 'responder' };
  const challenges: ChallengeRule[] = [
    { match: 'www.corp.example', type: 'http-01', via: 'responder' },
    { match: '*.corp.example', type: 'dns-01', credential: 'cred_1' },
    { match: '*', type: 'dns-01', credential: 'cred_2' },
  ];

  it('is that of the first rule that matches', () => {
    const credentialFor = (name: string) => methodFor({ challenge: null, challenges }, name);
    expect(credentialFor('www.corp.example')).toMatchObject({ type: 'http-01' });
    expect(credentialFor('*.corp.example')).toMatchObject({ credential: 'cred_1' });
    expect(credentialFor('corp.example')).toMatchObject({ credential: 'cred_2' });
  });

  it('is the one for all others when no rule matches, and none when there is none', () => {
    const rules = challenges.slice(0, 2);
    expect(methodFor({ challenge: http, challenges: rules }, 'example.org')).toEqual(http);
    expect(methodFor({ challenge: null, challenges: rules }, 'example.org')).toBeNull();
  });

  it('may need a credential, and an order needs those of all of its methods', () => {
    const twice: ChallengeRule[] = [...challenges, { match: 'x.example', type: 'dns-01', credential: 'cred_1' }];
    const challenge: ChallengeMethod = { type: 'dns-01', credential: 'cred_3' };
    expect(credentialsOf({ challenge, challenges: twice })).toEqual(['cred_1', 'cred_2', 'cred_3']);
    expect(credentialsOf({ challenge: http, challenges: [] })).toEqual([]);
  });
});
