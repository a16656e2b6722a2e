/**
 * What is tidied in a limit though no call comes, and when: what was counted is told, the limit ends.
 * An alarm is set for a moment at which one of them can be done, and for no other.
 */

import type { Limit } from "../../core/limit.ts";
import type { At } from "../../core/time.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { TotalsReporter } from "./totals-reporter.ts";
import type { Wakeups } from "./wakeups.ts";

interface Deps {
	lifecycle: Lifecycle;
	totals: TotalsReporter;
	wakeups: Wakeups;
	limit(): Limit | null;
	/** When time alone changes something of the limit. */
	wakeAt(): At | null;
	/** Whether a caller waits for that here. */
	awaited(): boolean;
	/** Whether that is stored. */
	kept(): boolean;
	/** Lets time run, and resolves once that is durable. */
	tick(): Promise<unknown>;
	/** The limit is no more, and in a moment nothing of it is stored. */
	end(endedAt: At): void;
}

export class Housework {
	readonly #deps: Deps;

	constructor(deps: Deps) {
		this.#deps = deps;
	}

	/** After every decision: when the object is to be woken next. `settled`: the directory has just been told. */
	set(now: At, settled = false): void {
		const { lifecycle, totals, wakeups, limit, wakeAt, awaited, kept } = this.#deps;
		const houseworkAt = Math.min(lifecycle.dueAt(limit(), now), totals.dueAt());
		wakeups.set(now, { wakeAt: wakeAt(), awaited: awaited(), kept: kept(), houseworkAt, settled });
	}

	/** The alarm rings. */
	async ring(now: At): Promise<void> {
		await this.#deps.wakeups.ring(() => this.#tidy(now));
		this.set(now);
	}

	async #tidy(now: At): Promise<void> {
		const { lifecycle, totals, limit, tick, end } = this.#deps;
		if (limit()) await tick();
		const unused = (): boolean => lifecycle.isUnused(limit(), now);
		if (!unused()) lifecycle.outlasted(limit(), now);
		// What it did is told before it goes; a caller that uses it meanwhile keeps it.
		if (!(await totals.tellIfDue(now, unused()))) lifecycle.stays(now);
		else if (unused()) end(lifecycle.usedAt);
		await lifecycle.report();
		await lifecycle.vanish(now);
	}
}
