/** Limits, their leases and their policies through the Worker: status, body, headers. */

import { describe, expect, test } from "vitest";
import type { LeasesPage, LimitInfo, LimitSummary, LimitsPage, Policy } from "../../src/protocol.ts";
import {
	acquire,
	call,
	configure,
	expectProblem,
	granted,
	inspect,
	MOMENT,
	newId,
	newLimit,
	newLimits,
	newName,
	openQueued,
	patch,
	path,
	policies,
	release,
	remove,
	removePolicy,
	renew,
	setPolicy,
	UUID,
	until,
} from "./support.ts";

describe("PUT, GET, PATCH and DELETE /v1/limits/{name}", () => {
	test("PUT creates with 201 and replaces with 200", async () => {
		const name = newName();
		const created = await call<LimitSummary>("PUT", path(name), { limit: 3 });
		expect(created.status).toBe(201);
		expect(created.body).toEqual({
			...{ name, id: expect.stringMatching(UUID), origin: "configured", policy: null, updatedBy: null },
			...{ region: null, pausedUntil: null },
			...{ limit: 3, slotDecayPerSecond: 0, active: true, enforce: true, lendSeconds: 0 },
			...{ createdAt: expect.stringMatching(MOMENT), updatedAt: expect.stringMatching(MOMENT) },
			...{ activeSlots: 0, remaining: 3, leaseCount: 0, waitingCount: 0, lastMinute: { granted: 0, denied: 0 } },
			totals: { grantedAtOnce: 0, grantedAfterWait: 0, denied: 0, timedOut: 0, released: 0, expired: 0, wouldDeny: 0 },
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
			...{ region: null, pausedUntil: null },
			...{ limit: 2, slotDecayPerSecond: 0, active: true, enforce: true, lendSeconds: 0 },
			settled: { count: 0, meanRatio: null },
			...{ createdAt: expect.stringMatching(MOMENT), updatedAt: expect.stringMatching(MOMENT) },
			...{ activeSlots: 2, remaining: 0, leaseCount: 1, waitingCount: 1, lastMinute: { granted: 1, denied: 1 } },
			totals: { grantedAtOnce: 1, grantedAfterWait: 0, denied: 1, timedOut: 0, released: 0, expired: 0, wouldDeny: 0 },
			leases: [
				{
					id: lease.id,
					slots: 2,
					holder: "worker 1",
					fence: lease.fence?.[name],
					since: expect.stringMatching(MOMENT),
					expiresAt: lease.expiresAt,
				},
			],
			waiting: [
				{
					...{
						id: expect.any(String),
						slots: 1,
						holder: "worker 2",
						since: expect.stringMatching(MOMENT),
						position: 1,
					},
					...{ key: null, priority: 0, waitingFor: { name, reason: "slots" } },
				},
			],
		});
		await release(lease);
		await waiter.granted();
		await release(waiter.lease as object);
		expect((await inspect(name)).totals).toEqual({
			...{ grantedAtOnce: 1, grantedAfterWait: 1, denied: 1, timedOut: 0, released: 2, expired: 0, wouldDeny: 0 },
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
			...{
				pattern,
				limit: 5,
				slotDecayPerSecond: 0.5,
				active: true,
				enforce: true,
				lendSeconds: 0,
				idleSeconds: 300,
				updatedBy: null,
				region: null,
			},
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
