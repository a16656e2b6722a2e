/** What a limit looks like from outside: read off its state, never stored. */

import type { Event } from "../../core/commands.ts";
import { weightOf } from "../../core/fairness.ts";
import { steadyMs } from "../../core/forecast.ts";
import { type History, type Reading, SAMPLE_MS, type Sample } from "../../core/history.ts";
import { lendMs } from "../../core/lending.ts";
import {
	activeSlots,
	decays,
	type Entry,
	enforces,
	isPaused,
	type Limit,
	leasesAfter,
	wallClock,
} from "../../core/limit.ts";
import { positions } from "../../core/line.ts";
import { deniedSlots } from "../../core/polling.ts";
import type { At } from "../../core/time.ts";
import { SLOT } from "../../core/usage.ts";
import {
	BOUNDS,
	DEFAULTS,
	type HistorySample,
	type LeaseInfo,
	type LimitHistory,
	type LimitInfo,
	type LimitSummary,
	type WaiterInfo,
	type WaitingFor,
	type WaitingKey,
} from "../../protocol.ts";
import { toIso, toSeconds, waitingFor as waitingForOf } from "../contract/answers.ts";
import { DENIAL_MAX_MS, type Lent, type Status } from "../contract/outcomes.ts";
import type { Identity } from "./store.ts";
import type { Picture } from "./watchers.ts";

export function status(identity: Identity | null, limit: Limit | null): Status {
	if (!identity || !limit) throw new Error("The limit was deleted.");
	const { name, id, origin } = identity;
	const { settings } = limit;
	const active = activeSlots(limit);
	const mayLendMs = lendMs(limit);
	return {
		name,
		limitId: id,
		deniedSlots: deniedSlots(limit),
		averageHeldMs: limit.polling.averageHeldMs,
		limit: settings.limit,
		activeSlots: active,
		remaining: Math.max(0, settings.limit - active),
		enforced: enforces(limit),
		...(isPaused(limit) && { pausedUntil: pauseEnd(limit) }),
		slotDecayPerSecond: settings.slotDecayPerSecond,
		...windowOf(limit),
		nextSlotMs: nextSlotMs(limit, active),
		steadyMs: steadyMs(limit, DENIAL_MAX_MS),
		follows: origin !== "configured",
		...(mayLendMs > 0 && { lendMs: mayLendMs }),
		...(origin === "default" && { configured: false as const }),
	};
}

/** What callers are told of its window. */
function windowOf({ level: { windowMs, resetsAt } }: Limit): Pick<Status, "windowSeconds" | "resetsAt"> {
	return {
		...(windowMs !== null && { windowSeconds: toSeconds(windowMs) }),
		...(resetsAt !== null && { resetsAt: toIso(resetsAt) }),
	};
}

const pauseEnd = (limit: Limit): string => toIso(wallClock(limit, limit.pausedUntil));

/** Until one more whole slot is free. */
function nextSlotMs(limit: Limit, active: number): number | null {
	if (!decays(limit) || limit.level.total === 0n) return null;
	const whole = BigInt(Math.max(0, active - limit.sums.reserved - limit.sums.lent - 1)) * SLOT;
	return limit.level.reaches(whole) - limit.clock.lastAt;
}

/** How the limit is, as its history notes it. */
export const reading = ({ settings, sums }: Limit, activeSlots: number): Reading => ({
	limit: settings.limit,
	activeSlots,
	waiting: sums.waiting,
	slotDecayPerSecond: settings.slotDecayPerSecond,
});

export function summary(identity: Identity | null, limit: Limit | null, history: History, now: At): LimitSummary {
	if (!identity || !limit) throw new Error("The limit was deleted.");
	const { name, id, origin, policy, region, createdAt, updatedAt, updatedBy } = identity;
	const { limit: capacity, slotDecayPerSecond, window, active, enforce = true, lendSeconds = 0 } = limit.settings;
	const { weights = {}, starveAfterSeconds = DEFAULTS.starveAfterSeconds } = limit.settings;
	const { resetsAt } = limit.level;
	const { waits: _, holds: __, ...totals } = limit.totals;
	const inUse = activeSlots(limit);
	const lately = history.lastMinute(now);
	return {
		...{
			name,
			id,
			limit: capacity,
			slotDecayPerSecond,
			...(window && { window }),
			active,
			enforce,
			lendSeconds,
			...(Object.keys(weights).length > 0 && { weights }),
			...(starveAfterSeconds !== DEFAULTS.starveAfterSeconds && { starveAfterSeconds }),
			origin,
			policy,
			region,
		},
		createdAt: toIso(createdAt),
		updatedAt: toIso(updatedAt),
		updatedBy,
		pausedUntil: isPaused(limit) ? pauseEnd(limit) : null,
		...(resetsAt !== null && { resetsAt: toIso(resetsAt) }),
		activeSlots: inUse,
		...((lendSeconds > 0 || limit.sums.lent > 0) && { lentSlots: limit.sums.lent }),
		remaining: Math.max(0, capacity - inUse),
		leaseCount: limit.sums.leases,
		waitingCount: limit.sums.waiting,
		lastMinute: { granted: lately.grantedAtOnce + lately.grantedAfterWait, denied: lately.denied },
		totals,
	};
}

