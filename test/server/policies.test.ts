/** Policies: which one a name follows, when a change is seen, overrides, and keys that come and go by the thousand. */

import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { afterEach, describe, expect, test } from "vitest";
import { BOUNDS, type LimitInfo, type LimitsPage, type Policy } from "../../src/protocol.ts";
import type { Ruling } from "../../src/server/contract/policies.ts";
import { RULING_MAX_MS } from "../../src/server/contract/policies.ts";
import {
	acquire,
	alter,
	call,
	callsOf,
	configure,
	directory,
	dump,
	expectProblem,
	granted,
	inspect,
	limitObject,
	newId,
	newName,
	openQueued,
	patch,
	path,
	release,
	remove,
	removePolicy,
	setPolicy,
	stopClock,
	stored,
	until,
} from "./support.ts";

const made: string[] = [];

/** Sets a policy that is deleted after the test. */
async function policy(pattern: string, settings: Record<string, unknown>): Promise<Policy> {
	const { status, body } = await setPolicy(pattern, settings);
	expect([200, 201], JSON.stringify(body)).toContain(status);
	made.push(pattern);
	return body;
}

/** Changes a policy behind this Worker's back, as another Worker would. */
async function policyElsewhere(pattern: string, settings: Partial<Policy>): Promise<number> {
	made.push(pattern);
	const full = {
		limit: 1,
		slotDecayPerSecond: 0,
		active: true,
		enforce: true,
		idleSeconds: 300,
		region: null,
		...settings,
	};
	const set = await directory().setPolicy(pattern, full, "elsewhere");
	if ("full" in set) throw new Error("There are too many policies.");
	return set.version;
}

afterEach(async () => {
	for (const pattern of made.splice(0)) await removePolicy(pattern);
});

const look = async (name: string): Promise<LimitInfo> => (await call<LimitInfo>("GET", path(name))).body;
const rateLimited = (name: string, more = {}) => acquire({ names: name, mode: "rate_limit", ...more });

/** Makes a limit believe that it came to be so long ago. */
const madeAgo = (name: string, ms: number) =>
	alter(name, ({ identity }) => ({ identity: { ...identity, createdAt: Date.now() - ms } }));

const lastUsed = (name: string, msAgo: number) => alter(name, () => ({ usedAt: Date.now() - msAgo }));

async function listed(name: string): Promise<boolean> {
	const { body } = await call<LimitsPage>("GET", `/v1/limits?prefix=${encodeURIComponent(name)}`);
	return body.limits.some((limit) => limit.name === name);
}

