/** `POST /v1/check`: what an acquire would be answered, without taking, counting or making anything. */

import { describe, expect, test } from "vitest";
import type { CheckAnswer, Problem } from "../../src/protocol.ts";
import {
	acquire,
	call,
	configure,
	expectProblem,
	granted,
	inspect,
	newLimit,
	newName,
	newNames,
	openQueued,
	path,
	setPolicy,
	stopClock,
} from "./support.ts";

const check = (request: Record<string, unknown>) => call<CheckAnswer & Problem>("POST", "/v1/check", request);

describe("a check", () => {
	test("says that slots would be granted, and takes, counts and writes nothing", async () => {
		const name = await newLimit({ limit: 2 });
		const before = await inspect(name);
		const { status, body, headers } = await check({ names: name, occupy: 2 });
		expect(status).toBe(200);
		expect(body).toEqual({
			allowed: true,
			limits: [
				{ name, limit: 2, activeSlots: 0, remaining: 2, enforced: true, position: null, retryAfterSeconds: null },
			],
		});
		expect(headers.get("RateLimit")).toBe(`"${name}";r=2`);
		expect(await inspect(name)).toEqual(before);
	});

	test.each([
		["more than is free", { limit: 2 }, { occupy: 2 }],
		["more than there is", { limit: 2 }, { occupy: 3 }],
		["by rate where nothing comes back", { limit: 2 }, { mode: "rate_limit" }],
		["by rate from what is used up", { limit: 1, slotDecayPerSecond: 0.1 }, { mode: "rate_limit" }],
	])("says the same as a denial: %s", async (_, settings, wish) => {
		stopClock();
		const name = await newLimit(settings);
		await granted({ names: name });
		const { allowed, ...said } = (await check({ names: name, ...wish })).body;
		const { code, detail, limits, retryAfterSeconds } = (await acquire({ names: name, ...wish })).body;
		expect(allowed).toBe(false);
		expect(said).toEqual({ code, detail, limits, ...(retryAfterSeconds !== undefined && { retryAfterSeconds }) });
		expect((await inspect(name)).totals.denied).toBe(code === "denied" ? 1 : 0);
	});

	test("does not jump a line, and says which place it would have", async () => {
		const name = await newLimit({ limit: 2 });
		await granted({ names: name });
		await openQueued({ names: name, occupy: 2 });
		const { allowed, limits } = (await check({ names: name })).body;
		expect([allowed, limits[0]?.position]).toEqual([false, 2]);
	});

	test("knows of a pause", async () => {
		stopClock();
		const name = await newLimit({ limit: 2 });
		await call("POST", `${path(name)}/pause`, { seconds: 20 });
		expect((await check({ names: name })).body).toMatchObject({ allowed: false, retryAfterSeconds: 20 });
	});

	test("of several names says which of them stands in the way", async () => {
		const [free = "", full = ""] = newNames(2);
		await configure(free, { limit: 1 });
		await configure(full, { limit: 1 });
		await granted({ names: full });
		const { allowed, limits } = (await check({ names: [free, full] })).body;
		expect(allowed).toBe(false);
		expect(limits.map(({ position }) => position)).toEqual([null, 1]);
	});

	test("makes no limit of a name that is not there: the policy would say, or nobody", async () => {
		const family = newName();
		await setPolicy(`${family}:*`, { limit: 3, slotDecayPerSecond: 1 });
		const key = `${family}:a`;
		expect((await check({ names: key, occupy: 3 })).body).toMatchObject({ allowed: true, limits: [{ limit: 3 }] });
		expect((await check({ names: key, occupy: 4 })).body).toMatchObject({ allowed: false, code: "exceeds_limit" });
		const name = newName();
		expect((await check({ names: name, occupy: 9 })).body).toMatchObject({
			allowed: true,
			limits: [{ enforced: false, configured: false }],
		});
		expect((await check({ names: name, createIfMissing: false })).body.limits[0]).toMatchObject({ missing: true });
		expectProblem(await check({ names: [name, key], strict: true }), 404, "unknown_limit");
		for (const each of [key, name]) expect((await call("GET", path(each))).status).toBe(404);
	});

	test.each([
		["of 17 names", { names: Array.from({ length: 17 }, (_, index) => `n${index}`) }, "names"],
		["with an id", { names: "a", id: "x" }, "id"],
		["that waits", { names: "a", waitSeconds: 1 }, "waitSeconds"],
		["that holds", { names: "a", hold: true }, "hold"],
		["of no slots", { names: "a", occupy: 0 }, "occupy"],
		["of nothing", {}, "names"],
	])("%s is refused", async (_, request, field) => {
		const problem = expectProblem(await check(request), 422, "invalid");
		expect(problem.errors?.[0]?.field).toBe(field);
	});
});
