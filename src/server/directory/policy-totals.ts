/**
 * The sums of policies: what all keys of a policy told of their totals, kept by a few objects beside the directory, for
 * a policy may have 100,000 keys. Their number is that of the policies, however many keys there are.
 */

import type { At, Ms } from "../../core/time.ts";
import { combine, completed, newTotals, type Totals } from "../../core/totals.ts";
import { BOUNDS } from "../../protocol.ts";
import type { PolicySum, Told } from "../contract/directory-calls.ts";
import { both, type Figures, NO_FIGURES } from "../contract/policy-sums.ts";

/** Keys that told within the last whole minute are those that are in use. */
const WINDOW_MS: Ms = 60_000;
/** Patterns that one object remembers; those of policies that are no more are forgotten first. */
const PATTERNS_MAX = 2 * BOUNDS.policies;

/** One of the objects: sums by pattern, written with each telling. */
export class PolicyTotals {
	readonly #sql: SqlStorage;
	/** By pattern, the one that told last at the end. */
	readonly #sums: Map<string, Totals>;
	#window = { startsAt: 0, now: new Map<string, Figures>(), before: new Map<string, Figures>() };

	constructor(sql: SqlStorage) {
		this.#sql = sql;
		const rows = sql.exec<{ pattern: string; data: string }>("SELECT pattern, data FROM totals").toArray();
		this.#sums = new Map(rows.map(({ pattern, data }) => [pattern, completed(JSON.parse(data) as Partial<Totals>)]));
	}

	add(pattern: string, told: Told, now: At): void {
		const sum = combine(this.#sums.get(pattern) ?? newTotals(), told.totals, 1);
		this.#sums.delete(pattern);
		this.#sums.set(pattern, sum);
		this.#sql.exec("INSERT OR REPLACE INTO totals (pattern, data) VALUES (?, ?)", pattern, JSON.stringify(sum));
		this.#turn(now);
		this.#window.now.set(pattern, both(this.#window.now.get(pattern) ?? NO_FIGURES, { ...told, keys: 1 }));
		const [oldest] = this.#sums.keys();
		if (this.#sums.size <= PATTERNS_MAX || oldest === undefined) return;
		this.#sums.delete(oldest);
		this.#sql.exec("DELETE FROM totals WHERE pattern = ?", oldest);
	}

	all(now: At): PolicySum[] {
		this.#turn(now);
		return [...this.#sums].map(([pattern, totals]) => ({
			...{ pattern, totals },
			...(this.#window.before.get(pattern) ?? NO_FIGURES),
		}));
	}

	#turn(now: At): void {
		const { startsAt, now: current } = this.#window;
		if (now < startsAt + WINDOW_MS && now >= startsAt) return;
		const isNext = now < startsAt + 2 * WINDOW_MS && now >= startsAt;
		this.#window = { startsAt: now, now: new Map(), before: isNext ? current : new Map() };
	}
}