describe("which policy a name follows", () => {
	test("an exact name counts before any prefix, and the longest prefix before shorter ones", async () => {
		const start = newName();
		await policy(`${start}*`, { limit: 1 });
		await policy(`${start}:a*`, { limit: 2 });
		await policy(`${start}:ab`, { limit: 3 });
		await policy(`${start}:ab*`, { limit: 4 });
		for (const [name, limit, pattern] of [
			[`${start}`, 1, `${start}*`],
			[`${start}:b`, 1, `${start}*`],
			[`${start}:a`, 2, `${start}:a*`],
			[`${start}:aa`, 2, `${start}:a*`],
			[`${start}:ab`, 3, `${start}:ab`],
			[`${start}:abc`, 4, `${start}:ab*`],
		] as const) {
			await granted({ names: name });
			expect(await inspect(name), name).toMatchObject({ limit, policy: pattern, origin: "policy", active: true });
		}
	});

	test("a policy for an exact name is for no other", async () => {
		const name = newName();
		await policy(name, { limit: 7 });
		await granted({ names: [name, `${name}x`] });
		expect(await inspect(name)).toMatchObject({ limit: 7, origin: "policy", policy: name });
		expect(await inspect(`${name}x`)).toMatchObject({ active: false, origin: "default", policy: null });
	});

	test("the record says since when, and by which token", async () => {
		const name = newName();
		const ruling: Ruling = {
			...{ version: 1, since: 0, ageMs: 0 },
			policy: {
				...{ pattern: `${name}*`, limit: 3, slotDecayPerSecond: 0, active: true, enforce: true, idleSeconds: 60 },
				region: null,
				...{ updatedAt: new Date(0).toISOString(), updatedBy: "ops" },
			},
		};
		const request = {
			...{ id: newId(), slots: 1, mode: "concurrency" as const, leaseMs: 60_000, waitMs: 0, ifBusy: "deny" as const },
			...{ holder: null, held: false, print: "", remember: false },
		};
		const before = Date.now();
		await limitObject(name).acquire({ request, createIfMissing: true, ruling });
		const followed = await limitObject(name).summary(ruling);
		expect(followed).toMatchObject({ policy: `${name}*`, origin: "policy", updatedBy: "ops" });
		const settings = { limit: 9, slotDecayPerSecond: 0, active: true, enforce: true };
		const configured = await limitObject(name).configure(settings, { token: "alice", ruling });
		if ("placed" in configured) throw new Error("It was placed elsewhere.");
		const { summary } = configured;
		expect(summary).toMatchObject({ limit: 9, policy: `${name}*`, origin: "configured", updatedBy: "alice" });
		expect(Date.parse(summary.updatedAt)).toBeGreaterThanOrEqual(before);
	});

	test("there are no more policies than a Worker can keep a copy of", async () => {
		const start = newName();
		await runInDurableObject(directory(), async (instance) => {
			const settings = { limit: 1, slotDecayPerSecond: 0, active: true, enforce: true, idleSeconds: 300, region: null };
			for (let n = instance.policies().length; n < BOUNDS.policies; n += 1) {
				expect(instance.setPolicy(`${start}:${n}:*`, settings, null)).toMatchObject({ created: true });
			}
		});
		const problem = expectProblem(await setPolicy(`${start}:one-more:*`, { limit: 1 }), 429, "too_many_policies");
		expect(problem.detail).toContain("1000 policies already");
		const before = await directory().policies();
		const last = before.at(-1) as Policy;
		expect((await setPolicy(last.pattern, { limit: 2 })).status).toBe(200);
		await runInDurableObject(directory(), (instance) => {
			for (const { pattern } of before) if (pattern.startsWith(start)) instance.deletePolicy(pattern);
		});
	});

	test.each([0, -1, 604_801, "60", null])("idleSeconds %j is refused", async (idleSeconds) => {
		const answer = await setPolicy(`${newName()}*`, { limit: 1, idleSeconds });
		expect(expectProblem(answer, 422, "invalid").errors?.[0]?.field).toBe("idleSeconds");
	});

	test("idleSeconds is of a policy, and a limit has none", async () => {
		const answer = await call("PUT", path(newName()), { limit: 1, idleSeconds: 60 });
		expect(expectProblem(answer, 422, "invalid").errors?.[0]?.field).toBe("idleSeconds");
	});
});

describe("strict, with policies", () => {
	test("a key of a policy is made at its first use, alone and beside other names", async () => {
		const prefix = newName("-");
		await policy(`${prefix}*`, { limit: 2, slotDecayPerSecond: 0.01 });
		expect((await rateLimited(`${prefix}a`, { strict: true })).status).toBe(200);
		const both = await acquire({ names: [`${prefix}b`, `${prefix}c`], mode: "rate_limit", strict: true });
		expect(both.status).toBe(200);
		expect(both.body.limits.every(({ enforced }) => enforced)).toBe(true);
	});

	test("a key of a policy that is switched off passes, and no key of none", async () => {
		const prefix = newName("-");
		await policy(`${prefix}*`, { limit: 2, active: false });
		expect((await acquire({ names: `${prefix}a`, strict: true })).status).toBe(200);
		expectProblem(await acquire({ names: newName(), strict: true }), 404, "unknown_limit");
	});

	test("a name that was made by default passes once a policy is for it, and not when that is gone", async () => {
		const name = newName();
		await granted({ names: name });
		expectProblem(await acquire({ names: name, strict: true }), 404, "unknown_limit");
		await policy(name, { limit: 2 });
		expect((await acquire({ names: name, strict: true })).body.limits).toMatchObject([{ limit: 2, enforced: true }]);
		await removePolicy(name);
		expectProblem(await acquire({ names: name, strict: true }), 404, "unknown_limit");
	});
});

