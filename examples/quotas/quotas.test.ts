import { testGate } from "headgate/testing";
import { expect, test } from "vitest";
import { LIMITS, quotas } from "./quotas.ts";

test("a key has its own quota, which comes back, and all keys have one together", async () => {
	const { gate, clock, limits } = testGate({ limits: LIMITS });
	const api = quotas(() => gate);
	const as = (key: string, path = "/v2/hello") => api.request(path, { headers: { "X-Api-Key": key } });
	expect((await api.request("/v2/hello")).status).toBe(401);

	// A search and two calls are all that alice has.
	expect((await as("alice", "/v2/search")).status).toBe(200);
	expect([(await as("alice")).status, (await as("alice")).status]).toEqual([200, 200]);
	const denied = await as("alice");
	expect([denied.status, denied.headers.get("Retry-After")]).toEqual([429, "10"]);
	expect(await denied.json()).toMatchObject({ "violated-policies": ["key"] });
	expect(limits.get("all")?.activeSlots).toBe(5);

	// Three are left for everybody else.
	const others = [];
	for (const key of ["bob", "carol", "dan", "eve"]) others.push((await as(key)).status);
	expect(others).toEqual([200, 200, 200, 429]);

	await clock.advance(10_000);
	expect([(await as("eve")).status, (await as("alice")).status, (await as("alice")).status]).toEqual([200, 200, 429]);
});
