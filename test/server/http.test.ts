/** Every native route through the Worker: status, body, headers. */

import { parseList } from "structured-headers";
import { describe, expect, test } from "vitest";
import {
	type LeasesPage,
	type LimitInfo,
	type LimitSummary,
	type LimitsPage,
	type Policy,
	VERSION,
} from "../../src/protocol.ts";
import {
	acquire,
	call,
	configure,
	expectProblem,
	fromNow,
	granted,
	inspect,
	limitObject,
	newId,
	newLimit,
	newLimits,
	newName,
	newNames,
	open,
	openQueued,
	patch,
	path,
	policies,
	release,
	remove,
	removePolicy,
	renew,
	setPolicy,
	until,
	untilWaiting,
} from "./support.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** A header of draft-ietf-httpapi-ratelimit-headers-11, as a structured-field parser reads it. */
function items(headers: Headers, name: string): { value: unknown; params: Record<string, unknown> }[] {
	const text = headers.get(name);
	if (text === null) return [];
	return parseList(text).map(([value, params]) => ({ value, params: Object.fromEntries(params) }));
}

describe("health and the front page", () => {
	test("GET /health is ok", async () => {
		const { status, body } = await call("GET", "/health");
		const health = { status: "ok", version: VERSION, time: expect.stringMatching(/^\d{4}-.*Z$/) };
		expect({ status, body }).toEqual({ status: 200, body: health });
	});

	test("GET / says where to go", async () => {
		const { status } = await call("GET", "/");
		expect(status).toBe(200);
	});
});

describe("POST /v1/acquire", () => {
	test("one name is answered with a lease and how the limit stands", async () => {
		const name = await newLimit({ limit: 3 });
		const { status, headers, body } = await acquire({ names: name, occupy: 2, leaseSeconds: 30, holder: "me" });
		expect(status).toBe(200);
		expect(headers.get("Content-Type")).toMatch(/^application\/json/);
		expect(body).toEqual({
			id: expect.stringMatching(UUID),
			names: { [name]: 2 },
			expiresAt: expect.stringMatching(MOMENT),
			waitedSeconds: 0,
			limits: [{ name, limit: 3, activeSlots: 2, remaining: 1, enforced: true }],
		});
		expect(fromNow(body.expiresAt)).toBeGreaterThan(28_000);
		expect(fromNow(body.expiresAt)).toBeLessThanOrEqual(30_000);
	});

	test("names may be a text, a list, or slots per name", async () => {
		const [a, b] = (await newLimits(5, 5)) as [string, string];
		expect((await granted({ names: a })).names).toEqual({ [a]: 1 });
		expect((await granted({ names: [b, a], occupy: 2 })).names).toEqual({ [a]: 2, [b]: 2 });
		expect((await granted({ names: { [b]: 3, [a]: 1 }, occupy: 9 })).names).toEqual({ [a]: 1, [b]: 3 });
		expect((await inspect(a)).activeSlots).toBe(4);
		expect((await inspect(b)).activeSlots).toBe(5);
	});

	test("promise 3: a name that is asked for twice is taken once", async () => {
		const [a, b] = (await newLimits(5, 5)) as [string, string];
		expect((await granted({ names: [a, a] })).names).toEqual({ [a]: 1 });
		expect((await granted({ names: [b, a, b, a], occupy: 2 })).names).toEqual({ [a]: 2, [b]: 2 });
		expect((await inspect(a)).activeSlots).toBe(3);
		expect((await inspect(b)).activeSlots).toBe(2);
	});

	test("a lease is for 60 seconds unless it says otherwise", async () => {
		const name = await newLimit();
		const { expiresAt } = await granted({ names: name });
		expect(fromNow(expiresAt)).toBeGreaterThan(58_000);
		expect(fromNow(expiresAt)).toBeLessThanOrEqual(60_000);
	});

	test("rate-limit mode is answered with a receipt, and holds nothing", async () => {
		const name = await newLimit({ limit: 10, slotDecayPerSecond: 0.001 });
		const { status, body } = await acquire({ names: name, occupy: 4, mode: "rate_limit" });
		expect(status).toBe(200);
		expect(body).toEqual({
			id: expect.stringMatching(UUID),
			names: { [name]: 4 },
			waitedSeconds: 0,
			limits: [
				{
					...{ name, limit: 10, activeSlots: 4, remaining: 6, enforced: true },
					slotDecayPerSecond: 0.001,
					nextSlotSeconds: expect.any(Number),
				},
			],
		});
		const { activeSlots, leaseCount, leases } = await inspect(name);
		expect({ activeSlots, leaseCount, leases }).toEqual({ activeSlots: 4, leaseCount: 0, leases: [] });
	});

	test("several names are answered in one lease, in the order of names", async () => {
		const [a, b] = (await newLimits(1, 2)) as [string, string];
		const lease = await granted({ names: [b, a], id: newId() });
		expect(lease).toEqual({
			id: expect.stringMatching(UUID),
			names: { [a]: 1, [b]: 1 },
			expiresAt: expect.stringMatching(MOMENT),
			waitedSeconds: expect.any(Number),
			limits: [
				{ name: a, limit: 1, activeSlots: 1, remaining: 0, enforced: true },
				{ name: b, limit: 2, activeSlots: 1, remaining: 1, enforced: true },
			],
		});
		expect(Object.keys(lease.names)).toEqual([a, b]);
	});

	test("a denial is a problem that says of each name how it stands", async () => {
		const [full, free] = (await newLimits(2, 2)) as [string, string];
		await granted({ names: full, occupy: 2, leaseSeconds: 20 });
		const answer = await acquire({ names: [full, free] });
		const problem = expectProblem(answer, 429, "denied");
		expect(problem).toEqual({
			type: "https://iana.org/assignments/http-problem-types#quota-exceeded",
			title: expect.any(String),
			status: 429,
			code: "denied",
			detail: expect.stringContaining(full),
			retryAfterSeconds: expect.any(Number),
			"violated-policies": [full],
			limits: [
				{
					...{ name: full, limit: 2, activeSlots: 2, remaining: 0, enforced: true },
					position: 1,
					retryAfterSeconds: expect.any(Number),
				},
				{
					...{ name: free, limit: 2, activeSlots: 0, remaining: 2, enforced: true },
					position: null,
					retryAfterSeconds: null,
				},
			],
		});
		expect(problem.retryAfterSeconds).toBeGreaterThanOrEqual(0);
		expect(problem.retryAfterSeconds).toBeLessThanOrEqual(30);
		expect(answer.headers.get("Retry-After")).toBe(String(Math.ceil(problem.retryAfterSeconds ?? Number.NaN)));
	});

	test("a denial says which place in line the request would have had", async () => {
		const name = await newLimit();
		await granted({ names: name });
		const waiters = await Promise.all([1, 2].map(() => open({ names: name })));
		await untilWaiting(name, 2);
		const { body } = await acquire({ names: name });
		expect(body.limits).toMatchObject([{ position: 3 }]);
		await Promise.all(waiters.map((waiter) => waiter.leave()));
	});

	test("more slots than the limit has: refused at once, waiting or not", async () => {
		const [name, other] = (await newLimits(2, 5)) as [string, string];
		const answer = await acquire({ names: { [name]: 3, [other]: 1 }, waitSeconds: 60 });
		const problem = expectProblem(answer, 422, "exceeds_limit");
		expect(problem["violated-policies"]).toEqual([name]);
		expect(answer.headers.get("Retry-After")).toBeNull();
		expectProblem(await acquire({ names: name, occupy: 3, waitSeconds: 60 }), 422, "exceeds_limit");
		expect(await inspect(other)).toMatchObject({ activeSlots: 0, waitingCount: 0 });
	});

	test("a limit of nothing grants nothing", async () => {
		const name = await newLimit({ limit: 0 });
		expectProblem(await acquire({ names: name }), 422, "exceeds_limit");
	});

	test("rate-limit mode needs a limit that decays", async () => {
		const [plain] = (await newLimits(2)) as [string];
		expectProblem(await acquire({ names: plain, mode: "rate_limit" }), 422, "no_decay");
		expect((await inspect(plain)).activeSlots).toBe(0);
	});

	test("promise 8: a retry at exactly the announced moment is granted", async () => {
		const name = await newLimit({ limit: 2, slotDecayPerSecond: 7 });
		await granted({ names: name, occupy: 2, mode: "rate_limit" });
		const denied = await acquire({ names: name, mode: "rate_limit" });
		expectProblem(denied, 429, "denied");
		const announced = denied.body.retryAfterSeconds ?? Number.NaN;
		expect(announced).toBeGreaterThan(0);
		expect(announced).toBeLessThanOrEqual(0.143);
		await scheduler.wait(Math.ceil(announced * 1000));
		expect((await acquire({ names: name, mode: "rate_limit" })).status).toBe(200);
	});

	test("promise 8: a limit that decays in a second refills each second", async () => {
		const name = await newLimit({ limit: 4, slotDecayPerSecond: 4 });
		await granted({ names: name, occupy: 4, mode: "rate_limit" });
		for (let round = 0; round < 2; round += 1) {
			const { status, body } = await acquire({ names: name, occupy: 4, mode: "rate_limit", waitSeconds: 3 });
			expect(status).toBe(200);
			expect(body.waitedSeconds).toBeGreaterThan(0.9);
			expect(body.waitedSeconds).toBeLessThan(1.5);
		}
	});
});

