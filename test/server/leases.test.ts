/** Leases of several names, by every door: they are given back with their first name last, and renewed as a whole. */

import { exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import * as prefect from "./prefect-support.ts";
import {
	granted,
	holdBack,
	inspect,
	limitObject,
	MOMENT,
	newLimits,
	open,
	release,
	renew,
	untilActive,
} from "./support.ts";

/** How a caller takes a slot of each name, and then gives all of them back. */
const DOORS: [
	door: string,
	method: "release" | "takeBack",
	take: (names: string[]) => Promise<() => Promise<unknown>>,
][] = [
	[
		"POST /v1/release",
		"release",
		async (names) => {
			const lease = await granted({ names });
			return () => release(lease);
		},
	],
	[
		"the RPC of another Worker",
		"release",
		async (names) => {
			const lease = await exports.HeadgateService.concurrency(names);
			return () => lease.release();
		},
	],
	[
		"Prefect's lease",
		"release",
		async (names) => {
			const id = await prefect.leased(names);
			return () => prefect.release(id);
		},
	],
	[
		"Prefect's slots without a lease",
		"takeBack",
		async (names) => {
			expect((await prefect.increment(names)).status).toBe(200);
			return () => prefect.decrement(names);
		},
	],
];

describe("the first name is given back last, so that a waiter for all of them finds the others free when it has its turn", () => {
	test.each(DOORS)("by %s", async (_, method, take) => {
		const [first, second, third] = (await newLimits(1, 1, 1)) as [string, string, string];
		// Named in another order than the one in which every request takes them.
		const giveBack = await take([third, first, second]);
		const held = await holdBack(limitObject(second), method);
		const given = giveBack();
		await held.reached();
		await untilActive(third, 0);
		expect((await inspect(first)).activeSlots).toBe(1);
		held.resume();
		await given;
		for (const name of [first, second, third]) expect((await inspect(name)).activeSlots).toBe(0);
	});

	test("when a part of a held lease ends", async () => {
		const [first, second, third] = (await newLimits(1, 1, 1)) as [string, string, string];
		const stream = await open({ names: [first, second, third], hold: true });
		const { id } = await stream.granted();
		const held = await holdBack(limitObject(second), "release");
		await release({ id, names: third });
		await held.reached();
		expect((await inspect(first)).activeSlots).toBe(1);
		held.resume();
		await untilActive(first, 0);
		await stream.ended;
	});
});

describe("a renewal", () => {
	test("names every part that holds nothing of the lease any more", async () => {
		const names = (await newLimits(1, 1, 1)) as [string, string, string];
		const lease = await granted({ names });
		await release({ id: lease.id, names: [names[0], names[2]] });
		const { status, body } = await renew(lease);
		expect({ status, code: body.code }).toEqual({ status: 410, code: "lease_gone" });
		expect(body.detail).toContain(`"${names[0]}", "${names[2]}"`);
		expect(body.detail).not.toContain(names[1]);
	});

	test("over RPC is null when a part is gone", async () => {
		const names = await newLimits(1, 1);
		using request = await exports.HeadgateService.ask({ names });
		const { lease } = await request.verdict();
		expect(await request.renew()).toMatch(MOMENT);
		await release({ id: lease?.id, names: names[1] });
		expect(await request.renew()).toBeNull();
	});
});
