/** The values of options: durations, counts, rates. Each says what it takes when it is given something else. */

import { InvalidArgumentError } from "commander";
import { BOUNDS, type CalendarUnit, type Window } from "../protocol.ts";

const UNITS = new Map(Object.entries({ ms: 0.001, s: 1, m: 60, min: 60, h: 3_600, d: 86_400 }));

const CALENDAR: CalendarUnit[] = ["minute", "hour", "day", "week", "month", "year"];

/** Seconds, or a number with a unit: `30`, `0.5`, `500ms`, `30s`, `5min`, `2h`. */
export function duration(text: string): number {
	const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim());
	const unit = UNITS.get(match?.[2]?.toLowerCase() || "s");
	if (!match?.[1] || unit === undefined) {
		throw new InvalidArgumentError("It takes seconds, or a number with a unit: 30, 500ms, 5min, 2h.");
	}
	return Number(match[1]) * unit;
}

export function leaseDuration(text: string): number {
	const seconds = duration(text);
	const { min, max } = BOUNDS.leaseSeconds;
	if (seconds < min || seconds > max) throw new InvalidArgumentError(`A lease lasts ${min} s to ${max} s.`);
	return seconds;
}

/** How long slots are lent; 0: not at all. */
export function lend(text: string): number {
	const seconds = duration(text);
	const { min, max } = BOUNDS.lendSeconds;
	if (seconds !== 0 && (seconds < min || seconds > max)) {
		throw new InvalidArgumentError(`Slots are lent for ${min} s to ${max} s; 0: not at all.`);
	}
	return seconds;
}

export function priority(text: string): number {
	if (/^\d$/.test(text) && Number(text) <= BOUNDS.priority) return Number(text);
	throw new InvalidArgumentError(`A priority is a whole number from 0 to ${BOUNDS.priority}.`);
}

/** How long a waiter is patient; 0: for ever. */
export function patience(text: string): number {
	const seconds = duration(text);
	if (seconds <= BOUNDS.starveAfterSeconds) return seconds;
	throw new InvalidArgumentError(`It takes at most ${BOUNDS.starveAfterSeconds} s; 0: for ever.`);
}

export function turnKey(text: string): string {
	const { length } = [...text];
	if (length >= 1 && length <= BOUNDS.keyLength) return text;
	throw new InvalidArgumentError(`A key has 1 to ${BOUNDS.keyLength} characters, not ${length}.`);
}

/** As in `tenant-42=3`, several times; the last `=` counts, for a key may have one. `none`: of no key. */
export function weights(text: string, before: Record<string, number> = {}): Record<string, number> {
	if (text === "none") return before;
	const [, key = "", weight = ""] = /^(.+)=(\d{1,4})$/su.exec(text) ?? [];
	if (key === "" || Number(weight) < 1 || Number(weight) > BOUNDS.weight) {
		throw new InvalidArgumentError(`It takes key=number, with a number from 1 to ${BOUNDS.weight}; or none.`);
	}
	return Object.fromEntries([...Object.entries(before), [turnKey(key), Number(weight)]]);
}

export function pauseDuration(text: string): number {
	const seconds = duration(text);
	if (seconds === 0) throw new InvalidArgumentError("A pause of 0 is the end of one: --end.");
	if (seconds > BOUNDS.pauseSeconds) throw new InvalidArgumentError(`A pause lasts ${BOUNDS.pauseSeconds} s at most.`);
	return seconds;
}

/** An integer from 0. */
export function count(text: string): number {
	if (!/^\d+$/.test(text) || Number(text) > BOUNDS.limit) {
		throw new InvalidArgumentError(`It takes a whole number from 0 to ${BOUNDS.limit}.`);
	}
	return Number(text);
}

/** Slots a second: `0.5`, or by a unit of time: `100/min`, `10000/d`. */
export function decay(text: string): number {
	const match = /^(\d+(?:\.\d+)?(?:e-?\d+)?)(?:\/([a-z]+))?$/i.exec(text.trim());
	const unit = UNITS.get(match?.[2]?.toLowerCase() || "s");
	if (!match?.[1] || unit === undefined || match[2]?.toLowerCase() === "ms") {
		throw new InvalidArgumentError("It takes slots a second, or by s, min, h or d: 0.5, 100/min, 5000/d.");
	}
	return Number(match[1]) / unit;
}

/** A unit of the calendar, or a duration in whole seconds; `none`: no window. */
export function windowEvery(text: string): Window["every"] | "none" {
	const wanted = text.trim().toLowerCase();
	if (wanted === "none" || CALENDAR.includes(wanted as CalendarUnit)) return wanted as CalendarUnit | "none";
	try {
		return duration(text);
	} catch (error) {
		if (!(error instanceof InvalidArgumentError)) throw error;
		throw new InvalidArgumentError(`It takes ${CALENDAR.join(", ")}, a time as 90s or 12h, or none.`);
	}
}

/** A weekday, a day of the month, or `MM-DD`. */
export const startDay = (text: string): string | number => (/^\d+$/.test(text) ? Number(text) : text.toLowerCase());

export function port(text: string): number {
	if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) {
		throw new InvalidArgumentError("--port takes a number from 0 to 65535.");
	}
	return Number(text);
}

export function notEmpty(text: string): string {
	if (text === "") throw new InvalidArgumentError("It needs a value.");
	return text;
}

/** For options that may be given several times. */
export const several = (text: string, before: string[] = []): string[] => [...before, notEmpty(text)];
