/**
 * Where the periods of a calendar begin and end.
 *
 * A period is the time from one boundary to the next, its beginning included and its end not. A boundary is a local date
 * and a time of day, and as an instant it is the first one whose local time is at or after that: where the clocks leap
 * over it, the end of the gap; where they show it twice, the first time. So days have 23 to 25 hours, every boundary
 * happens once, and a day of the month that a month does not have is its last one, every time anew.
 *
 * Boundaries are numbered, and the period of a moment is found among instants, never among local times: those go back.
 */

import type { At, Ms } from "./time.ts";

export const CALENDAR_UNITS = ["minute", "hour", "day", "week", "month", "year"] as const;
export const WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] as const;
export type CalendarUnit = (typeof CALENDAR_UNITS)[number];
export type Weekday = (typeof WEEKDAYS)[number];

/** When slots come back that do so by the calendar, or each so long after it was taken. */
export interface Window {
	/** A unit of the calendar, or seconds. */
	every: CalendarUnit | number;
	/** Of the IANA database; for periods of a day and longer. */
	timeZone: string;
	/** The time of day at which periods begin, `HH:MM`; for those of a day and longer. */
	at: string;
	/** The day on which periods begin: of the week, of the month, or `MM-DD` of the year; null where they are shorter. */
	startsOn: Weekday | number | string | null;
	/** Each slot comes back exactly so long after it was taken. */
	sliding: boolean;
}

/** Its end is the beginning of the next one. */
export interface Period {
	startsAt: At;
	endsAt: At;
}

const DAY_MS: Ms = 86_400_000;
const FIXED_MS: Partial<Record<CalendarUnit, Ms>> = { minute: 60_000, hour: 3_600_000 };

/** How long a window is whose length is always the same; null: its periods differ. */
export function fixedMs({ every, sliding }: Pick<Window, "every" | "sliding">): Ms | null {
	if (typeof every === "number") return every * 1_000;
	return FIXED_MS[every] ?? (sliding && every === "day" ? DAY_MS : null);
}

/** The period that a moment is in. Those of a fixed length are counted from the epoch, in UTC. */
export function periodAt(window: Window, now: At): Period {
	const length = fixedMs(window);
	if (length !== null) {
		const startsAt = Math.floor(now / length) * length;
		return { startsAt, endsAt: startsAt + length };
	}
	// The boundary of the local date may lie a day off the moment, on either side, and so may the one beside it.
	let number = numberOf(window, localTime(window.timeZone, now)) + 1;
	let endsAt = boundary(window, number + 1);
	for (;;) {
		const startsAt = boundary(window, number);
		if (startsAt <= now) return { startsAt, endsAt };
		endsAt = startsAt;
		number -= 1;
	}
}

/** The number of the boundary on or before a local date. */
function numberOf({ every, startsOn }: Window, local: Ms): number {
	const date = new Date(local);
	const month = date.getUTCFullYear() * 12 + date.getUTCMonth();
	const day = Math.floor(local / DAY_MS);
	if (every === "day") return day;
	if (every === "week") return Math.floor((day - firstWeekday(startsOn)) / 7);
	return every === "month" ? month : Math.floor(month / 12);
}

/** The instant of a boundary. */
function boundary({ every, startsOn, at, timeZone }: Window, number: number): At {
	const [hour = 0, minute = 0] = at.split(":").map(Number);
	return firstInstant(timeZone, dateOf(every as CalendarUnit, startsOn, number) + (hour * 60 + minute) * 60_000);
}

/** The local date of a boundary, as if it were one of UTC. */
function dateOf(every: CalendarUnit, startsOn: Window["startsOn"], number: number): Ms {
	if (every === "day") return number * DAY_MS;
	if (every === "week") return (number * 7 + firstWeekday(startsOn)) * DAY_MS;
	if (every === "month") return dayOf(Math.floor(number / 12), number % 12, Number(startsOn ?? 1));
	const [month = 1, day = 1] = String(startsOn ?? "01-01")
		.split("-")
		.map(Number);
	return dayOf(number, month - 1, day);
}

/** A date of a month, or the last one that it has. */
function dayOf(year: number, month: number, day: number): Ms {
	return Date.UTC(year, month, Math.min(day, new Date(Date.UTC(year, month + 1, 0)).getUTCDate()));
}

/** The first day since the epoch, a Thursday, that is this day of the week. */
const firstWeekday = (startsOn: Window["startsOn"]): number =>
	(WEEKDAYS.indexOf((startsOn ?? "monday") as Weekday) - 3 + 7) % 7;

/** The first instant whose local time is at or after `local`. */
function firstInstant(timeZone: string, local: Ms): At {
	// No zone is further from UTC than a day, and none changes its offset twice within two.
	const offsets = [-DAY_MS, 0, DAY_MS].map((ms) => offsetAt(timeZone, local + ms));
	const found = offsets.map((offset) => local - offset).filter((at) => localTime(timeZone, at) === local);
	if (found.length > 0) return Math.min(...found);
	// The clocks leap over it. Where they do is a whole second.
	let before = Math.floor((local - DAY_MS) / 1_000);
	let after = Math.ceil((local + DAY_MS) / 1_000);
	while (after - before > 1) {
		const middle = Math.floor((before + after) / 2);
		if (localTime(timeZone, middle * 1_000) >= local) after = middle;
		else before = middle;
	}
	return after * 1_000;
}

const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(timeZone: string): Intl.DateTimeFormat {
	const known = formats.get(timeZone);
	if (known) return known;
	const all = {
		year: "numeric",
		month: "numeric",
		day: "numeric",
		hour: "numeric",
		minute: "numeric",
		second: "numeric",
	};
	const format = new Intl.DateTimeFormat("en-US", {
		...(all as Intl.DateTimeFormatOptions),
		...{ timeZone, calendar: "gregory", numberingSystem: "latn", hourCycle: "h23" },
	});
	formats.set(timeZone, format);
	return format;
}

/** What the clocks of a zone show, as if it were UTC. */
function localTime(timeZone: string, at: At): Ms {
	if (timeZone === "UTC") return at;
	const shown: Record<string, number> = {};
	for (const { type, value } of formatOf(timeZone).formatToParts(at)) shown[type] = Number(value);
	const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = shown;
	return Date.UTC(year, month - 1, day, hour, minute, second) + (((at % 1_000) + 1_000) % 1_000);
}

const offsetAt = (timeZone: string, at: At): Ms => localTime(timeZone, at) - at;
