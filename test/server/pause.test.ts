/** Pauses and fences over the wire: what a paused limit answers, who may pause it, and which lease is the newer one. */

import { describe, expect, test } from "vitest";
import type { LimitSummary, Problem } from "../../src/protocol.ts";
import * as prefect from "./prefect-support.ts";
import {
	acquire,
	call,
	configure,
	crash,
	expectProblem,
	granted,
	inspect,
	newLimit,
	newName,
	newNames,
	openQueued,
	path,
	release,
	remove,
	renew,
	setPolicy,
	stopClock,
} from "./support.ts";

const pause = (name: string, seconds: unknown) =>
	call<LimitSummary & Problem>("POST", `${path(name)}/pause`, { seconds });

describe("a paused limit", () => {
	test("denies with the time that is left, and says until when it is paused", async () => {
		const { pass } = stopClock();
		const name = await newLimit({ limit: 5 });
		const { pausedUntil } = (await pause(name, 30)).body;
		expect(Date.parse(pausedUntil ?? "") - Date.now()).toBe(30_000);
		const answer = await acquire({ names: name });
		const problem = expectProblem(answer, 429, "denied");
		expect(problem).toMatchObject({ retryAfterSeconds: 30, limits: [{ name, pausedUntil, remaining: 5 }] });
		expect(problem.detail).toContain(`is paused until ${pausedUntil}`);
		expect(answer.headers.get("Retry-After")).toBe("30");
		expect(answer.headers.get("RateLimit")).toBe(`"${name}";r=0`);
		expect((await inspect(name)).pausedUntil).toBe(pausedUntil);
		pass(30_000);
		expect((await granted({ names: name })).limits[0]).not.toHaveProperty("pausedUntil");
		expect((await inspect(name)).pausedUntil).toBeNull();
	});

	test("keeps its line in order, and hands off at its end", async () => {
		const name = await newLimit({ limit: 1 });
		await pause(name, 1);
		const first = await openQueued({ names: name });
		const second = await openQueued({ names: name });
		const { lease } = { lease: await first.granted() };
		expect(lease.waitedSeconds).toBeLessThan(5);
		await release(lease);
		await release(await second.granted());
	});

	test("is as long as the longest that was asked for, and stays through a crash", async () => {
		stopClock();
		const name = await newLimit({ limit: 1 });
		const { pausedUntil } = (await pause(name, 60)).body;
		expect((await pause(name, 1)).body.pausedUntil).toBe(pausedUntil);
		await crash(name);
		expect((await inspect(name)).pausedUntil).toBe(pausedUntil);
		expect((await pause(name, 0)).body.pausedUntil).toBeNull();
		await granted({ names: name });
	});

	test("lets its leases be renewed and released", async () => {
		const name = await newLimit({ limit: 2 });
		const lease = await granted({ names: name });
		await pause(name, 60);
		expect((await renew(lease)).status).toBe(200);
		expect((await release(lease)).body).toEqual({ released: 1 });
	});

	test("of several names takes nothing of the others", async () => {
		const [free = "", paused = ""] = newNames(2);
		await configure(free, { limit: 1 });
		await configure(paused, { limit: 1 });
		await pause(paused, 60);
		const problem = expectProblem(await acquire({ names: [free, paused] }), 429, "denied");
		expect(problem["violated-policies"]).toEqual([paused]);
		const waiter = await openQueued({ names: [free, paused] });
		await release(await granted({ names: free }));
		await pause(paused, 0);
		await release(await waiter.granted());
	});

	test("tells Prefect's client to stay away until its end", async () => {
		const name = newName();
		await prefect.create(name, { limit: 5 });
		await pause(name, 60);
		expect(prefect.retryAfter(await prefect.lease(name))).toBeGreaterThan(50);
		await pause(name, 0);
		expect((await prefect.lease(name)).status).toBe(200);
	});

	test.each([
		[-1, "seconds"],
		[600.001, "seconds"],
		[604_800, "seconds"],
		["30", "seconds"],
		[null, "seconds"],
	])("a pause of %j is refused", async (seconds, field) => {
		const problem = expectProblem(await pause(await newLimit(), seconds), 422, "invalid");
		expect(problem.errors?.[0]?.field).toBe(field);
	});

	test("of a name that is not there is unknown", async () => {
		expectProblem(await pause(newName(), 5), 404, "unknown_limit");
	});
});

describe("a fence", () => {
	const fenceOf = async (name: string): Promise<number> => {
		const { fence, ...lease } = await granted({ names: name });
		await release(lease);
		return fence?.[name] as number;
	};

	test("rises with every lease of a name, through crashes, deletes and another name, and not by a renewal", async () => {
		const [name = "", other = ""] = newNames(2);
		await configure(name, { limit: 3 });
		const given = [await fenceOf(name), await fenceOf(name)];
		const id = crypto.randomUUID();
		const lease = await granted({ names: name, id });
		given.push(lease.fence?.[name] as number);
		await renew(lease);
		expect((await granted({ names: name, id })).fence).toEqual(lease.fence);
		expect((await inspect(name)).leases).toMatchObject([{ id, fence: lease.fence?.[name] }]);
		await release(lease);
		await crash(name);
		given.push(await fenceOf(name));
		await remove(name);
		await configure(name, { limit: 1 });
		given.push(await fenceOf(name));
		await configure(other, { limit: 1 });
		const before = await fenceOf(other);
		await remove(other);
		const renamed = await call("PATCH", `/api/v2/concurrency_limits/${name}`, { name: other });
		expect(renamed.status).toBe(204);
		expect(await fenceOf(other)).toBeGreaterThan(before);
		await configure(name, { limit: 1 });
		given.push(await fenceOf(name));
		expect(given).toEqual([...new Set(given)].sort((a, b) => a - b));
	});

	test("is there for each name that is held, switched off or not, and not for what is taken by rate", async () => {
		const [held = "", rated = "", off = "", other = ""] = newNames(4);
		await configure(held, { limit: 1 });
		await configure(rated, { limit: 1, slotDecayPerSecond: 1 });
		await configure(off, { limit: 1, active: false });
		await configure(other, { limit: 1, slotDecayPerSecond: 1 });
		const { fence } = await granted({ names: [held, off], rate: rated });
		expect(Object.keys(fence ?? {}).sort()).toEqual([held, off].sort());
		expect(await granted({ names: other, mode: "rate_limit" })).not.toHaveProperty("fence");
	});

	test("of a key of a policy rises too, though nothing of the key outlives its end", async () => {
		const family = newName();
		await setPolicy(`${family}:*`, { limit: 1 });
		const first = await fenceOf(`${family}:a`);
		await remove(`${family}:a`);
		expect(await fenceOf(`${family}:a`)).toBeGreaterThan(first);
	});
});
