/** `rate`: limits taken by rate in the same request as the slots that are held. */

import { describe, expect, test } from "vitest";
import {
	acquire,
	call,
	configure,
	expectProblem,
	granted,
	inspect,
	newId,
	newNames,
	patch,
	release,
	renew,
	stopClock,
	untilActive,
} from "./support.ts";

/** A job's two limits: two at once, and so many calls that hardly come back. */
async function jobs(calls = 3): Promise<[atOnce: string, perMinute: string]> {
	const [atOnce = "", perMinute = ""] = newNames(2);
	await configure(atOnce, { limit: 2 });
	await configure(perMinute, { limit: calls, slotDecayPerSecond: 0.0001 });
	return [atOnce, perMinute];
}

describe("held and by rate in one request", () => {
	test("the answer says what is held and what was taken, and is a lease that can be sent back as it is", async () => {
		const [atOnce, perMinute] = await jobs();
		const lease = await granted({ names: atOnce, rate: { [perMinute]: 2 } });
		expect(lease).toMatchObject({ names: { [atOnce]: 1 }, rate: { [perMinute]: 2 } });
		expect(lease.limits.map(({ name }) => name)).toEqual([atOnce, perMinute]);
		expect((await renew(lease)).status).toBe(200);
		expect((await release(lease)).body).toEqual({ released: 1 });
		expect((await inspect(atOnce)).activeSlots).toBe(0);
	});

	test("a short call gives back what it held, and spends what it took by rate", async () => {
		const [atOnce, perMinute] = await jobs(3);
		for (let calls = 0; calls < 3; calls += 1) {
			await release(await granted({ names: [atOnce], rate: perMinute }));
		}
		expect((await inspect(perMinute)).remaining).toBe(0);
		const denied = expectProblem(await acquire({ names: [atOnce], rate: perMinute }), 429, "denied");
		expect(denied["violated-policies"]).toEqual([perMinute]);
	});

	test("a lease alone would give its calls back: that is why there is `rate`", async () => {
		const [atOnce, perMinute] = await jobs(3);
		for (let calls = 0; calls < 5; calls += 1) await release(await granted({ names: [atOnce, perMinute] }));
		expect((await inspect(perMinute)).remaining).toBeGreaterThanOrEqual(2);
	});

	test("it is all or nothing, whichever of the two is full", async () => {
		const [atOnce, perMinute] = await jobs(3);
		const held = await granted({ names: { [atOnce]: 2 } });
		expectProblem(await acquire({ names: atOnce, rate: perMinute }), 429, "denied");
		await expect.poll(async () => (await inspect(perMinute)).activeSlots).toBe(0);
		await release(held);
		await granted({ names: perMinute, occupy: 3, mode: "rate_limit" });
		expectProblem(await acquire({ names: atOnce, rate: perMinute }), 429, "denied");
		expect((await inspect(atOnce)).activeSlots).toBe(0);
	});

	test("it waits for the held one, and takes both in the same moment", async () => {
		const [atOnce, perMinute] = await jobs();
		const held = await granted({ names: { [atOnce]: 2 } });
		const waiting = granted({ names: atOnce, rate: perMinute, waitSeconds: 20 });
		await expect.poll(async () => (await inspect(atOnce)).waitingCount).toBe(1);
		// It was set aside for a moment, as the request asked for both.
		await untilActive(perMinute, 0);
		await release(held);
		expect(await waiting).toMatchObject({ names: { [atOnce]: 1 }, rate: { [perMinute]: 1 } });
	});

	test("the same id is the same lease, and takes nothing twice", async () => {
		const [atOnce, perMinute] = await jobs();
		const request = { id: newId(), names: atOnce, rate: perMinute };
		const first = await granted(request);
		const again = await granted(request);
		expect(again).toMatchObject({ id: first.id, names: first.names, rate: first.rate });
		expect((await inspect(perMinute)).activeSlots).toBe(1);
		expect((await inspect(atOnce)).leaseCount).toBe(1);
		expectProblem(await acquire({ ...request, rate: { [perMinute]: 2 } }), 409, "id_in_use");
	});

	test("a limit without decay cannot be taken by rate, and then nothing is held", async () => {
		const [atOnce, perMinute] = await jobs();
		await patch(perMinute, { slotDecayPerSecond: 0, activeSlots: 0 });
		expectProblem(await acquire({ names: atOnce, rate: perMinute }), 422, "no_decay");
		expect((await inspect(atOnce)).activeSlots).toBe(0);
	});

	test.each([
		["in rate-limit mode", (_: string, rate: string) => ({ names: "x", mode: "rate_limit", rate }), "rate"],
		["of a name that is held", (held: string) => ({ names: held, rate: held }), "rate"],
		["of no slots", (held: string, rate: string) => ({ names: held, rate: { [rate]: 0 } }), `rate.`],
		["of a name that is none", (held: string) => ({ names: held, rate: "a/b" }), "rate"],
		["without a name to hold", (_: string, rate: string) => ({ names: [], rate }), "names"],
	])("%s: `rate` is refused", async (_, request, field) => {
		const [atOnce, perMinute] = await jobs();
		const problem = expectProblem(await acquire(request(atOnce, perMinute)), 422, "invalid");
		expect(problem.errors?.[0]?.field.startsWith(field)).toBe(true);
	});

	test("names and rate together are at most sixteen", async () => {
		const names = newNames(17);
		const answer = await acquire({ names: names.slice(0, 8), rate: names.slice(8) });
		expect(expectProblem(answer, 422, "invalid").detail).toContain("at most 16 names, not 17");
	});

	test("an answer says how fast slots come back", async () => {
		stopClock();
		const [atOnce, perMinute] = await jobs();
		const { limits } = await granted({ names: atOnce, rate: perMinute });
		expect(limits[0]).not.toHaveProperty("slotDecayPerSecond");
		expect(limits[1]).toMatchObject({ slotDecayPerSecond: 0.0001 });
		expect(limits[1]?.nextSlotSeconds).toBe(10_000);
		const { headers } = await call("POST", "/v1/acquire", { names: atOnce, rate: perMinute });
		expect(headers.get("RateLimit-Policy")).toBe(
			`"${atOnce}";q=2;qu="concurrent-requests", "${perMinute}";q=3;w=30000`,
		);
	});
});
