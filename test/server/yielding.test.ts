/** One request that calls many objects: others' requests go in between. */

import { expect, test } from "vitest";
import { AT_ONCE, inParts } from "../../src/server/front/yielding.ts";

test("of many calls some are made at a time, and what waits for the runtime goes first", async () => {
	let others = 0;
	const other = setInterval(() => {
		others += 1;
	}, 0);
	// An answer that is there at once, as from an object on the same machine.
	const answers = await inParts(Array.from({ length: 3 * AT_ONCE }), async () => others);
	clearInterval(other);
	const seen = answers.map((answer) => (answer.status === "fulfilled" ? answer.value : -1));
	expect(seen.slice(0, AT_ONCE)).toEqual(Array(AT_ONCE).fill(0));
	expect(seen[AT_ONCE]).toBeGreaterThan(0);
	expect(seen[2 * AT_ONCE]).toBeGreaterThan(seen[AT_ONCE] as number);
});

test("none of them is waited for before the next are made, and one that fails is told in its place", async () => {
	const last = Promise.withResolvers<void>();
	const answers = await inParts(
		Array.from({ length: AT_ONCE + 1 }, (_, n) => n),
		async (n) => {
			if (n === AT_ONCE) last.resolve();
			else await last.promise;
			if (n === 3) throw new Error("out of reach");
			return n;
		},
	);
	expect(answers.map(({ status }) => status).indexOf("rejected")).toBe(3);
	expect(answers.at(-1)).toEqual({ status: "fulfilled", value: AT_ONCE });
});
