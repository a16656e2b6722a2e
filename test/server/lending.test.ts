/** Slots that a Worker borrows and grants by itself: what it saves, what is told of it, and what ends it. */

import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { describe, expect, test } from "vitest";
import { LOAN_GRACE_MS } from "../../src/core/patience.ts";
import type { BatchAnswer, LimitInfo } from "../../src/protocol.ts";
import {
	acquire,
	call,
	callsOf,
	configure,
	crash,
	expectProblem,
	granted,
	holdBack,
	inspect,
	limitObject,
	newId,
	newLimit,
	newName,
	patch,
	release,
	remove,
	removePolicy,
	setPolicy,
	stopClock,
	storedLimit,
	until,
} from "./support.ts";

const LENDS = { limit: 1_000, slotDecayPerSecond: 100, lendSeconds: 1 };

const take = (name: string, more = {}) => granted({ names: name, mode: "rate_limit", ...more });

/** Takes so many slots, one after the other. */
async function takeMany(name: string, times: number, more = {}): Promise<void> {
	for (let n = 0; n < times; n += 1) await take(name, more);
}

/** How often a limit's object is asked for slots, while `work` runs. */
const asks = (name: string, work: () => Promise<unknown>): Promise<number> =>
	callsOf(limitObject(name), ["acquireText", "acquireManyText", "reserve", "open", "tether"], work);

/** A limit of which this Worker has a loan, with a clock that stands still. */
async function lending(settings: Record<string, unknown> = {}): Promise<string> {
	const name = await newLimit({ ...LENDS, ...settings });
	await takeMany(name, 8);
	expect((await seen(name)).lentSlots).toBeGreaterThan(0);
	return name;
}

/** How the limit is, asked in no Worker's name. */
async function seen(name: string): Promise<LimitInfo> {
	return (await limitObject(name).inspect()) as LimitInfo;
}

describe("a name that is asked for often", () => {
	test("is granted without a hop, and counted by its limit all the same", async () => {
		const clock = stopClock();
		const name = await newLimit(LENDS);
		const calls = await asks(name, () => takeMany(name, 40));
		expect(calls).toBeLessThan(8);
		expect(await seen(name)).toMatchObject({ activeSlots: expect.any(Number), lendSeconds: 1 });
		// The clock stands on: what a loan came to is not late, however slow the machine is, and may have been lent on before.
		clock.pass(1_000);
		await until(async () => {
			const { totals, lentSlots } = await seen(name);
			return totals.grantedAtOnce === 40 && lentSlots === 0;
		}, "all grants in the total, and nothing lent");
		expect(await seen(name)).toMatchObject({ lastMinute: { granted: 40 } });
	});

	test("is not lent where the limit does not say so", async () => {
		stopClock();
		const name = await newLimit({ ...LENDS, lendSeconds: 0 });
		expect(await asks(name, () => takeMany(name, 40))).toBe(40);
		expect("lentSlots" in (await seen(name))).toBe(false);
	});

	test("promise 16: what is lent is in use, and at most half of what nobody uses", async () => {
		stopClock();
		const name = await newLimit({ ...LENDS, limit: 20 });
		await takeMany(name, 5);
		const { lentSlots = 0, activeSlots, remaining } = await seen(name);
		expect(lentSlots).toBeGreaterThan(0);
		expect(2 * lentSlots).toBeLessThanOrEqual(20 - (activeSlots - lentSlots));
		expect(remaining).toBe(20 - activeSlots);
	});

	test("promise 1: is granted as often as there are slots, and no oftener", async () => {
		stopClock();
		const name = await newLimit({ limit: 50, slotDecayPerSecond: 1, lendSeconds: 10 });
		let grants = 0;
		for (let n = 0; n < 80; n += 1) {
			const { status } = await acquire({ names: name, mode: "rate_limit" });
			if (status === 200) grants += 1;
		}
		expect(grants).toBe(50);
	});

	test("is told how much is left of the loan, in the answer and in its headers", async () => {
		stopClock();
		const name = await lending();
		const before = await seen(name);
		const answers = [];
		for (let n = 0; n < 3; n += 1) answers.push(await acquire({ names: name, mode: "rate_limit" }));
		for (const { body, headers } of answers) {
			const [status] = body.limits ?? [];
			expect(status).toMatchObject({ name, limit: 1_000, enforced: true, slotDecayPerSecond: 100 });
			expect(status?.remaining).toBeLessThan(before.lentSlots as number);
			expect(headers.get("RateLimit")).toBe(`"${name}";r=${status?.remaining};t=1`);
			expect(headers.get("RateLimit-Policy")).toBe(`"${name}";q=1000;w=10`);
		}
		const [first, , third] = answers.map(({ body }) => body.limits?.[0]?.remaining as number);
		expect(third).toBe((first as number) - 2);
	});

	test("takes more slots at a time from its loan, and asks for what is more than that", async () => {
		stopClock();
		const name = await lending();
		const { lentSlots = 0 } = await seen(name);
		expect(await asks(name, () => take(name, { occupy: 3 }))).toBe(0);
		expect(await asks(name, () => take(name, { occupy: lentSlots }))).toBe(1);
	});
});