describe("a policy that changes", () => {
	test("through the same Worker holds for its keys at once", async () => {
		const start = newName();
		const name = `${start}:a`;
		await policy(`${start}:*`, { limit: 1 });
		await granted({ names: name });
		expectProblem(await acquire({ names: name }), 429, "denied");
		await policy(`${start}:*`, { limit: 2 });
		await granted({ names: name });
		expectProblem(await acquire({ names: name }), 429, "denied");
		expect(await inspect(name)).toMatchObject({ limit: 2, activeSlots: 2, policy: `${start}:*` });
	});

	test("through another Worker holds within five seconds, and its leases stay", async () => {
		const clock = stopClock();
		const start = newName();
		const name = `${start}:a`;
		await policy(`${start}:*`, { limit: 1 });
		const lease = await granted({ names: name });
		expectProblem(await acquire({ names: name }), 429, "denied");
		await policyElsewhere(`${start}:*`, { limit: 3 });
		clock.pass(5_000);
		await granted({ names: name });
		expect(await inspect(name)).toMatchObject({ limit: 3, leaseCount: 2, updatedBy: "elsewhere" });
		expect((await release(lease)).body).toEqual({ released: 1 });
	});

	test("is seen by whoever waits in line, though nobody asks", async () => {
		const start = newName();
		const name = `${start}:a`;
		await policy(`${start}:*`, { limit: 1 });
		await granted({ names: name });
		const waiter = await openQueued({ names: name });
		await policyElsewhere(`${start}:*`, { limit: 2 });
		await waiter.granted();
		expect(RULING_MAX_MS).toBeLessThan(5_000);
	});

	test("a longer prefix takes its names over, and gives them back when it is deleted", async () => {
		const start = newName();
		const [plain, special] = [`${start}:a`, `${start}:vip:a`];
		await policy(`${start}:*`, { limit: 1 });
		for (const name of [plain, special]) await granted({ names: name });
		await policy(`${start}:vip:*`, { limit: 10 });
		expect(await look(plain)).toMatchObject({ limit: 1, policy: `${start}:*` });
		expect(await look(special)).toMatchObject({ limit: 10, policy: `${start}:vip:*`, activeSlots: 1 });
		await removePolicy(`${start}:vip:*`);
		expect(await look(special)).toMatchObject({ limit: 1, policy: `${start}:*`, activeSlots: 1 });
	});

	test("names of a deleted policy are switched off, like any that nobody configured", async () => {
		const start = newName();
		const name = `${start}:a`;
		await policy(`${start}:*`, { limit: 1 });
		const lease = await granted({ names: name });
		await removePolicy(`${start}:*`);
		expect((await granted({ names: name })).limits).toMatchObject([{ enforced: false }]);
		expect(await inspect(name)).toMatchObject({ active: false, origin: "default", policy: null });
		await until(() => listed(name));
		expect((await release(lease)).body).toEqual({ released: 1 });
	});

	test("names that nobody had configured are taken over by a policy that comes later", async () => {
		const start = newName();
		const name = `${start}:a`;
		await granted({ names: name });
		expect(await inspect(name)).toMatchObject({ origin: "default", active: false });
		await policy(`${start}:*`, { limit: 1 });
		await granted({ names: name });
		expectProblem(await acquire({ names: name }), 429, "denied");
		expect(await inspect(name)).toMatchObject({ origin: "policy", active: true, limit: 1 });
	});

	test("what another Worker still knows does not undo what this one saw", async () => {
		const start = newName();
		const name = `${start}:a`;
		const older = await policy(`${start}:*`, { limit: 1 });
		const { version } = await directory().match(name);
		await granted({ names: name });
		await policy(`${start}:*`, { limit: 5 });
		await granted({ names: name });
		const ruling: Ruling = { version, since: 0, policy: older, ageMs: 0 };
		expect(await limitObject(name).summary(ruling)).toMatchObject({ limit: 5 });
		await evictDurableObject(limitObject(name));
		expect(await limitObject(name).summary(ruling)).toMatchObject({ limit: 5 });
	});

	test("of several names at once, each is as its own policy says", async () => {
		const start = newName();
		const names = [`${start}:a:1`, `${start}:b:1`];
		await policy(`${start}:a:*`, { limit: 1 });
		await policy(`${start}:b:*`, { limit: 1 });
		await granted({ names });
		await policy(`${start}:a:*`, { limit: 2 });
		const problem = expectProblem(await acquire({ names }), 429, "denied");
		expect(problem["violated-policies"]).toEqual([names[1]]);
		expect(problem.limits).toMatchObject([{ limit: 2 }, { limit: 1 }]);
	});

	test("a directory that does not answer leaves known keys as they are", async () => {
		const start = newName();
		const name = `${start}:a`;
		await policy(`${start}:*`, { limit: 2 });
		await granted({ names: name });
		await evictDurableObject(limitObject(name));
		await runInDurableObject(directory(), (instance) => {
			for (const method of ["match", "policiesAfter"]) {
				Object.defineProperty(instance, method, { value: null, configurable: true });
			}
		});
		try {
			expect(await limitObject(name).summary()).toMatchObject({ limit: 2, activeSlots: 1 });
		} finally {
			await runInDurableObject(directory(), (instance) => {
				for (const method of ["match", "policiesAfter"]) Reflect.deleteProperty(instance, method);
			});
		}
	});
});

