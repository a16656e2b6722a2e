/** A request to one limit, and what its object says to it. */

import type { Borrowing, Event } from "../../core/commands.ts";
import type { Request } from "../../core/limit.ts";
import type { At, Ms } from "../../core/time.ts";
import type { LimitStatus } from "../../protocol.ts";
import type { Ruling } from "./policies.ts";

/** How long a denial may be given again without asking the limit, counted from before it was asked for. */
export const DENIAL_MAX_MS: Ms = 1_000;

/** A request for one limit, and what to do when the limit does not exist. */
export interface LimitRequest {
	request: Request;
	createIfMissing: boolean;
	/** Only a limit that was configured, itself or by a policy; any other counts as missing. */
	strict?: boolean;
	/** What the policies say of the name, where the Worker knows. */
	ruling?: Ruling | undefined;
	/** The Worker's time; see `clock.ts`. */
	sentAt?: At;
	/** When the directory began, where the Worker knows. */
	since?: number | undefined;
	/** Under which name its caller finds it again in traces and logs, for the problems of a stream. */
	traceId?: string;
	/** Names this call, so that it can leave without the others that wait for the same request. */
	call?: string;
	/** What its Worker borrows with the grant, and accounts for in any case. */
	borrow?: Borrowing | undefined;
	/** Whose request it is, if it may wait or hold a stream, and how many such ones it may have here. */
	share?: Share;
}

/** What one token may take of something that an object has to give. */
export interface Share {
	token: string;
	most: number;
}

/** What a limit's object says of itself with each answer. */
export interface Status extends LimitStatus {
	/** The id of the limit. It stays through a change of its name. */
	limitId: string;
	/** Slots denied to callers that poll and are expected to be asked for again. */
	deniedSlots: number;
	averageHeldMs: Ms;
	slotDecayPerSecond: number;
	/** Until one more slot exists, where slots come back by themselves; null when none is missing or none comes back by itself. */
	nextSlotMs: Ms | null;
	/** How long nothing but decay gives slots back, up to `DENIAL_MAX_MS`: so long a denial may be given again unasked. */
	steadyMs: Ms;
	/** For how long slots may be borrowed; left out: not at all. */
	lendMs?: Ms;
	/** Whether its settings are those of the policies, so that it has to be told of them. */
	follows: boolean;
}

/** How a loan stands: all that was lent of it, and for how long from now on; see the core's event. */
export interface Lent {
	slots: number;
	lentMs: Ms;
}

/** The answer of one object to a request. */
export interface Outcome {
	event: Event;
	status: Status;
	/** Another call hears of the same grant. This is the name of this one, by which it can leave. */
	shared?: string;
	/** What came of the wish to borrow. */
	lent?: Lent;
	/** The limit came to be by this request. */
	made?: true;
}

/** The answer to a request for a limit that does not exist and was not to be created. */
export interface Missing {
	missing: true;
}

/** What a request that is not made would find. */
export interface Peeked {
	status: Status;
	denied: Extract<Event, { kind: "denied" }> | null;
}
