/**
 * Granting, and refusing. One rule, for every decision and every view: a request is given slots when
 *
 *     the limit is switched off, or
 *     it is not paused, no waiter has a turn before it, which `order.ts` tells, and used + slots <= limit
 *
 * where `used` is the level with decay, else the slots of leases and those without one; reservations and loans count
 * on top of either. What could never fit is refused whatever waits; what merely does not fit now may wait. A limit that only
 * watches decides the same, grants all the same, and holds nothing of what it would have denied.
 */

import type { DenialCode, Event } from "./commands.ts";
import { conclude } from "./ending.ts";
import { ahead, hasWeight, priceOf, starveBefore } from "./fairness.ts";
import { retryAfterMs } from "./forecast.ts";
import {
	count,
	decays,
	type Entry,
	enforces,
	hasWindow,
	isPaused,
	isShut,
	type Limit,
	type Mode,
	type Request,
	wallClock,
} from "./limit.ts";
import { leaveLine, slotsOf } from "./line.ts";
import type { Whose } from "./order.ts";
import { DOUBT_MS, DOUBT_STEP_MS, RESERVATION_MS } from "./patience.ts";
import { countDenied } from "./polling.ts";
import { observe } from "./totals.ts";
import { say, sayMoved, type Turn } from "./turn.ts";
import { SLOT } from "./usage.ts";

/** Fences of one millisecond: one object grants about one lease in it. They stay below 2^53 until the year 2255. */
const FENCES_PER_MS = 1_000;

/** What a request asks of a limit, as far as the rule goes. */
export type Asked = Pick<Request, "id" | "slots" | "mode" | "atMost" | "key" | "priority">;

/** Why a request could never be granted. */
type Never = "exceeds_limit" | "no_decay" | "no_lease";
type Denial = Extract<Event, { kind: "denied" }>;
/** Who is refused: a request, or a waiter. */
type Denied = { id: string; key?: string | null | undefined; priority?: number | undefined };

// ---------------------------------------------------------------------------------------------- the rule

/** Why a request that arrives now, for so many `slots`, cannot have them at once; null: it can. */
export function refusal(limit: Limit, slots: number, request: Asked): Never | "denied" | null {
	const never = neverFits(limit, slots, request.mode);
	if (never || !limit.settings.active) return never;
	const isNext = limit.sums.inTurn === 0 || limit.order.isNext(whoseOf(request), starveBefore(limit));
	return !isPaused(limit) && isNext && fits(limit, slots) ? null : "denied";
}

const whoseOf = ({ key, priority }: Denied): Whose => ({ key: key ?? null, priority: priority ?? 0 });

/** Why a request could never be granted as the limit is set, however long it waited; null: it could. */
export function neverFits(limit: Limit, slots: number, mode: Mode): Never | null {
	const { settings } = limit;
	if (!settings.active) return null;
	if (slots > settings.limit && !isShut(limit)) return "exceeds_limit";
	if (mode === "concurrency" && hasWindow(settings)) return "no_lease";
	return mode === "rate_limit" && !decays(limit) ? "no_decay" : null;
}

export function fits(limit: Limit, slots: number): boolean {
	const { settings, sums, level } = limit;
	if (!decays(limit)) return sums.leased + sums.reserved + limit.unleased + slots <= settings.limit;
	return level.total <= BigInt(settings.limit - sums.reserved - sums.lent - slots) * SLOT;
}

/**
 * How a request that does not wait would be denied now; null: it would be granted, by a limit that only watches perhaps though it
 * `wouldDeny`. Changes nothing.
 */
export function foresee(limit: Limit, request: Asked): { denied: Denial | null; wouldDeny: boolean } {
	const slots = slotsOf(limit, request);
	const code = refusal(limit, slots, request);
	if (!code) return { denied: null, wouldDeny: false };
	if (!enforces(limit)) return { denied: null, wouldDeny: true };
	return { denied: denial(limit, request, code, slots), wouldDeny: false };
}

/** With the place that it would have in line, and when it is worth asking again. */
function denial(limit: Limit, request: Denied, code: DenialCode, slots: number): Denial {
	const whose = whoseOf(request);
	const before = ahead(limit, whose);
	const retryMs = isBusy(code) ? retryAfterMs(limit, { ...whose, slots }, before) : 0;
	return { kind: "denied", id: request.id, code, position: before.count + 1, retryAfterMs: retryMs };
}

/** Whether a request is refused for want of free slots, and so may have them later. */
const isBusy = (code: DenialCode): boolean => code === "denied" || code === "queue_full";

export function deny(turn: Turn, request: Denied, code: DenialCode, slots: number): void {
	const { limit } = turn;
	if (isBusy(code)) limit.totals.denied += 1;
	if (code === "denied") countDenied(limit, slots);
	say(turn, denial(limit, request, code, slots));
}

// ---------------------------------------------------------------------------------------------- granting

/** Grants from the head of the line while slots fit. A request that does not fit yet is not overtaken. */
export function serve(turn: Turn): void {
	const { limit, now } = turn;
	const before = starveBefore(limit);
	for (let entry = limit.order.next(before); entry; entry = limit.order.next(before)) {
		const isHeldBack = enforces(limit);
		if (entry.standing === "resuming" && isHeldBack) return;
		const refused = limit.settings.active && (isPaused(limit) || !fits(limit, entry.slots));
		if (isHeldBack && refused) return;
		limit.order.charge(entry, priceOf(limit), before);
		leaveLine(turn, entry);
		entry.waitedMs = now - entry.since;
		give(turn, entry, refused || neverFits(limit, entry.slots, entry.mode) !== null);
	}
}

