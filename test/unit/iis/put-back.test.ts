import { describe, expect, it } from 'vitest';
import type { Binding, BindingChange, HostState } from '#libs/iis/iis-host';
import { putBack } from '#libs/iis/put-back';
import { IisModel } from './iis-model.ts';
import { hostWith, http, https } from './plan-cases.ts';

const place = { siteId: 1, protocol: 'https' as const, bindingInformation: '*:443:a.example.com' };
const old = https(place.bindingInformation, 0, 'OLD');
const expectOld = { thumbprint: 'OLD', sslFlags: 0 };

const add: BindingChange = { ...place, op: 'add', sslFlags: 1, thumbprint: 'NEW', store: 'My', expect: null };
const update: BindingChange = { ...add, op: 'update', expect: expectOld };
const remove: BindingChange = { ...place, op: 'remove', sslFlags: 0, thumbprint: null, store: null, expect: expectOld };

const host = (...bindings: Binding[]): HostState => hostWith({ 1: [http('*:80:a.example.com'), ...bindings] });
/** The host after the changes, each of which must be expected as it is. */
function afterwards(before: HostState, changes: readonly BindingChange[]): HostState {
  const sites = before.sites.map((site) => {
    let { bindings } = site;
    for (const change of changes.filter(({ siteId }) => siteId === site.id)) {
      const { op, protocol, bindingInformation, sslFlags, thumbprint, store } = change;
      const is = bindings.find((one) => one.protocol === protocol && one.bindingInformation === bindingInformation);
      expect(is ? { thumbprint: is.thumbprint, sslFlags: is.sslFlags } : null).toEqual(change.expect);
      const others = bindings.filter((one) => one !== is);
      bindings = op === 'remove' ? others : [...others, { protocol, bindingInformation, sslFlags, thumbprint, store }];
    }
    return { ...site, bindings };
  });
  return { ...before, sites };
}

describe('putting back', () => {
  it.each([
    ['an added binding removes it', host(), add],
    ['an updated binding gives it back its certificate and flags', host(old), update],
    ['a removed binding adds it again', host(old), remove],
    [
      'the first certificate of a binding takes it away',
      host(https(place.bindingInformation, 1, null)),
      {
        ...update,
        expect: { thumbprint: null, sslFlags: 1 },
      },
    ],
  ] as const)('%s', (_, before, change) => {
    const after = afterwards(before, [change]);
    expect(after).not.toEqual(before);
    expect(afterwards(after, putBack(before, after, [change]))).toEqual(before);
  });

  it('undoes several changes, the last one first', () => {
    const other = { ...add, siteId: 2, bindingInformation: '*:443:b.example.com' };
    const before = hostWith({ 1: [old], 2: [http('*:80:b.example.com')] });
    const after = afterwards(before, [update, other]);
    const undo = putBack(before, after, [update, other]);
    expect(undo.map(({ op, siteId }) => `${op} ${siteId}`)).toEqual(['remove 2', 'update 1']);
    expect(afterwards(after, undo)).toEqual(before);
  });

  it('expects what it saw, so that it does not undo what comes in between', () => {
    const [undo] = putBack(host(old), afterwards(host(old), [update]), [update]);
    expect(undo?.expect).toEqual({ thumbprint: 'NEW', sslFlags: 1 });
  });

  it.each([
    ['given another certificate', host(old), update, host(https(place.bindingInformation, 1, 'THEIRS'))],
    ['removed', host(old), update, host()],
    ['given another certificate after it was added', host(), add, host(https(place.bindingInformation, 1, 'THEIRS'))],
    ['removed after it was added', host(), add, host()],
    ['made anew after it was removed', host(old), remove, host(https(place.bindingInformation, 1, 'THEIRS'))],
  ] as const)('leaves a binding alone that somebody else has %s', (_, before, change, after) => {
    expect(putBack(before, after, [change])).toEqual([]);
  });

  it('leaves a binding alone that is as it was: nothing was changed', () => {
    expect(putBack(host(old), host(old), [update])).toEqual([]);
  });

  it('gives a binding its flags back though it still has its certificate', () => {
    expect(putBack(host(old), host({ ...old, sslFlags: 1 }), [update])).toMatchObject([
      { op: 'update', sslFlags: 0, thumbprint: 'OLD' },
    ]);
  });

  it('gives a binding of another site its certificate back that an added one has changed in http.sys', () => {
    const theirs = https('10.0.0.1:443:a.example.com', 1, 'THEIRS');
    const model = new IisModel(hostWith({ 1: [http('*:80:a.example.com')], 2: [theirs] }));
    const before = model.read();
    model.apply([add]);
    expect(model.read().sites[1]?.bindings[0]?.thumbprint).toBe('NEW');
    const undo = putBack(before, model.read(), [add]);
    expect(undo.map((one) => `${one.op} ${one.siteId} ${one.thumbprint}`)).toEqual([
      'remove 1 null',
      'update 2 THEIRS',
    ]);
    model.apply(undo);
    expect(model.read()).toEqual(before);
  });

  it('finds a binding whose protocol is spelled in capitals', () => {
    const spelled = { ...old, protocol: 'HTTPS' };
    expect(putBack(host(spelled), host({ ...spelled, thumbprint: 'NEW' }), [update])).toHaveLength(1);
  });

  it('leaves a site alone that is gone', () => {
    expect(putBack(host(old), hostWith({}), [update])).toEqual([]);
  });
});
