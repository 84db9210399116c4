import { describe, expect, it } from 'vitest';
import { type MaintenanceWindow, maintenanceWindowSchema, nextOpening } from '#libs/model/maintenance-window';

/** A window as people write it: `sat 22:00-04:00`. */
function window(text: string, timeZone = 'Europe/Berlin'): MaintenanceWindow {
  const [days = '', times = ''] = text.split(' ');
  const [from, to] = times.split('-');
  return maintenanceWindowSchema.parse({ days: days.split(','), from, to, timeZone });
}

/** When a host with these windows may be changed next, seen at a time: `now`, or the time in UTC. */
function seenAt(now: string, ...windows: MaintenanceWindow[]): string {
  const opening = nextOpening(windows, Date.parse(now));
  return opening === null ? 'now' : new Date(opening).toISOString().replace(':00.000Z', 'Z');
}

describe('a host with maintenance windows', () => {
  it('may always be changed when it has none', () => {
    expect(seenAt('2026-11-25T12:00:00Z')).toBe('now');
  });

  // 28 November 2026 is a Saturday; Berlin is an hour ahead of UTC.
  it.each([
    ['2026-11-25T12:00:00Z', '2026-11-28T21:00Z'],
    ['2026-11-28T20:59:59.999Z', '2026-11-28T21:00Z'],
    ['2026-11-28T21:00:00Z', 'now'],
    ['2026-11-28T23:30:00Z', 'now'],
    ['2026-11-29T02:59:59.999Z', 'now'],
    ['2026-11-29T03:00:00Z', '2026-12-05T21:00Z'],
  ])('whose window of Saturday goes over midnight may be changed at %s: %s', (now, opening) => {
    expect(seenAt(now, window('sat 22:00-04:00'))).toBe(opening);
  });

  it('may not be changed on the morning of a day on whose evening the window begins', () => {
    expect(seenAt('2026-11-28T01:00:00Z', window('sat 22:00-04:00'))).toBe('2026-11-28T21:00Z');
  });

  it.each([
    ['2026-11-25T12:00:00Z', '2026-11-28T23:00Z'],
    ['2026-11-28T23:00:00Z', 'now'],
    ['2026-11-29T22:59:00Z', 'now'],
    ['2026-11-29T23:00:00Z', '2026-12-05T23:00Z'],
  ])('whose window begins and ends at midnight may be changed on the whole day, at %s: %s', (now, opening) => {
    expect(seenAt(now, window('sun 00:00-00:00'))).toBe(opening);
  });

  it('may be changed in whichever of several windows comes first', () => {
    const windows = [window('sat 22:00-04:00'), window('mon,thu 01:00-02:00', 'America/New_York')];
    expect(seenAt('2026-11-25T12:00:00Z', ...windows)).toBe('2026-11-26T06:00Z');
    expect(seenAt('2026-11-26T06:30:00Z', ...windows)).toBe('now');
    expect(seenAt('2026-11-26T07:00:00Z', ...windows)).toBe('2026-11-28T21:00Z');
    expect(seenAt('2026-11-29T03:00:00Z', ...windows)).toBe('2026-11-30T06:00Z');
  });

  it('is on the day of its own time zone', () => {
    const kiritimati = window('sat 00:00-01:00', 'Pacific/Kiritimati');
    expect(seenAt('2026-11-27T09:00:00Z', kiritimati)).toBe('2026-11-27T10:00Z');
    expect(seenAt('2026-11-27T10:30:00Z', kiritimati)).toBe('now');
    const pagoPago = window('fri 23:00-23:30', 'Pacific/Pago_Pago');
    expect(seenAt('2026-11-28T10:15:00Z', pagoPago)).toBe('now');
    expect(seenAt('2026-11-28T10:30:00Z', pagoPago)).toBe('2026-12-05T10:00Z');
    expect(seenAt('2026-11-27T18:00:00Z', window('fri 23:45-23:50', 'Asia/Kathmandu'))).toBe('now');
  });
});

