/**
 * Loans: slots of which a Worker grants by itself, without asking. A loan is counted before anything is granted from it:
 *
 *     used + lent <= limit,        and as it is lent:  2 * lent <= limit - level - reserved
 *
 * where `lent` is what all loans have that is not accounted for. So half of what nobody uses is always there for callers
 * without a loan. A loan stands beside the level and does not decay. What its Worker says to have used joins the level
 * then, later than it was granted: so the level is never less than if each slot had been asked for. The rest comes back when it is
 * repaid; a loan that is not accounted for by its end, and a grace, is taken for used in full.
 *
 * All that a Worker says of a loan is a sum since the loan was made. Said twice, or late, it counts once; of a loan that is over it
 * counts nothing.
 */

import type { Account, Borrowing } from "./commands.ts";
import { drop } from "./ending.ts";
import { count, type Entry, enforces, isPaused, isShut, type Limit } from "./limit.ts";
import { enter } from "./line.ts";
import { LOAN_GRACE_MS } from "./patience.ts";
import { countDenied } from "./polling.ts";
import type { Ms } from "./time.ts";
import { observe } from "./totals.ts";
import { say, sayMoved, type Turn } from "./turn.ts";
import { SLOT } from "./usage.ts";

/** Loans of one limit; see BOUNDS.loans. */
export const LOANS_MAX = 1_000;

/** For how long slots are lent; 0: not at all, as where a window gives them back, in a pause, and where a limit only watches. */
export function lendMs(limit: Limit): Ms {
	const { settings } = limit;
	const isLent = enforces(limit) && settings.slotDecayPerSecond > 0 && !isShut(limit) && !isPaused(limit);
	return isLent ? Math.round((settings.lendSeconds ?? 0) * 1_000) : 0;
}

/** What was used of a loan is in use from now on; of one that is over it has been for long. */
export function account({ limit }: Turn, said: Account): void {
	const loan = limit.entries.get(said.id);
	if (!loan) return;
	const { used = 0, grants = 0 } = loan;
	const slots = Math.min(loan.slots, Math.max(0, said.used - used));
	const requests = Math.max(0, said.grants - grants);
	loan.used = Math.max(used, said.used);
	loan.grants = grants + requests;
	count(limit, loan, -1);
	loan.slots -= slots;
	count(limit, loan, 1);
	limit.level.pour(slots);
	countDenied(limit, -slots);
	limit.totals.grantedAtOnce += requests;
	observe(limit.totals.waits, 0, requests);
}

/** Accounts, and lends as many slots as are wanted or may be lent; none while a waiter has a turn. `lends`: or only accounts. */
export function borrow(turn: Turn, asked: Borrowing, lends: boolean): void {
	const { limit, now } = turn;
	const { id, wanted, least } = asked;
	account(turn, asked);
	const known = limit.entries.get(id);
	const lentMs = lends && limit.sums.inTurn === 0 && (known || limit.loans.size < LOANS_MAX) ? lendMs(limit) : 0;
	const left = known?.slots ?? 0;
	const share = shareOf(wanted);
	const room = lentMs > 0 ? roomOf(limit) : -1;
	// Where many borrow, none takes what others need.
	const shares = limit.sums.shares - (known?.share ?? 0) + share;
	const part = Math.floor(((room + limit.sums.lent) * share) / shares) - left;
	const more = Math.max(0, Math.min(wanted - left, room, part));
	if (room < 0 || left + more < Math.max(1, least)) return refuse(turn, asked, known);

	const loan = known ?? open(turn, asked);
	count(limit, loan, -1);
	loan.slots += more;
	loan.share = share;
	count(limit, loan, 1);
	loan.expiresAt = now + lentMs + LOAN_GRACE_MS;
	limit.loans.set(loan, loan.expiresAt);
	sayMoved(turn, id);
	say(turn, { kind: "lent", id, slots: loan.slots + (loan.used ?? 0), lentMs });
}

/**
 * What a loan is to have, beside the others, of what may be lent: as the root of its demand. Then all of them together ask least
 * often: n loans of s slots each, used at d slots a second, are the sum of d / s calls a second, which is least where s is as the root of d.
 */
const shareOf = (wanted: number): number => Math.max(1, Math.ceil(Math.sqrt(wanted)));

/** The rest comes back. */
export function repay(turn: Turn, asked: Account): void {
	account(turn, asked);
	const loan = turn.limit.entries.get(asked.id);
	if (!loan) return say(turn, { kind: "gone", id: asked.id });
	const { id, slots } = loan;
	drop(turn, loan);
	say(turn, { kind: "repaid", id, slots, by: "borrower" });
}

/** Its end has passed, or that of decay, and its Worker has not said what was used of it. */
export function writeOff(turn: Turn, loan: Entry): void {
	const { id, used = 0, grants = 0, slots } = loan;
	account(turn, { id, used: used + slots, grants });
	drop(turn, loan);
	say(turn, { kind: "repaid", id, slots: 0, by: "expiry" });
}

/** What all loans may have together beside what they have; less than 0: they have more. */
function roomOf({ settings, sums, level }: Limit): number {
	const free = BigInt(settings.limit - sums.reserved) * SLOT - level.total;
	return free < 0n ? -1 : Number(free / (2n * SLOT)) - sums.lent;
}

/** A loan that is over here has been counted in full: what was used of it by now is accounted for. */
function open(turn: Turn, { id, used, grants }: Account): Entry {
	const request = { id, slots: 0, mode: "rate_limit", leaseMs: 0, waitMs: 0, ifBusy: "deny" } as const;
	const loan = enter(turn, { ...request, holder: null, held: false, print: "", remember: false }, "lease");
	return Object.assign(loan, { state: "lent" as const, used, grants, share: 0 });
}

function refuse(turn: Turn, { id, used }: Account, known: Entry | undefined): void {
	const slots = known ? known.slots + (known.used ?? 0) : used;
	if (known?.slots === 0) drop(turn, known);
	else if (known) sayMoved(turn, id);
	say(turn, { kind: "lent", id, slots, lentMs: 0 });
}
