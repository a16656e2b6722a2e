/** A window as callers send it: checked, completed, and refused with what would be right. */

import * as z from "zod";
import { CALENDAR_UNITS, fixedMs, WEEKDAYS, type Weekday } from "../../core/calendar.ts";
import { BOUNDS, type Window } from "../../protocol.ts";

const TIME_OF_DAY = /^([01][0-9]|2[0-3]):[0-5][0-9]$/;
const DAY_OF_YEAR = /^(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$/;
/** Days of each month, in a year that has most. */
const MOST_DAYS = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
/** Names that are told in place of a wrong one. */
const SUGGESTIONS = 3;

const { min, max } = BOUNDS.windowSeconds;

const isWhole = (value: unknown, least: number, most: number): boolean =>
	typeof value === "number" && Number.isInteger(value) && value >= least && value <= most;
const isEvery = (value: unknown): boolean => CALENDAR_UNITS.includes(value as never) || isWhole(value, min, max);
const isDay = (value: unknown): boolean =>
	value === null ||
	WEEKDAYS.includes(value as never) ||
	isWhole(value, 1, 31) ||
	(typeof value === "string" && DAY_OF_YEAR.test(value));

export const windowSchema = z
	.strictObject({
		every: z
			.custom<Window["every"]>(isEvery, {
				error: `one of ${CALENDAR_UNITS.join(", ")}, or whole seconds from ${min} to ${max}`,
			})
			.meta({
				description: "A unit of the calendar, or seconds.",
				override: { anyOf: [{ enum: [...CALENDAR_UNITS] }, { type: "integer", minimum: min, maximum: max }] },
			}),
		timeZone: z
			.string()
			.max(BOUNDS.timeZoneLength)
			.optional()
			.meta({ description: "Where the calendar hangs, by its IANA name; from days on.", example: "Europe/Berlin" }),
		at: z
			.string()
			.regex(TIME_OF_DAY, { error: "a time of day from 00:00 to 23:59" })
			.optional()
			.meta({ description: "The time of day at which periods begin; from days on.", example: "09:00" }),
		startsOn: z
			.custom<Window["startsOn"]>(isDay, {
				error: "a weekday, a day of the month from 1 to 31, or a day of the year as MM-DD",
			})
			.optional()
			.meta({
				description:
					"The day on which periods begin: a weekday of a week, 1 to 31 of a month (its last day, where it has no such one), MM-DD of a year.",
				override: {
					anyOf: [
						{ enum: [...WEEKDAYS, null] },
						{ type: "integer", minimum: 1, maximum: 31 },
						{ type: "string", pattern: DAY_OF_YEAR.source.replaceAll("\\d", "[0-9]") },
					],
				},
			}),
		sliding: z
			.boolean()
			.optional()
			.meta({ description: "Each slot comes back exactly so long after it was taken, in place of periods." }),
	})
	.transform((given, context): Window => {
		const { every, timeZone = "UTC", at = "00:00", startsOn = null, sliding = false } = given;
		const window = { every, timeZone, at, startsOn, sliding };
		const wrong = (field: keyof Window, message: string): void =>
			void context.addIssue({ code: "custom", path: [field], message, input: field });
		const length = fixedMs({ every, sliding });
		if (sliding && length === null) wrong("sliding", `a window of a ${every} has no one length: leave it out`);
		if (length !== null) {
			const what = sliding ? "sliding windows" : "days and longer";
			for (const field of ["timeZone", "at", "startsOn"] as const) {
				const isUsual =
					given[field] === undefined || given[field] === { timeZone: "UTC", at: "00:00", startsOn: null }[field];
				if (isUsual) continue;
				wrong(field, sliding ? `${what} have no calendar: leave it out` : `only for periods of ${what}: leave it out`);
			}
			return window;
		}
		const zone = zoneFault(timeZone);
		if (zone !== null) wrong("timeZone", zone);
		const day = dayFault(every as string, startsOn);
		if (day !== null) wrong("startsOn", day);
		return { ...window, startsOn: startsOn ?? DEFAULT_START[every as string] ?? null };
	})
	.meta({ description: "When slots come back, in place of `slotDecayPerSecond`." });

const DEFAULT_START: Record<string, Window["startsOn"]> = { week: "monday", month: 1, year: "01-01" };

function dayFault(every: string, startsOn: Window["startsOn"]): string | null {
	if (startsOn === null) return null;
	if (every === "day") return "a day begins `at` a time, and on every day: leave it out";
	if (every === "week")
		return WEEKDAYS.includes(startsOn as Weekday) ? null : `a week starts on one of ${WEEKDAYS.join(", ")}`;
	if (every === "month") return typeof startsOn === "number" ? null : "a month starts on a number from 1 to 31";
	const [, month, day] = DAY_OF_YEAR.exec(String(startsOn)) ?? [];
	if (month === undefined) return "a year starts on a day as MM-DD";
	const most = MOST_DAYS[Number(month) - 1] ?? 0;
	return Number(day) <= most ? null : `${month} has at most ${most} days`;
}

let zones: string[] | undefined;

/** Why a text is no time zone, with those that were perhaps meant; null: it is one. */
export function zoneFault(timeZone: string): string | null {
	// What is an offset to the runtime does not know when clocks change.
	const isName = /^[A-Za-z]/.test(timeZone);
	if (isName && isKnown(timeZone)) return null;
	zones ??= ["UTC", ...Intl.supportedValuesOf("timeZone")];
	const near = zones
		.map((zone) => ({ zone, distance: distanceTo(zone, timeZone) }))
		.sort((a, b) => a.distance - b.distance)
		.slice(0, SUGGESTIONS)
		.map(({ zone }) => zone);
	return `there is no such zone; the nearest are ${near.join(", ")}`;
}

function isKnown(timeZone: string): boolean {
	try {
		new Intl.DateTimeFormat("en", { timeZone });
		return true;
	} catch (error) {
		if (error instanceof RangeError) return false;
		throw error;
	}
}

/** How many letters must be changed from a zone to what was written for it, or from its city alone. */
function distanceTo(zone: string, written: string): number {
	const wanted = written.toLowerCase().replaceAll(" ", "_");
	const whole = zone.toLowerCase();
	const city = whole.slice(whole.lastIndexOf("/") + 1);
	return Math.min(editsBetween(whole, wanted), editsBetween(city, wanted) + 0.5);
}

function editsBetween(a: string, b: string): number {
	let before = Array.from({ length: b.length + 1 }, (_, index) => index);
	for (let i = 1; i <= a.length; i += 1) {
		const row = [i];
		for (let j = 1; j <= b.length; j += 1) {
			const replaced = (before[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
			row.push(Math.min(replaced, (before[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
		}
		before = row;
	}
	return before[b.length] ?? 0;
}
