/**
 * What is in use of a limit whose slots come back by themselves, however they do: by decay (`level.ts`), by the calendar
 * (`periods.ts`), or each so long after it was taken (`sliding.ts`). To those who grant it is one question: how much is in
 * use now, and when it will be so much or less.
 *
 * It is made of bands. A grant lays its band on top, which stays its own until it is disowned: until then it can be taken
 * out again, as far as it has not come back.
 */

import type { At, Ms } from "./time.ts";

/** One slot, in units of what is in use. */
export const SLOT = 10n ** 18n;

/** What one lease owns of it, and what no lease owns directly beneath it. Both in units. */
export interface Band {
	id: string;
	own: bigint;
	below: bigint;
	/** Its place in the stack: later bands have larger numbers. */
	order: number;
}

/** As it is stored beside the bands; units are decimal text, for they do not fit a JSON number. */
export interface SavedUsage {
	at: At;
	total: string;
	top: string;
	/** Of a calendar: the period that it is in, by the caller's clock. */
	period?: { startsAt: At; endsAt: At };
	/** Of a sliding window: when slots were taken, each moment from the one before, and how many. */
	taken?: [sinceMs: number, slots: number][];
}

export interface Usage {
	/** The moment that `total` is true for. */
	readonly at: At;
	/** Everything in use, in units. */
	readonly total: bigint;
	/** When the period ends that it is in, by the caller's clock; null: there are none. */
	readonly resetsAt: At | null;
	/** How long its window is, or the period that it is in; null: it has none. */
	readonly windowMs: Ms | null;
	/** Lets time run to `now`. */
	drain(now: At): void;
	/** Lays slots on top that no lease owns. */
	pour(slots: number): void;
	/** Lays a band on top that `id` owns. */
	lay(id: string, slots: number): void;
	/** Takes out what is left of a band. Answers the id of the band above it when that one changed. */
	take(id: string): string | null;
	/** Takes out so many slots of what is left of a band, or all of it. */
	shrink(id: string, slots: number): void;
	/** Leaves a band in place but without an owner. Answers the id of the band above it when that one changed. */
	disown(id: string): string | null;
	/** Units that `id` still owns. */
	owned(id: string): bigint;
	/** Makes it `slots` by hand; the leases of this moment own nothing of it. */
	reset(slots: number): void;
	/** The first moment from `at` on when it is `units` or less. */
	reaches(units: bigint): At;
	/** The same, to be played forward: nothing that happens to it happens here. */
	forecast(): Usage;
	/** What a lease's row must remember of its band. */
	band(id: string): Band | null;
	save(): SavedUsage;
	/** Rebuilds it from rows, which say what was when they were written. */
	restore(bands: Band[], saved: SavedUsage): void;
}
