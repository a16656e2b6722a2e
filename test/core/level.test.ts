import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Level, unitsPerMs } from "../../src/core/level.ts";
import { type Band, SLOT } from "../../src/core/usage.ts";

const slots = (count: number): bigint => (BigInt(Math.round(count * 1_000_000)) * SLOT) / 1_000_000n;

describe("promise 8: a rate is a whole number of units a millisecond", () => {
	test.each([
		[1, 10n ** 15n],
		[0.1, 10n ** 14n],
		[1000, 10n ** 18n],
		[1.5, 15n * 10n ** 14n],
		[0.3, 3n * 10n ** 14n], // Although 0.3 is not a binary fraction.
		[1e-9, 10n ** 6n], // Its text has an exponent.
		[2.5e-7, 25n * 10n ** 7n],
		[1e-15, 1n],
		[0.1234567890123456, 123456789012345n], // The 16th decimal is dropped.
		[1e21, 10n ** 36n],
		[0, 0n],
	])("%s slots a second", (rate, units) => {
		expect(unitsPerMs(rate)).toBe(units);
	});
});

describe("promise 8: the level drains exactly", () => {
	test.each([
		{ rate: 1, laid: 2, afterMs: 500, left: 1.5 },
		{ rate: 0.1, laid: 1, afterMs: 1, left: 0.9999 },
		{ rate: 3, laid: 1, afterMs: 333, left: 0.001 },
		{ rate: 3, laid: 1, afterMs: 334, left: 0 }, // It stops at nothing.
		{ rate: 0, laid: 4, afterMs: 86_400_000, left: 4 },
	])("$laid slots at $rate/s after $afterMs ms: $left", ({ rate, laid, afterMs, left }) => {
		const level = new Level(rate, 0);
		level.pour(laid);
		level.drain(afterMs);
		expect(level.total).toBe(slots(left));
	});

	test("a thousand looks lose nothing that one would not", () => {
		const level = new Level(0.7, 0);
		level.pour(5);
		for (let ms = 1; ms <= 1_000; ms += 1) level.drain(ms);
		expect(level.total).toBe(slots(4.3));
	});

	test.each([
		{ rate: 1, laid: 3, to: 2, at: 1_000 },
		{ rate: 3, laid: 1, to: 0, at: 334 }, // Rounded up to the first moment when it is true.
		{ rate: 1, laid: 3, to: 3, at: 0 },
		{ rate: 1, laid: 3, to: 5, at: 0 },
	])("$laid slots at $rate/s reach $to at $at ms", ({ rate, laid, to, at }) => {
		const level = new Level(rate, 0);
		level.pour(laid);
		expect(level.reaches(slots(to))).toBe(at);
	});
});

describe("promise 7: a lease gives back what is left of its own band", () => {
	/** Bands a (2), nobody's 1, b (2), nobody's 1, at 1 slot a second. */
	function stack(): Level {
		const level = new Level(1, 0);
		level.lay("a", 2);
		level.pour(1);
		level.lay("b", 2);
		level.pour(1);
		return level;
	}

	test.each([
		{ afterMs: 0, a: 2, b: 2 },
		{ afterMs: 500, a: 1.5, b: 2 }, // The oldest drains first.
		{ afterMs: 2_000, a: 0, b: 2 },
		{ afterMs: 2_900, a: 0, b: 2 }, // Then what nobody owns beneath the next.
		{ afterMs: 3_500, a: 0, b: 1.5 },
		{ afterMs: 5_500, a: 0, b: 0 },
	])("after $afterMs ms a owns $a and b owns $b", ({ afterMs, a, b }) => {
		const level = stack();
		level.drain(afterMs);
		expect([level.owned("a"), level.owned("b")]).toEqual([slots(a), slots(b)]);
	});

	test("what is above a band that is taken out sinks by as much", () => {
		const level = stack();
		level.drain(500);
		expect(level.take("a")).toBe(null);
		expect(level.total).toBe(slots(4));
		level.drain(2_000);
		expect(level.owned("b")).toBe(slots(1.5));
	});

	test("a band that was taken out gives nothing a second time", () => {
		const level = stack();
		level.take("a");
		level.take("a");
		expect([level.total, level.owned("a")]).toEqual([slots(4), 0n]);
	});

	test("a band without an owner stays where it is", () => {
		const level = stack();
		expect(level.disown("a")).toBe("b");
		expect([level.total, level.owned("a"), level.band("b")?.below]).toEqual([slots(6), 0n, slots(3)]);
	});

	test("the band above is named when its row must be written anew, and only then", () => {
		const level = stack();
		level.lay("c", 1);
		expect([level.take("a"), level.take("b"), level.take("c")]).toEqual([null, "c", null]);
	});

	test("slots set by hand belong to nobody", () => {
		const level = stack();
		level.reset(4);
		expect([level.total, level.top, level.owned("a"), level.owned("b")]).toEqual([slots(4), slots(4), 0n, 0n]);
	});
});

