/** What a limit can be told, and what can come of it. */

import type { Ended, Request, Settings } from "./limit.ts";
import type { At, Ms } from "./time.ts";

/** What a Worker granted from a loan. Both are sums since the loan was made: told twice, they count once. */
export interface Account {
	/** Of the loan. It has a character that no request's id may have, so that none is taken for the other. */
	id: string;
	/** Slots. */
	used: number;
	/** Requests. */
	grants: number;
}

export interface Borrowing extends Account {
	/** Slots that the loan is to have beside those that were used. */
	wanted: number;
	/** With fewer than these it has no use for a loan. */
	least: number;
}

/** What a limit can be told. */
export type Command =
	/** Takes slots for good, or waits for them. With a grant its Worker borrows as well, if it says so. */
	| { kind: "acquire"; request: Request; borrow?: Borrowing | undefined }
	/** Accounts for what was used of a loan, and borrows, or borrows on. */
	| ({ kind: "borrow" } & Borrowing)
	/** Accounts for what was used of a loan, and gives the rest back. */
	| ({ kind: "repay" } & Account)
	/** Sets slots aside for a request of several names, or waits for them. */
	| { kind: "reserve"; request: Request }
	/** Makes a reservation a lease, together with its peers. */
	| { kind: "commit"; id: string; peers: readonly string[] }
	/**
	 * Drops a place in line, a reservation, or a commit whose peers failed, without a trace. With `keepPlace` a
	 * reservation becomes a parked place again, and nothing else changes.
	 */
	| { kind: "cancel"; id: string; keepPlace: boolean }
	/** Keeps a reservation or a parked place from lapsing. */
	| { kind: "touch"; id: string }
	| { kind: "renew"; id: string; leaseMs: Ms | null }
	/**
	 * `unheard`: the caller went before it was answered. A waiter may come back for a moment, and what was set aside for
	 * it is for the next; a lease ends, unless it was asked for again meanwhile and that caller has not gone too.
	 */
	| { kind: "release"; id: string; by: "caller" | "operator" | "unheard" }
	/** The connection of a waiter, or of the holder of a held lease, is gone. */
	| { kind: "detach"; id: string }
	/** A peer asks whether this request committed here. A limit that answers no will never commit it. */
	| { kind: "vouch"; id: string }
	/** The answer of all peers to a doubt. */
	| { kind: "resolve"; id: string; committed: boolean }
	/** What an estimate came to, in slots. */
	| { kind: "settle"; id: string; actual: number }
	/** Nothing is granted until so much later, or until an earlier pause ends, whichever is later; 0: from now on it is. */
	| { kind: "pause"; ms: Ms }
	| { kind: "configure"; settings?: Partial<Settings>; activeSlots?: number; deniedSlots?: number }
	/** Gives back slots that were taken without a lease, and none of any lease. `heldMs`: how long, if known. */
	| { kind: "takeBack"; slots: number; heldMs: Ms | null }
	/** So many requests were denied from the memory of a Worker, as this limit would have denied them. */
	| { kind: "absorbed"; denials: number }
	/** The limit is being deleted: everything ends. */
	| { kind: "close" }
	/** Only lets time run; `inspect` reads what is then true. */
	| { kind: "inspect" }
	| { kind: "tick" };

/** How slots came back; `lapse`: a reservation that was never committed. */
export type ReleasedBy = "caller" | "operator" | "unheard" | "expiry" | "abort" | "lapse";

export type DenialCode =
	| "denied"
	| "exceeds_limit"
	| "no_decay"
	/** It is held by no lease: its slots come back by the calendar, or each so long after it was taken. */
	| "no_lease"
	| "id_in_use"
	| "queue_full"
	| "unknown_limit"
	/** Said before anything is decided, of one token's part of the line. */
	| "too_many_waiters"
	/** Said before anything is decided: as many ids are remembered as there may be. */
	| "overloaded";

/** Moments in events are of the caller's clock. */
export type Event =
	/** Slots were given. `repeat`: they had been before, and this is the same lease. `expiresAt` is null for a receipt. */
	| {
			kind: "granted";
			id: string;
			slots: number;
			enforced: boolean;
			expiresAt: At | null;
			/** Rises with every lease of this name; null of a receipt, and of a lease of before there were fences. */
			fence: number | null;
			waitedMs: Ms;
			repeat: boolean;
			/** It would have been denied, if the limit were enforced. */
			wouldDeny?: true;
	  }
	| { kind: "reserved"; id: string; slots: number; enforced: boolean; wouldDeny?: true }
	| { kind: "queued"; id: string; position: number }
	| { kind: "parked"; id: string; retryAfterMs: Ms; position: number }
	| { kind: "denied"; id: string; code: DenialCode; retryAfterMs: Ms; position: number }
	/** A waiter left the line: it cancelled, or its connection was gone for too long. */
	| { kind: "left"; id: string; why: "cancelled" | "gone" }
	| { kind: "renewed"; id: string; expiresAt: At }
	| { kind: "gone"; id: string }
	/** `slots`: what the estimate is settled with: by this, `again`, or `otherwise` before, which stays. */
	| { kind: "settled"; id: string; slots: number; outcome: "settled" | "again" | "otherwise" }
	| { kind: "released"; id: string; slots: number; by: ReleasedBy }
	| { kind: "doubted"; id: string; peers: readonly string[] }
	| { kind: "vouched"; id: string; committed: boolean }
	/**
	 * How a loan stands: `slots` is all that was lent, what was used of it included, and `lentMs` for how long from now on. 0:
	 * nothing is lent, or no more; what is left is to be repaid at once.
	 */
	| { kind: "lent"; id: string; slots: number; lentMs: Ms }
	/** A loan is over: so many slots came back, and the rest is in use. At its expiry all of it is. */
	| { kind: "repaid"; id: string; slots: number; by: "borrower" | "expiry" }
	/** An entry changed in a way that its row must follow. */
	| { kind: "rewritten"; id: string }
	/** The id is to be remembered. */
	| { kind: "ended"; id: string; record: Ended }
	| { kind: "configured" };

export interface Decision {
	events: Event[];
	/** When to decide again though no command comes, on the caller's clock; null: not before one does. */
	wakeAt: At | null;
}
