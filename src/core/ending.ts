/**
 * How a request ends, in one of two ways: it is dropped and leaves no trace, or it is concluded and its id is remembered,
 * so that the same request again never takes slots a second time. Either way it gives back what it holds and nothing
 * else, for that is known from its own record:
 *
 *     without decay   its slots
 *     with decay      what is left of its own band of the level; the bands above sink by as much
 */

import type { ReleasedBy } from "./commands.ts";
import { settleCharge } from "./fairness.ts";
import { count, decays, type Ended, type Entry, isLease, type Limit } from "./limit.ts";
import { leaveLine } from "./line.ts";
import { REMEMBER_MS, REMEMBER_RECEIPT_MS } from "./patience.ts";
import { learnHeld } from "./polling.ts";
import { observe } from "./totals.ts";
import { remember, say, sayMoved, type Turn } from "./turn.ts";
import { SLOT } from "./usage.ts";

/** Weight of the newest observation in the mean time that slots are held. */
const MEAN_WEIGHT = 0.1;

/** Removes a request with whatever it holds, without remembering it. */
export function drop(turn: Turn, entry: Entry): void {
	const { limit } = turn;
	if (entry.state === "waiting") leaveLine(turn, entry);
	// It was not taken after all.
	if (entry.state === "reserved" || entry.state === "committed") limit.order.correct(entry, 0);
	count(limit, entry, -1);
	sayMoved(turn, limit.level.take(entry.id));
	limit.entries.delete(entry.id);
	(entry.state === "lent" ? limit.loans : limit.deadlines).remove(entry);
}

/**
 * Removes a request and remembers its id, and what it was settled with. What a receipt took stays taken: it comes back by decay,
 * or by name.
 */
export function conclude(turn: Turn, entry: Entry, kind: Ended["kind"], settled?: number): void {
	const { limit, now } = turn;
	const { level } = limit;
	if (kind === "receipt" && level.owned(entry.id) > 0n) sayMoved(turn, level.disown(entry.id));
	const stays = kind === "receipt" && entry.mode === "unleased" && isLease(entry) && !decays(limit);
	drop(turn, entry);
	if (stays) limit.unleased += entry.slots;
	const { id, print, slots, enforced, wouldDeny } = entry;
	// One of several names is remembered even so: its peers may ask whether it committed.
	if (kind === "receipt" && !entry.remember && entry.wants === "lease" && settled === undefined) return;
	const until = now + (kind === "receipt" ? REMEMBER_RECEIPT_MS : REMEMBER_MS);
	const more = { ...(wouldDeny && { wouldDeny }), ...(settled !== undefined && { settled }) };
	remember(turn, { id, kind, print, slots, enforced, ...more, until });
}

/** Concludes a lease, and says how many slots come back with it. An abort counts for nothing: it never was a lease. */
export function giveBack(turn: Turn, entry: Entry, by: Exclude<ReleasedBy, "lapse">): void {
	const { limit } = turn;
	const { totals } = limit;
	const { id, enforced } = entry;
	const heldMs = turn.now - entry.since;
	const slots = freed(limit, entry);
	if (by === "abort") {
		conclude(turn, entry, "cancelled");
		return say(turn, { kind: "released", id, slots, by });
	}
	settleCharge(limit, entry, slots, heldMs);
	const { meanHeldMs } = limit;
	if (enforced) limit.meanHeldMs = meanHeldMs === null ? heldMs : meanHeldMs + MEAN_WEIGHT * (heldMs - meanHeldMs);
	if (!entry.wouldDeny) observe(totals.holds, heldMs);
	if (enforced && by === "caller") learnHeld(limit, entry.slots, heldMs);
	if (!entry.wouldDeny) totals[by === "expiry" ? "expired" : "released"] += 1;
	conclude(turn, entry, "lease");
	say(turn, { kind: "released", id, slots, by });
}

/** Slots that a lease still holds, in whole slots, rounded down; with decay, what has not come back by itself. */
function freed(limit: Limit, entry: Entry): number {
	if (!entry.enforced) return 0;
	return decays(limit) ? Number(limit.level.owned(entry.id) / SLOT) : entry.slots;
}
