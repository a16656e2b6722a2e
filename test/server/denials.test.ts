/** Denials by decay that a Worker gives again without asking: what they say, what ends them, and what they cost. */

import { env } from "cloudflare:workers";
import { describe, expect, test, vi } from "vitest";
import type { Lease, Problem } from "../../src/protocol.ts";
import { service } from "../../src/server/front/routes.ts";
import {
	type Answer,
	acquire,
	call,
	callsOf,
	configure,
	expectProblem,
	granted,
	inspect,
	limitObject,
	newId,
	newLimit,
	newName,
	newNames,
	open,
	patch,
	path,
	read,
	release,
	remove,
	removePolicy,
	setPolicy,
	stopClock,
	until,
} from "./support.ts";

const rateLimited = (names: unknown, more = {}) => acquire({ names, mode: "rate_limit", ...more });

/** A limit whose slots are all taken, and take long to come back. */
async function emptied(settings: Record<string, unknown> = {}): Promise<string> {
	const name = await newLimit({ limit: 3, slotDecayPerSecond: 0.01, ...settings });
	await granted({ names: name, occupy: 3, mode: "rate_limit" });
	return name;
}

/** How often a limit's object is asked for slots, while `work` runs. */
const asks = (name: string, work: () => Promise<unknown>): Promise<number> =>
	callsOf(limitObject(name), ["acquireText", "reserve"], work);

/** Denied, by its object or from memory. */
async function denied(names: unknown, more = {}): Promise<Answer<Lease & Problem>> {
	const answer = await rateLimited(names, more);
	expectProblem(answer, 429, "denied");
	return answer;
}

