/**
 * The loans of one Worker, and the demand by which it borrows. Pure: moments are passed in.
 *
 * A name that lends is asked for often, if within `lendSeconds` it is asked for as often as `OFTEN` says. Then the next
 * request that goes to the limit borrows what is expected to be needed in `lendSeconds`, and those that follow are granted here.
 * Before a loan ends, or when little is left of it, it is borrowed on, one call at a time. A loan ends by the clock of this
 * Worker, counted from before it was asked for: so it ends here before the limit counts it as used.
 */

import type { Account, Borrowing } from "../../../core/commands.ts";
import type { At, Ms } from "../../../core/time.ts";
import { BOUNDS } from "../../../protocol.ts";
import type { Lent, Status } from "../../contract/outcomes.ts";

/** Names whose demand is counted: two megabytes. */
export const NAMES_MAX = 4_096;
/** Requests within `lendSeconds` by which a name is asked for often, if there were two at least: a loan costs two calls. */
const OFTEN = 4;
/** What is borrowed beside what is expected, so that a little more does not need a call. */
const SPARE = 1.25;
/** Demand is measured over no less than this part of the time of a loan. */
const LEAST_MEASURED = 1 / 8;
/** A call that was not answered for so long is given up, with its loan: its request may be over. */
const UNANSWERED_MS: Ms = 10_000;
/** An answer that takes longer, or half the time of a loan, comes from a limit that has too many calls to answer. */
const SLOW_MS: Ms = 1_000;
/** A call that was not answered for so long may be lost. */
const LOST_MS: Ms = 1_500;
/** Calls of one name on their way at a time, at most. */
const WINDOW_MAX = 64;
/** A limit so far away that a loan is over when its answer comes is not asked for one again before this, nor too often one that is late. */
const REST_MS: Ms = 10_000;
/** When so much of a loan is left, or of its time, it is borrowed on. */
const LAST_PART = 1 / 4;

interface Demand {
	requests: number;
	slots: number;
}

const NONE: Demand = { requests: 0, slots: 0 };

interface Loan {
	readonly id: string;
	/** All that was ever lent of it. */
	slots: number;
	used: number;
	grants: number;
	/** From before it was asked for last. */
	askedAt: At;
	endsAt: At;
	/** What it was to have beside what was used. */
	wanted: number;
	/** The limit had less to lend than was wanted: it is not asked again before this is used. */
	isShort: boolean;
	/** How the limit was as it lent. */
	status: Status;
}

interface Borrower {
	lendMs: Ms;
	/** Since when demand is counted, and how much there was in the time before. */
	since: At;
	demand: Demand;
	before: Demand;
	loan: Loan | null;
	/** A call that borrows is on its way. */
	borrowing: BorrowCall | null;
	/** Calls that may be on their way at a time, and those that are: one, and one more with each round of quick answers. */
	window: number;
	calls: number;
	/** The limit had nothing to lend when it was asked last. */
	isRefused: boolean;
	/** Until then it is not asked for a loan. */
	restsUntil: At;
	/** It answered late: until then it is asked by no request that has waited in vain. */
	isLateUntil: At;
}

/** What is granted from a loan. */
export interface Given {
	status: Status;
	/** It is time to borrow on. */
	isDue: boolean;
}

/** A call that borrows, on its way. */
export interface BorrowCall {
	readonly borrow: Borrowing;
	readonly sentAt: At;
	/** What it borrows on was repaid meanwhile. */
	isOver: boolean;
}

/** What is to be done after an answer: a loan is to be looked at again as it ends, or one to be repaid. */
export interface Todo {
	endsAt?: At;
	repay?: { name: string; account: Account }[];
}

export class Loans {
	readonly #names = new Map<string, Borrower>();
	readonly #newId: () => string;

	/** `newId` makes an id that no loan has had. */
	constructor(newId: () => string) {
		this.#newId = newId;
	}

	/** Names whose demand is counted. */
	get size(): number {
		return this.#names.size;
	}

	/**
	 * Grants from a loan; null: the limit has to be asked. Either way the request counts as demand, but for one that asks `again`
	 * after it has waited for a loan.
	 */
	take(name: string, slots: number, now: At, again = false): Given | null {
		const borrower = this.#names.get(name);
		if (!borrower) return null;
		if (!again) this.#count(name, borrower, slots, now);
		const { loan, lendMs } = borrower;
		// A clock that was set back makes no loan longer.
		if (!loan || now >= loan.endsAt || now < loan.askedAt || loan.used + slots > loan.slots) return null;
		loan.used += slots;
		loan.grants += 1;
		const left = loan.slots - loan.used;
		const isLate = loan.endsAt - now <= lendMs * LAST_PART || left <= loan.wanted * LAST_PART;
		return {
			status: statusOf(loan.status, left),
			isDue: isLate && !borrower.borrowing && !loan.isShort && isOften(borrower, now),
		};
	}

