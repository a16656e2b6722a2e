/** What a caller names: checked before anything is asked, for in JavaScript a mistake here would run work without a limit. */

import type { Slots } from "../protocol.ts";

/** The limits to take slots of: one name, several, or slots per name. Names are de-duplicated; none: nothing is asked. */
export type Names<N extends string = string> =
	| N
	| readonly N[]
	| (string extends N ? Slots : { readonly [Name in N]?: number });

/** Slots per name, whichever way they were said. A name that appears in `occupy` alone is a mistake. */
export function slotsOf(names: Names, occupy: number | Slots = 1, option = "names"): Slots {
	const all = listOf(names, option);
	const own = isPlain(names) ? names : {};
	const each = typeof occupy === "object" ? occupy : {};
	if (!isPlain(each)) throw wrong("`occupy`", "a number, or an object from name to slots", each);
	const rest = typeof occupy === "object" ? 1 : occupy;
	for (const name of Object.keys(each)) {
		if (!all.includes(name)) throw new TypeError(`"occupy" speaks of "${name}", which is not among the names.`);
	}
	for (const slots of [...Object.values(own), ...Object.values(each), rest]) {
		if (!(Number.isSafeInteger(slots) && slots >= 1)) throw wrong("Slots", "whole numbers from 1", slots);
	}
	const of = (slots: Slots, name: string): number | undefined => (Object.hasOwn(slots, name) ? slots[name] : undefined);
	// From entries, because a limit may be called "__proto__".
	return Object.fromEntries(all.map((name) => [name, of(own, name) ?? of(each, name) ?? rest]));
}

/** A lease by its id and its names, and nothing else of it. */
export function checkLease(lease: { id: string; names: Names }): { id: string; names: Names } {
	const { id, names } = checkObject(lease, "The lease");
	checkText(id, "The id of a lease");
	listOf(names, "names");
	return { id, names };
}

/** The names in whichever form. */
function listOf(names: Names, option: string): readonly string[] {
	const all = typeof names === "string" ? [names] : Array.isArray(names) ? (names as string[]) : null;
	if (!all && !isPlain(names)) {
		throw wrong(`\`${option}\``, "a name, a list of names, or an object from name to slots", names);
	}
	const list = all ?? Object.keys(names);
	// Not `forEach`: it passes over the holes of a list.
	for (const name of list) checkText(name, "A name");
	return list;
}

/** Part of a path. A URL has no place for `.` and `..`: they would be read as a folder, even when escaped. */
export function inPath(text: string, what: string): string {
	checkText(text, what);
	if (text === "." || text === ".." || text === "") throw new TypeError(`${what} cannot be "${text}".`);
	return encodeURIComponent(text);
}

/** Text of whole characters: half of a surrogate pair has no bytes, so it would arrive as another. */
function checkText(text: unknown, what: string): void {
	if (typeof text !== "string") throw wrong(what, "a text", text);
	if (/\p{Surrogate}/u.test(text)) throw wrong(what, "Unicode without half of a surrogate pair", text);
}

export function checkWork(work: unknown): void {
	if (typeof work !== "function") throw wrong("The work", "a function", work);
}

/** Options, settings or a lease, of whatever class. */
export function checkObject<T>(value: T, what: string): T {
	if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
	throw wrong(what, "an object", value);
}

/** An object of its own keys, also of another realm; no `Set`, `Map`, list, function or instance of a class. */
function isPlain(value: unknown): value is Slots {
	if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
	const prototype: unknown = Object.getPrototypeOf(value);
	return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** Says what was to be given, and what was. */
function wrong(what: string, expected: string, given: unknown): TypeError {
	return new TypeError(`${what} must be ${expected}, not ${shown(given)}.`);
}

function shown(value: unknown): string {
	if (typeof value === "string") return JSON.stringify(value.slice(0, 50));
	if (typeof value === "object" && value !== null) return `an instance of ${value.constructor?.name}`;
	return typeof value === "function" ? "a function" : String(value);
}
