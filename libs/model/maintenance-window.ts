import { z } from 'zod';

/** Days of the week, in the order of `Date.getUTCDay`. */
const weekdays = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;
const minute = 60_000;
const day = 1_440 * minute;

const clockTime = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'a time such as 22:00');

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

/** A time of the week in which a host may be changed. */
export const maintenanceWindowSchema = z.strictObject({
  days: z.array(z.enum(weekdays)).min(1).describe('Days on which it begins'),
  from: clockTime.describe('When it begins, by the clock of the time zone'),
  to: clockTime.describe('When it ends: on the next day when that is not after `from`'),
  timeZone: z.string().refine(isTimeZone, 'a time zone such as Europe/Berlin').describe('IANA time zone'),
});
export type MaintenanceWindow = z.infer<typeof maintenanceWindowSchema>;

const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(timeZone: string): Intl.DateTimeFormat {
  const known = formats.get(timeZone);
  if (known) return known;
  const numeric = { year: 'numeric', month: 'numeric', day: 'numeric' } as const;
  const time = { hour: 'numeric', minute: 'numeric', second: 'numeric', hourCycle: 'h23' } as const;
  const format = new Intl.DateTimeFormat('en-US', { ...numeric, ...time, timeZone, calendar: 'gregory' });
  formats.set(timeZone, format);
  return format;
}

/** What the clocks of a zone show at a time, as if it were UTC: both in ms since the epoch, of whole seconds. */
function wallClock(timeZone: string, at: number): number {
  const parts = formatOf(timeZone).formatToParts(at);
  const [year, month, date, hour, minutes, seconds] = (
    ['year', 'month', 'day', 'hour', 'minute', 'second'] as const
  ).map((type) => Number(parts.find((part) => part.type === type)?.value));
  return Date.UTC(year ?? 0, (month ?? 1) - 1, date, hour, minutes, seconds);
}

/**
 * The first time at which the clocks of a zone show `wall` or later. A time that is shown twice, when clocks are put back, is the first of
 * the two; one that is skipped, when they are put forward, is the moment of the change.
 */
function firstTimeAt(timeZone: string, wall: number): number {
  const offset = (at: number): number => wallClock(timeZone, at) - at;
  // Clocks are not changed twice within two days: one of these offsets holds.
  const before = wall - offset(wall - day);
  const after = wall - offset(wall + day);
  const matches = [before, after].filter((at) => wallClock(timeZone, at) === wall);
  if (matches.length > 0) return Math.min(...matches);
  // Between the two, to the second, lies the change.
  let [early, late] = [after, before];
  while (late - early > 1_000) {
    const middle = early + Math.floor((late - early) / 2_000) * 1_000;
    if (wallClock(timeZone, middle) < wall) early = middle;
    else late = middle;
  }
  return late;
}

/** The times at which a window opens and closes that begins on a day; the day is midnight by the wall clock, as if it were UTC. */
function openingOn(midnight: number, { from, to, timeZone }: MaintenanceWindow): { opens: number; closes: number } {
  const at = (time: string): number => midnight + (Number(time.slice(0, 2)) * 60 + Number(time.slice(3))) * minute;
  const end = to > from ? at(to) : at(to) + day;
  return { opens: firstTimeAt(timeZone, at(from)), closes: firstTimeAt(timeZone, end) };
}

/** Days looked ahead: a window of one day a week that a change of clocks skips opens in the week after. */
const lookAhead = 15;

/**
 * When a host may be changed next, in ms since the epoch; null when it may be now. A host without windows may always be changed. A window
 * over midnight belongs to the day it begins on, and one with `from` equal to `to` is a whole day.
 */
export function nextOpening(windows: readonly MaintenanceWindow[], now: number): number | null {
  if (windows.length === 0) return null;
  let next = Number.POSITIVE_INFINITY;
  for (const window of windows) {
    const today = Math.floor(wallClock(window.timeZone, now) / day) * day;
    for (let days = -1; days <= lookAhead; days += 1) {
      const midnight = today + days * day;
      if (!window.days.some((name) => name === weekdays[new Date(midnight).getUTCDay()])) continue;
      const { opens, closes } = openingOn(midnight, window);
      if (opens <= now && now < closes) return null;
      if (opens > now && opens < closes) next = Math.min(next, opens);
    }
  }
  return next;
}
