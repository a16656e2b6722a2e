/** Several names in one request: all or none, no deadlock, nobody starved, nothing left behind. */

import { runInDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { afterEach, describe, expect, test, vi } from "vitest";
import { DOUBT_MS, DOUBT_STEP_MS, RESERVATION_MS } from "../../src/core/patience.ts";
import type { Lease } from "../../src/protocol.ts";
import {
	acquire,
	call,
	configure,
	crash,
	expectProblem,
	fromNow,
	granted,
	holdBack,
	inspect,
	limitObject,
	newId,
	newLimits,
	newName,
	newNames,
	open,
	openQueued,
	patch,
	path,
	read,
	release,
	remove,
	renew,
	type Stream,
	stopClock,
	storedLimit,
	until,
	untilActive,
	untilWaiting,
} from "./support.ts";

/** Waits until a limit has asked the peers of its leases, and no longer doubts them. */
const undoubted = (name: string): Promise<void> =>
	until(async () => {
		const { limit } = await storedLimit(name);
		return [...limit.entries.values()].every(({ state }) => state === "leased");
	}, `no doubts in ${name}`);

afterEach(() => {
	vi.restoreAllMocks();
});

/** What a denial must leave as it was: everything but the counts of denials, and the clock. */
async function standing(name: string) {
	const { entries, ended: remembered } = await storedLimit(name);
	const { totals, waiting, waitingCount, activeSlots, leases } = await inspect(name);
	const { denied: _, timedOut: __, ...counted } = totals;
	const rows = entries.map(({ id, seq, slots, state, since, expiresAt }) => ({
		id,
		seq,
		slots,
		state,
		since,
		expiresAt,
	}));
	return { rows, remembered, counted, waiting, waitingCount, activeSlots, leases };
}

/** The level of a decaying limit in units of 10^-18 slot, at the moment when it was written. */
async function level(name: string): Promise<{ at: number; total: bigint }> {
	// Any change writes the limit as it is.
	await patch(name, { active: true });
	const { at, total } = (await storedLimit(name)).level;
	return { at, total: BigInt(total) };
}

type Pair = [first: string, second: string];
const pair = async (...limits: [number, number]): Promise<Pair> => (await newLimits(...limits)) as Pair;

/** Makes a method of one limit's object answer in another way. */
type Method = "reserve" | "commit" | "cancel" | "open" | "hold" | "vouch";
async function override(
	name: string,
	method: Method,
	replace: (original: (...given: unknown[]) => Promise<unknown>, ...given: unknown[]) => Promise<unknown>,
): Promise<void> {
	const id = limitObject(name).id.toString();
	await runInDurableObject(limitObject(name), (instance) => {
		const prototype = Object.getPrototypeOf(instance) as Record<Method, (...given: unknown[]) => Promise<unknown>>;
		const current = prototype[method];
		// A method that was overridden for another object already would otherwise call itself.
		const original = (vi.isMockFunction(current) && current.getMockImplementation()) || current;
		vi.spyOn(prototype, method).mockImplementation(function (this: unknown, ...given: unknown[]) {
			const own = original.bind(this as never);
			const context = (this as { ctx: DurableObjectState }).ctx;
			return context.id.toString() === id ? replace(own, ...given) : own(...given);
		});
	});
}

describe("promise 2: all or nothing", () => {
	test("a denied request changes nothing in any name", async () => {
		const [a, b, c] = (await newLimits(5, 5, 5)) as [string, string, string];
		await granted({ names: b, occupy: 4 });
		await granted({ names: [a, c], occupy: 2 });
		const before = await Promise.all([a, b, c].map(standing));
		for (const names of [[a, b, c], [c, b, a], { [a]: 1, [b]: 2, [c]: 3 }, { [c]: 4, [a]: 3, [b]: 1 }]) {
			const problem = expectProblem(await acquire({ names, occupy: 2 }), 429, "denied");
			expect(problem["violated-policies"]).toEqual(
				expect.arrayContaining([Array.isArray(names) ? b : expect.any(String)]),
			);
		}
		expect(await Promise.all([a, b, c].map(standing))).toEqual(before);
	});

	test("nor does one that is denied after a wait", async () => {
		const [a, b] = await pair(3, 1);
		await granted({ names: b });
		const before = await Promise.all([a, b].map(standing));
		expectProblem(await acquire({ names: [a, b], waitSeconds: 0.4 }), 429, "denied");
		expect(await Promise.all([a, b].map(standing))).toEqual(before);
	});

	test("no slot, no level and no decay clock of a rate limit is spent by a denial", async () => {
		const [rate, slots] = newNames(2) as Pair;
		await configure(rate, { limit: 10, slotDecayPerSecond: 0.01 });
		await configure(slots, { limit: 1 });
		await granted({ names: rate, occupy: 3, mode: "rate_limit" });
		await granted({ names: slots });
		const before = { ...(await standing(rate)), ...(await level(rate)) };
		for (let times = 0; times < 5; times += 1) {
			expectProblem(await acquire({ names: [rate, slots] }), 429, "denied");
			expectProblem(await acquire({ names: { [rate]: 7, [slots]: 1 }, waitSeconds: 0.05 }), 429, "denied");
		}
		const after = { ...(await standing(rate)), ...(await level(rate)) };
		const drained = BigInt(after.at - before.at) * 10n ** 13n;
		expect(after).toEqual({ ...before, at: after.at, total: before.total - drained });
	});

	test("all of it is granted at once, slots per name as they were asked", async () => {
		stopClock();
		const names = await newLimits(3, 3, 3, 3);
		const asked = Object.fromEntries(names.map((name, index) => [name, (index % 3) + 1]));
		const lease = await granted({ names: asked });
		expect(lease.names).toEqual(asked);
		for (const name of names) {
			const { leases, activeSlots } = await inspect(name);
			expect(leases).toEqual([
				{
					...{ id: lease.id, slots: asked[name], holder: null, fence: lease.fence?.[name] },
					since: expect.any(String),
					expiresAt: expect.any(String),
				},
			]);
			expect(activeSlots).toBe(asked[name]);
			expect(fromNow(leases[0]?.expiresAt as string)).toBe(60_000);
		}
		expect((await renew(lease)).status).toBe(200);
		expect((await release(lease)).body).toEqual({
			released: names.reduce((sum, name) => sum + (asked[name] as number), 0),
		});
		for (const name of names) expect((await inspect(name)).activeSlots).toBe(0);
	});

	test("as many names as may be", async () => {
		const names = await newLimits(...Array.from({ length: 16 }, () => 1));
		const lease = await granted({ names: [...names].reverse() });
		expectProblem(await acquire({ names }), 429, "denied");
		expect((await release(lease)).body).toEqual({ released: 16 });
	});

	test("concurrency on limits with and without decay, in one request", async () => {
		const [slots, rate] = newNames(2) as Pair;
		await configure(slots, { limit: 2 });
		await configure(rate, { limit: 4, slotDecayPerSecond: 0.001 });
		const lease = await granted({ names: { [slots]: 1, [rate]: 4 } });
		expectProblem(await acquire({ names: [slots, rate] }), 429, "denied");
		expect((await inspect(slots)).activeSlots).toBe(1);
		expect((await release(lease)).body.released).toBe(4);
		expect((await inspect(rate)).activeSlots).toBe(0);
	});

	test("rate-limit mode on names of which one does not decay is refused, and takes nothing", async () => {
		const [rate, plain] = newNames(2) as Pair;
		await configure(rate, { limit: 4, slotDecayPerSecond: 0.001 });
		await configure(plain, { limit: 4 });
		const answer = await acquire({ names: [rate, plain], mode: "rate_limit" });
		expect(expectProblem(answer, 422, "no_decay")["violated-policies"]).toEqual([plain]);
		expect((await inspect(rate)).activeSlots).toBe(0);
	});

	test("what can never fit is refused at once, also when another name would have to be waited for", async () => {
		const [a, b] = await pair(1, 2);
		await granted({ names: a });
		// It was never in a line, whose end would be a denial by time.
		const answer = await acquire({ names: { [a]: 1, [b]: 3 }, waitSeconds: 20 });
		expect(expectProblem(answer, 422, "exceeds_limit")["violated-policies"]).toContain(b);
		expect((await inspect(a)).totals).toMatchObject({ timedOut: 0 });
		expect((await inspect(a)).waitingCount).toBe(0);
	});

	test("many at once never have more than there is, and none has half", async () => {
		const names = (await newLimits(6, 4, 9)) as [string, string, string];
		const [a, b, c] = names;
		const answers = await Promise.all(
			Array.from({ length: 60 }, (_, index) =>
				acquire({
					names: [[a, b], [b, a, c], [c, b], { [c]: 2, [a]: 1 }][index % 4],
					waitSeconds: index % 2 ? 0.3 : 0,
				}),
			),
		);
		const held = new Map(names.map((name) => [name, 0]));
		for (const { status, body } of answers) {
			// On a machine that is starved a call is given up as overloaded, and takes as little.
			if (status !== 200) expect([429, 503]).toContain(status);
			else for (const [name, slots] of Object.entries(body.names)) held.set(name, (held.get(name) ?? 0) + slots);
		}
		for (const name of names) {
			const { activeSlots, limit } = await inspect(name);
			expect(activeSlots).toBeLessThanOrEqual(limit);
			// What was given up goes back in its own time.
			await until(async () => {
				const now = await inspect(name);
				return now.activeSlots === held.get(name) && now.waitingCount === 0;
			}, `only what was granted is held of ${name}`);
		}
		expect(Math.max(...held.values())).toBeGreaterThan(0);
	});
});

describe("names that are missing or off", () => {
	test("an inactive name holds nothing, and stands in nobody's way", async () => {
		const [on, off] = await pair(1, 1);
		await patch(off, { active: false });
		const first = await granted({ names: [on, off] });
		expect(first.names).toEqual({ [on]: 1, [off]: 1 });
		expect(first.limits).toMatchObject([{ enforced: true }, { enforced: false }]);
		expectProblem(await acquire({ names: [on, off] }), 429, "denied");
		expect((await renew(first)).status).toBe(200);
		expect((await inspect(off)).activeSlots).toBe(0);
		expect((await release(first)).body).toEqual({ released: 1 });
	});

	test("names never seen before are made on the way", async () => {
		const known = (await newLimits(1))[0] as string;
		const unknown = newName();
		const lease = await granted({ names: [known, unknown] });
		expect(Object.keys(lease.names).sort()).toEqual([known, unknown].sort());
		expect(await inspect(unknown)).toMatchObject({ origin: "default", active: false });
		expect((await release(lease)).body).toEqual({ released: 1 });
	});

	test("missing names are skipped without createIfMissing, waiting or not", async () => {
		const known = (await newLimits(1))[0] as string;
		const missing = newName();
		const lease = await granted({ names: known });
		const stream = await openQueued({ names: [known, missing], createIfMissing: false });
		await release(lease);
		const granting = await stream.granted();
		expect(granting.names).toEqual({ [known]: 1 });
		expect(granting.limits).toContainEqual(expect.objectContaining({ name: missing, missing: true }));
		await stream.ended;
		expect((await release(granting)).body).toEqual({ released: 1 });
	});
});

describe("promise 3: no deadlock, no starvation", () => {
	/** Whose turns the requests of a proof take: those of all, or each of its own. */
	const turns: [whose: string, of: (index: number) => object][] = [
		["in one turn", () => ({})],
		["by keys and priorities", (index) => ({ key: `k${index % 3}`, priority: (5 * index) % 10 })],
	];

	test.each(turns)("opposite orders, %s: everybody is served in the end", async (_, of) => {
		const [a, b] = await pair(1, 1);
		let inUse = 0;
		let most = 0;
		const work = async (names: string[], index: number) => {
			for (let times = 0; times < 3; times += 1) {
				const { status, body } = await acquire({ names, waitSeconds: 40, ...of(index) });
				expect(status, JSON.stringify(body)).toBe(200);
				inUse += 1;
				most = Math.max(most, inUse);
				await scheduler.wait(2);
				inUse -= 1;
				await release(body);
			}
		};
		await Promise.all(
			[
				[a, b],
				[b, a],
				[a, b],
				[b, a],
				[b, a],
			].map(work),
		);
		expect(most).toBe(1);
		for (const name of [a, b]) expect(await inspect(name)).toMatchObject({ activeSlots: 0, waitingCount: 0 });
	});

	test.each(turns)("a ring of three, each holding what the next one wants, %s", async (_, of) => {
		const [a, b, c] = (await newLimits(1, 1, 1)) as [string, string, string];
		const work = async (names: string[], index: number) => {
			for (let times = 0; times < 3; times += 1) {
				const { status, body } = await acquire({ names, waitSeconds: 40, ...of(index) });
				expect(status, JSON.stringify(body)).toBe(200);
				await release(body);
			}
		};
		await Promise.all(
			[
				[a, b],
				[b, c],
				[c, a],
				[a, b, c],
			].map(work),
		);
		for (const name of [a, b, c]) expect((await inspect(name)).activeSlots).toBe(0);
	});

	test("blocked on one name, it leaves its other names usable", async () => {
		const [free, busy] = await pair(1, 1);
		const lease = await granted({ names: busy });
		const waiter = await openQueued({ names: [free, busy] });
		for (let times = 0; times < 5; times += 1) await release(await granted({ names: free }));
		await scheduler.wait(0);
		expect((await inspect(free)).activeSlots).toBe(0);
		await release(lease);
		expect((await waiter.granted()).names).toEqual({ [free]: 1, [busy]: 1 });
	});

	test("and so whichever of its names it is", async () => {
		const [busy, free] = await pair(1, 1);
		const lease = await granted({ names: busy });
		const waiter = await openQueued({ names: [free, busy] });
		await release(await granted({ names: free }));
		expect((await inspect(free)).activeSlots).toBe(0);
		await release(lease);
		await waiter.granted();
	});

	test("a slot that comes free and a rate that is not: the rate is not spent while it waits", async () => {
		const [rate, slots] = newNames(2) as Pair;
		await configure(rate, { limit: 5, slotDecayPerSecond: 0.001 });
		await configure(slots, { limit: 1 });
		const lease = await granted({ names: slots });
		const waiter = await openQueued({ names: [rate, slots] });
		expect((await inspect(rate)).activeSlots).toBe(0);
		expect((await granted({ names: rate, occupy: 4, mode: "rate_limit" })).names).toEqual({ [rate]: 4 });
		await release(lease);
		await waiter.granted();
		expect((await inspect(rate)).activeSlots).toBe(5);
	});

	test.each([
		["of its own turn", {}, {}],
		["of a higher priority, for it starves", { priority: 9 }, { starveAfterSeconds: 0.2 }],
	])(
		"in the end it is served under a stream of competitors %s for each of its names",
		async (_, competitor, settings) => {
			const [a, b] = newNames(2) as Pair;
			for (const name of [a, b]) await configure(name, { limit: 2, ...settings });
			let competing = true;
			let rounds = 0;
			const compete = async (name: string) => {
				while (competing) {
					const { status, body } = await acquire({ names: name, waitSeconds: 5, ...competitor });
					if (status !== 200) continue;
					rounds += 1;
					await scheduler.wait(20);
					await release(body);
				}
			};
			const competitors = [a, a, a, a, b, b, b, b].map(compete);
			await until(() => rounds > 20);
			const before = rounds;
			const { status, body } = await acquire({ names: [a, b], occupy: 2, waitSeconds: 20 });
			competing = false;
			expect(status, JSON.stringify(body)).toBe(200);
			expect(rounds - before).toBeGreaterThan(0);
			await Promise.all([release(body), ...competitors]);
			for (const name of [a, b]) expect(await inspect(name)).toMatchObject({ activeSlots: 0, waitingCount: 0 });
		},
	);

	test("even when those who do not wait take whatever is free", async () => {
		const [a, b] = await pair(1, 1);
		let competing = true;
		const compete = async (name: string) => {
			while (competing) {
				const { status, body } = await acquire({ names: name });
				if (status === 200) {
					await scheduler.wait(10);
					await release(body);
				} else await scheduler.wait(1);
			}
		};
		const competitors = [a, a, b, b].map(compete);
		await scheduler.wait(50);
		const { status, body } = await acquire({ names: [b, a], waitSeconds: 20 });
		competing = false;
		expect(status, JSON.stringify(body)).toBe(200);
		await Promise.all([release(body), ...competitors]);
	});

	test("those who want the same names are served in the order of their arrival", async () => {
		const [a, b] = await pair(1, 1);
		let lease = await granted({ names: [a, b] });
		const streams: Stream[] = [];
		for (let index = 0; index < 4; index += 1) streams.push(await openQueued({ names: index % 2 ? [a, b] : [b, a] }));
		for (const [index, stream] of streams.entries()) {
			await release(lease);
			lease = await stream.granted();
			expect(streams.slice(index + 1).map((each) => each.lease)).toEqual(streams.slice(index + 1).map(() => null));
		}
		await release(lease);
	});

	test("the place in line is told, and told again when it changes", async () => {
		const [a, b] = await pair(1, 1);
		const lease = await granted({ names: b });
		const first = await openQueued({ names: b });
		const several = await openQueued({ names: [a, b] });
		expect(several.positions).toEqual([2]);
		await release(lease);
		await until(() => several.positions.at(-1) === 1);
		await release(await first.granted());
		await several.granted();
	});

	test("promise 4: it is handed on at once when its last name comes free", async () => {
		const [a, b] = await pair(1, 1);
		const lease = await granted({ names: [a, b] });
		const next = await openQueued({ names: [a, b] });
		await release(lease);
		// Nobody asks for anything meanwhile.
		expect((await next.granted()).names).toEqual({ [a]: 1, [b]: 1 });
	});
});

describe("promise 5: a coordinator that fails leaves nothing behind", () => {
	test("an object that refuses to commit: all of it is undone, and the caller told to come back", async () => {
		const [a, b] = await pair(2, 2);
		await override(b, "commit", () => Promise.reject(new Error("no disk")));
		const answer = await acquire({ names: [a, b], occupy: 2 });
		expectProblem(answer, 503, "overloaded");
		expect(answer.headers.get("Retry-After")).toMatch(/^\d+$/);
		vi.restoreAllMocks();
		await untilActive(a, 0);
		await untilActive(b, 0);
		expect((await granted({ names: [a, b], occupy: 2 })).names).toEqual({ [a]: 2, [b]: 2 });
	});

	test("an object that committed and died before it could say so", async () => {
		const [a, b] = await pair(2, 2);
		await override(b, "commit", async (own, ...given) => {
			await own(...given);
			throw new Error("connection lost");
		});
		expectProblem(await acquire({ names: [a, b], occupy: 2 }), 503, "overloaded");
		vi.restoreAllMocks();
		await untilActive(a, 0);
		await untilActive(b, 0);
	});

	test("an object that cannot be reached for undoing either gives back within 10 s", async () => {
		const [a, b] = await pair(1, 1);
		await override(b, "commit", () => Promise.reject(new Error("no disk")));
		const cancel = vi.fn(() => Promise.reject(new Error("out of reach")));
		const prototypes = await runInDurableObject(
			limitObject(a),
			(instance) => Object.getPrototypeOf(instance) as object,
		);
		vi.spyOn(prototypes as { cancel: () => Promise<unknown> }, "cancel").mockImplementation(cancel);
		expectProblem(await acquire({ names: [a, b] }), 503, "overloaded");
		expect(cancel).toHaveBeenCalled();
		vi.restoreAllMocks();
		await untilActive(a, 0);
		await untilActive(b, 0);
	});

	test("a name that is deleted between two steps is no fault of the server", async () => {
		for (const step of ["open", "commit"] as const) {
			const [a, b] = await pair(1, 1);
			if (step === "open") await granted({ names: b });
			await override(b, step, async (own, ...given) => {
				await remove(b);
				return own(...given);
			});
			const { status, body } = await acquire({ names: [a, b], waitSeconds: 5 });
			vi.restoreAllMocks();
			expect([200, 404, 503], JSON.stringify(body)).toContain(status);
			if (status === 200) await release(body);
			await untilActive(a, 0);
			await untilWaiting(a, 0);
		}
	});

	test("a reservation that is gone when it is to be committed: nothing is taken", async () => {
		const [a, b] = await pair(1, 1);
		const id = newId();
		await override(a, "commit", async (own, ...given) => {
			await call("DELETE", `${path(b)}/leases/${id}`);
			return own(...given);
		});
		await override(b, "commit", async (own, ...given) => {
			await until(async () => (await inspect(b)).activeSlots === 0);
			return own(...given);
		});
		const { status, body } = await acquire({ names: [a, b], id });
		expect([409, 503]).toContain(status);
		expect(body.code).not.toBe("internal");
		vi.restoreAllMocks();
		await untilActive(a, 0);
		expect((await inspect(b)).activeSlots).toBe(0);
	});
});

describe.concurrent("promise 5: a coordinator that dies leaves nothing for longer than 10 s", () => {
	test("a reservation, or the doubt about a lease whose names did not all commit, is over by then", () => {
		expect(RESERVATION_MS).toBeLessThan(10_000);
		// It asks its peers, of which each knows once its reservation has lapsed.
		expect(Math.max(RESERVATION_MS, DOUBT_MS) + 2 * DOUBT_STEP_MS).toBeLessThan(10_000);
	});

	const request = (id: string) => ({
		request: {
			...{ id, slots: 1, mode: "concurrency" as const, leaseMs: 60_000, waitMs: 0, ifBusy: "deny" as const },
			...{ holder: null, held: false, print: "p", remember: true },
		},
		createIfMissing: false,
	});

	test("one that dies after reserving: the reservations lapse within 10 s, and the next in line is served", async () => {
		const [a, b] = await pair(1, 1);
		const id = newId();
		await limitObject(a).reserve(request(id));
		await limitObject(b).reserve(request(id));
		expect((await inspect(a)).activeSlots).toBe(1);
		const next = await openQueued({ names: a });
		await next.granted();
		await untilActive(b, 0);
		expect(await limitObject(b).commit(id, [a])).toMatchObject({ event: { kind: "gone" } });
		expect((await inspect(b)).activeSlots).toBe(0);
	});

	test("one that dies between two commits: what had committed gives back within 10 s", async () => {
		const [a, b] = await pair(1, 1);
		const id = newId();
		await limitObject(a).reserve(request(id));
		await limitObject(b).reserve(request(id));
		expect(await limitObject(a).commit(id, [b])).toMatchObject({ event: { kind: "granted" } });
		const waiters = await Promise.all([openQueued({ names: a }), openQueued({ names: b })]);
		await Promise.all(waiters.map((waiter) => waiter.granted()));
		// The dead may not come back and commit the rest.
		expect(await limitObject(b).commit(id, [a])).toMatchObject({ event: { kind: "gone" } });
		expectProblem(await renew({ id, names: a }), 410, "lease_gone");
		expect(await inspect(b)).toMatchObject({ activeSlots: 1, leaseCount: 1 });
	});

	test("the same, when the object that had committed is restarted meanwhile", async () => {
		const [a, b] = await pair(1, 1);
		const id = newId();
		await limitObject(a).reserve(request(id));
		await limitObject(b).reserve(request(id));
		await limitObject(a).commit(id, [b]);
		await crash(a);
		await untilActive(a, 0);
	});

	test("one that dies after the last commit has granted: it is a lease, and stays one", async () => {
		const [a, b] = await pair(1, 1);
		const id = newId();
		await limitObject(a).reserve(request(id));
		await limitObject(b).reserve(request(id));
		await limitObject(a).commit(id, [b]);
		await limitObject(b).commit(id, [a]);
		for (const name of [a, b]) await undoubted(name);
		for (const name of [a, b]) expect((await inspect(name)).leases.map((lease) => lease.id)).toEqual([id]);
		expect((await release({ id, names: [a, b] })).body).toEqual({ released: 2 });
	});

	test("a lease that one of its limits gave back by itself is not doubted by the others", async () => {
		const [a, b] = await pair(1, 1);
		const lease = await granted({ names: [a, b] });
		await call("DELETE", `${path(b)}/leases/${lease.id}`);
		await undoubted(a);
		expect((await inspect(a)).leases.map(({ id }) => id)).toEqual([lease.id]);
	});

	test("promise 2: rate-limit mode on several names is a receipt for all of them, or nothing", async () => {
		const names = newNames(2) as Pair;
		for (const name of names) await configure(name, { limit: 4, slotDecayPerSecond: 0.001 });
		const receipt = await granted({ names, occupy: 3, mode: "rate_limit" });
		expect(receipt).not.toHaveProperty("expiresAt");
		await granted({ names: names[1], mode: "rate_limit" });
		expectProblem(await acquire({ names, mode: "rate_limit" }), 429, "denied");
		expect((await inspect(names[0])).activeSlots).toBe(3);
		expect((await inspect(names[1])).activeSlots).toBe(4);
		for (const name of names) await until(async () => (await inspect(name)).leaseCount === 0);
	});
});

describe.concurrent("settings that change under those who wait", () => {
	test("a name lowered below what is asked refuses the request though it waits for another", async () => {
		const [a, b] = await pair(1, 4);
		await granted({ names: a });
		const stream = await openQueued({ names: { [a]: 1, [b]: 4 } });
		await patch(b, { limit: 3 });
		expect(await stream.denied()).toMatchObject({
			...{ status: 422, code: "exceeds_limit", "violated-policies": expect.arrayContaining([b]) },
		});
		await stream.ended;
		await untilWaiting(a, 0);
	});

	test("a name that is deleted refuses the request that waits for it", async () => {
		const [a, b] = await pair(1, 1);
		await granted({ names: b });
		const stream = await openQueued({ names: [a, b] });
		await remove(b);
		expect(await stream.denied()).toMatchObject({ status: 404, code: "unknown_limit" });
		await untilWaiting(a, 0);
		expect((await inspect(a)).activeSlots).toBe(0);
	});

	test.each(["deleted", "deleted and made anew"])(
		"a name that it does not stand for and that is %s refuses it",
		async (how) => {
			const [a, b] = await pair(1, 1);
			const lease = await granted({ names: [a, b] });
			const stream = await openQueued({ names: [a, b] });
			await untilWaiting(b, 1);
			await remove(b);
			if (how !== "deleted") await configure(b, { limit: 1 });
			await release({ ...lease, names: [a] });
			const problem = await stream.denied();
			expect(problem).toMatchObject({ status: 404, code: "unknown_limit", "violated-policies": [b] });
			await stream.ended;
			await untilWaiting(a, 0);
			expect((await inspect(a)).activeSlots).toBe(0);
			if (how === "deleted") expectProblem(await call("GET", `/v1/limits/${b}`), 404, "unknown_limit");
			else expect(await inspect(b)).toMatchObject({ activeSlots: 0, leaseCount: 0, waitingCount: 0 });
		},
	);

	test("a limit of 0 is a pause: it waits there, keeps nothing of the others from anybody, and goes on when it is raised", async () => {
		const [a, b] = await pair(1, 1);
		await patch(b, { limit: 0 });
		expectProblem(await acquire({ names: [a, b] }), 429, "denied");
		const stream = await openQueued({ names: [a, b] });
		await untilWaiting(b, 1);
		await release(await granted({ names: a }));
		await patch(b, { limit: 1 });
		expect((await stream.granted()).names).toEqual({ [a]: 1, [b]: 1 });
	});

	test("switching the name off that it waits for lets it through", async () => {
		const [a, b] = await pair(1, 1);
		await granted({ names: b });
		const stream = await openQueued({ names: [a, b] });
		await patch(b, { active: false });
		expect((await stream.granted()).names).toEqual({ [a]: 1, [b]: 1 });
		expect((await inspect(a)).activeSlots).toBe(1);
	});

	test.each(["deleting one name", "deleting one name and making it anew"])(
		"promise 6: %s right after the grant takes nothing of the others back",
		async (how) => {
			const [a, b] = await pair(1, 1);
			const lease = await granted({ names: [a, b] });
			await remove(b);
			if (how !== "deleting one name") await configure(b, { limit: 1 });
			await undoubted(a);
			expect((await inspect(a)).leases.map(({ id }) => id)).toEqual([lease.id]);
			expectProblem(await acquire({ names: a }), 429, "denied");
		},
	);
});

describe.concurrent("promise 11: the same id again", () => {
	test("is the same lease", async () => {
		const [a, b] = await pair(3, 3);
		const send = { names: [a, b], id: newId(), occupy: 2 };
		const first = await granted(send);
		const again = await granted({ ...send, names: [b, a] });
		expect(again.names).toEqual(first.names);
		expect(again.id).toBe(first.id);
		for (const name of [a, b]) expect(await inspect(name)).toMatchObject({ activeSlots: 2, leaseCount: 1 });
	});

	test("at once from several callers, it is one lease", async () => {
		const [a, b] = await pair(9, 9);
		const send = { names: [a, b], id: newId() };
		const answers = await Promise.all(Array.from({ length: 8 }, () => acquire(send)));
		for (const { status, body } of answers) {
			if (status !== 200) expect(status, JSON.stringify(body)).toBe(503);
		}
		expect(answers.some(({ status }) => status === 200)).toBe(true);
		for (const name of [a, b]) expect(await inspect(name)).toMatchObject({ activeSlots: 1, leaseCount: 1 });
	});

	test("with other names, slots or parameters is refused with 409, and takes nothing", async () => {
		const [a, b, c] = (await newLimits(5, 5, 5)) as [string, string, string];
		const id = newId();
		await granted({ names: [a, b], id });
		for (const change of [
			{ names: [a, b, c] },
			{ names: [a] },
			{ names: [b, c] },
			{ names: { [a]: 2, [b]: 1 } },
			{ names: [a, b], occupy: 2 },
			{ names: [a, b], leaseSeconds: 61 },
		]) {
			expectProblem(await acquire({ id, ...change }), 409, "id_in_use");
		}
		expect(await inspect(c)).toMatchObject({ activeSlots: 0, waitingCount: 0 });
		for (const name of [a, b]) expect((await inspect(name)).activeSlots).toBe(1);
	});

	test("after its lease has ended is refused", async () => {
		const [a, b] = await pair(1, 1);
		const send = { names: [a, b], id: newId() };
		await release(await granted(send));
		expectProblem(await acquire(send), 409, "id_in_use");
		for (const name of [a, b]) expect((await inspect(name)).activeSlots).toBe(0);
	});

	test("after the connection broke keeps its place in line", async () => {
		const [a, b] = await pair(1, 1);
		const lease = await granted({ names: b });
		const send = { names: [a, b], id: newId() };
		const first = await openQueued(send);
		const other = await openQueued({ names: b });
		await first.leave();
		const again = await openQueued(send);
		await until(() => again.positions.at(-1) === 1);
		await release(lease);
		const mine = await again.granted();
		expect(mine.id).toBe(send.id);
		expect(other.lease).toBeNull();
		await scheduler.wait(600);
		expect((await renew(mine)).status).toBe(200);
	});

	test("is answered with the same lease when it comes after a restart", async () => {
		const [a, b] = await pair(1, 1);
		const send = { names: [a, b], id: newId() };
		const first = await granted(send);
		await crash(a);
		await crash(b);
		const again = await granted(send);
		expect(again.names).toEqual(first.names);
		for (const name of [a, b]) expect(await inspect(name)).toMatchObject({ activeSlots: 1, leaseCount: 1 });
	});

	test("release while it waits withdraws it from every line", async () => {
		const [a, b] = await pair(1, 1);
		const lease = await granted({ names: b });
		const send = { names: [a, b], id: newId() };
		const stream = await openQueued(send);
		expect((await release(send)).body).toEqual({ released: 0 });
		expect((await stream.denied()).code).toBe("id_in_use");
		await stream.ended;
		await release(lease);
		for (const name of [a, b]) await untilWaiting(name, 0);
		expectProblem(await acquire(send), 409, "id_in_use");
		for (const name of [a, b]) expect((await inspect(name)).activeSlots).toBe(0);
	});
});

describe("a held lease of several names", () => {
	test("promise 5: lives longer than its length while its stream does, and then ends in all of them", async () => {
		const clock = stopClock();
		const [a, b] = await pair(1, 1);
		const stream = await open({ names: [a, b], hold: true, leaseSeconds: 1 });
		await stream.granted();
		for (let beats = 1; beats <= 4; beats += 1) {
			await until(() => stream.beats >= beats, `beat ${beats}`);
			clock.pass(400);
		}
		for (const name of [a, b]) expect((await inspect(name)).leaseCount).toBe(1);
		const nexts = await Promise.all([openQueued({ names: a }), openQueued({ names: b })]);
		await stream.leave();
		await Promise.all(nexts.map((next) => next.granted()));
	});
});

describe.concurrent("those who go", () => {
	test("promise 5: a held lease of which one object is restarted ends as a whole", async () => {
		const [a, b] = await pair(1, 1);
		const stream = await open({ names: [a, b], hold: true });
		await stream.granted();
		await until(() => stream.beats >= 1);
		await crash(a);
		await stream.ended;
		expect(stream.problem).toBeNull();
		for (const name of [a, b]) await untilActive(name, 0);
	});

	test("a held lease of which one name is taken back ends as a whole", async () => {
		const [a, b] = await pair(1, 1);
		const stream = await open({ names: [a, b], hold: true });
		const { id } = await stream.granted();
		await until(() => stream.beats >= 1);
		await call("DELETE", `${path(b)}/leases/${id}`);
		await stream.ended;
		await untilActive(a, 0);
	});

	test("a held lease of several names that is released ends its stream, and counts what it gave back", async () => {
		const [a, b] = await pair(1, 1);
		const stream = await open({ names: [a, b], hold: true });
		const lease = await stream.granted();
		await until(() => stream.beats >= 1);
		expect((await release(lease)).body).toEqual({ released: 2 });
		await stream.ended;
		expect(stream.state).toBe("ended");
	});

	test("promise 11: a holder that comes back under the same id keeps it", async () => {
		const [a, b] = await pair(1, 1);
		const send = { names: [a, b], hold: true, id: newId() };
		const first = await open(send);
		await first.granted();
		const second = await open(send);
		await second.granted();
		await until(() => second.beats >= 1);
		await first.leave();
		const beats = second.beats;
		await until(() => second.beats >= beats + 5);
		for (const name of [a, b]) expect((await inspect(name)).leases.map(({ id }) => id)).toEqual([send.id]);
		await second.leave();
		for (const name of [a, b]) await untilActive(name, 0);
	});

	test("promise 10: a waiter that goes leaves every line, and the next is served", async () => {
		const [a, b] = await pair(1, 1);
		const lease = await granted({ names: b });
		const gone = await openQueued({ names: [a, b] });
		const next = await openQueued({ names: b });
		await gone.leave();
		await release(lease);
		await next.granted();
		await untilWaiting(a, 0);
		await untilWaiting(b, 0);
		expect((await inspect(a)).activeSlots).toBe(0);
	});

	test("promise 10: a call whose caller breaks off leaves every line", async () => {
		const [a, b] = await pair(1, 1);
		const lease = await granted({ names: b });
		const going = new AbortController();
		const gone = exports.default
			.fetch(
				new Request("http://headgate.test/v1/acquire", {
					...{ method: "POST", headers: { "Content-Type": "application/json" } },
					...{ body: JSON.stringify({ names: [a, b], waitSeconds: 30 }), signal: going.signal },
				}),
			)
			.then(read, () => null);
		await untilWaiting(b, 1);
		const next = await openQueued({ names: b });
		going.abort();
		await gone;
		await release(lease);
		await next.granted();
		await untilWaiting(a, 0);
		await untilActive(a, 0);
	});

	// One after the other, for what is held back is a method of all limits.
	describe.sequential.each(["a stream", "a held stream", "a plain wait"])("%s whose caller goes", (how) => {
		test.each([
			["the second name was reserved", 1, "reserve"],
			["the first name was committed", 0, "commit"],
			["the second name was committed", 1, "commit"],
		] as const)("promise 10: when %s, and before that is answered, takes nothing", async (_, index, method) => {
			const names = await pair(1, 1);
			const lease = await granted({ names, leaseSeconds: 600 });
			const going = new AbortController();
			const plain = how === "a plain wait";
			const request = {
				names,
				leaseSeconds: 600,
				...(plain ? { waitSeconds: 60 } : { hold: how === "a held stream" }),
			};
			const headers = { "Content-Type": "application/json", ...(!plain && { Accept: "application/x-ndjson" }) };
			const init = { method: "POST", headers, body: JSON.stringify(request), signal: going.signal };
			const gone = exports.default
				.fetch(new Request("http://headgate.test/v1/acquire", init))
				.then(read)
				.catch(() => null);
			await untilWaiting(names[1], 1);
			const next = await openQueued({ names });
			const step = await holdBack(limitObject(names[index]), method);
			await release(lease);
			await step.reached();
			going.abort();
			await gone;
			step.resume();
			const { id } = await next.granted();
			for (const name of names) expect((await inspect(name)).leases.map((each) => each.id)).toEqual([id]);
		});
	});

	test("a lease that was heard of stays when its stream has ended", async () => {
		const [a, b] = await pair(1, 1);
		const stream = await open({ names: [b, a] });
		await stream.ended;
		const lease = stream.lease as Lease;
		for (const name of [a, b]) expect((await inspect(name)).leases.map(({ id }) => id)).toEqual([lease.id]);
		expect((await renew(lease)).status).toBe(200);
	});

	test("an object that restarts in the middle of a wait does not lose the request", async () => {
		const [a, b] = await pair(1, 1);
		const lease = await granted({ names: b });
		const send = { names: [a, b], id: newId() };
		const stream = await openQueued(send);
		await crash(b);
		await release(lease);
		expect((await stream.granted()).id).toBe(send.id);
	});
});