describe("missing names", () => {
	test("a name that nobody configured is made inactive with one slot, and blocks nobody", async () => {
		const name = newName();
		for (let times = 0; times < 3; times += 1) {
			const { limits } = await granted({ names: name });
			expect(limits).toEqual([{ name, limit: 1, activeSlots: 0, remaining: 1, enforced: false }]);
		}
		const { origin, limit, active, slotDecayPerSecond } = await inspect(name);
		expect({ origin, limit, active, slotDecayPerSecond }).toEqual({
			...{ origin: "default", limit: 1, active: false, slotDecayPerSecond: 0 },
		});
	});

	test("without createIfMissing a missing name is skipped, and the answer says so", async () => {
		const missing = newName();
		const present = await newLimit({ limit: 2 });
		const skipped = { name: missing, limit: 0, activeSlots: 0, remaining: 0, enforced: false, missing: true };
		expect(await granted({ names: missing, createIfMissing: false })).toMatchObject({ names: {}, limits: [skipped] });
		const lease = await granted({ names: [missing, present], createIfMissing: false });
		expect(lease.names).toEqual({ [present]: 1 });
		expect(lease.limits).toContainEqual(skipped);
		expect(lease.limits).toContainEqual({ name: present, limit: 2, activeSlots: 1, remaining: 1, enforced: true });
		expectProblem(await call("GET", path(missing)), 404, "unknown_limit");
		expect((await release(lease)).body).toEqual({ released: 1 });
	});

	test("strict refuses missing names, and makes and takes nothing", async () => {
		const missing = newName();
		const present = await newLimit({ limit: 2 });
		for (const names of [missing, [missing], [missing, present]]) {
			const problem = expectProblem(await acquire({ names, strict: true }), 404, "unknown_limit");
			expect(problem["violated-policies"]).toEqual([missing]);
		}
		expectProblem(await call("GET", path(missing)), 404, "unknown_limit");
		expect((await inspect(present)).activeSlots).toBe(0);
		expect((await acquire({ names: present, strict: true })).status).toBe(200);
	});

	test("the same over a stream", async () => {
		const missing = newName();
		const skipped = await open({ names: missing, createIfMissing: false });
		expect((await skipped.granted()).limits).toMatchObject([{ missing: true }]);
		await skipped.ended;
		const strict = await open({ names: missing, strict: true });
		expect((await strict.denied()).code).toBe("unknown_limit");
		await strict.ended;
		expectProblem(await call("GET", path(missing)), 404, "unknown_limit");
	});
});

