import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
	COUNTED,
	History,
	type Reading,
	rebuildSample,
	SAMPLE_MS,
	SAMPLES,
	type Sample,
	saveSample,
} from "../../src/core/history.ts";

const START = 1_000 * SAMPLE_MS;
const none = { grantedAtOnce: 0, grantedAfterWait: 0, denied: 0, released: 0, expired: 0, wouldDeny: 0 };

const reading = (activeSlots: number, waiting = 0, slotDecayPerSecond = 0): Reading => ({
	...{ limit: 10, activeSlots, waiting, slotDecayPerSecond },
});

/** What a sample shows, without what it carries on. */
const shown = ({ startsAt, last: _, lastAt: __, ...rest }: Sample) => ({ at: startsAt - START, ...rest });

test("a sample has the most at one time, and counts what happened within it", () => {
	const history = new History(none);
	history.note(START, reading(3), { ...none, grantedAtOnce: 1 });
	history.note(START + 10, reading(9, 4), { ...none, grantedAtOnce: 2, denied: 5 });
	history.note(START + 20, reading(1), { ...none, grantedAtOnce: 2, denied: 5, released: 1 });
	expect(history.samples(START + 30, reading(1)).map(shown)).toEqual([
		{ ...none, at: 0, activeSlots: 9, waiting: 4, grantedAtOnce: 2, denied: 5, released: 1 },
	]);
});

test("what was counted before is not counted again", () => {
	const history = new History({ ...none, denied: 100 });
	history.note(START, reading(0), { ...none, denied: 101 });
	expect(history.lastMinute(START)).toMatchObject({ denied: 1 });
});

test("a stretch in which nothing happened looks as the moment before it", () => {
	const history = new History(none);
	history.note(START, reading(7, 2), none);
	history.note(START + 1, reading(4, 1), none);
	history.note(START + 3 * SAMPLE_MS, reading(0), none);
	const samples = history.samples(START + 4 * SAMPLE_MS, reading(0));
	expect(samples.map(({ activeSlots, waiting }) => [activeSlots, waiting])).toEqual([
		[7, 2],
		[4, 1],
		[4, 1],
		[4, 1], // In use at its start, whatever came then.
		[0, 0],
	]);
});

test("a level drains while nothing happens", () => {
	const history = new History(none);
	history.note(START, reading(10, 0, 0.4), none);
	const samples = history.samples(START + 6 * SAMPLE_MS, reading(0, 0, 0.4));
	expect(samples.map(({ activeSlots }) => activeSlots)).toEqual([10, 8, 6, 4, 2, 0, 0]);
});

test("a limit of which nothing is known yet has one sample: how it stands", () => {
	expect(new History(none).samples(START, reading(2, 1)).map(shown)).toEqual([
		{ ...none, at: 0, activeSlots: 2, waiting: 1 },
	]);
});

test("the ring has a quarter of an hour, however long ago it began", () => {
	const history = new History(none);
	for (let index = 0; index < 1_000; index += 1) history.note(START + index * SAMPLE_MS, reading(index), none);
	const samples = history.samples(START + 999 * SAMPLE_MS, reading(999));
	expect(samples.length).toBe(SAMPLES);
	expect(samples[0]?.activeSlots).toBe(1_000 - SAMPLES);
	expect(history.takeUnsaved().length).toBe(SAMPLES);
});

test("what is held for an hour is in use through the whole ring", () => {
	const history = new History(none);
	history.note(START, reading(5), none);
	const samples = history.samples(START + 3_600_000, reading(5));
	expect(samples.length).toBe(SAMPLES);
	expect(new Set(samples.map(({ activeSlots }) => activeSlots))).toEqual(new Set([5]));
});

test("the last minute is twelve samples, this one among them", () => {
	const history = new History(none);
	for (let index = 0; index < 30; index += 1) {
		history.note(START + index * SAMPLE_MS, reading(0), { ...none, denied: index + 1 });
	}
	expect(history.lastMinute(START + 29 * SAMPLE_MS + 4_999).denied).toBe(12);
	expect(history.lastMinute(START + 35 * SAMPLE_MS).denied).toBe(6);
	expect(history.lastMinute(START + 100 * SAMPLE_MS).denied).toBe(0);
});

test("promise 9: a clock that jumps back takes the samples ahead of it away, and goes on from there", () => {
	const history = new History(none);
	for (let index = 0; index < 10; index += 1) history.note(START + index * SAMPLE_MS, reading(index), none);
	history.note(START + 2 * SAMPLE_MS, reading(1), none);
	const samples = history.samples(START + 3 * SAMPLE_MS, reading(1));
	expect(samples.map(({ startsAt }) => (startsAt - START) / SAMPLE_MS)).toEqual([0, 1, 2, 3]);
	history.note(START + 4 * SAMPLE_MS, reading(8), none);
	expect(history.samples(START + 4 * SAMPLE_MS, reading(8)).at(-1)?.activeSlots).toBe(8);
});

describe("what is stored", () => {
	/** A history that is written at every note and thrown away after it, as an object does that sleeps in between. */
	class Stored {
		readonly rows = new Map<number, number[]>();
		open: number[] | null = null;
		totals = { ...none };

		history(): History {
			const open = this.open && rebuildSample(this.open);
			return new History(this.totals, open, () => [...this.rows.values()].map(rebuildSample));
		}

		note(now: number, at: Reading, totals: typeof none): void {
			const history = this.history();
			history.note(now, at, totals);
			this.totals = totals;
			this.open = history.open && saveSample(history.open);
			for (const sample of history.takeUnsaved()) this.rows.set(sample.startsAt, saveSample(sample));
			const newest = [...this.rows.keys()].sort((a, b) => b - a);
			for (const startsAt of newest.slice(SAMPLES)) this.rows.delete(startsAt);
		}
	}

	test("says the same as what was never thrown away", () => {
		const step = fc.record({
			afterMs: fc.oneof(fc.integer({ min: 0, max: 2 * SAMPLE_MS }), fc.integer({ min: 0, max: 300 * SAMPLE_MS })),
			activeSlots: fc.nat(10),
			waiting: fc.nat(5),
			decay: fc.constantFrom(0, 0.01, 2),
			denied: fc.nat(3),
		});
		fc.assert(
			fc.property(fc.array(step, { minLength: 1, maxLength: 40 }), (steps) => {
				const kept = new History(none);
				const stored = new Stored();
				let now = START;
				let totals = none;
				for (const { afterMs, activeSlots, waiting, decay, denied } of steps) {
					now += afterMs;
					totals = { ...totals, denied: totals.denied + denied };
					kept.note(now, reading(activeSlots, waiting, decay), totals);
					stored.note(now, reading(activeSlots, waiting, decay), totals);
					expect(stored.rows.size).toBeLessThanOrEqual(SAMPLES);
				}
				const last = reading(0);
				expect(stored.history().samples(now, last)).toEqual(kept.samples(now, last));
				expect(stored.history().lastMinute(now)).toEqual(kept.lastMinute(now));
			}),
			{ numRuns: 1_000 },
		);
	});

	test("a sample is a list of numbers, and comes back as it was", () => {
		const history = new History(none);
		history.note(START + 7, reading(3, 2, 1.5), { ...none, denied: 4, expired: 1 });
		const saved = saveSample(history.open as Sample);
		expect(saved.length).toBe(8 + COUNTED.length);
		expect(rebuildSample(JSON.parse(JSON.stringify(saved)))).toEqual(history.open);
	});
});