describe("an override", () => {
	test("stays when the policy changes, and deleting it returns to the policy", async () => {
		const start = newName();
		const name = `${start}:a`;
		await policy(`${start}:*`, { limit: 1 });
		await granted({ names: name });
		await configure(name, { limit: 50 });
		await policy(`${start}:*`, { limit: 2 });
		await granted({ names: name });
		expect(await inspect(name)).toMatchObject({
			limit: 50,
			origin: "configured",
			policy: `${start}:*`,
			activeSlots: 2,
		});
		expect((await remove(name)).status).toBe(204);
		await granted({ names: name });
		expect(await inspect(name)).toMatchObject({ limit: 2, origin: "policy", policy: `${start}:*`, activeSlots: 1 });
	});

	test("by PATCH keeps what it does not name, and what is held", async () => {
		const start = newName();
		const name = `${start}:a`;
		await policy(`${start}:*`, { limit: 3 });
		await granted({ names: name });
		expect((await patch(name, { limit: 9 })).body).toMatchObject({ limit: 9, origin: "configured", activeSlots: 1 });
		await evictDurableObject(limitObject(name));
		await policy(`${start}:*`, { limit: 1 });
		expect(await look(name)).toMatchObject({ limit: 9, origin: "configured" });
	});

	test("setting the slots in use by hand overrides nothing", async () => {
		const start = newName();
		const name = `${start}:a`;
		await policy(`${start}:*`, { limit: 3 });
		await granted({ names: name });
		expect((await patch(name, { activeSlots: 2 })).body).toMatchObject({ origin: "policy", activeSlots: 2 });
		await policy(`${start}:*`, { limit: 4 });
		expect(await look(name)).toMatchObject({ limit: 4, origin: "policy", activeSlots: 2 });
	});

	test("is listed from then on", async () => {
		const start = newName();
		await policy(`${start}:*`, { limit: 3 });
		await granted({ names: `${start}:a` });
		expect(await listed(`${start}:a`)).toBe(false);
		await configure(`${start}:a`, { limit: 5 });
		await until(() => listed(`${start}:a`));
	});
});