describe("renew and release", () => {
	test("a lease is sent back as it was answered", async () => {
		const names = await newLimits(3, 3);
		const one = await granted({ names: names[0] as string, leaseSeconds: 5 });
		const several = await granted({ names, occupy: 2, leaseSeconds: 5 });
		for (const lease of [one, several]) {
			const renewed = await renew({ ...lease, leaseSeconds: 100 });
			expect(renewed.status).toBe(200);
			expect(renewed.body).toEqual({ id: lease.id, expiresAt: expect.stringMatching(MOMENT) });
			expect(fromNow(renewed.body.expiresAt)).toBeGreaterThan(98_000);
		}
		expect((await release(several)).body).toEqual({ released: 4 });
		expect((await release(one)).body).toEqual({ released: 1 });
		for (const name of names) expect((await inspect(name)).activeSlots).toBe(0);
	});

	test("renew keeps the length that the lease was acquired with", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name, leaseSeconds: 500 });
		const { body } = await renew(lease);
		expect(fromNow(body.expiresAt)).toBeGreaterThan(498_000);
		expect((await inspect(name)).leases[0]?.expiresAt).toBe(body.expiresAt);
	});

	test("names may be a text or a list there too", async () => {
		const names = await newLimits(1, 1);
		const { id } = await granted({ names });
		expect((await renew({ id, names })).status).toBe(200);
		expect((await release({ id, names: names[0] })).body).toEqual({ released: 1 });
		expect((await release({ id, names })).body).toEqual({ released: 1 });
	});

	test("promise 7: releasing twice gives back once", async () => {
		const name = await newLimit({ limit: 3 });
		const lease = await granted({ names: name, occupy: 2 });
		await granted({ names: name });
		expect((await release(lease)).body).toEqual({ released: 2 });
		expect((await release(lease)).body).toEqual({ released: 0 });
		expect((await inspect(name)).activeSlots).toBe(1);
		expectProblem(await renew(lease), 410, "lease_gone");
	});

	test("promise 7: an expired lease is gone, and releasing it gives nothing back", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name, leaseSeconds: 1 });
		await until(async () => (await inspect(name)).activeSlots === 0, 3_000);
		const next = await granted({ names: name });
		expectProblem(await renew(lease), 410, "lease_gone");
		expect((await release(lease)).body).toEqual({ released: 0 });
		const { activeSlots, leases, totals } = await inspect(name);
		expect({ activeSlots, held: leases.map(({ id }) => id) }).toEqual({ activeSlots: 1, held: [next.id] });
		expect(totals).toMatchObject({ expired: 1, released: 0 });
	});

	test("promise 7: renew racing with expiry has one winner", async () => {
		const race = async (offsetMs: number) => {
			const name = await newLimit();
			const lease = await granted({ names: name, leaseSeconds: 1 });
			const next = await openQueued({ names: name });
			await scheduler.wait(fromNow(lease.expiresAt) + offsetMs);
			const { status } = await renew({ ...lease, leaseSeconds: 60 });
			if (status !== 200) expect((await next.granted()).id).not.toBe(lease.id);
			const { leases, waitingCount } = await inspect(name);
			expect(leases.map(({ id }) => id)).toEqual([status === 200 ? lease.id : next.lease?.id]);
			expect({ status, waitingCount }).toEqual(
				status === 200 ? { status, waitingCount: 1 } : { status: 410, waitingCount: 0 },
			);
			await remove(name);
			return status;
		};
		const statuses = await Promise.all([-150, -20, -10, -5, -2, 0, 2, 5, 10, 20, 150].map(race));
		expect(new Set(statuses)).toEqual(new Set([200, 410]));
	});

	test("promise 7: a lease on a decaying limit gives back only what has not come back by itself", async () => {
		const name = await newLimit({ limit: 100, slotDecayPerSecond: 0.001 });
		const lease = await granted({ names: name, occupy: 40 });
		await granted({ names: name, occupy: 10, mode: "rate_limit" });
		const { body } = await release(lease);
		expect(body.released).toBe(39);
		expect((await inspect(name)).activeSlots).toBe(10);
		expect((await release(lease)).body).toEqual({ released: 0 });
	});

	test("a lease of one name is unknown to another", async () => {
		const [mine, other] = (await newLimits(1, 1)) as [string, string];
		const lease = await granted({ names: mine });
		const theirs = await granted({ names: other });
		expectProblem(await renew({ id: lease.id, names: [mine, other] }), 410, "lease_gone");
		expect((await release({ id: lease.id, names: other })).body).toEqual({ released: 0 });
		expect((await inspect(other)).leases.map(({ id }) => id)).toEqual([theirs.id]);
		expect((await inspect(mine)).leases.map(({ id }) => id)).toEqual([lease.id]);
	});

	test("a lease on names that do not exist", async () => {
		const missing = newName();
		expectProblem(await renew({ id: newId(), names: missing }), 410, "lease_gone");
		expect((await release({ id: newId(), names: missing })).body).toEqual({ released: 0 });
		expectProblem(await call("GET", path(missing)), 404, "unknown_limit");
	});

	test("a lease of names that were all skipped is renewed and released like any other", async () => {
		const lease = await granted({ names: newName(), createIfMissing: false });
		expect((await renew(lease)).status).toBe(200);
		expect((await release(lease)).body).toEqual({ released: 0 });
	});
});

