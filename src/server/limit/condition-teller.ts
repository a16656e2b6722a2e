/**
 * In what condition a limit is, told to the directory, so that it can say of all limits which need a look. Nothing of it is
 * on the way of an answer, nothing is written for it and no alarm is set: it goes along with what happens anyway. A limit
 * tells when something changed, at most once in five seconds, and else once a minute while it is used; the directory asks
 * for a longer pause when too many tell. Only where callers wait or are denied, a timer tells what changed within the pause.
 */

import { type Condition, needOf } from "../../attention.ts";
import type { History } from "../../core/history.ts";
import { activeSlots, enforces, isPaused, type Limit } from "../../core/limit.ts";
import type { At, Ms } from "../../core/time.ts";
import { CONDITION_AGAIN_MS, CONDITION_MS } from "../contract/conditions.ts";
import type { directoryObject } from "../contract/placement.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { LimitStore } from "./store.ts";

/** Counts of a minute that are closer than this to what was told are no news: a quarter, and never less than one. */
const CLOSE = { share: 0.25, least: 4 };

interface Deps {
	lifecycle: Lifecycle;
	store: LimitStore;
	limit(): Limit | null;
	directory(): ReturnType<typeof directoryObject>;
	/** Work that no answer waits for. */
	background(work: Promise<unknown>): void;
}

export class ConditionTeller {
	readonly #deps: Deps;
	/** What the directory heard last from this object. Null: nothing since it is in memory. */
	#told: Condition | null = null;
	#toldAt: At = Number.NEGATIVE_INFINITY;
	#pauseMs: Ms = CONDITION_MS;
	/** When the counts of a minute were added up last, which is too much work for each decision. */
	#lookedAt: At = Number.NEGATIVE_INFINITY;
	/** Of the limit's totals, as they were then. */
	#deniedThen = 0;
	#telling = false;
	#timer: ReturnType<typeof setTimeout> | null = null;

	constructor(deps: Deps) {
		this.#deps = deps;
	}

	/** After every decision by which something happened. `isRested`: the pause is over, whatever the clock shows. */
	after(now: At, isRested = false): void {
		const { identity } = this.#deps.lifecycle;
		const limit = this.#deps.limit();
		if (this.#telling || !limit || !identity?.alive || !identity.listed || !identity.reported) return;
		const told = this.#told;
		const denied = limit.totals.denied - this.#deniedThen;
		const isFelt = limit.sums.waiting !== (told?.waiting ?? 0) || (denied > 0 && told?.denied === 0);
		// A clock that was set back ends the pause.
		const restMs = isRested || now < this.#toldAt ? 0 : this.#toldAt + this.#pauseMs - now;
		if (restMs > 0) {
			if (isFelt) this.#tellIn(restMs);
			return;
		}
		const rough = roughly(limit, (told?.denied ?? 0) + denied);
		const isChanged = isFelt || needOf(rough) !== (told && needOf(told));
		if (!isChanged && now >= this.#lookedAt && now < this.#lookedAt + CONDITION_MS) return;
		const condition = conditionOf(limit, this.#deps.store.history, now);
		[this.#lookedAt, this.#deniedThen] = [now, limit.totals.denied];
		if (this.#isNews(condition, now, identity.origin === "policy")) {
			this.#deps.background(this.#tell(condition, now));
		}
		if (condition.waiting > 0) this.#tellIn(CONDITION_AGAIN_MS);
	}

	#isNews(condition: Condition, now: At, isKey: boolean): boolean {
		const told = this.#told;
		const isCalm = needOf(condition) === null && (told === null || needOf(told) === null);
		// What keys of a policy count is told to the sums of their policy.
		const counts = isKey ? 0 : condition.granted + condition.denied;
		if (isCalm && counts === 0 && (told === null || told.granted + told.denied === 0 || isKey)) return false;
		if (told === null || now - this.#toldAt >= CONDITION_AGAIN_MS) return true;
		return (
			needOf(condition) !== needOf(told) ||
			condition.limit !== told.limit ||
			condition.active !== told.active ||
			condition.paused !== told.paused ||
			condition.waiting !== told.waiting ||
			!isClose(condition.denied, told.denied) ||
			!isClose(condition.granted, told.granted)
		);
	}

	async #tell(condition: Condition, now: At): Promise<void> {
		const { identity } = this.#deps.lifecycle;
		if (!identity) return;
		this.#telling = true;
		[this.#told, this.#toldAt] = [condition, now];
		try {
			this.#pauseMs = await this.#deps.directory().tell(identity.name, condition, identity.origin === "policy");
		} catch {
			// It is told with what happens next.
			this.#told = null;
		} finally {
			this.#telling = false;
		}
		// What happened while it was being told.
		this.after(Date.now());
	}

	/** A shorter time takes the place of a longer one. */
	#tellIn(ms: Ms): void {
		if (this.#timer !== null && ms >= CONDITION_AGAIN_MS) return;
		if (this.#timer !== null) clearTimeout(this.#timer);
		this.#timer = setTimeout(() => {
			this.#timer = null;
			// A clock that stands still meanwhile keeps no object in memory.
			this.after(Date.now(), true);
		}, ms);
	}
}

export function conditionOf(limit: Limit, history: History, now: At): Condition {
	const lately = history.lastMinute(now);
	return { ...roughly(limit, lately.denied), granted: lately.grantedAtOnce + lately.grantedAfterWait };
}

/** Without a look at the history. */
const roughly = (limit: Limit, denied: number): Omit<Condition, "granted"> => ({
	...{ limit: limit.settings.limit, active: enforces(limit), paused: isPaused(limit) },
	...{ slotDecayPerSecond: limit.settings.slotDecayPerSecond, activeSlots: activeSlots(limit) },
	...{ waiting: limit.sums.waiting, denied },
});

const isClose = (count: number, told: number): boolean =>
	Math.abs(count - told) < Math.max(1, CLOSE.share * Math.max(told, CLOSE.least));
