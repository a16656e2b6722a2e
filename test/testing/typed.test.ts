/** Names that the compiler knows: `npm run types` fails where one of these mistakes is none, or one of these calls is one. */

import { expect, test } from "vitest";
import { defineLimits, Headgate, type NamesOf, testGate } from "../../src/testing/index.ts";

test("a name that is misspelt is refused by the compiler; those of a policy may end as they like", async () => {
	const limits = defineLimits({
		limits: { database: { limit: 20 }, openai: { limit: 100, slotDecayPerSecond: 5 } },
		policies: { "login:*": { limit: 5, slotDecayPerSecond: 0.1 }, exact: { limit: 1 } },
	});
	type Known = NamesOf<typeof limits>;
	const { gate: any } = testGate({ limits: { ...limits.limits, ...limits.policies } });
	const gate = any as Headgate<Known>;
	await gate.concurrency(["database", "exact"], async () => undefined);
	await gate.rateLimit({ openai: 2, "login:alice": 1 });
	expect((await gate.acquire("database", { rate: "openai" })).names).toEqual({ database: 1 });
	expect((await gate.inspect("openai")).activeSlots).toBe(3);
	// Never called: only whether they compile counts.
	void (() => [
		// @ts-expect-error: misspelt
		gate.concurrency("databse", async () => undefined),
		// @ts-expect-error: misspelt in a list
		gate.acquire(["database", "opnai"]),
		// @ts-expect-error: misspelt as a key
		gate.rateLimit({ opnai: 1 }),
		// @ts-expect-error: of no policy
		gate.rateLimit("logn:alice"),
		// Without names any will do.
		new Headgate({ url: "https://limits.example" }).acquire("whatever"),
		new Headgate<"a" | "b">({ url: "https://limits.example" }).acquireMany([{ names: "a" }, { names: { b: 2 } }]),
	]);
});
