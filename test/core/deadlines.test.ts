import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Deadlines, type Due } from "../../src/core/deadlines.ts";

interface Named extends Due {
	name: string;
}

const NEVER = Number.POSITIVE_INFINITY;
const due = (name: string): Named => ({ name, until: NEVER, heapIndex: -1 });

function drained(deadlines: Deadlines<Named>): string {
	const names: string[] = [];
	for (let first = deadlines.first; first; first = deadlines.first) {
		names.push(first.name);
		deadlines.remove(first);
	}
	return names.join("");
}

describe("deadlines come in order of time, whatever was done to them", () => {
	const [a, b, c, d] = ["a", "b", "c", "d"];
	test.each([
		{
			does: "set",
			set: [
				[c, 3],
				[a, 1],
				[b, 2],
			],
			order: "abc",
		},
		{
			does: "set later",
			set: [
				[a, 1],
				[b, 2],
				[c, 3],
				[a, 4],
			],
			order: "bca",
		},
		{
			does: "set earlier",
			set: [
				[a, 1],
				[b, 2],
				[c, 3],
				[c, 0],
			],
			order: "cab",
		},
		{
			does: "set to never",
			set: [
				[a, 1],
				[b, 2],
				[a, NEVER],
			],
			order: "b",
		},
		{
			does: "never set",
			set: [
				[a, NEVER],
				[b, 2],
			],
			order: "b",
		},
		{
			does: "removed and set again",
			set: [
				[a, 1],
				[b, 2],
				[a, NEVER],
				[a, 3],
			],
			order: "ba",
		},
		{
			does: "set to what it was",
			set: [
				[a, 1],
				[a, 1],
				[d, 4],
			],
			order: "ad",
		},
	] as { does: string; set: [string, number][]; order: string }[])("$does: $order", ({ set, order }) => {
		const members = new Map([a, b, c, d].map((name) => [name, due(name as string)]));
		const deadlines = new Deadlines<Named>();
		for (const [name, until] of set) deadlines.set(members.get(name) as Named, until);
		expect(drained(deadlines)).toBe(order);
	});

	test("removing what is not in it changes nothing", () => {
		const deadlines = new Deadlines<Named>();
		const member = due("a");
		deadlines.set(member, 1);
		deadlines.remove(due("b"));
		deadlines.remove(member);
		deadlines.remove(member);
		expect([deadlines.size, deadlines.first]).toEqual([0, undefined]);
	});
});

test("the first is the earliest and none is lost, after any moves", () => {
	const move = fc.tuple(fc.nat(11), fc.oneof(fc.nat(20), fc.constant(NEVER), fc.constant(-1)));
	fc.assert(
		fc.property(fc.array(move, { maxLength: 120 }), (moves) => {
			const members = Array.from({ length: 12 }, (_, index) => due(String(index)));
			const deadlines = new Deadlines<Named>();
			const held = new Set<Named>();
			for (const [index, until] of moves) {
				const member = members[index] as Named;
				// A negative moment stands for its removal.
				if (until < 0) deadlines.remove(member);
				else deadlines.set(member, until);
				if (until >= 0 && until < NEVER) held.add(member);
				else held.delete(member);
				expect(deadlines.size).toBe(held.size);
				expect(deadlines.first?.until).toBe(
					held.size > 0 ? Math.min(...[...held].map((each) => each.until)) : undefined,
				);
				for (const each of members) expect(each.heapIndex >= 0).toBe(held.has(each));
			}
		}),
		{ numRuns: 500, seed: 7 },
	);
});