	/**
	 * Whether a request is to wait for the answers of those before it. Without that each of many would go to the limit, and the call
	 * that borrows would stand behind them.
	 */
	isAwaited(name: string, now: At): boolean {
		const borrower = this.#names.get(name);
		if (!borrower || now < borrower.restsUntil) return false;
		return borrower.calls >= borrower.window || (borrower.borrowing !== null && !borrower.isRefused);
	}

	/**
	 * Whether a request that has waited in vain goes to the limit all the same: the call that it waits for may be lost. One more than
	 * else, and no others. None where calls are answered, and only bring too little; none to a limit that answered late a moment ago,
	 * for it has too much to do already.
	 */
	mayAsk(name: string, now: At): boolean {
		const borrower = this.#names.get(name);
		if (!borrower) return true;
		const { borrowing, isRefused, calls, window, isLateUntil } = borrower;
		if (now < isLateUntil) return false;
		return borrowing && !isRefused ? calls <= 1 && now >= borrowing.sentAt + LOST_MS : calls <= window;
	}

	/** A request goes to the limit: it is to be told of its end. Answers whether it counts. */
	sends(name: string): boolean {
		const borrower = this.#names.get(name);
		if (borrower) borrower.calls += 1;
		return borrower !== undefined;
	}

	/** One that counted is over: answered, or failed. */
	sent(name: string, sentAt: At, now: At, isAnswered: boolean): void {
		const borrower = this.#names.get(name);
		if (!borrower) return;
		borrower.calls = Math.max(0, borrower.calls - 1);
		const isSlow = !isAnswered || now - sentAt >= Math.min(SLOW_MS, borrower.lendMs / 2);
		if (isSlow) borrower.isLateUntil = now + REST_MS;
		borrower.window = isSlow ? 1 : Math.min(WINDOW_MAX, borrower.window + 1 / borrower.window);
	}

