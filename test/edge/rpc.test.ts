/** Two real Workers: one that has the limits, and one that is bound to it. */

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Edge, startEdge } from "./harness.ts";

let edge: Edge;
beforeAll(async () => {
	edge = await startEdge(["test/edge/caller/wrangler.toml", "wrangler.toml", "test/edge/other/wrangler.toml"]);
});
afterAll(() => edge[Symbol.asyncDispose]());

/** A limit of two slots, of this test alone, and two more for those who ask for several. */
async function newLimit(limit = 2): Promise<string> {
	const name = randomUUID();
	await edge.configure(name, { limit });
	await edge.configure(`${name}-b`, { limit: 2 });
	await edge.configure(`${name}-c`, { limit: 5, slotDecayPerSecond: 0.001 });
	return name;
}

async function use<T = never>(how: string, name: string): Promise<T> {
	const { status, body } = await edge.get<T>(`/${how}?name=${name}`);
	expect(status, JSON.stringify(body)).toBe(200);
	return body;
}

/** Resolves once nothing is held and nobody waits; the slots are back "at once": well before any lease would end. */
async function isFree(...names: string[]): Promise<void> {
	for (const name of names) {
		const state = async () => {
			const { activeSlots, waitingCount } = await edge.inspect(name);
			return { activeSlots, waitingCount };
		};
		await expect.poll(state, { interval: 20 }).toEqual({ activeSlots: 0, waitingCount: 0 });
	}
}

/** Throws the object away, by a write that fails; its only lease stays. */
async function restart(name: string): Promise<void> {
	const storage = await edge.harness.getWorker("headgate").getDurableObjectStorage("LimitObject", { name });
	await storage.exec("CREATE TRIGGER fails BEFORE INSERT ON schema BEGIN SELECT RAISE(ABORT, 'out of order'); END");
	const [lease] = (await edge.inspect(name)).leases;
	expect((await edge.call("POST", "/v1/acquire", { names: name })).status).toBe(503);
	await storage.exec("DROP TRIGGER fails");
	expect((await edge.inspect(name)).leases).toMatchObject([{ id: lease?.id }]);
}

test("slots that another Worker takes by rate are granted from a loan, by RPC and by the library", async () => {
	const name = randomUUID();
	await edge.configure(name, { limit: 1_000, slotDecayPerSecond: 0.001, lendSeconds: 10 });
	const { lentSlots } = await use<{ lentSlots: number }>("borrows", name);
	expect(lentSlots).toBeGreaterThan(0);
	// All of them are counted in the end.
	await expect.poll(() => edge.inspect(name)).toMatchObject({ lentSlots: 0, totals: { grantedAtOnce: 40 } });
	expect((await edge.inspect(name)).activeSlots).toBe(40);
});

