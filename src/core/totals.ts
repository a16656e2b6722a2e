/** What a limit has done since it was made: counts, and how long requests waited and leases were held. */

import type { Ms } from "./time.ts";

/**
 * Upper ends of the buckets of every histogram, ends included; one more bucket takes what is longer. From the time of
 * one call to a day, which is the longest lease: few enough to be written with every commit.
 */
export const BUCKETS_MS: readonly Ms[] = [10, 50, 100, 500, 1_000, 5_000, 10_000, 30_000, 60_000, 300_000, 3_600_000];

export interface Histogram {
	/** How many fell into each bucket, and not into a shorter one. */
	counts: number[];
	sumMs: Ms;
}

export interface Totals {
	grantedAtOnce: number;
	grantedAfterWait: number;
	/** Refused for want of free slots; those who timed out among them. */
	denied: number;
	/** Gave up in line, at the end of the time that they had set themselves. */
	timedOut: number;
	released: number;
	expired: number;
	/** Granted by a limit that only watches, and would have been denied. */
	wouldDeny: number;
	/** Of every grant, how long it waited. */
	waits: Histogram;
	/** Of every lease that was released or expired, how long it was held. */
	holds: Histogram;
}

export const newTotals = (): Totals => ({
	...{ grantedAtOnce: 0, grantedAfterWait: 0, denied: 0, timedOut: 0, released: 0, expired: 0, wouldDeny: 0 },
	waits: newHistogram(),
	holds: newHistogram(),
});

const newHistogram = (): Histogram => ({ counts: BUCKETS_MS.map(() => 0).concat(0), sumMs: 0 });

/** `times`: of so many requests or leases. */
export function observe(histogram: Histogram, ms: Ms, times = 1): void {
	let bucket = 0;
	while (ms > (BUCKETS_MS[bucket] ?? Number.POSITIVE_INFINITY)) bucket += 1;
	histogram.counts[bucket] = (histogram.counts[bucket] ?? 0) + times;
	histogram.sumMs += ms * times;
}

/** What was counted between two looks, or with `sign` 1 in both together. */
export function combine(a: Totals, b: Totals, sign: 1 | -1): Totals {
	const both = (x: number, y: number | undefined): number => x + sign * (y ?? 0);
	const histograms = (x: Histogram, y: Histogram): Histogram => ({
		counts: x.counts.map((count, bucket) => both(count, y.counts[bucket])),
		sumMs: both(x.sumMs, y.sumMs),
	});
	return {
		grantedAtOnce: both(a.grantedAtOnce, b.grantedAtOnce),
		grantedAfterWait: both(a.grantedAfterWait, b.grantedAfterWait),
		denied: both(a.denied, b.denied),
		timedOut: both(a.timedOut, b.timedOut),
		released: both(a.released, b.released),
		expired: both(a.expired, b.expired),
		wouldDeny: both(a.wouldDeny, b.wouldDeny),
		waits: histograms(a.waits, b.waits),
		holds: histograms(a.holds, b.holds),
	};
}

/** Whether nothing at all was counted. A denial and a lapse of time are counts too. */
export const isNothing = ({ waits, holds, ...counts }: Totals): boolean =>
	[...Object.values(counts), ...waits.counts, ...holds.counts].every((count) => count === 0);

/** Totals that can be changed apart from these. */
export const copyTotals = (totals: Totals): Totals => combine(totals, newTotals(), 1);

/** Totals as an older version stored them, which had fewer. */
export const completed = (totals: Partial<Totals>): Totals => copyTotals({ ...newTotals(), ...totals });