	/** To be called before the limit is asked: what the call is to borrow, and account for. Null: nothing. */
	borrow(name: string, now: At): BorrowCall | null {
		const borrower = this.#names.get(name);
		if (!borrower || now < borrower.restsUntil || !isOften(borrower, now)) return null;
		if (borrower.borrowing && now < borrower.borrowing.sentAt + UNANSWERED_MS) return null;
		// Its answer may come yet: of that loan nothing is granted any more, and what was is taken for used.
		if (borrower.borrowing) borrower.loan = null;
		const { id, used, grants } = borrower.loan ?? { id: this.#newId(), used: 0, grants: 0 };
		const borrow = { id, used, grants, wanted: wantedOf(borrower, now), least: leastOf(borrower) };
		borrower.borrowing = { borrow, sentAt: now, isOver: false };
		return borrower.borrowing;
	}

	/** A request of this name was answered. `borrowing`: what its call borrowed; `lent`: what came of that. */
	heard(
		name: string,
		slots: number,
		status: Status,
		borrowing: BorrowCall | null,
		lent: Lent | undefined,
		now: At,
	): Todo {
		const { lendMs = 0 } = status;
		const borrower = this.#names.get(name);
		if (borrowing) return this.#lent(name, borrower, status, borrowing, lent, now);
		if (lendMs === 0) return this.#forget(name);
		if (borrower) {
			borrower.lendMs = lendMs;
			return {};
		}
		const demand = { requests: 1, slots };
		this.#names.set(name, {
			lendMs,
			since: now,
			demand,
			before: NONE,
			loan: null,
			borrowing: null,
			...{ window: 1, calls: 0, isRefused: false },
			...{ restsUntil: 0, isLateUntil: 0 },
		});
		return this.#bound();
	}

	/** A call that was to borrow has failed, and nobody knows whether it was heard. */
	failed(name: string, borrowing: BorrowCall, now: At): Todo {
		const borrower = this.#names.get(name);
		if (borrower?.borrowing !== borrowing) return {};
		borrower.borrowing = null;
		return borrower.loan && now >= borrower.loan.endsAt ? this.#end(name, borrower) : {};
	}

	/** The end of a loan has come, unless it was borrowed on meanwhile. */
	ended(name: string, endsAt: At): Todo {
		const borrower = this.#names.get(name);
		if (!borrower || borrower.borrowing || borrower.loan?.endsAt !== endsAt) return {};
		return this.#end(name, borrower);
	}

	/** The limit is about to be changed through this Worker: nothing more is granted here. */
	end(name: string): Account | null {
		const borrower = this.#names.get(name);
		return (borrower && this.#end(name, borrower).repay?.[0]?.account) ?? null;
	}

	/** The same of all names that a change of the policies is for. */
	endAll(isMeant: (name: string) => boolean): { name: string; account: Account }[] {
		return [...this.#names].flatMap(([name, borrower]) =>
			isMeant(name) ? (this.#end(name, borrower).repay ?? []) : [],
		);
	}

	#lent(
		name: string,
		borrower: Borrower | undefined,
		status: Status,
		borrowing: BorrowCall,
		lent: Lent | undefined,
		now: At,
	): Todo {
		const isMine = borrower?.borrowing === borrowing;
		if (isMine) borrower.borrowing = null;
		const { borrow, sentAt } = borrowing;
		const { id, used, grants, wanted } = borrow;
		// It was repaid while this was on its way, and may have been lent anew since.
		if (!isMine || borrowing.isOver) return { repay: [{ name, account: { id, used, grants } }] };
		const { loan } = borrower;
		// The request was refused before anything was decided.
		if (!lent) return loan && loan.endsAt <= sentAt ? this.#end(name, borrower) : {};
		borrower.isRefused = lent.lentMs === 0;
		if (borrower.isRefused) return this.#end(name, borrower);
		const endsAt = sentAt + lent.lentMs;
		if (now >= endsAt && now < sentAt + SLOW_MS) borrower.restsUntil = now + REST_MS;
		const isShort = lent.slots - used < wanted * (1 - LAST_PART);
		borrower.lendMs = lent.lentMs;
		borrower.loan = {
			...(loan ?? { id, used, grants }),
			...{ slots: lent.slots, askedAt: sentAt, endsAt, wanted, isShort, status },
		};
		return { endsAt };
	}

	#end(name: string, borrower: Borrower): Todo {
		const { loan, borrowing } = borrower;
		if (borrowing) borrowing.isOver = true;
		borrower.loan = null;
		if (!loan) return {};
		const { id, used, grants } = loan;
		return { repay: [{ name, account: { id, used, grants } }] };
	}

	#forget(name: string): Todo {
		const borrower = this.#names.get(name);
		this.#names.delete(name);
		return borrower ? this.#end(name, borrower) : {};
	}

	/** The names that were asked for longest ago are forgotten. */
	#bound(): Todo {
		const [oldest] = this.#names.keys();
		return this.#names.size > NAMES_MAX && oldest !== undefined ? this.#forget(oldest) : {};
	}

	#count(name: string, borrower: Borrower, slots: number, now: At): void {
		const { since, lendMs, demand } = borrower;
		if (now >= since + lendMs || now < since) {
			borrower.before = now >= since && now < since + 2 * lendMs ? demand : NONE;
			borrower.demand = { requests: 0, slots: 0 };
			borrower.since = now;
			this.#names.delete(name);
			this.#names.set(name, borrower);
		}
		borrower.demand.requests += 1;
		borrower.demand.slots += slots;
	}
}

function isOften({ demand, before, since, lendMs }: Borrower, now: At): boolean {
	const expected = (demand.requests * lendMs) / measuredMs(since, lendMs, now);
	return before.requests >= OFTEN || (demand.requests > 1 && expected >= OFTEN);
}

const measuredMs = (since: At, lendMs: Ms, now: At): Ms =>
	Math.min(lendMs, Math.max(now - since, lendMs * LEAST_MEASURED));

/** Slots that are expected to be asked for while a loan lasts. */
function wantedOf({ demand, before, since, lendMs }: Borrower, now: At): number {
	const expected = Math.max(before.slots, (demand.slots * lendMs) / measuredMs(since, lendMs, now));
	return Math.min(BOUNDS.limit, Math.ceil(expected * SPARE));
}

/** Fewer slots than these save no calls. */
function leastOf({ demand, before }: Borrower): number {
	const { requests, slots } = demand.requests > before.requests ? demand : before;
	return Math.min(BOUNDS.limit, Math.ceil((OFTEN * slots) / requests));
}

/** How the limit is for a caller of this Worker: what is left of the loan is there for it, and nobody knows of more. */
function statusOf(status: Status, left: number): Status {
	// What was used joins the level later: a slot is back when it has decayed since.
	return { ...status, remaining: left, nextSlotMs: Math.ceil(1_000 / status.slotDecayPerSecond) };
}