describe("a lease in the hands of another Worker", () => {
	test("holds its slots inside of the block", async () => {
		const name = await newLimit();
		const { inside, ...lease } = await use<{ inside: object[] }>("using", name);
		expect(lease).toEqual({ id: expect.any(String), names: { [name]: 1 }, enforced: true });
		expect(inside).toMatchObject([{ slots: 1, holder: "caller" }]);
		await isFree(name);
	});

	test("has a fence, and its limits are checked, paused and settled", async () => {
		const name = await newLimit();
		const { fence, pausedUntil, ...rest } = await use<{ fence: object; pausedUntil: string }>("kinds", name);
		expect(fence).toEqual({ [name]: expect.any(Number) });
		expect(Date.parse(pausedUntil)).toBeGreaterThan(Date.now());
		expect(rest).toMatchObject({
			...{ allowed: true, actual: { [`${name}-c`]: 1 }, ended: null, activeSlots: 1 },
			denied: { code: "denied" },
		});
		await isFree(name);
	});

	test("ends with the block, while the request goes on", async () => {
		expect(await use("using-then-on", await newLimit())).toEqual({ activeSlots: 0 });
	});

	test("may be of several names, some of them by rate", async () => {
		const name = await newLimit();
		expect(await use("several", name)).toEqual({ names: { [name]: 1, [`${name}-b`]: 2 }, rate: { [`${name}-c`]: 1 } });
		await isFree(name, `${name}-b`);
		expect((await edge.inspect(`${name}-c`)).activeSlots).toBe(1);
	});

	test("is released once, and says how much it gave back", async () => {
		expect(await use("release", await newLimit())).toEqual([{ released: 2 }, { released: 0 }]);
	});

	test.each([
		["the caller forgets it", "forgets"],
		["the library's lease is forgotten", "library-forgets"],
	])("promise 5: %s, and the slots are back when its request ends", async (_, how) => {
		const name = await newLimit();
		await use(how, name);
		await isFree(name, `${name}-b`);
		expect((await edge.inspect(name)).totals).toMatchObject({ released: 1, expired: 0 });
	});

	test.each(["throws", "library-throws"])("promise 5: the caller %s, and the slots are back", async (how) => {
		const name = await newLimit();
		await edge.get(`/${how}?name=${name}`).catch(() => undefined);
		await isFree(name);
		expect((await edge.inspect(name)).totals).toMatchObject({ grantedAtOnce: 1, released: 1, expired: 0 });
	});

	test("is renewed while it is held, however short", async () => {
		const name = await newLimit();
		const { enforced, still } = await use<{ enforced: boolean; still: { expiresAt: string } }>("holds", name);
		expect(enforced).toBe(true);
		expect(Date.parse(still.expiresAt)).toBeGreaterThan(Date.now() - 1_000);
		await isFree(name);
		expect((await edge.inspect(name)).totals.expired).toBe(0);
	});

	test("outlives a restart of the object, which tears its stub, and is still given back at its end", async () => {
		const name = await newLimit();
		const held = use("holds-through-a-restart", name);
		await expect.poll(async () => (await edge.inspect(name)).activeSlots).toBe(1);
		await restart(name);
		expect(await held).toMatchObject({ enforced: true });
		await isFree(name);
		expect((await edge.inspect(name)).totals).toMatchObject({ released: 1, expired: 0 });
	});

	test("promise 5: the library's lease, renewed after a restart, is given back when its caller forgets it", async () => {
		const name = await newLimit();
		const held = use("library-forgets-after-a-restart", name);
		await expect.poll(async () => (await edge.inspect(name)).activeSlots).toBe(1);
		await restart(name);
		expect(await held).toBe(true);
		await isFree(name);
		expect((await edge.inspect(name)).totals).toMatchObject({ released: 1, expired: 0 });
	});

	test("lives on in the background as long as its caller uses it", async () => {
		const name = await newLimit();
		expect(await use("in-the-background", name)).toBe("answered");
		expect((await edge.inspect(name)).activeSlots).toBe(1);
		await expect.poll(async () => (await edge.inspect(name)).activeSlots).toBe(0);
		expect((await edge.inspect(name)).totals.expired).toBe(0);
	});

	test("a caller that never answers holds its slots until it is ended from outside", async () => {
		const name = await newLimit();
		const going = new AbortController();
		const asked = fetch(new URL(`/holds-several?name=${name}`, edge.url), { signal: going.signal });
		asked.catch(() => undefined);
		await expect.poll(async () => (await edge.inspect(`${name}-b`)).activeSlots).toBe(1);
		const [lease] = (await edge.inspect(name)).leases;
		await edge.call("DELETE", `/v1/limits/${name}/leases/${lease?.id}`);
		expect((await edge.inspect(name)).activeSlots).toBe(0);
		going.abort();
	});

	test("learns that it was taken back", async () => {
		const [renewal, enforced] = await use<[object, boolean]>("learns-that-it-lost", await newLimit());
		expect(renewal).toMatchObject({ name: "HeadgateError", code: "lease_gone" });
		expect(enforced).toBe(false);
	});
});