/** Gives a request its slots: set aside, or for good; or nothing, where a limit that only watches `wouldDeny` it. */
export function give(turn: Turn, entry: Entry, wouldDeny: boolean): void {
	const { limit, now } = turn;
	entry.enforced = limit.settings.active && !wouldDeny;
	entry.wouldDeny = wouldDeny;
	if (wouldDeny) limit.totals.wouldDeny += 1;
	entry.since = now;
	if (entry.wants === "lease") return grant(turn, entry, "leased");
	entry.state = "reserved";
	count(limit, entry, 1);
	keepReserved(turn, entry);
	sayReserved(turn, entry);
}

/** A reservation was heard of, and lapses so much later. */
export function keepReserved({ limit, now }: Turn, entry: Entry): void {
	limit.deadlines.set(entry, now + RESERVATION_MS);
}

export function sayReserved(turn: Turn, { id, slots, enforced, wouldDeny }: Entry): void {
	say(turn, { kind: "reserved", id, slots, enforced, ...(wouldDeny && { wouldDeny }) });
}

export function grant(turn: Turn, entry: Entry, state: "leased" | "committed"): void {
	const { limit, now } = turn;
	const { totals } = limit;
	if (!entry.wouldDeny) {
		observe(totals.waits, entry.waitedMs);
		if (entry.waitedMs > 0) totals.grantedAfterWait += 1;
		else totals.grantedAtOnce += 1;
	}
	if (entry.key !== null && hasWeight(limit, entry.key)) {
		limit.grantedOf.set(entry.key, (limit.grantedOf.get(entry.key) ?? 0) + 1);
	}
	if (entry.enforced) countDenied(limit, -entry.slots);
	if (entry.mode !== "concurrency" && (state === "leased" || !entry.enforced)) {
		if (entry.settleMs !== null && entry.mode === "rate_limit") return grantEstimate(turn, entry);
		if (entry.enforced) takeUnowned(limit, entry);
		sayGranted(turn, entry, false);
		conclude(turn, entry, "receipt");
		entry.state = state; // The record is dead; code that still holds it must not see a waiter.
		return;
	}
	count(limit, entry, -1);
	entry.state = state;
	entry.expiresAt = now + entry.leaseMs;
	if (entry.mode === "concurrency") entry.fence = nextFence(limit);
	count(limit, entry, 1);
	if (entry.enforced && decays(limit)) limit.level.lay(entry.id, entry.slots);
	dueNext(turn, entry);
	sayGranted(turn, entry, false);
}

/**
 * A number above that of every lease of this name before, those of limits that were deleted among them: of these nothing is
 * stored, so it also rises with the clock, and faster than any limit grants.
 */
function nextFence(limit: Limit): number {
	limit.fence = Math.max(limit.fence + 1, limit.clock.lastAt * FENCES_PER_MS);
	return limit.fence;
}

/** Grants by rate what is yet to be settled. */
function grantEstimate(turn: Turn, entry: Entry): void {
	const { limit } = turn;
	if (entry.enforced && decays(limit)) limit.level.lay(entry.id, entry.slots);
	sayGranted(turn, entry, false);
	leaveUnsettled(turn, entry);
}

/** The slots of a grant are an estimate, until it is settled or its time is over. */
export function leaveUnsettled(turn: Turn, entry: Entry): void {
	const { limit } = turn;
	count(limit, entry, -1);
	entry.state = "unsettled";
	entry.peers = [];
	entry.expiresAt = entry.since + (entry.settleMs ?? 0);
	count(limit, entry, 1);
	limit.deadlines.set(entry, entry.expiresAt);
	sayMoved(turn, entry.id);
}

/** Takes slots that no lease owns: they come back by decay, or by a `takeBack`. */
function takeUnowned(limit: Limit, { mode, slots }: Entry): void {
	if (mode === "rate_limit" || decays(limit)) limit.level.pour(slots);
	else limit.unleased += slots;
}

/** The same lease again, for a caller that did not hear of the grant or asked twice. */
export function grantAgain(turn: Turn, entry: Entry): void {
	entry.claims += 1;
	sayGranted(turn, entry, true);
}

/** When a granted entry must be looked at again: to be confirmed by its peers, or at its end. */
export function dueNext({ limit, now }: Turn, entry: Entry): void {
	const doubtAt = Math.ceil((now + DOUBT_MS) / DOUBT_STEP_MS) * DOUBT_STEP_MS;
	const next = entry.state === "committed" ? doubtAt : Number.POSITIVE_INFINITY;
	// A receipt has no end of its own: it stands until its peers have answered.
	const end = entry.mode === "concurrency" ? entry.expiresAt : Number.POSITIVE_INFINITY;
	limit.deadlines.set(entry, Math.min(next, end));
}

function sayGranted(turn: Turn, entry: Entry, repeat: boolean): void {
	const { id, slots, enforced, fence, waitedMs, wouldDeny } = entry;
	const expiresAt = entry.mode === "concurrency" ? wallClock(turn.limit, entry.expiresAt) : null;
	say(turn, {
		kind: "granted",
		id,
		slots,
		enforced,
		expiresAt,
		fence,
		waitedMs,
		repeat,
		...(wouldDeny && { wouldDeny }),
	});
}