describe("a denial by decay", () => {
	test("is given again without a hop, and says the same", async () => {
		stopClock();
		const name = await emptied();
		const first = await denied(name);
		const calls = await asks(name, async () => {
			for (let n = 0; n < 50; n += 1) {
				const again = await denied(name);
				expect(again.body).toEqual(first.body);
				for (const header of ["RateLimit-Policy", "RateLimit", "Retry-After"]) {
					expect(again.headers.get(header)).toBe(first.headers.get(header));
				}
				expect(again.headers.get("RateLimit")).toMatch(/;r=0;t=100$/);
			}
		});
		expect(calls).toBe(0);
	});

	test("says less with the time that has passed", async () => {
		const clock = stopClock();
		const name = await emptied();
		const first = await denied(name);
		clock.pass(900);
		const calls = await asks(name, async () => {
			const again = await denied(name);
			expect(again.body.retryAfterSeconds).toBeCloseTo((first.body.retryAfterSeconds as number) - 0.9, 6);
			expect(again.headers.get("Retry-After")).toBe("100");
		});
		expect(calls).toBe(0);
	});

	test("is asked for anew after a second, and counted by the limit all the same", async () => {
		const clock = stopClock();
		const name = await emptied();
		let count = 0;
		const calls = await asks(name, async () => {
			for (let passed = 0; passed < 2_500; passed += 100, clock.pass(100)) {
				await denied(name);
				count += 1;
			}
		});
		// At 0, and at the first question after each second.
		expect(calls).toBe(3);
		vi.useRealTimers();
		await until(async () => (await inspect(name)).totals.denied === count, "all denials in the total");
	});

	test("promise 8: is granted at exactly the announced moment", async () => {
		const clock = stopClock();
		const name = await newLimit({ limit: 1, slotDecayPerSecond: 2 });
		await granted({ names: name, mode: "rate_limit" });
		await denied(name);
		for (let times = 0; times < 3; times += 1) {
			const { retryAfterSeconds } = (await denied(name)).body;
			clock.pass((retryAfterSeconds as number) * 1_000 - 1);
			await denied(name);
			clock.pass(1);
			await granted({ names: name, mode: "rate_limit" });
		}
	});

	test("is never for a smaller request, and not for one that can never fit", async () => {
		const name = await newLimit({ limit: 3, slotDecayPerSecond: 0.01 });
		await granted({ names: name, occupy: 2, mode: "rate_limit" });
		await denied(name, { occupy: 2 });
		expectProblem(await rateLimited(name, { occupy: 4 }), 422, "exceeds_limit");
		const larger = await denied(name, { occupy: 3 });
		expect(larger.body.retryAfterSeconds).toBeGreaterThan(190);
		await granted({ names: name, mode: "rate_limit" });
	});

	test.each<[string, (name: string) => Promise<unknown>]>([
		["PUT", (name) => configure(name, { limit: 9, slotDecayPerSecond: 0.01 })],
		["PATCH", (name) => patch(name, { limit: 9 })],
		["slots set by hand", (name) => patch(name, { activeSlots: 0 })],
		["switching off", (name) => patch(name, { active: false })],
		["DELETE", (name) => remove(name)],
	])("ends with a change through the same Worker: %s", async (_, change) => {
		const name = await emptied();
		for (let times = 0; times < 3; times += 1) await denied(name);
		await change(name);
		await granted({ names: name, mode: "rate_limit" });
	});

	test("ends with a release through the same Worker, by its holder or by force", async () => {
		for (const by of ["holder", "force"]) {
			const name = await newLimit({ limit: 2, slotDecayPerSecond: 0.001 });
			const lease = await granted({ names: name, occupy: 2 });
			for (let times = 0; times < 3; times += 1) await denied(name);
			if (by === "holder") await release(lease);
			else await call("DELETE", `${path(name)}/leases/${lease.id}`);
			await granted({ names: name, mode: "rate_limit" });
		}
	});

	test("ends with a lease's own end", async () => {
		const clock = stopClock();
		const name = await newLimit({ limit: 1, slotDecayPerSecond: 0.001 });
		await granted({ names: name, leaseSeconds: 1 });
		await denied(name);
		clock.pass(999);
		await denied(name);
		clock.pass(1);
		await granted({ names: name, mode: "rate_limit" });
	});

	test("is not remembered while somebody holds a lease, which may go with its connection", async () => {
		const name = await newLimit({ limit: 1, slotDecayPerSecond: 0.001 });
		const stream = await open({ names: name, hold: true });
		await stream.granted();
		for (let times = 0; times < 3; times += 1) await denied(name);
		await stream.leave();
		await until(async () => (await rateLimited(name)).status === 200);
	});

	test("ends with a change of the policies through the same Worker", async () => {
		const start = newName();
		const name = `${start}:a`;
		await setPolicy(`${start}:*`, { limit: 1, slotDecayPerSecond: 0.01 });
		await granted({ names: name, mode: "rate_limit" });
		for (let times = 0; times < 3; times += 1) await denied(name);
		await setPolicy(`${start}:*`, { limit: 2, slotDecayPerSecond: 0.01 });
		await granted({ names: name, mode: "rate_limit" });
		await removePolicy(`${start}:*`);
	});

	test("outlives a change through another Worker by no more than a second", async () => {
		const clock = stopClock();
		const name = await emptied();
		await denied(name);
		await limitObject(name).patch({ activeSlots: 0 }, { token: null, ruling: undefined });
		expect(await asks(name, () => denied(name))).toBe(0);
		clock.pass(1_000);
		await granted({ names: name, mode: "rate_limit" });
	});

	test("promise 11: is not for an id that its caller chose, which may have been granted before", async () => {
		const name = await newLimit({ limit: 1, slotDecayPerSecond: 0.01 });
		const id = newId();
		const first = await granted({ names: name, mode: "rate_limit", id });
		await denied(name);
		expect(await granted({ names: name, mode: "rate_limit", id })).toMatchObject({ id: first.id, names: first.names });
	});

	test("is for an id that was never sent before, and leaves it free", async () => {
		const name = await emptied();
		await denied(name);
		const id = newId();
		const calls = await asks(name, () => denied(name, { id, firstAttempt: true }));
		expect(calls).toBe(0);
		await patch(name, { activeSlots: 0 });
		expect(await granted({ names: name, mode: "rate_limit", id })).toMatchObject({ id });
		expect(await asks(name, () => granted({ names: name, mode: "rate_limit", id }))).toBe(1);
	});

	test("is not for one who waits, who is served in turn", async () => {
		const name = await emptied();
		await denied(name);
		const waits = rateLimited(name, { waitSeconds: 60 });
		await until(async () => (await inspect(name)).waitingCount === 1);
		await patch(name, { slotDecayPerSecond: 100 });
		expect((await waits).status).toBe(200);
	});

	test("is not for slots that are held, nor for limits without decay", async () => {
		const plain = await newLimit({ limit: 1 });
		await granted({ names: plain });
		const decaying = await emptied();
		for (const name of [plain, decaying]) {
			const calls = await asks(name, async () => {
				for (let times = 0; times < 3; times += 1) expectProblem(await acquire({ names: name }), 429, "denied");
			});
			expect(calls).toBe(3);
		}
	});
});

