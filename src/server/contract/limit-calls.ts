/**
 * What can be asked of the object of one limit, and what it answers. `RequestCalls` are those by the id of a request: a
 * request may have gone to another name with its limit, and is then led on there.
 */

import type { Account, Borrowing } from "../../core/commands.ts";
import type { Asked } from "../../core/granting.ts";
import type { At, Ms } from "../../core/time.ts";
import type { Totals } from "../../core/totals.ts";
import type {
	LeasesPage,
	LimitHistory,
	LimitInfo,
	LimitPatch,
	LimitSummary,
	Origin,
	Region,
	Settings,
	WatchEvent,
	Window,
} from "../../protocol.ts";
import type { Telling } from "./directory-calls.ts";
import type { Lent, LimitRequest, Missing, Outcome, Peeked, Share, Status } from "./outcomes.ts";
import type { Ruling } from "./policies.ts";

// ---------------------------------------------------------------------------------------------- requests

/** Whom a stream of a request is for: `wire` for callers, `outcomes` for the coordinator. */
export type StreamFor = "wire" | "outcomes";

/** What is asked of a request, by its id. */
export interface RequestCalls {
	/** Takes slots, or waits for them until the request gives up. */
	acquire(wanted: LimitRequest): Promise<Outcome | Missing>;
	/** Sets slots aside for a request of several names; parks it, or denies it, where there are none. */
	reserve(wanted: LimitRequest): Promise<Outcome | Missing>;
	/**
	 * A request as a stream, while it waits and, with `held`, for as long as its lease lives. Its end takes the request
	 * out of the line.
	 */
	open(wanted: LimitRequest, kind: "acquire" | "reserve", as: StreamFor): Promise<ReadableStream | Missing>;
	/** A stream that keeps a held lease alive: the lease ends with it. Null: there is no such lease. */
	hold(id: string): Promise<ReadableStream | null>;
	commit(id: string, peers: string[]): Promise<Outcome | Missing>;
	cancel(id: string, keepPlace: boolean): Promise<Outcome | Missing>;
	/** Keeps a reservation or a parked place; false when it is gone. */
	touch(id: string, sentAt?: At): Promise<boolean>;
	/** Null: this limit does not exist. */
	renew(id: string, leaseMs: Ms | null, sentAt?: At): Promise<Outcome | null>;
	/** Null: this limit does not exist. `found`: there was such a request. */
	release(
		id: string,
		by: "caller" | "operator" | "unheard",
		sentAt?: At,
	): Promise<(Outcome & { found: boolean }) | null>;
	/** Says what an estimate came to. Null: this limit does not exist. */
	settle(id: string, actual: number, sentAt?: At): Promise<Outcome | null>;
	/** A Worker borrows, or borrows on, and accounts for what it used. Null: this limit does not exist. */
	borrow(id: string, loan: Omit<Borrowing, "id">, sentAt?: At): Promise<{ lent: Lent; status: Status } | null>;
	/** A Worker accounts for a loan, and gives the rest back. */
	repay(id: string, account: Omit<Account, "id">, sentAt?: At): Promise<void>;
	/** The caller of a call that waits has gone: its request leaves the line, or its lease ends, unless it came back. */
	leave(id: string, call: string): Promise<void>;
	/**
	 * The caller of a coordinator has gone: its place is passed by others, and what was set aside for it is theirs. Not
	 * so if it is back already, by another coordinator.
	 */
	stepBack(id: string, call: string): Promise<void>;
	/** The other names of a lease. Null: there is no such lease here. */
	others(id: string): Promise<string[] | null>;
	/** Whether each of these requests committed here. Those that did not never will. */
	vouch(ids: string[]): Promise<boolean[]>;
}

/** What a request, or a lease, is tied to: it ends with the last stub of it. */
export interface TetherCalls extends Rpc.RpcTargetBranded, Disposable {
	/** Null: the limit does not exist any more. */
	renew(): Promise<Outcome | null>;
	/** Gives back what is held; answers the slots. */
	release(): Promise<number>;
}

/** A tether, where there is something to tie, and the answer to a request that was decided with it. */
export interface Tied {
	tether: TetherCalls | null;
	answer: Outcome | Missing | null;
}

// ---------------------------------------------------------------------------------------------- settings

/** Who configures a limit by hand, and what the policies say of its name, where the Worker knows. */
export interface By {
	token: string | null;
	ruling: Ruling | undefined;
	/** The Worker's time; see `clock.ts`. */
	sentAt?: At;
	/** Where the limit is to live if it comes to be by this; absent: nothing is said of it. */
	region?: Region | null;
}