describe("waiting", () => {
	test.each(["waits", "library-waits"])("promise 4: %s in line, and is handed what another gives back", async (how) => {
		const name = await newLimit(1);
		const holding = use("holds", name);
		await expect.poll(async () => (await edge.inspect(name)).activeSlots).toBe(1);
		const waiting = use<{ waitedSeconds: number }>(how, name);
		await expect.poll(async () => (await edge.inspect(name)).waitingCount).toBe(1);
		await holding;
		expect((await waiting).waitedSeconds).toBeGreaterThan(0.5);
		await isFree(name);
	});

	test("promise 10: a caller that goes while it waits leaves the line", async () => {
		const name = await newLimit(1);
		const holding = use("holds", name);
		await expect.poll(async () => (await edge.inspect(name)).activeSlots).toBe(1);
		expect(await use("leaves-the-line", name)).toBe(1);
		await expect.poll(async () => (await edge.inspect(name)).waitingCount).toBe(0);
		await holding;
		await isFree(name);
		expect((await edge.inspect(name)).totals.grantedAfterWait).toBe(0);
	});
});

test.each(["-b", ""])(
	"promise 10: who goes while it waits for two names leaves both lines (full: %j)",
	async (full) => {
		const name = await newLimit();
		await edge.call("POST", "/v1/acquire", { names: `${name}${full}`, occupy: 2, leaseSeconds: 600 });
		await use("leaves-the-lines-of-several", name);
		for (const each of [name, `${name}-b`]) {
			await expect.poll(async () => (await edge.inspect(each)).waitingCount).toBe(0);
		}
	},
);

describe("refusals", () => {
	test("are thrown with a name, a message and the problem", async () => {
		const [enforced, timeout, denied, exceeds, missing, noDecay] = await use<object[]>("refused", await newLimit(1));
		expect(enforced).toBe(true);
		expect(timeout).toMatchObject({ name: "TimeoutError", code: "denied", status: 429 });
		expect(denied).toMatchObject({ name: "ConcurrencySlotAcquisitionError", code: "denied" });
		expect(exceeds).toMatchObject({ name: "ConcurrencySlotAcquisitionError", code: "exceeds_limit" });
		expect(missing).toMatchObject({ name: "ConcurrencySlotAcquisitionError", code: "unknown_limit" });
		expect(noDecay).toMatchObject({ name: "ConcurrencySlotAcquisitionError", code: "no_decay" });
	});

	test("of bad input say which field, and why", async () => {
		const name = await newLimit();
		const answers = await use<{ message: string; code: string }[]>("bad-input", name);
		const fields = ["names", "names", "names", "occupy", "occupy", "timeOut", "names", "", "id", ""];
		expect(answers).toHaveLength(fields.length);
		for (const [index, { message, code }] of answers.entries()) {
			expect(message).toContain(fields[index]);
			// What cannot be sent at all is refused by the runtime itself.
			if (fields[index] !== "") expect(code).toBe("invalid");
		}
		await isFree(name);
	});

	test("of a wrong binding say what to write where", async () => {
		const name = await newLimit();
		const [none, noService, other, plain, typo] = await use<{ name: string; message: string }[]>(
			"library-bad-bindings",
			name,
		);
		for (const answer of [none, noService, other]) {
			expect(answer?.message).toContain('[[services]]\nbinding = "LIMITS"');
			expect(answer?.message).toContain('entrypoint = "HeadgateService"');
		}
		expect(none?.name).toBe("TypeError");
		expect(plain).toMatchObject({ code: "unauthorized" });
		expect(plain?.message).toContain('entrypoint = "HeadgateService"');
		expect(typo).toMatchObject({ code: "forbidden" });
		expect(typo?.message).toContain("prefiks");
	});

	test("of the wrong Worker come before anybody waits for it", async () => {
		const [other, plain] = await use<{ message: string; code?: string }[]>(
			"library-wrong-worker-acquires",
			await newLimit(),
		);
		expect(other?.message).toContain('entrypoint = "HeadgateService"');
		expect(plain?.code).toBe("unauthorized");
	});
});

