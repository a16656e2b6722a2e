/** Acquire, renew and release through the Worker: status, body, headers. */

import { describe, expect, test } from "vitest";
import {
	acquire,
	call,
	configure,
	expectProblem,
	fromNow,
	granted,
	inspect,
	limitObject,
	MOMENT,
	newId,
	newLimit,
	newLimits,
	newName,
	open,
	patch,
	path,
	release,
	remove,
	renew,
	stopClock,
	UUID,
	until,
	untilWaiting,
} from "./support.ts";

describe("POST /v1/acquire", () => {
	test("one name is answered with a lease and how the limit stands", async () => {
		stopClock();
		const name = await newLimit({ limit: 3 });
		const { status, headers, body } = await acquire({ names: name, occupy: 2, leaseSeconds: 30, holder: "me" });
		expect(status).toBe(200);
		expect(headers.get("Content-Type")).toMatch(/^application\/json/);
		expect(body).toEqual({
			id: expect.stringMatching(UUID),
			names: { [name]: 2 },
			fence: { [name]: expect.any(Number) },
			expiresAt: expect.stringMatching(MOMENT),
			waitedSeconds: 0,
			limits: [{ name, limit: 3, activeSlots: 2, remaining: 1, enforced: true }],
		});
		expect(fromNow(body.expiresAt)).toBe(30_000);
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
		stopClock();
		const name = await newLimit();
		const { expiresAt } = await granted({ names: name });
		expect(fromNow(expiresAt)).toBe(60_000);
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
			fence: { [a]: expect.any(Number), [b]: expect.any(Number) },
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

	test("a limit of 0 is shut: who does not wait is denied", async () => {
		const name = await newLimit({ limit: 0 });
		const problem = expectProblem(await acquire({ names: name, occupy: 5 }), 429, "denied");
		expect(problem).toMatchObject({ retryAfterSeconds: 30, detail: expect.stringContaining("is shut") });
	});

	test("rate-limit mode needs a limit that decays", async () => {
		const [plain] = (await newLimits(2)) as [string];
		expectProblem(await acquire({ names: plain, mode: "rate_limit" }), 422, "no_decay");
		expect((await inspect(plain)).activeSlots).toBe(0);
	});

	test("promise 8: a retry at exactly the announced moment is granted", async () => {
		const clock = stopClock();
		const name = await newLimit({ limit: 2, slotDecayPerSecond: 7 });
		await granted({ names: name, occupy: 2, mode: "rate_limit" });
		const denied = await acquire({ names: name, mode: "rate_limit" });
		expectProblem(denied, 429, "denied");
		const announced = denied.body.retryAfterSeconds ?? Number.NaN;
		expect(announced).toBe(0.143);
		clock.pass(142);
		expectProblem(await acquire({ names: name, mode: "rate_limit" }), 429, "denied");
		clock.pass(1);
		expect((await acquire({ names: name, mode: "rate_limit" })).status).toBe(200);
	});

	test("promise 8: a limit that decays in a second refills each second", async () => {
		const name = await newLimit({ limit: 4, slotDecayPerSecond: 4 });
		const askedAt = Date.now();
		await granted({ names: name, occupy: 4, mode: "rate_limit" });
		for (let round = 1; round <= 2; round += 1) {
			const { status } = await acquire({ names: name, occupy: 4, mode: "rate_limit", waitSeconds: 60 });
			expect(status).toBe(200);
			expect(Date.now() - askedAt).toBeGreaterThanOrEqual(1_000 * round);
		}
	});
});

describe("missing names", () => {
	test("a name that nobody configured is made inactive with one slot, and blocks nobody", async () => {
		const name = newName();
		for (let times = 0; times < 3; times += 1) {
			const { limits } = await granted({ names: name });
			expect(limits).toEqual([{ name, limit: 1, activeSlots: 0, remaining: 1, enforced: false, configured: false }]);
		}
		const { origin, limit, active, slotDecayPerSecond } = await inspect(name);
		expect({ origin, limit, active, slotDecayPerSecond }).toEqual({
			...{ origin: "default", limit: 1, active: false, slotDecayPerSecond: 0 },
		});
	});

	test("one that an operator switched off, or has a policy, does not say that nobody configured it", async () => {
		const name = await newLimit({ active: false });
		expect((await granted({ names: name })).limits).toEqual([
			{ name, limit: 1, activeSlots: 0, remaining: 1, enforced: false },
		]);
		const patched = newName();
		await granted({ names: patched });
		await call("PATCH", `/v1/limits/${patched}`, { limit: 3 });
		expect((await granted({ names: patched })).limits[0]).not.toHaveProperty("configured");
		const key = newName();
		await call("PUT", `/v1/policies/${key}`, { limit: 2, active: false });
		expect((await granted({ names: key })).limits[0]).not.toHaveProperty("configured");
		await call("DELETE", `/v1/policies/${key}`);
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

	test("strict refuses a name that an earlier request made, for nobody has configured it", async () => {
		const made = newName();
		const present = await newLimit({ limit: 2 });
		await granted({ names: made });
		for (const names of [made, [made, present], [present, made]]) {
			const problem = expectProblem(await acquire({ names, strict: true }), 404, "unknown_limit");
			expect(problem["violated-policies"]).toEqual([made]);
		}
		const stream = await open({ names: made, strict: true });
		expect((await stream.denied()).code).toBe("unknown_limit");
		await stream.ended;
		expect((await inspect(present)).activeSlots).toBe(0);
		await configure(made, { limit: 1 });
		expect((await acquire({ names: made, strict: true })).status).toBe(200);
	});

	test("strict lets through a limit that was configured and is switched off", async () => {
		const off = await newLimit({ limit: 2, active: false });
		const { status, body } = await acquire({ names: off, strict: true });
		expect(status).toBe(200);
		expect(body.limits).toEqual([{ name: off, limit: 2, activeSlots: 0, remaining: 2, enforced: false }]);
	});

	test("strict says of a name that it is unknown also where another one is full", async () => {
		const [full, later] = [`a${newName()}`, `b${newName()}`];
		await configure(full, { limit: 1 });
		await granted({ names: later });
		const held = await granted({ names: full });
		const problem = expectProblem(await acquire({ names: [full, later], strict: true }), 404, "unknown_limit");
		expect(problem["violated-policies"]).toEqual([later]);
		await release(held);
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
		stopClock();
		const names = await newLimits(3, 3);
		const one = await granted({ names: names[0] as string, leaseSeconds: 5 });
		const several = await granted({ names, occupy: 2, leaseSeconds: 5 });
		for (const lease of [one, several]) {
			const renewed = await renew({ ...lease, leaseSeconds: 100 });
			expect(renewed.status).toBe(200);
			expect(renewed.body).toEqual({ id: lease.id, expiresAt: expect.stringMatching(MOMENT) });
			expect(fromNow(renewed.body.expiresAt)).toBe(100_000);
		}
		expect((await release(several)).body).toEqual({ released: 4 });
		expect((await release(one)).body).toEqual({ released: 1 });
		for (const name of names) expect((await inspect(name)).activeSlots).toBe(0);
	});

	test("renew keeps the length that the lease was acquired with", async () => {
		stopClock();
		const name = await newLimit();
		const lease = await granted({ names: name, leaseSeconds: 500 });
		const { body } = await renew(lease);
		expect(fromNow(body.expiresAt)).toBe(500_000);
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
		await until(async () => (await inspect(name)).activeSlots === 0);
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
			const next = await open({ names: name });
			await scheduler.wait(Math.max(0, fromNow(lease.expiresAt) + offsetMs));
			const { status } = await renew({ ...lease, leaseSeconds: 60 });
			if (status !== 200) expect((await next.granted()).id).not.toBe(lease.id);
			else await untilWaiting(name, 1);
			const { leases, waitingCount } = await inspect(name);
			expect(leases.map(({ id }) => id)).toEqual([status === 200 ? lease.id : next.lease?.id]);
			expect({ status, waitingCount }).toEqual(
				status === 200 ? { status, waitingCount: 1 } : { status: 410, waitingCount: 0 },
			);
			await remove(name);
		};
		// Who wins depends on the machine; that there is one does not.
		await Promise.all([-150, -20, -10, -5, -2, 0, 2, 5, 10, 20, 150].map(race));
	});

	test("promise 7: a lease can be renewed until its end, and not at it", async () => {
		const clock = stopClock();
		for (const [passed, status] of [[999, 200] as const, [1_000, 410] as const]) {
			const lease = await granted({ names: await newLimit(), leaseSeconds: 1 });
			clock.pass(passed);
			expect((await renew({ ...lease, leaseSeconds: 60 })).status).toBe(status);
		}
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

describe("promise 11: ask twice, get once", () => {
	test.each(["released", "taken back by the deletion"])(
		"an id belongs to the limit and not to its name: %s",
		async (how) => {
			const name = await newLimit();
			const request = { names: name, id: newId() };
			const lease = await granted(request);
			if (how === "released") await release(lease);
			await call("DELETE", path(name));
			await configure(name, { limit: 1 });
			await granted(request);
			await release(lease);
			expectProblem(await acquire(request), 409, "id_in_use");
		},
	);

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