describe("a denial of several names", () => {
	test("is given again without asking any of them, and leaves the others alone", async () => {
		stopClock();
		const [free, empty] = newNames(2) as [string, string];
		await configure(free, { limit: 5, slotDecayPerSecond: 0.01 });
		await configure(empty, { limit: 1, slotDecayPerSecond: 0.01 });
		await granted({ names: empty, mode: "rate_limit" });
		const first = await denied([free, empty]);
		expect(first.body["violated-policies"]).toEqual([empty]);
		const calls = await asks(free, async () => {
			for (let n = 0; n < 20; n += 1) {
				const again = await denied([free, empty]);
				expect(again.body.limits).toHaveLength(2);
				expect(again.body["violated-policies"]).toEqual([empty]);
			}
		});
		expect(calls).toBe(0);
		expect(await inspect(free)).toMatchObject({ activeSlots: 0 });
		await patch(empty, { activeSlots: 0 });
		await granted({ names: [free, empty], mode: "rate_limit" });
	});

	test("is one of the request alone: fewer names, or other slots, are asked for", async () => {
		const [free, empty] = newNames(2) as [string, string];
		await configure(free, { limit: 5, slotDecayPerSecond: 0.01 });
		await configure(empty, { limit: 2, slotDecayPerSecond: 0.01 });
		await granted({ names: empty, mode: "rate_limit" });
		await denied({ [free]: 1, [empty]: 2 });
		await granted({ names: free, mode: "rate_limit" });
		await granted({ names: { [free]: 1, [empty]: 1 }, mode: "rate_limit" });
	});

	test("that holds one limit and takes another by rate rests on the rate, and holds nothing", async () => {
		stopClock();
		const [place, quota] = newNames(2) as [string, string];
		await configure(place, { limit: 1 });
		await configure(quota, { limit: 1, slotDecayPerSecond: 0.01 });
		await granted({ names: quota, mode: "rate_limit" });
		const ask = () => acquire({ names: place, rate: quota });
		expectProblem(await ask(), 429, "denied");
		const calls = await asks(place, async () => {
			for (let n = 0; n < 10; n += 1) expectProblem(await ask(), 429, "denied");
		});
		expect(calls).toBe(0);
		await patch(quota, { activeSlots: 0 });
		await release((await ask()).body);
	});
});

test("HEADGATE_DENIAL_MEMORY off: every denial comes from its limit", async () => {
	const name = await emptied();
	const bindings = { ...env, HEADGATE_OPEN: "true", HEADGATE_DENIAL_MEMORY: "off" };
	const calls = await asks(name, async () => {
		for (let times = 0; times < 5; times += 1) {
			const request = new Request("http://headgate.test/v1/acquire", {
				method: "POST",
				headers: { "Content-Type": "application/json" },
				body: JSON.stringify({ names: name, mode: "rate_limit" }),
			});
			const context = { waitUntil: () => undefined, passThroughOnException: () => undefined, props: {} };
			expectProblem(
				await read(await service.fetch(request, bindings, context as unknown as ExecutionContext)),
				429,
				"denied",
			);
		}
	});
	expect(calls).toBe(5);
});