describe("inactive limits", () => {
	test("an inactive limit grants at once, any number, and holds nothing", async () => {
		const name = await newLimit({ limit: 2, active: false });
		for (let times = 0; times < 5; times += 1) {
			const { limits } = await granted({ names: name, occupy: 1_000 });
			expect(limits).toMatchObject([{ name, activeSlots: 0, enforced: false }]);
		}
		await granted({ names: name, mode: "rate_limit" });
		expect(await inspect(name)).toMatchObject({ activeSlots: 0, remaining: 2, leaseCount: 0, leases: [] });
	});

	test("promise 7: a lease that was granted while the limit was off never frees what others hold", async () => {
		const name = await newLimit({ limit: 2, active: false });
		const unheld = await granted({ names: name, occupy: 2 });
		await patch(name, { active: true });
		expect((await inspect(name)).activeSlots).toBe(0);
		const held = await granted({ names: name, occupy: 2 });
		expect((await renew(unheld)).status).toBe(200);
		expect((await inspect(name)).activeSlots).toBe(2);
		expect((await release(unheld)).body).toEqual({ released: 0 });
		expect((await release(unheld)).body).toEqual({ released: 0 });
		expect((await inspect(name)).leases.map(({ id }) => id)).toEqual([held.id]);
		expectProblem(await acquire({ names: name }), 429, "denied");
		expect((await release(held)).body).toEqual({ released: 2 });
	});

	test("promise 7: a lease outlives the limit's being switched off and on", async () => {
		const name = await newLimit({ limit: 2 });
		const before = await granted({ names: name });
		await patch(name, { active: false });
		const between = await granted({ names: name, occupy: 2 });
		expect((await renew(before)).status).toBe(200);
		expect((await renew(between)).status).toBe(200);
		await patch(name, { active: true });
		expect((await inspect(name)).activeSlots).toBe(1);
		expect((await release(between)).body).toEqual({ released: 0 });
		expect((await release(before)).body).toEqual({ released: 1 });
		expect((await release(before)).body).toEqual({ released: 0 });
		expect((await inspect(name)).activeSlots).toBe(0);
	});

	test("promise 7: released while the limit is off, a lease frees its slots", async () => {
		const name = await newLimit({ limit: 2 });
		const lease = await granted({ names: name, occupy: 2 });
		await patch(name, { active: false });
		expect((await release(lease)).body).toEqual({ released: 2 });
		await patch(name, { active: true });
		expect((await inspect(name)).activeSlots).toBe(0);
	});
});

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
		const name = await newLimit({ limit: 10, slotDecayPerSecond: 0.4 });
		await acquire({ names: name, occupy: 10, mode: "rate_limit" });
		const { status, headers, body } = await acquire({ names: name, occupy: 2, mode: "rate_limit" });
		expect(status).toBe(429);
		expect(items(headers, "RateLimit-Policy")).toEqual([{ value: name, params: { q: 10, w: 25 } }]);
		expect(items(headers, "RateLimit")).toEqual([{ value: name, params: { r: 0, t: 5 } }]);
		expect(headers.get("Retry-After")).toBe("5");
		expect(body.retryAfterSeconds).toBeGreaterThan(4);
		expect(body.retryAfterSeconds).toBeLessThanOrEqual(5);
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

