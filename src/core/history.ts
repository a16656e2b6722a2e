/**
 * What a limit did lately: a ring of samples, each of a few seconds.
 *
 * A sample holds the most that was in use and the most that waited at one time, and how many requests were granted,
 * denied, given back. It is noted with each decision and costs a few comparisons. A stretch in which nothing happened
 * has no sample: what it must have looked like follows from the last one before it.
 */

import type { At, Ms } from "./time.ts";

/** The length of one sample. */
export const SAMPLE_MS: Ms = 5_000;
/** Samples of the whole ring: a quarter of an hour. */
export const SAMPLES = 180;
/** Samples of the last minute, the one that is still being taken among them. */
const MINUTE_SAMPLES = 60_000 / SAMPLE_MS;

/** What is counted. */
export const COUNTED = ["grantedAtOnce", "grantedAfterWait", "denied", "released", "expired", "wouldDeny"] as const;
export type Counts = Record<(typeof COUNTED)[number], number>;

/** How a limit stands at one moment. */
export interface Reading {
	limit: number;
	/** Slots in use, rounded up. */
	activeSlots: number;
	waiting: number;
	slotDecayPerSecond: number;
}

export interface Sample extends Counts {
	startsAt: At;
	/** The most at one time. */
	activeSlots: number;
	/** The most at one time. */
	waiting: number;
	/** How the limit stood when it was last noted, and when that was. */
	last: Reading;
	lastAt: At;
}

const NOTHING: Counts = { grantedAtOnce: 0, grantedAfterWait: 0, denied: 0, released: 0, expired: 0, wouldDeny: 0 };

/** The start of the sample that a moment belongs to. */
export const sampleAt = (now: At): At => now - (now % SAMPLE_MS);

export class History {
	/** Samples that are over, oldest first, as many as are known here. */
	#closed: Sample[] = [];
	#unsaved: Sample[] = [];
	#open: Sample | null;
	/** Finds the samples that were saved before; asked once, and only when an operator looks. */
	#saved: (() => Sample[]) | null;
	readonly #counted: Counts;

	/** `open` is the sample that was being taken when the limit was last written. */
	constructor(totals: Counts, open: Sample | null = null, saved: (() => Sample[]) | null = null) {
		this.#counted = { ...NOTHING };
		for (const key of COUNTED) this.#counted[key] = totals[key];
		this.#open = open;
		this.#saved = saved;
	}

	/** The sample that is being taken. */
	get open(): Sample | null {
		return this.#open;
	}

	/** Something happened. `reading` and `totals` are of after it. */
	note(now: At, reading: Reading, totals: Counts): void {
		const startsAt = sampleAt(now);
		const open = this.#open?.startsAt === startsAt ? this.#open : this.#turn(startsAt);
		if (reading.activeSlots > open.activeSlots) open.activeSlots = reading.activeSlots;
		if (reading.waiting > open.waiting) open.waiting = reading.waiting;
		for (const key of COUNTED) {
			open[key] += totals[key] - this.#counted[key];
			this.#counted[key] = totals[key];
		}
		open.last = reading;
		open.lastAt = now;
	}

