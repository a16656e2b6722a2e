/**
 * What is tidied in a limit though nobody asks, and when: ids are forgotten, what was counted is told, the limit ends.
 * An alarm is set for a moment at which one of them can be done, and for no other.
 */

import type { Event } from "../../core/commands.ts";
import type { Limit } from "../../core/limit.ts";
import type { At } from "../../core/time.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { IdsUntil, LimitStore } from "./store.ts";
import type { TotalsReporter } from "./totals-reporter.ts";
import type { Wakeups } from "./wakeups.ts";

interface Deps {
	store: LimitStore;
	existence: Lifecycle;
	ledger: TotalsReporter;
	wakeups: Wakeups;
	limit(): Limit | null;
	/** When time alone changes something of the limit. */
	wakeAt(): At | null;
	/** Whether somebody waits for that here. */
	awaited(): boolean;
	/** Lets time run, and resolves once that is durable. */
	tick(): Promise<unknown>;
	/** The limit is no more. */
	end(endedAt: At): void;
}

export class Housework {
	readonly #deps: Deps;
	/** Until when ids are remembered. */
	#ids: IdsUntil | null = null;

	constructor(deps: Deps) {
		this.#deps = deps;
	}

	/** The object woke, and finds what it had stored. */
	begin(): void {
		this.#ids = this.#deps.store.idsUntil();
	}

	/** Ids that ended are remembered for a while. */
	ended(events: Event[]): void {
		for (const event of events) {
			if (event.kind !== "ended") continue;
			const { until } = event.record;
			const { first, last } = this.#ids ?? { first: until, last: until };
			this.#ids = { first: Math.min(until, first), last: Math.max(until, last) };
		}
	}

	/** After every decision: when the object is to be woken next. `settled`: the directory has just been told. */
	set(now: At, settled = false): void {
		const { existence, ledger, wakeups, limit, wakeAt, awaited } = this.#deps;
		const houseworkAt = Math.min(existence.dueAt(limit(), now, this.#ids), ledger.dueAt());
		wakeups.set(now, { wakeAt: wakeAt(), awaited: awaited(), houseworkAt, settled });
	}

	/** The alarm rings. */
	async ring(now: At): Promise<void> {
		await this.#deps.wakeups.ring(() => this.#tidy(now));
		this.set(now);
	}

	async #tidy(now: At): Promise<void> {
		const { store, existence, ledger, limit, tick, end } = this.#deps;
		if (limit()) await tick();
		const unused = (): boolean => existence.isUnused(limit(), now, this.#ids);
		if (!unused()) {
			store.purge(now);
			this.#ids = store.idsUntil();
			existence.outlasted(limit(), now);
		}
		// What it did is told before it goes; whoever uses it meanwhile keeps it.
		if (!(await ledger.tellIfDue(now, unused()))) existence.stays(now);
		else if (unused()) end(existence.usedAt);
		await existence.report();
		if (await existence.vanish(now)) this.#ids = null;
	}
}