describe("PUT, GET, PATCH and DELETE /v1/limits/{name}", () => {
	test("PUT creates with 201 and replaces with 200", async () => {
		const name = newName();
		const created = await call<LimitSummary>("PUT", path(name), { limit: 3 });
		expect(created.status).toBe(201);
		expect(created.body).toEqual({
			...{ name, id: expect.stringMatching(UUID), origin: "configured", policy: null, updatedBy: null },
			...{ limit: 3, slotDecayPerSecond: 0, active: true },
			...{ createdAt: expect.stringMatching(MOMENT), updatedAt: expect.stringMatching(MOMENT) },
			...{ activeSlots: 0, remaining: 3, leaseCount: 0, waitingCount: 0, lastMinute: { granted: 0, denied: 0 } },
			totals: { grantedAtOnce: 0, grantedAfterWait: 0, denied: 0, timedOut: 0, released: 0, expired: 0 },
		});
		await call("PUT", path(name), { limit: 5, slotDecayPerSecond: 0.5, active: false });
		const replaced = await call<LimitSummary>("PUT", path(name), { limit: 4 });
		expect(replaced.status).toBe(200);
		expect(replaced.body).toMatchObject({ limit: 4, slotDecayPerSecond: 0, active: true });
		const { id, createdAt } = created.body;
		expect(replaced.body).toMatchObject({ id, createdAt });
	});

	test("PUT of a name that was made by an acquire makes it the operator's own", async () => {
		const name = newName();
		await granted({ names: name });
		const { status, body } = await call<LimitSummary>("PUT", path(name), { limit: 1 });
		expect({ status, origin: body.origin, active: body.active }).toEqual({
			status: 200,
			origin: "configured",
			active: true,
		});
	});

	test("GET shows settings, leases, waiters and totals", async () => {
		const name = await newLimit({ limit: 2 });
		const lease = await granted({ names: name, occupy: 2, holder: "worker 1" });
		const waiter = await openQueued({ names: name, holder: "worker 2", id: newId() });
		await acquire({ names: name });
		const { status, body } = await call<LimitInfo>("GET", path(name));
		expect(status).toBe(200);
		expect(body).toEqual({
			...{ name, id: expect.stringMatching(UUID), origin: "configured", policy: null, updatedBy: null },
			...{ limit: 2, slotDecayPerSecond: 0, active: true },
			...{ createdAt: expect.stringMatching(MOMENT), updatedAt: expect.stringMatching(MOMENT) },
			...{ activeSlots: 2, remaining: 0, leaseCount: 1, waitingCount: 1, lastMinute: { granted: 1, denied: 1 } },
			totals: { grantedAtOnce: 1, grantedAfterWait: 0, denied: 1, timedOut: 0, released: 0, expired: 0 },
			leases: [
				{
					id: lease.id,
					slots: 2,
					holder: "worker 1",
					since: expect.stringMatching(MOMENT),
					expiresAt: lease.expiresAt,
				},
			],
			waiting: [
				{ id: expect.any(String), slots: 1, holder: "worker 2", since: expect.stringMatching(MOMENT), position: 1 },
			],
		});
		await release(lease);
		await waiter.granted();
		await release(waiter.lease as object);
		expect((await inspect(name)).totals).toEqual({
			...{ grantedAtOnce: 1, grantedAfterWait: 1, denied: 1, timedOut: 0, released: 2, expired: 0 },
		});
	});

	test("promise 8: reading and denying change nothing", async () => {
		const name = await newLimit({ limit: 10, slotDecayPerSecond: 0.0001 });
		await granted({ names: name, occupy: 10, mode: "rate_limit" });
		const level = async () => (await inspect(name)).activeSlots;
		const before = await level();
		for (let times = 0; times < 20; times += 1) await acquire({ names: name, occupy: 5, mode: "rate_limit" });
		expect(await level()).toBe(before);
		expect((await inspect(name)).waitingCount).toBe(0);
	});

	test("a limit that does not exist: 404 for every method but PUT", async () => {
		const name = newName();
		for (const [method, route, body] of [
			["GET", path(name)],
			["PATCH", path(name), { limit: 1 }],
			["DELETE", path(name)],
			["GET", `${path(name)}/leases`],
			["DELETE", `${path(name)}/leases/${newId()}`],
		] as const) {
			expectProblem(await call(method, route, body), 404, "unknown_limit");
		}
	});

	test("PATCH changes what it names and leaves the rest", async () => {
		const name = await newLimit({ limit: 3, slotDecayPerSecond: 2, active: false });
		expect((await patch(name, { limit: 7 })).body).toMatchObject({ limit: 7, slotDecayPerSecond: 2, active: false });
		expect((await patch(name, { active: true })).body).toMatchObject({ limit: 7, slotDecayPerSecond: 2, active: true });
		expect((await patch(name, { slotDecayPerSecond: 0 })).body).toMatchObject({ limit: 7, slotDecayPerSecond: 0 });
		expect((await patch(name, {})).body).toMatchObject({ limit: 7, slotDecayPerSecond: 0, active: true });
	});

	test("PATCH activeSlots counts slots that nobody leased, and frees none that somebody holds", async () => {
		const name = await newLimit({ limit: 5 });
		const lease = await granted({ names: name, occupy: 2 });
		expect((await patch(name, { activeSlots: 4 })).body).toMatchObject({ activeSlots: 4, remaining: 1 });
		expectProblem(await acquire({ names: name, occupy: 2 }), 429, "denied");
		expect((await patch(name, { activeSlots: 0 })).body).toMatchObject({ activeSlots: 2, remaining: 3 });
		await patch(name, { activeSlots: 9 });
		expect(await inspect(name)).toMatchObject({ activeSlots: 9, remaining: 0 });
		expect((await release(lease)).body).toEqual({ released: 2 });
		expect((await inspect(name)).activeSlots).toBe(7);
		await patch(name, { activeSlots: 0 });
		expect((await inspect(name)).activeSlots).toBe(0);
	});

	test("PATCH activeSlots sets the level of a decaying limit, and its leases give nothing back later", async () => {
		const name = await newLimit({ limit: 10, slotDecayPerSecond: 0.0001 });
		const lease = await granted({ names: name, occupy: 6 });
		expect((await patch(name, { activeSlots: 4 })).body).toMatchObject({ activeSlots: 4, remaining: 6 });
		expect((await release(lease)).body).toEqual({ released: 0 });
		expect((await inspect(name)).activeSlots).toBe(4);
	});

	test("a lowered limit evicts nobody: it drains", async () => {
		const name = await newLimit({ limit: 3 });
		const leases = await Promise.all([1, 2, 3].map(() => granted({ names: name })));
		expect((await patch(name, { limit: 1 })).body).toMatchObject({ limit: 1, activeSlots: 3, remaining: 0 });
		for (const lease of leases) expect((await renew(lease)).status).toBe(200);
		await release(leases[0] as object);
		await release(leases[1] as object);
		expectProblem(await acquire({ names: name }), 429, "denied");
		await release(leases[2] as object);
		expect((await acquire({ names: name })).status).toBe(200);
	});

	test("DELETE ends the limit and its leases; the name can be used again", async () => {
		const name = await newLimit({ limit: 1 });
		const lease = await granted({ names: name });
		expect((await remove(name)).status).toBe(204);
		expectProblem(await remove(name), 404, "unknown_limit");
		expectProblem(await renew(lease), 410, "lease_gone");
		expect((await release(lease)).body).toEqual({ released: 0 });
		await configure(name, { limit: 1 });
		expect(await inspect(name)).toMatchObject({ activeSlots: 0, leaseCount: 0, totals: { grantedAtOnce: 0 } });
		expect((await acquire({ names: name })).status).toBe(200);
	});

	test.each(["a b", "ü", "🚦", "a+b", "a?b", "a#b", 'a"b', "a;b=c", "a:b", "a\\b", "__proto__", "..."])(
		"the name %j goes through the path and comes back",
		async (prefix) => {
			const name = prefix + newName("-");
			await configure(name, { limit: 2 });
			const lease = await granted({ names: name });
			expect(await inspect(name)).toMatchObject({ name, activeSlots: 1 });
			expect((await call<LeasesPage>("GET", `${path(name)}/leases`)).body.leases).toHaveLength(1);
			expect((await call("DELETE", `${path(name)}/leases/${lease.id}`)).body).toEqual({ released: 1 });
			expect((await remove(name)).status).toBe(204);
		},
	);

	test.each(["__proto__", "constructor", "toString", "hasOwnProperty", "valueOf", "prototype"])(
		"%s is a name like any other",
		async (name) => {
			await configure(name, { limit: 2 });
			for (const names of [name, [name], JSON.parse(`{ "${name}": 1 }`) as object]) {
				const lease = await granted({ names });
				expect(Object.entries(lease.names)).toEqual([[name, 1]]);
				expect((await inspect(name)).activeSlots).toBe(1);
				expect((await renew(lease)).status).toBe(200);
				expect((await release(lease)).body).toEqual({ released: 1 });
				expect((await inspect(name)).activeSlots).toBe(0);
			}
			const [other] = (await newLimits(1)) as [string];
			const both = await granted({ names: [other, name] });
			expect((await release(both)).body).toEqual({ released: 2 });
			await remove(name);
		},
	);
});