describe("what goes to the object as ever", () => {
	test.each<[string, Record<string, unknown>]>([
		["a request that waits", { mode: "rate_limit", waitSeconds: 1 }],
		["one that holds", {}],
		["one of several names", { mode: "rate_limit", several: true }],
		["one whose slots are an estimate", { mode: "rate_limit", settleSeconds: 60 }],
		["one that takes as many as there could be", { mode: "rate_limit", atMost: true }],
		["one with an id, which may have been granted before", { mode: "rate_limit", id: "again" }],
	])("%s", async (_, { several, id, ...more }) => {
		stopClock();
		const name = await lending();
		const other = several ? [await newLimit({ limit: 5, slotDecayPerSecond: 1 })] : [];
		const request = { names: [name, ...other], ...more, ...(id !== undefined && { id: newId() }) };
		expect(await asks(name, () => granted(request))).toBe(1);
	});

	test("an id that was never sent before is granted from the loan, and not remembered", async () => {
		stopClock();
		const name = await lending();
		const id = newId();
		expect(await asks(name, () => take(name, { id, firstAttempt: true }))).toBe(0);
		expect(await asks(name, () => take(name, { id }))).toBe(1);
	});
});

describe("a loan", () => {
	test("is borrowed on while there is demand, by one call at a time", async () => {
		const clock = stopClock();
		const name = await newLimit(LENDS);
		let calls = 0;
		calls += await callsOf(limitObject(name), ["acquireText", "borrow", "repay"], async () => {
			for (let step = 0; step < 100; step += 1, clock.pass(50)) {
				await takeMany(name, 4);
				await until(async () => (await seen(name)).activeSlots < 1_000);
			}
		});
		// 400 grants in five seconds.
		expect(calls).toBeLessThan(40);
		const { activeSlots } = await seen(name);
		expect(activeSlots).toBeGreaterThan(0);
	});

	test("is repaid when the demand ends", async () => {
		const name = await newLimit({ ...LENDS, lendSeconds: 0.1 });
		await until(async () => {
			await takeMany(name, 6);
			return ((await seen(name)).lentSlots ?? 0) > 0;
		});
		const calls = await callsOf(limitObject(name), ["repay"], () =>
			until(async () => (await seen(name)).lentSlots === 0, "the loan is repaid"),
		);
		expect(calls).toBeLessThanOrEqual(1);
	});

	test("is taken for used where nobody accounts for it", async () => {
		const clock = stopClock();
		const name = await newLimit({ ...LENDS, slotDecayPerSecond: 0.001, lendSeconds: 10 });
		const loan = { used: 0, grants: 0, wanted: 100, least: 1 };
		expect(await limitObject(name).borrow("~lost", loan)).toMatchObject({ lent: { slots: 100, lentMs: 10_000 } });
		clock.pass(10_000 + LOAN_GRACE_MS - 1);
		expect(await seen(name)).toMatchObject({ lentSlots: 100, activeSlots: 100 });
		clock.pass(1);
		expect(await seen(name)).toMatchObject({ lentSlots: 0, activeSlots: 100 });
		await limitObject(name).repay("~lost", { used: 1, grants: 1 });
		expect(await seen(name)).toMatchObject({ lentSlots: 0, activeSlots: 100 });
	});

	test("promise 6: outlives the object, by an eviction or a crash", async () => {
		stopClock();
		const name = await newLimit({ ...LENDS, slotDecayPerSecond: 0.001, lendSeconds: 10 });
		await limitObject(name).borrow("~kept", { used: 0, grants: 0, wanted: 100, least: 1 });
		await limitObject(name).borrow("~kept", { used: 30, grants: 30, wanted: 100, least: 1 });
		const before = await seen(name);
		expect(before).toMatchObject({ lentSlots: 100, activeSlots: 130, totals: { grantedAtOnce: 30 } });
		await evictDurableObject(limitObject(name));
		expect(await seen(name)).toEqual(before);
		await crash(name);
		expect(await seen(name)).toEqual(before);
		await limitObject(name).repay("~kept", { used: 40, grants: 40 });
		expect(await seen(name)).toMatchObject({ lentSlots: 0, activeSlots: 40, totals: { grantedAtOnce: 40 } });
		expect((await storedLimit(name)).entries).toEqual([]);
	});

	test("is a row when it is made, borrowed on or repaid, and sets no alarm", async () => {
		stopClock();
		const name = await newLimit(LENDS);
		const rows = (): Promise<number> =>
			runInDurableObject(limitObject(name), (_, { storage }) => {
				const { highest } = storage.sql.exec<{ highest: number }>("SELECT max(number) AS highest FROM schema").one();
				return highest;
			});
		const alarm = await runInDurableObject(limitObject(name), (_, { storage }) => storage.getAlarm());
		const before = await rows();
		await limitObject(name).borrow("~rows", { used: 0, grants: 0, wanted: 100, least: 1 });
		await limitObject(name).borrow("~rows", { used: 50, grants: 50, wanted: 100, least: 1 });
		await limitObject(name).repay("~rows", { used: 60, grants: 60 });
		expect((await rows()) - before).toBe(3);
		expect(await runInDurableObject(limitObject(name), (_, { storage }) => storage.getAlarm())).toBe(alarm);
	});

	test("goes along to another name", async () => {
		stopClock();
		const [name, other] = [await newLimit({ ...LENDS, slotDecayPerSecond: 0.001 }), newName()];
		await limitObject(name).borrow("~moves", { used: 0, grants: 0, wanted: 10, least: 1 });
		expect(await limitObject(name).rename(other, null)).toBe("moved");
		expect(await seen(other)).toMatchObject({ lentSlots: 10 });
		await limitObject(name).repay("~moves", { used: 4, grants: 4 });
		expect(await seen(other)).toMatchObject({ lentSlots: 0, activeSlots: 4 });
	});

	test.each<[string, (name: string) => Promise<unknown>]>([
		["PUT", (name) => configure(name, { ...LENDS, limit: 900 })],
		["PATCH", (name) => patch(name, { limit: 900 })],
		["slots set by hand", (name) => patch(name, { activeSlots: 0 })],
		["switching off", (name) => patch(name, { active: false })],
		["no more lending", (name) => patch(name, { lendSeconds: 0 })],
		["a limit of 0", (name) => patch(name, { limit: 0 })],
		["a pause", (name) => call("POST", `/v1/limits/${name}/pause`, { seconds: 60 })],
		["a window", (name) => patch(name, { window: { every: "day" } })],
		["watching alone", (name) => patch(name, { enforce: false })],
	])("ends with a change through the same Worker: %s", async (_, change) => {
		stopClock();
		const name = await lending();
		await change(name);
		expect((await seen(name)).lentSlots ?? 0).toBe(0);
		expect(await asks(name, () => acquire({ names: name, mode: "rate_limit" }))).toBe(1);
	});

	test("ends with the deletion of its limit", async () => {
		stopClock();
		const name = await lending();
		await remove(name);
		expect(await take(name)).toMatchObject({ limits: [{ enforced: false, configured: false }] });
	});

	test("of a key of a policy ends with a change of the policy through the same Worker", async () => {
		stopClock();
		const start = newName();
		const name = `${start}:a`;
		await setPolicy(`${start}:*`, LENDS);
		await takeMany(name, 8);
		expect((await seen(name)).lentSlots).toBeGreaterThan(0);
		await setPolicy(`${start}:*`, { ...LENDS, limit: 500 });
		await until(async () => (await seen(name)).lentSlots === 0, "the loan is repaid");
		expect(await take(name)).toMatchObject({ limits: [{ limit: 500 }] });
		await removePolicy(`${start}:*`);
	});

	test("is none while a waiter has a turn", async () => {
		const name = await newLimit({ limit: 20, slotDecayPerSecond: 0.01, lendSeconds: 10 });
		await take(name, { occupy: 20 });
		const waits = acquire({ names: name, mode: "rate_limit", occupy: 1, waitSeconds: 60 });
		await until(async () => (await seen(name)).waitingCount === 1);
		expect(await limitObject(name).borrow("~late", { used: 0, grants: 0, wanted: 5, least: 1 })).toMatchObject({
			lent: { slots: 0, lentMs: 0 },
		});
		await patch(name, { slotDecayPerSecond: 100 });
		expect((await waits).status).toBe(200);
	});
});