describe("a binding", () => {
	test("speaks the five verbs", async () => {
		const name = randomUUID();
		const { renewed, problem, receipt, released, again, activeSlots } = await use<Record<string, object>>(
			"verbs",
			name,
		);
		expect(renewed).toMatchObject({ expiresAt: expect.any(String) });
		expect(problem).toMatchObject({ status: 429, code: "denied", "violated-policies": [name] });
		expect(receipt).toMatchObject({ names: { [name]: 1 }, limits: [{ slotDecayPerSecond: 0.001 }] });
		// Two slots decay slowly: what a short lease gives back is rounded down.
		expect(released).toMatchObject({ released: expect.any(Number) });
		expect(again).toMatchObject({ name: "HeadgateError", code: "lease_gone" });
		expect(activeSlots).toBe(1);
	});

	test("answers a lease as a record that outlives its caller", async () => {
		const name = await newLimit();
		const lease = await use<{ id: string }>("record-outlives-request", name);
		expect((await edge.inspect(name)).leases).toMatchObject([{ id: lease.id }]);
	});

	test("needs no token, by RPC or by fetch; the Worker itself still does", async () => {
		const name = await newLimit();
		expect(await use("without-a-token-by-fetch", name)).toBe(200);
		const direct = await edge.harness.getWorker("headgate").fetch(`http://headgate/v1/limits/${name}`);
		expect(direct.status).toBe(401);
	});

	test("may be confined by its props to a prefix and a scope", async () => {
		const name = await newLimit();
		const [own, other, byRate, configure, inspect, byFetch] = await use<object[]>("team", name);
		expect(own).toEqual({ [`team-a:${name}`]: 1 });
		for (const answer of [other, byRate, configure, inspect]) expect(answer).toMatchObject({ code: "forbidden" });
		expect(byFetch).toBe(403);
		expect((await edge.inspect(name)).activeSlots).toBe(0);
	});

	test("with props that nobody knows allows nothing, and says why", async () => {
		const answer = await use<{ message: string }>("typo", await newLimit());
		expect(answer).toMatchObject({ code: "forbidden" });
		expect(answer.message).toContain("prefiks");
	});
});

describe("the library over a binding", () => {
	test("has the whole interface", async () => {
		const name = randomUUID();
		const all = await use<Record<string, object>>("library-all", name);
		expect(all.inside).toEqual({ leaseCount: 1, denied: "denied" });
		expect(all.receipt).toMatchObject({ names: { [`${name}-r`]: 2 }, enforced: true });
		expect(all.taken).toEqual({ names: { [name]: 1 }, rate: { [`${name}-r`]: 1 }, enforced: true });
		expect(all.renewed).toMatchObject({ expiresAt: expect.any(String) });
		expect(all.released).toEqual({ released: 1 });
		expect(all.names).toEqual([name, `${name}-r`]);
		expect(all.activeSlots).toBe(0);
		expect(all.spent).toBe(3);
	});

	test("times out, is denied and is aborted as over HTTP, and leaves the line", async () => {
		const name = await newLimit(1);
		const [timeout, denied, aborted] = await use<object[]>("library-times-out", name);
		expect(timeout).toMatchObject({ name: "TimeoutError" });
		expect(denied).toMatchObject({ name: "ConcurrencySlotAcquisitionError", code: "denied" });
		expect(aborted).toMatchObject({ name: "TimeoutError" });
		await isFree(name);
	});

	test("aborts the work whose lease was taken back", async () => {
		expect(await use("library-loses", await newLimit())).toMatchObject({ name: "LeaseLostError" });
	});

	test("falls back to fetch where the binding has no more than that", async () => {
		const name = await newLimit();
		expect(await use("library-by-fetch", name)).toEqual([{ [name]: 1 }, 1]);
	});
});