describe("leases by page, and forced release", () => {
	test("all leases, in order of arrival, in pages", async () => {
		const name = await newLimit({ limit: 250 });
		const ids: string[] = [];
		for (let index = 0; index < 7; index += 1) ids.push((await granted({ names: name })).id);
		const seen: string[] = [];
		let after = "";
		for (let pages = 1; ; pages += 1) {
			const { status, body } = await call<LeasesPage>("GET", `${path(name)}/leases?count=3${after}`);
			expect(status).toBe(200);
			expect(body.leases.length).toBeLessThanOrEqual(3);
			seen.push(...body.leases.map(({ id }) => id));
			if (body.next === null) {
				expect(pages).toBe(3);
				break;
			}
			after = `&after=${encodeURIComponent(body.next)}`;
		}
		expect(seen).toEqual(ids);
	});

	test("inspect shows the first hundred of each and counts them all", async () => {
		const name = await newLimit({ limit: 120 });
		await Promise.all(Array.from({ length: 120 }, () => granted({ names: name })));
		const { leases, leaseCount } = await inspect(name);
		expect({ shown: leases.length, leaseCount }).toEqual({ shown: 100, leaseCount: 120 });
		const { body } = await call<LeasesPage>("GET", `${path(name)}/leases?count=1000`);
		expect(body.leases).toHaveLength(120);
		expect(body.next).toBeNull();
	});

	test("a page that starts after a lease that has gone leaves none out", async () => {
		const name = await newLimit({ limit: 5 });
		const leases = [];
		for (let index = 0; index < 4; index += 1) leases.push(await granted({ names: name }));
		const first = await call<LeasesPage>("GET", `${path(name)}/leases?count=2`);
		await release(leases[1] as object);
		const second = await call<LeasesPage>("GET", `${path(name)}/leases?count=2&after=${first.body.next}`);
		expect(second.body.leases.map(({ id }) => id)).toEqual(leases.slice(2).map(({ id }) => id));
	});

	test("a forced release gives the slots back; the holder is told when it renews", async () => {
		const name = await newLimit({ limit: 3 });
		const lease = await granted({ names: name, occupy: 3 });
		const forced = await call("DELETE", `${path(name)}/leases/${lease.id}`);
		expect({ status: forced.status, body: forced.body }).toEqual({ status: 200, body: { released: 3 } });
		expect((await inspect(name)).activeSlots).toBe(0);
		expectProblem(await renew(lease), 410, "lease_gone");
		expect((await release(lease)).body).toEqual({ released: 0 });
		expectProblem(await call("DELETE", `${path(name)}/leases/${lease.id}`), 410, "lease_gone");
	});

	test("a forced release of a waiter takes it out of the line", async () => {
		const name = await newLimit();
		await granted({ names: name });
		const id = newId();
		const waiter = await openQueued({ names: name, id });
		expect((await call("DELETE", `${path(name)}/leases/${id}`)).status).toBe(200);
		await waiter.denied();
		expect((await inspect(name)).waitingCount).toBe(0);
	});
});

