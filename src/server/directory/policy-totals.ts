/**
 * The sums of policies: what all keys of a policy told of their totals, kept by a few objects beside the directory, for
 * a policy may have 100,000 keys. Their number is that of the policies, however many keys there are.
 */

import type { At, Ms } from "../../core/time.ts";
import { combine, completed, newTotals, type Totals } from "../../core/totals.ts";
import { BOUNDS, type DeniedKeys } from "../../protocol.ts";
import type { PolicySum, Told } from "../contract/directory-calls.ts";
import { both, type Figures, NO_FIGURES } from "../contract/policy-sums.ts";

/** Keys that told within the last whole minute are those that are in use. */
const WINDOW_MS: Ms = 60_000;
/** Patterns that one object remembers; those of policies that are no more are forgotten first. */
const PATTERNS_MAX = 2 * BOUNDS.policies;

/** Keys of one policy of which one object remembers how often they were denied. */
const DENIED_KEYS_KEPT = 500;

/** How often keys were denied. Of more than are kept, those are forgotten that were denied least so far. */
class Denials {
	readonly #byName = new Map<string, number>();

	add(name: string, denied: number): void {
		this.#byName.set(name, (this.#byName.get(name) ?? 0) + denied);
		if (this.#byName.size <= 2 * DENIED_KEYS_KEPT) return;
		const kept = this.most().slice(0, DENIED_KEYS_KEPT);
		this.#byName.clear();
		for (const each of kept) this.#byName.set(each.name, each.denied);
	}

	most(): DeniedKeys["keys"] {
		const all = [...this.#byName].map(([name, denied]) => ({ name, denied }));
		return all.sort((a, b) => b.denied - a.denied || (a.name < b.name ? -1 : 1));
	}
}

interface Lately {
	figures: Figures;
	denials: Denials;
}

/** One of the objects: sums by pattern, written with each telling. */
export class PolicyTotals {
	readonly #sql: SqlStorage;
	/** By pattern, the one that told last at the end. */
	readonly #sums: Map<string, Totals>;
	#window = { startsAt: 0, now: new Map<string, Lately>(), before: new Map<string, Lately>() };

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
		const lately = this.#window.now.get(pattern) ?? { figures: NO_FIGURES, denials: new Denials() };
		const { grantedAtOnce, grantedAfterWait, denied } = told.totals;
		const { inUse, waiting } = told;
		lately.figures = both(lately.figures, {
			inUse,
			waiting,
			keys: 1,
			granted: grantedAtOnce + grantedAfterWait,
			denied,
		});
		if (denied > 0) lately.denials.add(told.name, denied);
		this.#window.now.set(pattern, lately);
		const [oldest] = this.#sums.keys();
		if (this.#sums.size <= PATTERNS_MAX || oldest === undefined) return;
		this.#sums.delete(oldest);
		this.#sql.exec("DELETE FROM totals WHERE pattern = ?", oldest);
	}

	all(now: At): PolicySum[] {
		this.#turn(now);
		return [...this.#sums].map(([pattern, totals]) => ({
			...{ pattern, totals },
			...(this.#window.before.get(pattern)?.figures ?? NO_FIGURES),
		}));
	}

	/** The keys that told of the most denials within this minute and the one before, most first. */
	deniedKeys(pattern: string, now: At): DeniedKeys["keys"] {
		this.#turn(now);
		const sum = new Denials();
		for (const { denials } of [this.#window.before.get(pattern), this.#window.now.get(pattern)].filter(
			(lately) => lately !== undefined,
		)) {
			for (const { name, denied } of denials.most()) sum.add(name, denied);
		}
		return sum.most().slice(0, BOUNDS.deniedKeys);
	}

	#turn(now: At): void {
		const { startsAt, now: current } = this.#window;
		if (now < startsAt + WINDOW_MS && now >= startsAt) return;
		const isNext = now < startsAt + 2 * WINDOW_MS && now >= startsAt;
		this.#window = { startsAt: now, now: new Map(), before: isNext ? current : new Map() };
	}
}