test("the requests of a batch are granted from the loan, each by itself", async () => {
	stopClock();
	const name = await lending();
	const requests = Array.from({ length: 5 }, () => ({ names: name, mode: "rate_limit" }));
	const calls = await asks(name, async () => {
		const { status, body } = await call<BatchAnswer>("POST", "/v1/acquire/batch", { requests });
		expect(status).toBe(200);
		expect(body.answers.map((answer) => answer.status)).toEqual([200, 200, 200, 200, 200]);
	});
	expect(calls).toBe(0);
});

test("a request that waits in vain for the answer of another asks the limit itself, and is not refused", async () => {
	const name = await newLimit(LENDS);
	await take(name);
	const held = await holdBack(limitObject(name), "acquireText");
	const first = take(name);
	await held.reached();
	expect((await acquire({ names: name, mode: "rate_limit" })).status).toBe(200);
	held.resume();
	await first;
});

test("a release that gives slots back leaves the loan as it is", async () => {
	stopClock();
	const name = await lending();
	const lease = await granted({ names: name });
	await release(lease);
	expect(await asks(name, () => take(name))).toBe(0);
});

test("a denial says when there is room, loans that are not repaid included", async () => {
	const clock = stopClock();
	const name = await newLimit({ limit: 10, slotDecayPerSecond: 1, lendSeconds: 1 });
	await limitObject(name).borrow("~other", { used: 0, grants: 0, wanted: 5, least: 1 });
	const denied = await acquire({ names: name, mode: "rate_limit", occupy: 10 });
	expectProblem(denied, 429, "denied");
	// The loan is taken for used after its second and the grace; then five slots come back.
	expect(denied.body.retryAfterSeconds).toBe(1 + LOAN_GRACE_MS / 1_000 + 5);
	clock.pass(8_000);
	await take(name, { occupy: 10 });
});