	/** The samples that ended since this was last asked. */
	takeUnsaved(): Sample[] {
		if (this.#unsaved.length === 0) return this.#unsaved;
		const unsaved = this.#unsaved;
		this.#unsaved = [];
		return unsaved;
	}

	/** The last quarter of an hour, oldest first, without gaps; it starts later for a limit that is younger. */
	samples(now: At, reading: Reading): Sample[] {
		const end = sampleAt(now);
		const first = end - (SAMPLES - 1) * SAMPLE_MS;
		const known = this.#known().filter(({ startsAt }) => startsAt <= end);
		const shown: Sample[] = [];
		let before: Sample | undefined = known.findLast(({ startsAt }) => startsAt < first);
		let startsAt = before ? first : (known[0]?.startsAt ?? end);
		for (const sample of [...known.filter(({ startsAt }) => startsAt >= first), null]) {
			const until = sample?.startsAt ?? end + SAMPLE_MS;
			for (; startsAt < until; startsAt += SAMPLE_MS) shown.push(quiet(startsAt, before, reading));
			if (!sample) break;
			shown.push(sample);
			before = sample;
			startsAt = sample.startsAt + SAMPLE_MS;
		}
		return shown;
	}

	/** What was counted within the last minute. */
	lastMinute(now: At): Counts {
		const first = sampleAt(now) - (MINUTE_SAMPLES - 1) * SAMPLE_MS;
		const sum = { ...NOTHING };
		for (const sample of this.#known()) {
			if (sample.startsAt < first || sample.startsAt > now) continue;
			for (const key of COUNTED) sum[key] += sample[key];
		}
		return sum;
	}

	#turn(startsAt: At): Sample {
		// A clock that was set back: what was noted of the time ahead will be noted again.
		if (this.#open && this.#open.startsAt > startsAt) {
			this.#closed = this.#known().filter((sample) => sample.startsAt < startsAt);
			this.#unsaved = this.#unsaved.filter((sample) => sample.startsAt < startsAt);
			this.#open = this.#closed.pop() ?? null;
		}
		const before = this.#open ?? undefined;
		if (before) {
			this.#closed.push(before);
			this.#unsaved.push(before);
			if (this.#closed.length > SAMPLES) this.#closed.shift();
			if (this.#unsaved.length > SAMPLES) this.#unsaved.shift();
		}
		this.#open = quiet(startsAt, before, NEW);
		return this.#open;
	}

	/** Every sample that is known, oldest first. */
	#known(): Sample[] {
		if (this.#saved) {
			const start = this.#closed[0]?.startsAt ?? this.#open?.startsAt ?? Number.POSITIVE_INFINITY;
			const saved = this.#saved().filter(({ startsAt }) => startsAt < start);
			this.#closed = [...saved.sort((a, b) => a.startsAt - b.startsAt), ...this.#closed].slice(-SAMPLES);
			this.#saved = null;
		}
		return this.#open ? [...this.#closed, this.#open] : this.#closed;
	}
}

const NEW: Reading = { limit: 0, activeSlots: 0, waiting: 0, slotDecayPerSecond: 0 };

/** A sample in which nothing happened: what was in use stays so, or drains. */
function quiet(startsAt: At, before: Sample | undefined, otherwise: Reading): Sample {
	const last = before?.last ?? otherwise;
	const drained = before ? (last.slotDecayPerSecond * Math.max(0, startsAt - before.lastAt)) / 1000 : 0;
	const activeSlots = Math.max(0, Math.ceil(last.activeSlots - drained));
	return { startsAt, activeSlots, waiting: last.waiting, ...NOTHING, last: { ...last, activeSlots }, lastAt: startsAt };
}

/** A sample as it is stored: numbers alone, for the one that is open is written with every commit. */
export type SavedSample = number[];

export function saveSample({ startsAt, activeSlots, waiting, last, lastAt, ...counts }: Sample): SavedSample {
	return [
		...[startsAt, activeSlots, waiting, lastAt],
		...[last.limit, last.activeSlots, last.waiting, last.slotDecayPerSecond],
		...COUNTED.map((key) => counts[key]),
	];
}

export function rebuildSample(saved: SavedSample): Sample {
	const [startsAt = 0, mostActive = 0, mostWaiting = 0, lastAt = 0, ...rest] = saved;
	const [limit = 0, activeSlots = 0, waiting = 0, slotDecayPerSecond = 0, ...counts] = rest;
	const sample: Sample = {
		...{ startsAt, activeSlots: mostActive, waiting: mostWaiting, lastAt, ...NOTHING },
		last: { limit, activeSlots, waiting, slotDecayPerSecond },
	};
	for (const [index, key] of COUNTED.entries()) sample[key] = counts[index] ?? 0;
	return sample;
}