// Berlin puts its clocks forward on 29 March 2026 (02:00 becomes 03:00, 01:00 UTC) and back on 25 October (03:00 becomes 02:00, 01:00 UTC).
describe('a maintenance window on a day when clocks are changed', () => {
  it.each([
    ['begins at the change when its hour is skipped', 'sun 02:30-05:00', '2026-03-28T12:00:00Z', '2026-03-29T01:00Z'],
    ['is open after the skipped hour', 'sun 02:30-05:00', '2026-03-29T01:00:00Z', 'now'],
    ['ends by the new clock', 'sun 02:30-05:00', '2026-03-29T03:00:00Z', '2026-04-05T00:30Z'],
    ['ends at the change when that hour is skipped', 'sun 01:00-02:30', '2026-03-29T00:59:00Z', 'now'],
    ['is closed from the change on', 'sun 01:00-02:30', '2026-03-29T01:00:00Z', '2026-04-04T23:00Z'],
    [
      'opens a week later when it is skipped as a whole',
      'sun 02:00-03:00',
      '2026-03-28T12:00:00Z',
      '2026-04-05T00:00Z',
    ],
    ['over that night ends by the new clock', 'sat 22:00-04:00', '2026-03-29T02:00:00Z', '2026-04-04T20:00Z'],
    ['begins at the first of two equal hours', 'sun 02:30-05:00', '2026-10-24T12:00:00Z', '2026-10-25T00:30Z'],
    ['stays open in the second of them', 'sun 02:30-05:00', '2026-10-25T01:10:00Z', 'now'],
    ['ends at the first of two equal hours', 'sun 01:00-02:30', '2026-10-25T00:30:00Z', '2026-11-01T00:00Z'],
    ['does not open again in the second', 'sun 01:00-02:30', '2026-10-25T01:15:00Z', '2026-11-01T00:00Z'],
    ['over that night is an hour longer', 'sat 22:00-04:00', '2026-10-25T02:59:00Z', 'now'],
    ['ends by the winter clock', 'sat 22:00-04:00', '2026-10-25T03:00:00Z', '2026-10-31T21:00Z'],
  ])('%s', (_, text, now, opening) => {
    expect(seenAt(now, window(text))).toBe(opening);
  });

  it('knows changes of half an hour', () => {
    // Lord Howe goes from UTC+10:30 to UTC+11 on 4 October 2026 at 02:00: 02:15 is skipped.
    const lordHowe = window('sun 02:15-03:00', 'Australia/Lord_Howe');
    expect(seenAt('2026-10-03T12:00:00Z', lordHowe)).toBe('2026-10-03T15:30Z');
    expect(seenAt('2026-10-03T15:59:00Z', lordHowe)).toBe('now');
    expect(seenAt('2026-10-03T16:00:00Z', lordHowe)).toBe('2026-10-10T15:15Z');
  });
});

describe('a maintenance window that is not one', () => {
  const good = { days: ['sat'], from: '22:00', to: '04:00', timeZone: 'Europe/Berlin' };
  it.each([
    ['without days', { days: [] }, 'days'],
    ['on a day that is none', { days: ['samstag'] }, 'days'],
    ['at an hour that is none', { from: '24:00' }, 'from'],
    ['at a time without minutes', { to: '4' }, 'to'],
    ['in a time zone that is none', { timeZone: 'Europe/Bielefeld' }, 'timeZone'],
    ['in no time zone', { timeZone: '' }, 'timeZone'],
  ])('%s is refused', (_, change, field) => {
    const { success, error } = maintenanceWindowSchema.safeParse({ ...good, ...change });
    expect(success).toBe(false);
    expect(error?.issues[0]?.path[0]).toBe(field);
  });

  it('with another field is refused', () => {
    expect(maintenanceWindowSchema.safeParse({ ...good, until: '05:00' }).success).toBe(false);
    expect(maintenanceWindowSchema.safeParse(good).success).toBe(true);
  });
});
