/** The RateLimit headers of answers, as a reader of the draft sees them. */

import { parseList } from "structured-headers";
import { describe, expect, test } from "vitest";
import { rateLimitHeaders } from "../../src/headers.ts";
import { BOUNDS } from "../../src/protocol.ts";
import { acquire, configure, granted, newLimit, newName, newNames, stopClock } from "./support.ts";

/** A header of draft-ietf-httpapi-ratelimit-headers-11, as a structured-field parser reads it. */
function items(headers: Headers, name: string): { value: unknown; params: Record<string, unknown> }[] {
	const text = headers.get(name);
	if (text === null) return [];
	return parseList(text).map(([value, params]) => ({ value, params: Object.fromEntries(params) }));
}

describe("RateLimit headers", () => {
	test("concurrency: quota in concurrent requests, what is left, and no window", async () => {
		const name = await newLimit({ limit: 10 });
		const { headers } = await acquire({ names: name, occupy: 3 });
		expect(headers.get("RateLimit-Policy")).toBe(`"${name}";q=10;qu="concurrent-requests"`);
		expect(headers.get("RateLimit")).toBe(`"${name}";r=7`);
		expect(headers.get("Retry-After")).toBeNull();
	});

	test("decay: the window in which the quota comes back, and the time until one more slot exists", async () => {
		const name = await newLimit({ limit: 10, slotDecayPerSecond: 0.4 });
		const { headers } = await acquire({ names: name, occupy: 4, mode: "rate_limit" });
		expect(headers.get("RateLimit-Policy")).toBe(`"${name}";q=10;w=25`);
		expect(headers.get("RateLimit")).toBe(`"${name}";r=6;t=3`);
	});

	test("denied: what is left, the wait as Retry-After, and t that does not reach past it", async () => {
		stopClock();
		const name = await newLimit({ limit: 10, slotDecayPerSecond: 0.4 });
		await acquire({ names: name, occupy: 10, mode: "rate_limit" });
		const { status, headers, body } = await acquire({ names: name, occupy: 2, mode: "rate_limit" });
		expect(status).toBe(429);
		expect(items(headers, "RateLimit-Policy")).toEqual([{ value: name, params: { q: 10, w: 25 } }]);
		expect(items(headers, "RateLimit")).toEqual([{ value: name, params: { r: 0, t: 5 } }]);
		expect(headers.get("Retry-After")).toBe("5");
		expect(body.retryAfterSeconds).toBe(5);
	});

	test("denied for lack of concurrency", async () => {
		const name = await newLimit({ limit: 2 });
		await granted({ names: name, leaseSeconds: 9 });
		const { status, headers } = await acquire({ names: name, occupy: 2 });
		expect(status).toBe(429);
		expect(items(headers, "RateLimit-Policy")).toEqual([{ value: name, params: { q: 2, qu: "concurrent-requests" } }]);
		expect(items(headers, "RateLimit")).toEqual([{ value: name, params: { r: 1 } }]);
		expect(headers.get("Retry-After")).toMatch(/^\d+$/);
	});

	test("several names: an item for each that is enforced", async () => {
		const [a, b, off] = newNames(3) as [string, string, string];
		await configure(a, { limit: 2 });
		await configure(b, { limit: 8, slotDecayPerSecond: 0.5 });
		await configure(off, { limit: 1, active: false });
		const { headers } = await acquire({ names: [off, b, a], occupy: 2 });
		expect(items(headers, "RateLimit-Policy")).toEqual([
			{ value: a, params: { q: 2, qu: "concurrent-requests" } },
			{ value: b, params: { q: 8, w: 16 } },
		]);
		expect(items(headers, "RateLimit")).toEqual([
			{ value: a, params: { r: 0 } },
			{ value: b, params: { r: 6, t: expect.any(Number) } },
		]);
	});

	test("a limit that is off promises nothing", async () => {
		const { headers } = await acquire({ names: newName() });
		expect(headers.get("RateLimit-Policy")).toBeNull();
		expect(headers.get("RateLimit")).toBeNull();
	});

	test.each([
		['quo"ted', 'quo"ted'],
		["back\\slash", "back\\slash"],
		['\\"', '\\"'],
		["comma, semicolon; q=1", "comma, semicolon; q=1"],
		["größe", "gr%C3%B6%C3%9Fe"],
		["データベース", encodeURIComponent("データベース")],
		["🚦🚦", "%F0%9F%9A%A6%F0%9F%9A%A6"],
		["   ", "   "],
	])("the name %j is a structured-field string", async (wanted, shown) => {
		const suffix = newName("-");
		await configure(wanted + suffix, { limit: 4, slotDecayPerSecond: 0.01 });
		const { status, headers, body } = await acquire({ names: wanted + suffix, mode: "rate_limit" });
		expect(status).toBe(200);
		expect(body.names).toEqual({ [wanted + suffix]: 1 });
		expect(items(headers, "RateLimit-Policy")).toEqual([{ value: shown + suffix, params: { q: 4, w: 400 } }]);
		expect(items(headers, "RateLimit")).toEqual([{ value: shown + suffix, params: { r: 3, t: 100 } }]);
	});

	test("of many long names there are none, and the body still tells which stood in the way", async () => {
		const names = Array.from({ length: 16 }, (_, index) => newName("界".repeat(49)) + String(index));
		for (const name of names) await configure(name, { limit: 1 });
		const first = await acquire({ names });
		expect(first.status).toBe(200);
		const denied = await acquire({ names });
		expect(denied.status).toBe(429);
		expect([...(denied.body["violated-policies"] ?? [])].sort()).toEqual([...names].sort());
		expect(denied.headers.get("Retry-After")).toMatch(/^\d+$/);
		for (const { headers } of [first, denied]) {
			expect(headers.has("RateLimit-Policy")).toBe(false);
			expect(headers.has("RateLimit")).toBe(false);
		}
	});

	test("as many names as fit are in them, up to the bound and not beyond", () => {
		const status = { limit: 1, activeSlots: 0, remaining: 1, enforced: true };
		const sizes = Array.from({ length: 80 }, (_, count) => {
			const limits = Array.from({ length: count }, (_, index) => ({ ...status, name: `name-${index}` }));
			const headers = rateLimitHeaders(limits);
			return (headers.RateLimit?.length ?? 0) + (headers["RateLimit-Policy"]?.length ?? 0);
		});
		expect(Math.max(...sizes)).toBeLessThanOrEqual(BOUNDS.rateLimitHeadersLength);
		expect(Math.max(...sizes)).toBeGreaterThan(BOUNDS.rateLimitHeadersLength - 80);
		expect(sizes.at(-1)).toBe(0);
	});

	test("the largest and slowest limits are still structured-field integers", async () => {
		const name = await newLimit({ limit: 2 ** 31 - 1, slotDecayPerSecond: 1e-9 });
		const { headers } = await acquire({ names: name, occupy: 2 ** 31 - 1, mode: "rate_limit" });
		const [policy] = items(headers, "RateLimit-Policy");
		expect(policy?.params.q).toBe(2 ** 31 - 1);
		expect(policy?.params.w).toBeLessThanOrEqual(999_999_999_999_999);
		const denied = await acquire({ names: name, mode: "rate_limit" });
		expect(denied.status).toBe(429);
		expect(items(denied.headers, "RateLimit")).toEqual([{ value: name, params: { r: 0, t: 1_000_000_000 } }]);
	});
});
