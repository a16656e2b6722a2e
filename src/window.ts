/** A window as people say it. */

import type { Window } from "./protocol.ts";

/** "each month from the 15th at 09:00, Europe/Berlin", "within any 90 s". */
export function windowWords({ every, timeZone, at, startsOn, sliding }: Window): string {
	const span = typeof every === "number" ? `${every} s` : every;
	if (sliding) return `within any ${span}`;
	const from = startsOn === null || isUsual(startsOn) ? "" : ` from ${dayWords(startsOn)}`;
	const time = at === "00:00" ? "" : ` at ${at}`;
	const zone = timeZone === "UTC" ? "" : `, ${timeZone}`;
	return `each ${span}${from}${time}${zone}`;
}

/** What a period starts on where nothing else is said. */
const isUsual = (startsOn: string | number): boolean => ["monday", 1, "01-01"].includes(startsOn);

function dayWords(startsOn: string | number): string {
	if (typeof startsOn !== "number") return startsOn.replace(/^[a-z]/, (first) => first.toUpperCase());
	const ending =
		startsOn % 10 > 3 || Math.floor(startsOn / 10) === 1 ? "th" : (["th", "st", "nd", "rd"][startsOn % 10] ?? "th");
	return `the ${startsOn}${ending}`;
}