describe("GET /v1/limits", () => {
	/** The directory hears of a limit right after it was made. */
	const untilListed = (prefix: string, count: number) =>
		until(async () => {
			const { body } = await call<LimitsPage>("GET", `/v1/limits?prefix=${encodeURIComponent(prefix)}`);
			return body.limits.length === count;
		});

	test("pages by name within a prefix, with live figures", async () => {
		const prefix = newName();
		const names = ["b", "a", "ü", "c:1", "c:2"].map((end) => `${prefix}:${end}`);
		await Promise.all(names.map((name) => configure(name, { limit: 3 })));
		await configure(newName(), { limit: 1 });
		await granted({ names: `${prefix}:b`, occupy: 2 });
		await untilListed(prefix, 5);
		const seen: LimitSummary[] = [];
		let after = "";
		do {
			const query = `prefix=${prefix}&count=2&after=${encodeURIComponent(after)}`;
			const { status, body } = await call<LimitsPage>("GET", `/v1/limits?${query}`);
			expect(status).toBe(200);
			expect(body.limits.length).toBeLessThanOrEqual(2);
			seen.push(...body.limits);
			after = body.next ?? "";
		} while (after !== "");
		expect(seen.map(({ name }) => name)).toEqual([...names].sort());
		expect(seen.find(({ name }) => name === `${prefix}:b`)).toMatchObject({
			limit: 3,
			activeSlots: 2,
			remaining: 1,
			leaseCount: 1,
		});
		expect(seen[0]).not.toHaveProperty("leases");
	});

	test("a prefix is taken as it is written", async () => {
		const start = newName();
		for (const odd of ["_", "*", "'", '"', "\\", "[a-z]"]) {
			await configure(`${start}${odd}x`, { limit: 1 });
			await configure(`${start}ordinary`, { limit: 1 });
			await untilListed(`${start}${odd}`, 1);
		}
	});

	test("pages go on after names of the greatest length", async () => {
		const prefix = newName();
		const names = ["🚦", "🚧"].map((sign) => prefix + sign.repeat(255 - prefix.length));
		await Promise.all(names.map((name) => configure(name, { limit: 1 })));
		await untilListed(prefix, 2);
		const first = await call<LimitsPage>("GET", `/v1/limits?prefix=${prefix}&count=1`);
		expect(first.body.limits).toHaveLength(1);
		const second = await call<LimitsPage>(
			"GET",
			`/v1/limits?prefix=${prefix}&count=1&after=${encodeURIComponent(first.body.next ?? "")}`,
		);
		expect(second.status, JSON.stringify(second.body)).toBe(200);
		expect([...first.body.limits, ...second.body.limits].map(({ name }) => name)).toEqual([...names].sort());
		await untilListed(names[0] as string, 1);
	});

	test("a deleted limit leaves the list", async () => {
		const name = await newLimit();
		await untilListed(name, 1);
		await remove(name);
		await untilListed(name, 0);
	});

	test("names that an acquire made are in it, for an operator to find", async () => {
		const name = newName();
		await granted({ names: name });
		await untilListed(name, 1);
	});
});

describe("policies", () => {
	test("PUT creates with 201 and replaces with 200; GET, list and DELETE", async () => {
		const pattern = `${newName()}:*`;
		const created = await setPolicy(pattern, { limit: 5, slotDecayPerSecond: 0.5 });
		expect(created.status).toBe(201);
		expect(created.body).toEqual({
			...{ pattern, limit: 5, slotDecayPerSecond: 0.5, active: true, idleSeconds: 300, updatedBy: null },
			updatedAt: expect.stringMatching(MOMENT),
		});
		const replaced = await setPolicy(pattern, { limit: 6 });
		expect(replaced.status).toBe(200);
		expect(replaced.body).toMatchObject({ pattern, limit: 6, slotDecayPerSecond: 0 });
		const route = `/v1/policies/${encodeURIComponent(pattern)}`;
		expect((await call<Policy>("GET", route)).body).toEqual(replaced.body);
		expect(await policies()).toContainEqual(replaced.body);
		const removed = await removePolicy(pattern);
		expect(removed.status).toBe(204);
		for (const method of ["GET", "DELETE"]) expectProblem(await call(method, route), 404, "unknown_policy");
		expect((await policies()).map((each) => each.pattern)).not.toContain(pattern);
	});

	test("a name nobody configured takes the settings of the policy with the longest prefix", async () => {
		const prefix = newName();
		await setPolicy(`${prefix}*`, { limit: 1 });
		await setPolicy(`${prefix}:team:*`, { limit: 3 });
		await setPolicy(`${prefix}:*`, { limit: 2, slotDecayPerSecond: 0.25 });
		const settingsOf = async (name: string) => {
			await granted({ names: name });
			const { limit, slotDecayPerSecond, active, origin } = await inspect(name);
			return { limit, slotDecayPerSecond, active, origin };
		};
		const made = { active: true, origin: "policy" };
		expect(await settingsOf(`${prefix}x`)).toEqual({ limit: 1, slotDecayPerSecond: 0, ...made });
		expect(await settingsOf(`${prefix}:x`)).toEqual({ limit: 2, slotDecayPerSecond: 0.25, ...made });
		expect(await settingsOf(`${prefix}:team:x`)).toEqual({ limit: 3, slotDecayPerSecond: 0, ...made });
		expect(await settingsOf(`${prefix}:team`)).toMatchObject({ limit: 2 });
		await Promise.all([`${prefix}*`, `${prefix}:team:*`, `${prefix}:*`].map(removePolicy));
	});

	test("a policy holds from the first acquire on, and needs no set-up for each name", async () => {
		const prefix = newName();
		await setPolicy(`${prefix}:*`, { limit: 2 });
		const name = `${prefix}:user`;
		const answers = await Promise.all([1, 2, 3, 4, 5].map(() => acquire({ names: name })));
		expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 429, 429, 429]);
		expect((await acquire({ names: `${prefix}:other` })).status).toBe(200);
		await removePolicy(`${prefix}:*`);
	});

	test.each([
		["", "a pattern has at least one character"],
		["*", "at least one character before its `*`"],
		["lo*gin", "has its `*` at its end"],
		["*login", "has its `*` at its end"],
		["login**", "one `*` at most"],
		["lo*gin*", "one `*` at most"],
		["lo/gin*", "none of / % & > <"],
		["a%b*", "none of / % & > <"],
		["a<", "none of / % & > <"],
		["\u0007*", "no control characters"],
		["x".repeat(300), "at most 255 characters, not 300"],
		[`${"x".repeat(299)}*`, "at most 255 characters, not 300"],
	])("%j is no pattern, and its refusal says why", async (pattern, why) => {
		for (const [method, body] of [["PUT", { limit: 1 }], ["GET"], ["DELETE"]] as const) {
			const answer = await call(method, `/v1/policies/${encodeURIComponent(pattern)}`, body);
			const problem = expectProblem(answer, 422, "invalid");
			expect(problem.errors).toEqual([{ field: "pattern", message: expect.stringContaining(why) }]);
			expect(problem.detail).toContain(why);
		}
	});

	test("a pattern has at most 255 characters", async () => {
		const start = newName();
		const longest = `${start.padEnd(254, "x")}*`;
		expect((await setPolicy(longest, { limit: 1 })).status).toBe(201);
		await removePolicy(longest);
		expectProblem(await setPolicy(`x${longest}`, { limit: 1 }), 422, "invalid");
	});
});