/** The same, as an array from the oldest to the newest. */
class PlainLevel {
	parts: { owner: string | null; units: bigint }[] = [];
	rate = 0n;
	at = 0;

	drain(now: number): void {
		let left = this.rate * BigInt(now - this.at);
		this.at = now;
		for (const part of this.parts) {
			const gone = left < part.units ? left : part.units;
			part.units -= gone;
			left -= gone;
		}
	}

	total(): bigint {
		return this.parts.reduce((sum, part) => sum + part.units, 0n);
	}

	owned(id: string): bigint {
		return this.parts.reduce((sum, part) => (part.owner === id ? sum + part.units : sum), 0n);
	}
}

const ids = ["a", "b", "c", "d", "e"];
const step = fc.oneof(
	fc.record({ kind: fc.constant("drain" as const), ms: fc.integer({ min: 0, max: 3_000 }) }),
	fc.record({ kind: fc.constant("pour" as const), slots: fc.integer({ min: 1, max: 4 }) }),
	fc.record({ kind: fc.constant("lay" as const), slots: fc.integer({ min: 1, max: 4 }), id: fc.constantFrom(...ids) }),
	fc.record({ kind: fc.constantFrom("take" as const, "disown" as const), id: fc.constantFrom(...ids) }),
	fc.record({ kind: fc.constant("rate" as const), rate: fc.constantFrom(0, 0.1, 0.7, 1, 3, 1000) }),
	fc.record({ kind: fc.constant("reset" as const), slots: fc.integer({ min: 0, max: 4 }) }),
	fc.record({ kind: fc.constant("restart" as const) }),
);

test("promise 8: whatever is laid, drained, taken and restarted, the level is that of a plain list", () => {
	fc.assert(
		fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
			let level = new Level(1, 0);
			const plain = new PlainLevel();
			plain.rate = unitsPerMs(1);
			// Rows of bands, written when a band is laid or changed and not as it drains.
			const rows = new Map<string, Band>();
			const write = (id: string | null): void => {
				const band = id === null ? null : level.band(id);
				if (band) rows.set(band.id, band);
			};
			for (const each of steps) {
				if (each.kind === "drain") {
					level.drain(level.at + each.ms);
					plain.drain(plain.at + each.ms);
				} else if (each.kind === "pour") {
					level.pour(each.slots);
					plain.parts.push({ owner: null, units: slots(each.slots) });
				} else if (each.kind === "lay" && !rows.has(each.id)) {
					level.lay(each.id, each.slots);
					write(each.id);
					plain.parts.push({ owner: each.id, units: slots(each.slots) });
				} else if (each.kind === "take") {
					write(level.take(each.id));
					rows.delete(each.id);
					plain.parts = plain.parts.filter((part) => part.owner !== each.id);
				} else if (each.kind === "disown") {
					write(level.disown(each.id));
					rows.delete(each.id);
					for (const part of plain.parts) if (part.owner === each.id) part.owner = null;
				} else if (each.kind === "rate") {
					level.setRate(each.rate);
					plain.rate = unitsPerMs(each.rate);
				} else if (each.kind === "reset") {
					level.reset(each.slots);
					plain.parts = [{ owner: null, units: slots(each.slots) }];
				} else if (each.kind === "restart") {
					const rebuilt = new Level(0, level.at);
					rebuilt.rate = level.rate;
					rebuilt.restore(shuffled([...rows.values()]), level.save());
					level = rebuilt;
				}
				expect(level.total).toBe(plain.total());
				for (const id of ids) expect(level.owned(id)).toBe(plain.owned(id));
			}
		}),
		{ numRuns: 1_500, seed: 7 },
	);
});

/** Another order than that of the stack, for rows come in the order of their requests. */
const shuffled = (rows: Band[]): Band[] => rows.sort((a, b) => (a.id < b.id ? 1 : -1));
