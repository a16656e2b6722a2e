/** Estimates over the wire: what they came to below, above, twice, late, never, after a crash, and beside a lease. */

import { describe, expect, test } from "vitest";
import type { Problem, Settled } from "../../src/protocol.ts";
import {
	acquire,
	call,
	configure,
	crash,
	expectProblem,
	granted,
	inspect,
	newId,
	newLimit,
	newName,
	newNames,
	open,
	openQueued,
	release,
	stopClock,
	stored,
} from "./support.ts";

const settle = (id: string, actual: Record<string, unknown>) =>
	call<Settled & Problem>("POST", "/v1/settle", { id, actual });

/** So many tokens, of which hardly any come back while a test runs. */
const tokens = (limit = 1_000) => newLimit({ limit, slotDecayPerSecond: 0.001 });
const estimate = (name: string, occupy: number, more: Record<string, unknown> = {}) =>
	granted({ names: name, mode: "rate_limit", occupy, settleSeconds: 60, ...more });

describe("what an estimate came to", () => {
	test("below it gives the rest back, and is answered with what is left", async () => {
		stopClock();
		const name = await tokens();
		const { id } = await estimate(name, 800);
		const { status, body, headers } = await settle(id, { [name]: 300 });
		expect(status).toBe(200);
		expect(body).toMatchObject({ id, actual: { [name]: 300 }, limits: [{ name, remaining: 700 }] });
		expect(headers.get("RateLimit")).toContain(`"${name}";r=700`);
		expect(await inspect(name)).toMatchObject({ activeSlots: 300, settled: { count: 1, meanRatio: 0.375 } });
	});

	test("a settle that throws when use was higher: above it the difference is taken, past the limit", async () => {
		stopClock();
		const name = await newLimit({ limit: 100, slotDecayPerSecond: 1 });
		const { id } = await estimate(name, 100);
		expect((await settle(id, { [name]: 130 })).status).toBe(200);
		const problem = expectProblem(await acquire({ names: name, mode: "rate_limit" }), 429, "denied");
		expect(problem.retryAfterSeconds).toBe(31);
	});

	test("wakes those who wait in that turn", async () => {
		const name = await tokens();
		const { id } = await estimate(name, 1_000);
		const waiter = await openQueued({ names: name, mode: "rate_limit", occupy: 400 });
		await settle(id, { [name]: 500 });
		expect((await waiter.granted()).names).toEqual({ [name]: 400 });
	});

	test("said again changes nothing, and otherwise is 409 with what stands", async () => {
		const name = await tokens();
		const { id } = await estimate(name, 800);
		await settle(id, { [name]: 300 });
		await crash(name);
		expect((await settle(id, { [name]: 300 })).body.actual).toEqual({ [name]: 300 });
		const problem = expectProblem(await settle(id, { [name]: 400 }), 409, "already_settled");
		expect(problem.detail).toContain("with 300 and not 400");
		expect((await inspect(name)).activeSlots).toBe(300);
	});

	test("of an unknown id, of one that was no estimate, or of a name that is not there, is 410", async () => {
		const name = await tokens();
		const plain = await granted({ names: name, mode: "rate_limit" });
		expectProblem(await settle(newId(), { [name]: 1 }), 410, "receipt_gone");
		expectProblem(await settle(plain.id, { [name]: 1 }), 410, "receipt_gone");
		expectProblem(await settle(plain.id, { [newName()]: 1 }), 410, "receipt_gone");
	});

	test("too late is 410, and the estimate stands", async () => {
		const { pass } = stopClock();
		const name = await tokens();
		const { id } = await estimate(name, 800, { settleSeconds: 5 });
		pass(5_001);
		expectProblem(await settle(id, { [name]: 1 }), 410, "receipt_gone");
		expect((await inspect(name)).activeSlots).toBe(800);
	});

	test("is settled after a crash, and by the id alone", async () => {
		const name = await tokens();
		const { id } = await estimate(name, 800);
		await crash(name);
		expect(await inspect(name)).toMatchObject({ activeSlots: 800, leaseCount: 0, leases: [] });
		expect((await settle(id, { [name]: 0 })).status).toBe(200);
		expect((await inspect(name)).activeSlots).toBe(0);
	});

	test("of several names is settled for each, and says which cannot be", async () => {
		const [a = "", b = ""] = newNames(2);
		for (const name of [a, b]) await configure(name, { limit: 100, slotDecayPerSecond: 0.001 });
		const { id } = await granted({ names: { [a]: 50, [b]: 80 }, mode: "rate_limit", settleSeconds: 60 });
		expect((await settle(id, { [a]: 10, [b]: 20 })).body.actual).toEqual({ [a]: 10, [b]: 20 });
		expect([(await inspect(a)).activeSlots, (await inspect(b)).activeSlots]).toEqual([10, 20]);
		const problem = expectProblem(await settle(id, { [a]: 10, [b]: 21 }), 409, "already_settled");
		expect(problem.detail).toContain(`"${b}" with 20`);
		expect(problem.detail).not.toContain(`"${a}"`);
	});

	test("beside a lease is said with its release, in one call", async () => {
		const [model = "", used = ""] = newNames(2);
		await configure(model, { limit: 1 });
		await configure(used, { limit: 1_000, slotDecayPerSecond: 0.001 });
		const lease = await granted({ names: model, rate: { [used]: 800 }, settleSeconds: 60 });
		const ended = await release({ ...lease, actual: { [used]: 120 } });
		expect(ended.body).toEqual({ released: 1 });
		expect([(await inspect(model)).activeSlots, (await inspect(used)).activeSlots]).toEqual([0, 120]);
		expectProblem(await release({ ...lease, actual: { [used]: 121 } }), 409, "already_settled");
	});

	test("an estimate above a small limit denies the first call for ever: `atMost` takes what there could be", async () => {
		const name = await tokens(100);
		expectProblem(await acquire({ names: name, mode: "rate_limit", occupy: 500 }), 422, "exceeds_limit");
		const receipt = await estimate(name, 500, { atMost: true });
		expect(receipt.names).toEqual({ [name]: 100 });
		expect((await settle(receipt.id, { [name]: 40 })).status).toBe(200);
	});

	test("a cancelled stream leaks its estimate: it is settled with what was seen, by the id that its caller chose", async () => {
		const [name, id] = [await tokens(), newId()];
		const stream = await open({ names: name, mode: "rate_limit", occupy: 1_000, id, settleSeconds: 60 });
		await stream.granted();
		await stream.leave();
		expect((await settle(id, { [name]: 70 })).status).toBe(200);
		expect((await inspect(name)).activeSlots).toBe(70);
	});

	test("costs a row for the grant and one for the settle", async () => {
		const name = await tokens();
		await estimate(name, 10);
		const rowOf = async () => {
			const { tables } = await stored(name);
			return Math.max(...(tables.schema ?? []).map((row) => (row as { number: number }).number));
		};
		const before = await rowOf();
		const { id } = await estimate(name, 10);
		expect(await rowOf()).toBe(before + 1);
		await settle(id, { [name]: 3 });
		expect(await rowOf()).toBe(before + 2);
		await settle(id, { [name]: 3 });
		expect(await rowOf()).toBe(before + 2);
	});

	test("of a limit that is not enforced, or switched off, is settled like any other", async () => {
		for (const settings of [{ active: false }, { enforce: false }]) {
			const name = await newLimit({ limit: 1, slotDecayPerSecond: 0.001, ...settings });
			const { id } = await estimate(name, 5);
			expect((await settle(id, { [name]: 9 })).body.actual).toEqual({ [name]: 9 });
			expect((await inspect(name)).activeSlots).toBe(0);
		}
	});
});

describe("bad input", () => {
	test.each([
		["a negative number", { x: -1 }, "actual.x"],
		["a fraction", { x: 1.5 }, "actual.x"],
		["a text", { x: "1" }, "actual.x"],
		["nothing", {}, "actual"],
		["a name that is none", { "a/b": 1 }, "actual.a/b"],
		["17 names", Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`n${index}`, 1])), "actual"],
	])("an actual of %s is refused", async (_, actual, field) => {
		const problem = expectProblem(await settle(newId(), actual), 422, "invalid");
		expect(problem.errors?.[0]?.field).toBe(field);
	});

	test.each([
		[{ settleSeconds: 0.5, mode: "rate_limit" }],
		[{ settleSeconds: 3_601, mode: "rate_limit" }],
		[{ settleSeconds: 60 }],
	])("an acquire with %j is refused", async (more) => {
		const problem = expectProblem(await acquire({ names: newName(), ...more }), 422, "invalid");
		expect(problem.errors?.[0]?.field).toBe("settleSeconds");
	});
});