describe("routes and methods", () => {
	test.each(["/nothing", "/v1", "/v1/", "/v1/nothing", "/v1/limits/a/b", "/v1/acquire/", "/v2/acquire", "/v1/limits/"])(
		"%s is not found",
		async (route) => {
			for (const method of ["GET", "POST"]) expectProblem(await call(method, route), 404, "not_found");
		},
	);

	test.each([
		["/v1/acquire", ["POST"]],
		["/v1/renew", ["POST"]],
		["/v1/release", ["POST"]],
		["/v1/limits", ["GET", "HEAD"]],
		["/v1/limits/a", ["GET", "HEAD", "PUT", "PATCH", "DELETE"]],
		["/v1/limits/a/leases", ["GET", "HEAD"]],
		["/v1/limits/a/leases/b", ["DELETE"]],
		["/v1/policies", ["GET", "HEAD"]],
		["/v1/policies/a*", ["GET", "HEAD", "PUT", "DELETE"]],
		["/v1/token", ["GET", "HEAD"]],
		["/health", ["GET", "HEAD"]],
	])("%s allows %j, and says so to any other method", async (route, allowed) => {
		const others = ["GET", "POST", "PUT", "PATCH", "DELETE"].filter((method) => !allowed.includes(method));
		for (const method of others) {
			const answer = await call(method, route, method === "GET" ? undefined : {});
			expectProblem(answer, 405, "method_not_allowed");
			expect(answer.headers.get("Allow")?.split(", ").sort()).toEqual([...allowed].sort());
		}
	});

	test("HEAD answers like GET, without a body", async () => {
		const name = await newLimit();
		expect((await call("HEAD", "/health")).status).toBe(200);
		expect((await call("HEAD", path(name))).status).toBe(200);
		expect((await call("HEAD", path(newName()))).status).toBe(404);
	});
});

describe("promise 11: ask twice, get once", () => {
	test("the same id again is answered with the same lease", async () => {
		const name = await newLimit({ limit: 5 });
		const request = { names: name, id: newId(), occupy: 2, holder: "a" };
		const first = await granted(request);
		const second = await granted(request);
		expect({ ...second, limits: null }).toEqual({ ...first, limits: null });
		expect(await inspect(name)).toMatchObject({ activeSlots: 2, leaseCount: 1, totals: { grantedAtOnce: 1 } });
	});

	test("at once from many callers, it is one lease", async () => {
		const name = await newLimit({ limit: 50 });
		const id = newId();
		const leases = await Promise.all(Array.from({ length: 20 }, () => granted({ names: name, id })));
		expect(new Set(leases.map(({ expiresAt }) => expiresAt)).size).toBe(1);
		expect((await inspect(name)).activeSlots).toBe(1);
	});

	test.each([
		["other slots", { occupy: 2 }],
		["another mode", { mode: "rate_limit" }],
		["another lease length", { leaseSeconds: 61 }],
		["another holder", { holder: "b" }],
	])("%s under a used id are refused with 409 and take nothing", async (_, change) => {
		const name = await newLimit({ limit: 5, slotDecayPerSecond: 0.0001 });
		const request = { names: name, id: newId(), holder: "a" };
		await granted(request);
		expectProblem(await acquire({ ...request, ...change }), 409, "id_in_use");
		expect((await inspect(name)).activeSlots).toBe(1);
	});

	test("an id is not free again when its lease has ended", async () => {
		const name = await newLimit();
		const request = { names: name, id: newId() };
		await release(await granted(request));
		expectProblem(await acquire(request), 409, "id_in_use");
		expect((await inspect(name)).activeSlots).toBe(0);
	});

	test("in rate-limit mode the same id is answered with the same receipt", async () => {
		const name = await newLimit({ limit: 5, slotDecayPerSecond: 0.0001 });
		const request = { names: name, id: newId(), occupy: 2, mode: "rate_limit" };
		const first = await granted(request);
		expect((await granted(request)).names).toEqual(first.names);
		expect((await inspect(name)).activeSlots).toBe(2);
		expectProblem(await acquire({ ...request, occupy: 1 }), 409, "id_in_use");
	});

	test("a release that overtakes its acquire ends it before it begins", async () => {
		const name = await newLimit();
		const request = { names: name, id: newId() };
		expect((await release(request)).body).toEqual({ released: 0 });
		expectProblem(await acquire(request), 409, "id_in_use");
		expect((await inspect(name)).activeSlots).toBe(0);
	});

	test("ids of server's making are all different", async () => {
		const name = await newLimit({ limit: 20 });
		const leases = await Promise.all(Array.from({ length: 20 }, () => granted({ names: name })));
		expect(new Set(leases.map(({ id }) => id)).size).toBe(20);
		expect((await limitObject(name).inspect())?.leaseCount).toBe(20);
	});
});