export interface Configured {
	created: boolean;
	summary: LimitSummary;
}

/** The limit was made for another region than the one that is asked for, and never moves. Nothing was changed. */
export interface Placed {
	placed: Region | null;
}

/** Slots of this limit do not come back by decay, so they are not lent. Nothing was changed. */
export interface NotLent {
	notLent: true;
}

/** What is set by hand beside the settings. */
export interface ByHand {
	activeSlots?: number;
	/** Slots denied to callers that poll. */
	deniedSlots?: number;
}

// ----------------------------------------------------------------------------------------------- looking

/** What `watch` of a limit answers: how it is, and the stream of what follows. */
export interface Watched {
	picture: WatchEvent & { event: "limit" };
	lines: ReadableStream;
}

/** How a limit is, for the one who asks each of them. */
export interface Measured {
	name: string;
	origin: Origin;
	capacity: number;
	inUse: number;
	/** Of those, the ones that are lent. */
	lent: number;
	waiting: number;
	/** Of each key that has a weight: its requests in line, and those granted since the object woke. */
	keys: { key: string; waiting: number; granted: number }[];
	active: boolean;
	totals: Totals;
}

/** All that is asked of the object of a limit. */
export interface LimitCalls extends RequestCalls {
	/** `acquire` as JSON, both ways: over RPC a text costs a tenth less of the whole call than the objects in it. */
	acquireText(wanted: string): Promise<string>;
	/** The same of several requests: they share a commit, and are decided in their order. None of them waits. */
	acquireManyText(wanted: string): Promise<string>;
	/**
	 * A tether for a lease by its id, or for a request. One that does not wait is decided here, in the same call, and
	 * tied if it holds anything. One that waits is tied first and has yet to ask, by a call of its own: a call that is
	 * still unanswered would keep its own target alive.
	 */
	tether(asked: LimitRequest | string): Promise<Tied>;
	/** The Worker's time is far from the object's, and no call that was late explains it: the object is made anew. */
	clockWasSet(workerAt: At): Promise<void>;
	/** So many denials were given in its name from the memory of a Worker. */
	absorbed(denials: number): Promise<void>;

	/** Creates the limit, or replaces its settings, by hand. */
	configure(settings: Settings, by: By): Promise<Configured | Placed>;
	/** Creates the limit. Null: there is one of this name. */
	create(settings: Settings, byHand: ByHand, by: By): Promise<LimitSummary | null>;
	/** Changes some of the settings, which makes them the limit's own, or the slots in use. Null: it does not exist. */
	patch(change: LimitPatch<Window> & ByHand, by: By): Promise<LimitSummary | Placed | NotLent | null>;
	/** Grants nothing for so long, or until an earlier pause ends; 0: from now on it grants. Null: it does not exist. */
	pause(ms: Ms, ruling?: Ruling, sentAt?: At): Promise<LimitSummary | null>;
	/** Gives back slots that were taken without a lease. Null: this limit does not exist. */
	takeBack(slots: number, heldMs: Ms | null, sentAt?: At): Promise<Status | null>;
	/** Ends every lease and every wait, and deletes the limit with its storage. False: there was none. */
	remove(): Promise<boolean>;
	/**
	 * Gives the limit another name; `region`: where the policies want that one to live. `taken`: another limit has it. Null: this
	 * limit does not exist.
	 */
	rename(name: string, region: Region | null): Promise<"moved" | "taken" | null>;

	/** Everything about the limit. Null: it does not exist. */
	inspect(ruling?: Ruling, sentAt?: At): Promise<LimitInfo | null>;
	summary(ruling?: Ruling, sentAt?: At): Promise<LimitSummary | null>;
	/** For a caller that will come back by the limit's id: from now on the directory leads it here. */
	describe(ruling?: Ruling): Promise<{ summary: LimitSummary; status: Status } | null>;
	/** How the limit is, and from then on a message for each change, until the watcher goes or the limit does. */
	watch(full: boolean, share?: Share): Promise<Watched | "full" | "share" | null>;
	leases(after: number, count: number): Promise<LeasesPage | null>;
	/** What the limit did lately. */
	history(): Promise<LimitHistory | null>;
	/** In what condition the limit is, for the directory, which has not heard of it for a while. */
	condition(): Promise<Telling | null>;
	/** How the limit is and what it has done, for metrics. */
	measure(): Promise<Measured | null>;
	/** How the limit is, and whether it would refuse this request now. Nothing is asked for. */
	peek(asked: Asked, ruling?: Ruling): Promise<Peeked | Missing>;
	/** The id that has this digest, of a lease or of a waiter. */
	idOf(digest: string): Promise<string | null>;
}