/** How far estimates were from what they came to. */
const settled = ({ settled: { count, ratios } }: Limit): LimitInfo["settled"] => ({
	count,
	meanRatio: count === 0 ? null : ratios / count,
});

/** Everything about a limit. */
export const info = (summary: LimitSummary, limit: Limit): LimitInfo => ({
	...summary,
	settled: settled(limit),
	leases: leases(limit),
	waiting: waiting(limit, summary.name),
	...waitingKeys(limit),
});

export const history = (name: string, history: History, limit: Limit, now: At): LimitHistory => ({
	name,
	sampleSeconds: SAMPLE_MS / 1000,
	samples: history.samples(now, reading(limit, activeSlots(limit))).map(sample),
});

function sample({ startsAt, activeSlots, waiting, last, lastAt: _, ...counts }: Sample): HistorySample {
	return { at: toIso(startsAt), limit: last.limit, activeSlots, waiting, ...counts };
}

/** How a limit is, for its watchers. `limit` for those that want it in full. */
export function picture(summary: LimitSummary, limit: Limit | null, history: History, now: At): Picture {
	const row = { event: "limit", limit: summary } as const;
	const drains = limit !== null && decays(limit) && summary.activeSlots > 0;
	if (!limit) return { row, drains };
	// Two, for the one before may have ended since the last picture.
	const samples = history.samples(now, reading(limit, summary.activeSlots)).slice(-2).map(sample);
	return {
		...{ row, drains },
		full: { event: "limit", limit: info(summary, limit) },
		samples: { event: "samples", name: summary.name, samples },
	};
}

export const leases = (limit: Limit): LeaseInfo[] =>
	[...leasesAfter(limit, 0, BOUNDS.inspectList)].map((entry) => lease(limit, entry));

/** A page of leases in order of arrival; `next` is the arrival number of the last one. */
export function leasesPage(limit: Limit, after: number, count: number): { leases: LeaseInfo[]; next: string | null } {
	const entries = [...leasesAfter(limit, after, count + 1)];
	const page = entries.slice(0, count);
	const last = page.at(-1);
	return {
		leases: page.map((entry) => lease(limit, entry)),
		next: entries.length > count && last ? String(last.seq) : null,
	};
}

function lease(limit: Limit, entry: Entry): LeaseInfo {
	const { id, slots, holder, fence, since, expiresAt } = entry;
	return {
		id,
		slots,
		holder,
		fence,
		since: toIso(wallClock(limit, since)),
		expiresAt: toIso(wallClock(limit, expiresAt)),
	};
}

export function waiting(limit: Limit, name: string): WaiterInfo[] {
	const reason = waitingFor(limit, name);
	return positions(limit)
		.slice(0, BOUNDS.inspectList)
		.map(([{ id, slots, holder, since, priority, key }, position]) => ({
			...{ id, slots, holder, since: toIso(wallClock(limit, since)), position, priority, key, waitingFor: reason },
		}));
}

/** What every waiter of this limit waits for. */
export const waitingFor = (limit: Limit, name: string): WaitingFor =>
	waitingForOf({
		name,
		...(isPaused(limit) && { pausedUntil: pauseEnd(limit) }),
		slotDecayPerSecond: limit.settings.slotDecayPerSecond,
		...windowOf(limit),
	});

function waitingKeys({ order, settings }: Limit): Pick<LimitInfo, "waitingKeys"> {
	const all = [...order.waiting()].map(
		({ priority, key, count, size }): WaitingKey => ({
			...{ priority, key, weight: weightOf(settings.weights, key), waiting: count, slots: size },
		}),
	);
	if (all.length < 2) return {};
	return { waitingKeys: all.sort((a, b) => b.waiting - a.waiting).slice(0, BOUNDS.inspectList) };
}

/** What became of a wish to borrow. */
export function lentIn(events: Event[]): Lent | undefined {
	const event = events.findLast((each) => each.kind === "lent");
	return event && { slots: event.slots, lentMs: event.lentMs };
}

/** The event that answers the command of this id: the last one that speaks of it, book-keeping aside. */
export function answerTo(
	events: Event[],
	id: string,
): Exclude<Event, { kind: "configured" | "ended" | "rewritten" }> | undefined {
	for (let index = events.length - 1; index >= 0; index -= 1) {
		const event = events[index] as Event;
		if (event.kind === "configured" || event.kind === "ended" || event.kind === "rewritten") continue;
		if (event.id === id) return event;
	}
	return undefined;
}