describe("keys of a policy", () => {
	test("are written in one transaction when they are first seen, and no other object is called", async () => {
		const start = newName();
		await policy(`${start}:*`, { limit: 5, slotDecayPerSecond: 1 });
		// From here on this Worker knows the policies.
		await until(async () => {
			await rateLimited(`${start}:warm`);
			return (await callsOfDirectory(() => rateLimited(`${start}:${newId()}`))) === 0;
		});
		expect(
			await callsOfDirectory(async () => {
				for (let n = 0; n < 20; n += 1) expect((await rateLimited(`${start}:key-${n}`)).status).toBe(200);
			}),
		).toBe(0);
		const name = `${start}:one`;
		let transactions = 0;
		await runInDurableObject(limitObject(name), (_, state) => {
			const transact = state.storage.transactionSync.bind(state.storage);
			state.storage.transactionSync = (work) => {
				transactions += 1;
				return transact(work);
			};
		});
		await rateLimited(name);
		expect(transactions).toBe(1);
		expect(await inspect(name)).toMatchObject({ limit: 5, origin: "policy" });
	});

	test("that are used once are not in the directory, and leave nothing when they are idle", async () => {
		const start = newName();
		await policy(`${start}:*`, { limit: 5, slotDecayPerSecond: 1_000, idleSeconds: 60 });
		const names = Array.from({ length: 20 }, (_, n) => `${start}:${n}`);
		for (const name of names) await rateLimited(name);
		expect((await directory().names(start, "", 100)).names).toEqual([]);
		for (const name of names) {
			await lastUsed(name, 61_000);
			await runDurableObjectAlarm(limitObject(name));
			expect(await stored(name)).toEqual({ tables: {}, alarm: null });
		}
		expect((await directory().names(start, "", 100)).names).toEqual([]);
	});

	test("that are still used ten seconds after they were first seen are listed, denied or not, and unlisted at their end", async () => {
		const start = newName();
		const name = `${start}:a`;
		await policy(`${start}:*`, { limit: 1 });
		const lease = await granted({ names: name, id: newId() });
		await acquire({ names: name });
		expect(await listed(name)).toBe(false);
		await madeAgo(name, 11_000);
		expectProblem(await acquire({ names: name }), 429, "denied");
		await until(() => listed(name));
		await release(lease);
		await alter(name, () => ({ ended: [] }));
		await lastUsed(name, 301_000);
		await runDurableObjectAlarm(limitObject(name));
		expect(await listed(name)).toBe(false);
		expect(await stored(name)).toEqual({ tables: {}, alarm: null });
	});

	test("that hold something beyond their idle time are listed by then", async () => {
		const start = newName();
		const name = `${start}:a`;
		await policy(`${start}:*`, { limit: 1, idleSeconds: 1 });
		await granted({ names: name, leaseSeconds: 3_600 });
		await lastUsed(name, 2_000);
		await runDurableObjectAlarm(limitObject(name));
		await until(() => listed(name));
		expect(await inspect(name)).toMatchObject({ activeSlots: 1 });
	});

	test("that are not empty are not woken before they can be", async () => {
		const start = newName();
		const name = `${start}:slow`;
		// Five slots take fourteen hours to come back.
		await policy(`${start}:*`, { limit: 5, slotDecayPerSecond: 0.0001, idleSeconds: 60 });
		await rateLimited(name, { occupy: 5 });
		await lastUsed(name, 61_000);
		await runDurableObjectAlarm(limitObject(name));
		const { alarm } = await runInDurableObject(limitObject(name), (_, state) => dump(state));
		expect((alarm ?? 0) - Date.now()).toBeGreaterThan(49_000_000);
	});

	test("stay while one of their ids is remembered", async () => {
		const start = newName();
		const name = `${start}:a`;
		await policy(`${start}:*`, { limit: 1, idleSeconds: 1 });
		const id = newId();
		await release(await granted({ names: name, id }));
		await lastUsed(name, 10_000);
		await runDurableObjectAlarm(limitObject(name));
		expectProblem(await acquire({ names: name, id }), 409, "id_in_use");
	});

	test("are as many as one likes: hundreds are gone after their idle time, and the directory never knew", async () => {
		const start = newName();
		await policy(`${start}:*`, { limit: 5, slotDecayPerSecond: 1_000, idleSeconds: 1 });
		const names = Array.from({ length: 200 }, (_, n) => `${start}:${n}`);
		await Promise.all(names.map(async (name) => expect((await rateLimited(name)).status).toBe(200)));
		const gone = async (name: string): Promise<boolean> => (await call("GET", path(name))).status === 404;
		await Promise.all(names.map((name) => until(() => gone(name), `${name} is gone`)));
		expect((await directory().names(start, "", 1_000)).names).toEqual([]);
	});
});

/** How often the directory is asked what the policies say, while `work` runs. */
const callsOfDirectory = (work: () => Promise<unknown>): Promise<number> => callsOf(directory(), ["match"], work);
