import { expect, test } from "vitest";
import { decide } from "../../src/core/decide.ts";
import { createLimit } from "../../src/core/limit.ts";
import { rebuild, saveLimit } from "../../src/core/saved.ts";
import { BUCKETS_MS, combine, copyTotals, newTotals, observe } from "../../src/core/totals.ts";

const START = 1_800_000_000_000;

test.each([
	[0, 0],
	[10, 0], // The end of a bucket is in it.
	[11, 1],
	[1_000, 4],
	[1_000.5, 5],
	[3_600_000, 10],
	[3_600_001, 11],
	[86_400_000, 11],
])("%d ms fall into bucket %d", (ms, bucket) => {
	const { waits } = newTotals();
	observe(waits, ms);
	expect(waits.counts).toEqual([...BUCKETS_MS, 0].map((_, index) => (index === bucket ? 1 : 0)));
	expect(waits.sumMs).toBe(ms);
});

test("what two looks differ by, added to the first, is the second", () => {
	const first = newTotals();
	first.denied = 2;
	observe(first.waits, 5);
	const second = copyTotals(first);
	second.denied = 7;
	second.expired = 1;
	observe(second.waits, 700);
	observe(second.holds, 90_000);
	const difference = combine(second, first, -1);
	expect(difference).toMatchObject({ denied: 5, expired: 1, waits: { sumMs: 700 }, holds: { sumMs: 90_000 } });
	expect(combine(first, difference, 1)).toEqual(second);
	expect(first.denied).toBe(2);
});

test("a request that waits and holds is counted where it belongs, also after a restart", () => {
	const limit = createLimit({ limit: 1, slotDecayPerSecond: 0, active: true }, START, () => undefined);
	const ask = (id: string, waitMs: number) =>
		decide(
			limit,
			{
				kind: "acquire",
				request: {
					...{ id, slots: 1, mode: "concurrency", leaseMs: 60_000, waitMs, ifBusy: waitMs > 0 ? "wait" : "deny" },
					...{ holder: null, held: false, print: id, remember: true },
				},
			},
			START,
		);
	ask("a", 0);
	ask("b", 5_000);
	ask("c", 1_000);
	ask("d", 0);
	decide(limit, { kind: "tick" }, START + 1_000);
	decide(limit, { kind: "release", id: "a", by: "caller" }, START + 2_000);
	decide(limit, { kind: "tick" }, START + 62_000);
	const again = rebuild(JSON.parse(JSON.stringify(saveLimit(limit))), [], START + 62_000, () => undefined);
	expect(again.totals).toEqual({
		...{ grantedAtOnce: 1, grantedAfterWait: 1, denied: 2, timedOut: 1, released: 1, expired: 1, wouldDeny: 0 },
		waits: { counts: [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], sumMs: 2_000 },
		holds: { counts: [0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0], sumMs: 62_000 },
	});
});

test("totals that were stored before there were histograms are taken up", () => {
	const saved = saveLimit(createLimit({ limit: 1, slotDecayPerSecond: 0, active: true }, START, () => undefined));
	const old = { grantedAtOnce: 3, grantedAfterWait: 2, denied: 1, released: 1, expired: 1, wouldDeny: 0 };
	const limit = rebuild({ ...saved, totals: old as typeof saved.totals }, [], START, () => undefined);
	expect(limit.totals).toEqual({ ...newTotals(), ...old });
});
