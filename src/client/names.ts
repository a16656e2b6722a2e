/** What a caller names: checked before anything is asked, for in JavaScript a mistake here would run work without a limit. */

import type { Slots } from "../protocol.ts";

/** The limits to take slots of: one name, several, or slots per name. Names are de-duplicated; none: nothing is asked. */
export type Names = string | readonly string[] | Slots;

const NAMES = "a name, a list of names, or an object from name to slots";

/** Slots per name, whichever way they were said. A name that appears in `occupy` alone is a mistake. */
export function slotsOf(names: Names, occupy: number | Slots = 1, option = "names"): Slots {
	const own = isPlain(names) ? (names as Slots) : {};
	const all = typeof names === "string" ? [names] : Array.isArray(names) ? (names as string[]) : Object.keys(own);
	if (typeof names !== "string" && !Array.isArray(names) && !isPlain(names)) {
		throw new TypeError(`\`${option}\` must be ${NAMES}, and was ${shown(names)}.`);
	}
	// Not `forEach`: it passes over the holes of a list.
	for (const name of all) checkText(name, option === "names" ? "A name" : `A name of \`${option}\``);
	const each =
		typeof occupy === "object" ? checkPlain(occupy, "occupy", "a number, or an object from name to slots") : {};
	const rest = typeof occupy === "object" ? 1 : occupy;
	for (const name of Object.keys(each)) {
		if (!all.includes(name)) throw new TypeError(`"occupy" speaks of "${name}", which is not among the names.`);
	}
	for (const [slots, of] of [...ofEach(own, option), ...ofEach(each, "occupy"), [rest, "`occupy`"] as const]) {
		if (Number.isSafeInteger(slots) && (slots as number) >= 1) continue;
		throw new TypeError(`${of} must be a whole number from 1, and was ${shown(slots)}.`);
	}
	const given = (slots: Slots, name: string): number | undefined =>
		Object.hasOwn(slots, name) ? slots[name] : undefined;
	// From entries, because a limit may be called "__proto__".
	return Object.fromEntries(all.map((name) => [name, given(own, name) ?? given(each, name) ?? rest]));
}

const ofEach = (slots: Slots, option: string) =>
	Object.entries(slots).map(([name, value]) => [value as unknown, `\`${option}\` of "${name}"`] as const);

/** The names of a lease, as they were answered. */
export function checkLease(lease: { id: string; names: Names }): { id: string; names: Names } {
	const { id, names } = checkObject(lease, "The lease", "an object with `id` and `names`");
	checkText(id, "The id of a lease");
	if (typeof names !== "string" && !Array.isArray(names) && !isPlain(names)) {
		throw new TypeError(`The names of a lease must be ${NAMES}, and were ${shown(names)}.`);
	}
	for (const name of typeof names === "string" ? [names] : Array.isArray(names) ? names : Object.keys(names)) {
		checkText(name, "A name");
	}
	return { id, names };
}

/** Part of a path. A URL has no place for `.` and `..`: they would be read as a folder, even when escaped. */
export function inPath(text: string, what: string): string {
	checkText(text, what);
	if (text === "." || text === ".." || text === "") throw new TypeError(`${what} cannot be "${text}".`);
	return encodeURIComponent(text);
}

/** Text of whole characters: half of a surrogate pair has no bytes, so it would arrive as another. */
function checkText(text: unknown, what: string): void {
	if (typeof text !== "string") throw new TypeError(`${what} must be a text, and was ${shown(text)}.`);
	if (/\p{Surrogate}/u.test(text)) throw new TypeError(`${what} must be Unicode, and had half of a surrogate pair.`);
}

export function checkWork(work: unknown): void {
	if (typeof work !== "function") throw new TypeError(`The work must be a function, and was ${shown(work)}.`);
}

/** An object of options or settings, of whatever class. */
export function checkObject<T>(value: T, what: string, expected = "an object"): T {
	if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
	throw new TypeError(`${what} must be ${expected}, and was ${shown(value)}.`);
}

function checkPlain<T>(value: T, option: string, expected: string): T {
	if (isPlain(value)) return value;
	throw new TypeError(`\`${option}\` must be ${expected}, and was ${shown(value)}.`);
}

/** An object of its own keys, also of another realm; no `Set`, `Map`, list, function or instance of a class. */
function isPlain(value: unknown): boolean {
	if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
	const prototype: unknown = Object.getPrototypeOf(value);
	return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** What was given, in a few words. */
function shown(value: unknown): string {
	if (typeof value === "string") return JSON.stringify(value.length > 50 ? `${value.slice(0, 50)}…` : value);
	if (typeof value === "function") return `the function ${value.name || "without a name"}`;
	if (typeof value !== "object" || value === null) return String(value);
	if (Array.isArray(value)) return "a list";
	const { name = "Object" } = (value.constructor as { name?: string } | undefined) ?? {};
	return name === "Object" ? "an object" : `a ${name}`;
}
