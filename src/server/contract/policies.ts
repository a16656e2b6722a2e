/**
 * Which policy a name follows: the one with exactly its name, else the one with the longest prefix of it. Pure, and
 * used where the list is: by the directory, and by each Worker that has a copy of it.
 */

import type { Ms } from "../../core/time.ts";
import { DEFAULTS, type Policy, type Region, type Settings, type Window } from "../../protocol.ts";

/**
 * How old what is known of the policies may be when a request is decided by it. With the second for which a denial
 * may be remembered, a changed policy holds everywhere within five seconds.
 */
export const RULING_MAX_MS: Ms = 4_000;

/** Settings of a name that was not configured and has no policy: it shows up for an operator and holds no caller back. */
export const DEFAULT_SETTINGS: Settings = { limit: 1, slotDecayPerSecond: 0, active: false, enforce: true };

/** What the policies say of one name. */
export interface Ruling {
	/** Counts the changes of the policies, so that the newer of two rulings is known. */
	version: number;
	/** When the directory began, as a version: smaller ones are of another that was lost. */
	since: number;
	/** Null: no policy is for this name. */
	policy: Policy | null;
	/** How long ago it was asked of the directory. */
	ageMs: Ms;
}

/** All policies, as of one version of them. */
export class PolicyTable {
	readonly version: number;
	readonly #exact = new Map<string, Policy>();
	readonly #byPrefix = new Map<string, Policy>();
	/** Whether any of them says where its keys are to live. */
	readonly #places: boolean;
	/** Lengths that prefixes have, the longest first. */
	readonly #lengths: number[];

	constructor(version: number, policies: Iterable<Policy>) {
		this.version = version;
		let places = false;
		for (const policy of policies) {
			places ||= policy.region !== null;
			const prefix = prefixOf(policy.pattern);
			if (prefix === null) this.#exact.set(policy.pattern, policy);
			else this.#byPrefix.set(prefix, policy);
		}
		this.#places = places;
		this.#lengths = [...new Set([...this.#byPrefix.keys()].map(({ length }) => length))].sort((a, b) => b - a);
	}

	get isEmpty(): boolean {
		return this.#exact.size === 0 && this.#byPrefix.size === 0;
	}

	/** Where the policies want a name to live. Asked with every call, and mostly of policies that say nothing of it. */
	regionOf(name: string): Region | null {
		return this.#places ? (this.match(name)?.region ?? null) : null;
	}

	match(name: string): Policy | null {
		const exact = this.#exact.get(name);
		if (exact) return exact;
		for (const length of this.#lengths) {
			// A prefix may be the whole name; a name that is shorter than it has none of it.
			const found = length <= name.length ? this.#byPrefix.get(name.slice(0, length)) : undefined;
			if (found) return found;
		}
		return null;
	}
}

/** A pattern without its closing `*`; null: it is one exact name. */
export const prefixOf = (pattern: string): string | null => (pattern.endsWith("*") ? pattern.slice(0, -1) : null);

/** The settings alone. */
export const settingsOf = (settings: Settings): Settings => {
	const { limit, slotDecayPerSecond, window = null, active, enforce, lendSeconds = 0 } = settings;
	const { weights = {}, starveAfterSeconds = DEFAULTS.starveAfterSeconds } = settings;
	return { limit, slotDecayPerSecond, window, active, enforce, lendSeconds, weights, starveAfterSeconds };
};

export const sameSettings = (a: Settings, b: Partial<Settings>): boolean =>
	a.limit === b.limit &&
	a.slotDecayPerSecond === b.slotDecayPerSecond &&
	a.active === b.active &&
	a.enforce === (b.enforce ?? true) &&
	(a.lendSeconds ?? 0) === (b.lendSeconds ?? 0) &&
	(a.starveAfterSeconds ?? DEFAULTS.starveAfterSeconds) === (b.starveAfterSeconds ?? DEFAULTS.starveAfterSeconds) &&
	sameWeights(a.weights ?? {}, b.weights ?? {}) &&
	sameWindow(a.window ?? null, b.window ?? null);

const sameWeights = (a: Record<string, number>, b: Record<string, number>): boolean =>
	Object.keys(a).length === Object.keys(b).length &&
	Object.entries(a).every(([key, weight]) => Object.hasOwn(b, key) && b[key] === weight);

const sameWindow = (a: Window | null, b: Window | null): boolean =>
	a === b || (a !== null && b !== null && JSON.stringify(a) === JSON.stringify(b));
