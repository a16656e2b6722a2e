/** Where periods of a calendar begin and end, in zones that change their clocks. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { periodAt, type Window } from "../../src/core/calendar.ts";

const window = (changed: Partial<Window>): Window => ({
	...{ every: "day", timeZone: "UTC", at: "00:00", startsOn: null, sliding: false },
	...changed,
});

const DAY_MS = 86_400_000;

type Row = [what: string, window: Partial<Window>, now: string, startsAt: string, endsAt: string];

const table = (rows: Row[]) =>
	test.each(rows)("%s", (_, changed, now, startsAt, endsAt) => {
		const period = periodAt(window(changed), Date.parse(now));
		const shown = [period.startsAt, period.endsAt].map((at) => new Date(at).toISOString().replace(/:00\.000Z$/, "Z"));
		expect(shown).toEqual([startsAt, endsAt]);
	});

const NEW_YORK = { timeZone: "America/New_York" };
const LONDON = { timeZone: "Europe/London" };
const SYDNEY = { timeZone: "Australia/Sydney" };
const LORD_HOWE = { timeZone: "Australia/Lord_Howe" };

describe("a day", () => {
	table([
		["in UTC", {}, "2026-11-26T23:59:59.999Z", "2026-11-26T00:00Z", "2026-11-27T00:00Z"],
		["begins with its first instant", {}, "2026-11-27T00:00:00.000Z", "2026-11-27T00:00Z", "2026-11-28T00:00Z"],
		["at a time of day", { at: "09:30" }, "2026-11-26T09:29:59Z", "2026-11-25T09:30Z", "2026-11-26T09:30Z"],
		["of 23 hours, New York", NEW_YORK, "2026-03-08T12:00Z", "2026-03-08T05:00Z", "2026-03-09T04:00Z"],
		["of 25 hours, New York", NEW_YORK, "2026-11-01T12:00Z", "2026-11-01T04:00Z", "2026-11-02T05:00Z"],
		["of 23 hours, London", LONDON, "2026-03-29T12:00Z", "2026-03-29T00:00Z", "2026-03-29T23:00Z"],
		["of 25 hours, London", LONDON, "2026-10-25T12:00Z", "2026-10-24T23:00Z", "2026-10-26T00:00Z"],
		["of 23 hours, Sydney", SYDNEY, "2026-10-04T00:00Z", "2026-10-03T14:00Z", "2026-10-04T13:00Z"],
		["of 25 hours, Sydney", SYDNEY, "2026-04-05T00:00Z", "2026-04-04T13:00Z", "2026-04-05T14:00Z"],
		["of 23.5 hours, Lord Howe", LORD_HOWE, "2026-10-03T20:00Z", "2026-10-03T13:30Z", "2026-10-04T13:00Z"],
		["of 24.5 hours, Lord Howe", LORD_HOWE, "2026-04-04T20:00Z", "2026-04-04T13:00Z", "2026-04-05T13:30Z"],
		[
			"without a midnight, Cairo",
			{ timeZone: "Africa/Cairo" },
			"2026-04-24T12:00Z",
			"2026-04-23T22:00Z",
			"2026-04-24T21:00Z",
		],
		[
			"whose midnight is shown twice, Cairo",
			{ timeZone: "Africa/Cairo" },
			"2026-10-29T21:30Z",
			"2026-10-28T21:00Z",
			"2026-10-29T22:00Z",
		],
		[
			"without a midnight, Santiago",
			{ timeZone: "America/Santiago" },
			"2026-09-06T12:00Z",
			"2026-09-06T04:00Z",
			"2026-09-07T03:00Z",
		],
		[
			"whose last hour is shown twice, Santiago",
			{ timeZone: "America/Santiago" },
			"2026-04-05T03:30Z",
			"2026-04-04T03:00Z",
			"2026-04-05T04:00Z",
		],
		[
			"whose time of day is leapt over",
			{ ...NEW_YORK, at: "02:30" },
			"2026-03-08T12:00Z",
			"2026-03-08T07:00Z",
			"2026-03-09T06:30Z",
		],
		[
			"whose time of day is shown twice begins with the first",
			{ ...NEW_YORK, at: "01:30" },
			"2026-11-01T05:45Z",
			"2026-11-01T05:30Z",
			"2026-11-02T06:30Z",
		],
		["and once", { ...NEW_YORK, at: "01:30" }, "2026-11-01T06:30Z", "2026-11-01T05:30Z", "2026-11-02T06:30Z"],
	]);
});

describe("a week", () => {
	table([
		["begins on Monday", { every: "week" }, "2026-11-29T23:59Z", "2026-11-23T00:00Z", "2026-11-30T00:00Z"],
		[
			"or on Sunday",
			{ every: "week", startsOn: "sunday" },
			"2026-11-28T23:59Z",
			"2026-11-22T00:00Z",
			"2026-11-29T00:00Z",
		],
		["over a year's end", { every: "week" }, "2027-01-01T00:00Z", "2026-12-28T00:00Z", "2027-01-04T00:00Z"],
		[
			"of 167 hours",
			{ every: "week", ...NEW_YORK, startsOn: "sunday" },
			"2026-03-10T00:00Z",
			"2026-03-08T05:00Z",
			"2026-03-15T04:00Z",
		],
	]);
});

describe("a month", () => {
	const month = { every: "month" } as const;
	table([
		["is as long as it is, and not 30 days", month, "2026-01-31T23:59:59Z", "2026-01-01T00:00Z", "2026-02-01T00:00Z"],
		["February", month, "2026-02-28T23:59Z", "2026-02-01T00:00Z", "2026-03-01T00:00Z"],
		["February with a leap day", month, "2028-02-29T23:59Z", "2028-02-01T00:00Z", "2028-03-01T00:00Z"],
		[
			"from the 31st: January to February",
			{ ...month, startsOn: 31 },
			"2026-02-15T00:00Z",
			"2026-01-31T00:00Z",
			"2026-02-28T00:00Z",
		],
		[
			"from the 31st: February to March, without a drift",
			{ ...month, startsOn: 31 },
			"2026-03-15T00:00Z",
			"2026-02-28T00:00Z",
			"2026-03-31T00:00Z",
		],
		[
			"from the 31st: in a leap year",
			{ ...month, startsOn: 31 },
			"2028-03-01T00:00Z",
			"2028-02-29T00:00Z",
			"2028-03-31T00:00Z",
		],
		[
			"from the 31st: March to April",
			{ ...month, startsOn: 31 },
			"2026-04-29T00:00Z",
			"2026-03-31T00:00Z",
			"2026-04-30T00:00Z",
		],
		["over the year's end", { ...month, startsOn: 15 }, "2027-01-01T00:00Z", "2026-12-15T00:00Z", "2027-01-15T00:00Z"],
		[
			"of another zone is not late by its offset",
			{ ...month, timeZone: "Asia/Tokyo" },
			"2026-11-30T15:00Z",
			"2026-11-30T15:00Z",
			"2026-12-31T15:00Z",
		],
	]);
});

describe("a year", () => {
	table([
		["from New Year", { every: "year" }, "2026-12-31T23:59Z", "2026-01-01T00:00Z", "2027-01-01T00:00Z"],
		[
			"from a day of it",
			{ every: "year", startsOn: "04-06", ...LONDON },
			"2026-04-05T22:59Z",
			"2025-04-05T23:00Z",
			"2026-04-05T23:00Z",
		],
		[
			"from a leap day",
			{ every: "year", startsOn: "02-29" },
			"2026-01-01T00:00Z",
			"2025-02-28T00:00Z",
			"2026-02-28T00:00Z",
		],
		[
			"from a leap day that there is",
			{ every: "year", startsOn: "02-29" },
			"2028-03-01T00:00Z",
			"2028-02-29T00:00Z",
			"2029-02-28T00:00Z",
		],
	]);
});

describe("what is shorter than a day", () => {
	table([
		["a minute", { every: "minute" }, "2026-11-26T12:34:56Z", "2026-11-26T12:34Z", "2026-11-26T12:35Z"],
		["an hour", { every: "hour" }, "2026-11-26T12:34:56Z", "2026-11-26T12:00Z", "2026-11-26T13:00Z"],
		["a quarter of an hour", { every: 900 }, "2026-11-26T12:34:56Z", "2026-11-26T12:30Z", "2026-11-26T12:45Z"],
	]);
});

const zones = ["UTC", ...Object.values({ NEW_YORK, LONDON, SYDNEY, LORD_HOWE }).map(({ timeZone }) => timeZone)];
const windows = fc.record({
	every: fc.constantFrom("day", "week", "month", "year"),
	timeZone: fc.constantFrom(
		...zones,
		"Africa/Cairo",
		"America/Santiago",
		"Asia/Kathmandu",
		"Pacific/Apia",
		"America/Havana",
	),
	at: fc.constantFrom("00:00", "00:30", "01:30", "02:15", "23:59"),
	startsOn: fc.integer({ min: 1, max: 31 }),
});

test("every moment is in one period, which begins where the one before ended", () => {
	fc.assert(
		fc.property(windows, fc.integer({ min: 946_684_800_000, max: 2_208_988_800_000 }), ({ startsOn, ...rest }, now) => {
			const { every } = rest;
			const on = every === "month" ? startsOn : every === "week" ? "sunday" : every === "year" ? "03-31" : null;
			const of = (at: number) => periodAt(window({ ...(rest as Partial<Window>), startsOn: on }), at);
			const period = of(now);
			expect(period.startsAt).toBeLessThanOrEqual(now);
			expect(period.endsAt).toBeGreaterThan(now);
			for (const at of [period.startsAt, period.endsAt - 1]) expect(of(at)).toEqual(period);
			expect(of(period.endsAt).startsAt).toBe(period.endsAt);
			expect(of(period.startsAt - 1).endsAt).toBe(period.startsAt);
			if (every === "day") expect(period.endsAt - period.startsAt).toBeGreaterThan(DAY_MS / 2);
		}),
		{ numRuns: 1_000 },
	);
});
