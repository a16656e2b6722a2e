/** The part of the wire that is for those who look on: a limit's recent past, and the stream of how limits stand. */

import type { LimitInfo, LimitSummary, LimitsPage } from "./protocol.ts";

/** What a limit did within the last minute, to 5 s. */
export interface LastMinute {
	granted: number;
	denied: number;
}

/** A few seconds of a limit's past. */
export interface HistorySample {
	/** When it began. */
	at: string;
	limit: number;
	/** The most at one time, rounded up. */
	activeSlots: number;
	/** The most at one time. */
	waiting: number;
	grantedAtOnce: number;
	grantedAfterWait: number;
	denied: number;
	released: number;
	expired: number;
}

/** `GET /v1/limits/{name}/history`: the last 15 minutes, or all of a limit that is younger. */
export interface LimitHistory {
	name: string;
	/** The length of each sample. */
	sampleSeconds: number;
	/** Oldest first, without gaps; the last is still being taken. */
	samples: HistorySample[];
}

/**
 * A line of the answer to `GET /v1/watch`. Lines whose `event` is not known are to be passed over: others may follow.
 * - `limits`: first, unless one limit is watched: a page of them, as `GET /v1/limits` has it.
 * - `limit`: one as it is now: new, or changed; with `?name=` in full, as `GET /v1/limits/{name}` has it.
 * - `samples`: with `?name=`: the newest of its history, the last of them still being taken.
 * - `deleted`: a limit is no more. With `?name=` it is the last line.
 * - `unavailable`: a limit that could not be asked; it is tried again, and a `limit` follows when it answers.
 * - `more`: there are new limits that this stream has no room for. Ask again to see them.
 * - `heartbeat`: every few seconds, with the server's time.
 */
export type WatchEvent =
	| ({ event: "limits" } & LimitsPage)
	| { event: "limit"; limit: LimitSummary | LimitInfo }
	| { event: "samples"; name: string; samples: HistorySample[] }
	| { event: "deleted"; name: string }
	| { event: "unavailable"; name: string }
	| { event: "more" }
	| { event: "heartbeat"; at: string };