test("settings that lend are checked, told and changed", async () => {
	const name = newName();
	const path = `/v1/limits/${name}`;
	for (const lendSeconds of [-1, 0.05, 10.5, "1"])
		expectProblem(await call("PUT", path, { ...LENDS, lendSeconds }), 422, "invalid");
	const held = await call<{ errors: { field: string }[] }>("PUT", path, { limit: 5, lendSeconds: 1 });
	expectProblem(held, 422, "invalid");
	expect(held.body).toMatchObject({ errors: [{ field: "lendSeconds" }] });
	await configure(name, LENDS);
	expect(await inspect(name)).toMatchObject({ lendSeconds: 1, lentSlots: 0 });
	await configure(name, { limit: 5, slotDecayPerSecond: 1 });
	expect(await inspect(name)).toMatchObject({ lendSeconds: 0 });
	await patch(name, { lendSeconds: 0.1 });
	expect(await inspect(name)).toMatchObject({ lendSeconds: 0.1 });
	const window = { every: "day" };
	for (const method of ["PUT", "PATCH"]) {
		const refused = await call(method, path, { limit: 5, window, lendSeconds: 1 });
		expectProblem(refused, 422, "invalid");
		expect(refused.body).toMatchObject({ errors: [{ field: "lendSeconds" }] });
	}
	// What does not come back by decay any more is lent no more, and cannot be.
	for (const change of [{ window }, { slotDecayPerSecond: 0, window: null }]) {
		await patch(name, { slotDecayPerSecond: 1, lendSeconds: 1 });
		await patch(name, change);
		expect(await inspect(name)).toMatchObject({ lendSeconds: 0 });
		const refused = await call("PATCH", path, { lendSeconds: 1 });
		expectProblem(refused, 422, "invalid");
		expect(refused.body).toMatchObject({ errors: [{ field: "lendSeconds" }] });
	}
});
