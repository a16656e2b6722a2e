/**
 * In what condition limits are, by what they told: which of them need a look, and the sums of all. It is in memory alone. The
 * names that need one for longer than a moment are written down together, so that a directory that begins again knows whom to
 * ask; all others tell within a minute of their use.
 */

import { byAttention, type Condition, type Need, needOf } from "../../attention.ts";
import type { At, Ms } from "../../core/time.ts";
import type { HouseTotals } from "../../protocol.ts";
import { CONDITION_AGAIN_MS, CONDITION_MS, CONDITIONS_PER_MINUTE } from "../contract/conditions.ts";
import type { PolicySum, Telling } from "../contract/directory-calls.ts";

/** What lasts without anything happening, and so is never told again: it is asked for, while somebody looks, when it is as old. */
const ASK_MS: Ms = 15_000;
/** Limits that are asked at once. */
const ASKED = 50;
/** Conditions kept: more limits than that are not in trouble on one day. Of others only the calmest are forgotten. */
const KEPT = 20_000;
/** Names that are written down: of more, an operator has heard. */
const WRITTEN = 1_000;
/** Names are written down this long after they changed. */
const WRITE_MS: Ms = 30_000;
/** What a sum of the keys of policies is good for. */
const SUMS_MS: Ms = 15_000;

/** Needs that stay though nothing happens. */
const LASTING: ReadonlySet<Need | null> = new Set<Need>(["paused", "waiting", "full"]);

interface Told extends Telling {
	name: string;
	at: At;
}

interface Deps {
	sql: SqlStorage;
	/** Null: there is no such limit. */
	ask(name: string): Promise<Telling | null>;
	policySums(): Promise<PolicySum[]>;
	/** Something may look different from before. */
	changed(): void;
}

export class Attention {
	readonly #deps: Deps;
	readonly #told = new Map<string, Told>();
	/** Names that were written down by the directory before this one, which did not tell yet. */
	#remembered: string[];
	#written: ReadonlySet<string>;
	#timer: ReturnType<typeof setTimeout> | null = null;
	#asking = 0;
	#sums: { at: At; sums: PolicySum[] } | null = null;
	/** Tellings within the minute that began then, and within the one before. */
	#minute = { startsAt: 0, now: 0, before: 0 };

	constructor(deps: Deps) {
		this.#deps = deps;
		const { names } = deps.sql.exec<{ names: string }>("SELECT names FROM attention").one();
		this.#remembered = JSON.parse(names) as string[];
		this.#written = new Set(this.#remembered);
	}

