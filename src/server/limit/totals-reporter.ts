/**
 * What a limit has told of its totals to those who add them up: a key of a policy tells the sum of its policy, and any
 * limit tells Analytics Engine where that is bound. Nothing of it is on the way of an answer: a key that is in use tells
 * once a minute, in the background, and every key tells before it goes. One that is used once tells only then.
 */

import { activeSlots, type Limit } from "../../core/limit.ts";
import type { At, Ms } from "../../core/time.ts";
import { combine, copyTotals, isNothing, newTotals, type Totals } from "../../core/totals.ts";
import type { Told } from "../contract/directory-calls.ts";
import type { Env } from "../contract/env.ts";
import type { Measured } from "../contract/limit-calls.ts";
import { totalsShard } from "../contract/policy-sums.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { Identity } from "./store.ts";

/** A limit tells no more often than this. */
export const TELL_MS: Ms = 60_000;

interface Deps {
	env: Env;
	lifecycle: Lifecycle;
	limit(): Limit | null;
	/** Work that no answer waits for. */
	background(work: Promise<unknown>): void;
}

export class TotalsReporter {
	readonly #deps: Deps;
	#telling = false;
	/** Something was counted that the sums were not told of. Undefined: the object woke, and has not looked yet. */
	#untold: boolean | undefined;

	constructor(deps: Deps) {
		this.#deps = deps;
	}

	/** After every decision by which something happened. */
	after(now: At): void {
		const { identity } = this.#deps.lifecycle;
		if (!identity?.alive || !this.#tells(identity)) return;
		this.#untold = true;
		if (now >= this.#nextAt(identity)) this.#deps.background(this.tell(now));
	}

	/** When it should be told though no call comes. A key of a policy tells at its end, which has an alarm of its own. */
	dueAt(): At {
		const { identity } = this.#deps.lifecycle;
		if (!identity?.alive || identity.origin === "policy" || !this.#tells(identity)) return Number.POSITIVE_INFINITY;
		const limit = this.#deps.limit();
		this.#untold ??= limit !== null && !isNothing(sinceTold(limit, identity));
		return this.#untold ? this.#nextAt(identity) : Number.POSITIVE_INFINITY;
	}

	/** Tells what was not told yet. Answers whether nothing is left to tell. */
	async tell(now: At): Promise<boolean> {
		const { env, lifecycle } = this.#deps;
		const { identity } = lifecycle;
		const limit = this.#deps.limit();
		if (!identity || !limit || !this.#tells(identity)) return true;
		if (this.#telling) return false;
		this.#telling = true;
		this.#untold = false;
		try {
			const totals = copyTotals(limit.totals);
			const since = sinceTold(limit, identity);
			const told: Told = { name: identity.name, totals: since, inUse: activeSlots(limit), waiting: limit.sums.waiting };
			// A lease that is only renewed counts nothing, and is in use.
			if (isNothing(since) && told.inUse === 0 && told.waiting === 0) return true;
			if (identity.origin === "policy" && identity.policy !== null) {
				await totalsShard(env, identity.name).addTotals(identity.policy, told);
			}
			env.ANALYTICS?.writeDataPoint(dataPoint(identity, limit, told));
			if (lifecycle.identity?.id === identity.id && lifecycle.identity.alive) lifecycle.told({ at: now, totals });
			return true;
		} catch (error) {
			console.warn("What was counted could not be told, and is told again later:", error);
			this.#untold = true;
			return false;
		} finally {
			this.#telling = false;
		}
	}

	/** On an alarm: what is due is told, and everything is when the limit is about to go. Answers whether it was. */
	async tellIfDue(now: At, goes: boolean): Promise<boolean> {
		return goes || now >= this.dueAt() ? this.tell(now) : true;
	}

	/** The limit is deleted, now or as soon as this returns: what was not told yet is told in the background. */
	end(now: At): void {
		if (this.#deps.lifecycle.identity?.alive) this.#deps.background(this.tell(now));
	}

	#tells = ({ origin }: Identity): boolean => origin === "policy" || this.#deps.env.ANALYTICS !== undefined;

	#nextAt = ({ told, createdAt }: Identity): At => (told?.at ?? createdAt) + TELL_MS;
}

const sinceTold = ({ totals }: Limit, { told }: Identity): Totals => combine(totals, told?.totals ?? newTotals(), -1);

export function measure(limit: Limit, { name, origin }: Identity): Measured {
	const { settings, sums, totals } = limit;
	return {
		...{ name, origin, capacity: settings.limit, active: settings.active },
		...{ inUse: activeSlots(limit), lent: limit.sums.lent, waiting: sums.waiting, totals },
		keys: measuredKeys(limit),
	};
}

/** Of keys that have a weight alone: of others there may be any number. */
function measuredKeys({ settings, order, grantedOf }: Limit): Measured["keys"] {
	const keys = Object.keys(settings.weights ?? {});
	if (keys.length === 0) return [];
	const waiting = new Map<string, number>();
	for (const { key, count } of order.waiting()) {
		if (key !== null) waiting.set(key, (waiting.get(key) ?? 0) + count);
	}
	return keys.map((key) => ({ key, waiting: waiting.get(key) ?? 0, granted: grantedOf.get(key) ?? 0 }));
}

/** One point of Analytics Engine: what was counted since the last one. Names of the columns are in docs/metrics.md. */
function dataPoint(identity: Identity, limit: Limit, { totals, inUse, waiting }: Told): AnalyticsEngineDataPoint {
	const { name, origin, policy } = identity;
	const sums = [totals.waits.sumMs / 1000, totals.holds.sumMs / 1000];
	const { grantedAtOnce, grantedAfterWait, denied, timedOut, released, expired, wouldDeny } = totals;
	return {
		// An index is cut at 96 bytes, so the whole name is a blob.
		indexes: [(origin === "policy" ? (policy ?? name) : name).slice(0, 24)],
		blobs: [name, origin, policy ?? ""],
		doubles: [
			...[limit.settings.limit, inUse, waiting],
			...[grantedAtOnce, grantedAfterWait, denied, timedOut, released, expired, ...sums, wouldDeny],
		],
	};
}