	/** Answers for how long the limit is to tell nothing more. */
	tell(name: string, telling: Telling, now: At): Ms {
		this.#put(name, telling, now);
		this.#turn(now);
		this.#minute.now += 1;
		const lately = Math.max(this.#minute.now, this.#minute.before);
		return Math.ceil(CONDITION_MS * Math.max(1, lately / CONDITIONS_PER_MINUTE));
	}

	forget(name: string): void {
		if (!this.#told.delete(name)) return;
		this.#deps.changed();
		this.#writeSoon(name, false);
	}

	/** Names that start with `prefix` of limits that need a look, the worst first. */
	names(prefix: string, count: number, now: At): string[] {
		const found: { name: string; condition: Condition }[] = [];
		for (const told of this.#told.values()) {
			if (!told.name.startsWith(prefix)) continue;
			const condition = later(told, now);
			if (needOf(condition) !== null) found.push({ name: told.name, condition });
		}
		found.sort((a, b) => byAttention(a.condition, b.condition) || (a.name < b.name ? -1 : 1));
		return found.slice(0, count).map(({ name }) => name);
	}

	/** `limits`: how many there are. */
	totals(prefix: string, limits: number, now: At): HouseTotals {
		const totals: HouseTotals = { limits, full: 0, waiting: 0, lastMinute: { granted: 0, denied: 0 } };
		for (const told of this.#told.values()) {
			if (!told.name.startsWith(prefix)) continue;
			const { active, limit, activeSlots, waiting, granted, denied } = later(told, now);
			if (active && activeSlots >= limit) totals.full += 1;
			totals.waiting += waiting;
			if (told.isKey) continue;
			totals.lastMinute.granted += granted;
			totals.lastMinute.denied += denied;
		}
		for (const { pattern, granted, denied } of this.#sums?.sums ?? []) {
			if (!pattern.startsWith(prefix)) continue;
			totals.lastMinute.granted += granted;
			totals.lastMinute.denied += denied;
		}
		return totals;
	}

	/**
	 * While somebody looks: asks the limits that will not tell by themselves, and for the sums of policies. Resolves when
	 * those were heard that a directory before this one had written down.
	 */
	async refresh(now: At): Promise<void> {
		const remembered = this.#remembered.splice(0);
		const begun = remembered.length > 0 || this.#sums === null;
		if (this.#sums === null || now >= this.#sums.at + SUMS_MS || now < this.#sums.at) {
			const known = this.#sums?.sums ?? [];
			this.#sums = { at: now, sums: known };
			const heard = this.#deps.policySums().then(
				(sums) => {
					this.#sums = { at: now, sums };
					this.#deps.changed();
				},
				() => undefined, // Asked again in a while.
			);
			if (begun) await heard;
		}
		const old = [...this.#told.values()]
			.filter((told) => now >= told.at + ASK_MS && LASTING.has(needOf(later(told, now))))
			.sort((a, b) => a.at - b.at)
			.map(({ name }) => name);
		const first = this.#ask(
			remembered.filter((name) => !this.#told.has(name)),
			now,
		);
		void this.#ask(old.slice(0, ASKED), now);
		await first;
	}

	async #ask(names: string[], now: At): Promise<void> {
		for (let from = 0; from < names.length; from += ASKED) {
			if (this.#asking >= ASKED) return;
			const some = names.slice(from, from + ASKED);
			this.#asking += some.length;
			await Promise.all(some.map((name) => this.#askOne(name, now)));
			this.#asking -= some.length;
		}
	}

	async #askOne(name: string, now: At): Promise<void> {
		const told = this.#told.get(name);
		// Not again before its time, whatever it answers.
		if (told) told.at = now;
		try {
			const telling = await this.#deps.ask(name);
			if (telling) this.#put(name, telling, now);
			else this.forget(name);
		} catch {
			// It is out of reach, which lists say of it.
		}
	}

	#put(name: string, { condition, isKey }: Telling, now: At): void {
		this.#told.delete(name);
		this.#told.set(name, { name, condition, isKey, at: now });
		if (this.#told.size > KEPT) this.#tidy(now);
		this.#deps.changed();
		this.#writeSoon(name, LASTING.has(needOf(condition)));
	}

	/** Forgets what says nothing any more; and, where that is not enough, the oldest. */
	#tidy(now: At): void {
		for (const [name, told] of this.#told) {
			const { granted, denied } = later(told, now);
			if (granted + denied === 0 && needOf(later(told, now)) === null) this.#told.delete(name);
		}
		for (const name of this.#told.keys()) {
			if (this.#told.size <= KEPT) return;
			this.#told.delete(name);
		}
	}

	/** Only for what may have to be written: a timer keeps the directory in memory. */
	#writeSoon(name: string, isLasting: boolean): void {
		if (isLasting === this.#written.has(name)) return;
		this.#timer ??= setTimeout(() => {
			this.#timer = null;
			this.write(Date.now());
		}, WRITE_MS);
	}

	/** Writes down which limits need a look that lasts, for the directory that begins after this one. */
	write(now: At): void {
		const lasting = this.names("", WRITTEN, now).filter((name) => {
			const told = this.#told.get(name);
			return told && LASTING.has(needOf(later(told, now)));
		});
		if (lasting.length === this.#written.size && lasting.every((name) => this.#written.has(name))) return;
		this.#deps.sql.exec("UPDATE attention SET names = ?", JSON.stringify(lasting));
		this.#written = new Set(lasting);
	}

	#turn(now: At): void {
		const { startsAt, now: current } = this.#minute;
		if (now < startsAt + 60_000 && now >= startsAt) return;
		const isNext = now < startsAt + 120_000 && now >= startsAt;
		this.#minute = { startsAt: now, now: 0, before: isNext ? current : 0 };
	}
}

/** What is known of a limit some time after it told: its slots drained meanwhile, and its minute has passed. */
function later({ condition, at }: Told, now: At): Condition {
	const passedMs = Math.max(0, now - at);
	const drained = (condition.slotDecayPerSecond * passedMs) / 1000;
	const activeSlots = Math.max(0, Math.ceil(condition.activeSlots - drained));
	const counts = passedMs > CONDITION_AGAIN_MS + CONDITION_MS ? { granted: 0, denied: 0 } : {};
	return { ...condition, activeSlots, ...counts };
}
