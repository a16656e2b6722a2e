/** Whose turn it is, over the wire: keys and priorities, what is waited for, and tokens that fix a key. */

import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { describe, expect, test } from "vitest";
import type { BatchAnswer, CheckAnswer, LimitSummary, Problem, TokenInfo } from "../../src/protocol.ts";
import { service } from "../../src/server/front/routes.ts";
import {
	acquire,
	bindings,
	call,
	configure,
	crash,
	expectProblem,
	granted,
	inspect,
	newId,
	newLimit,
	newLimits,
	newName,
	open,
	openQueued,
	patch,
	path,
	read,
	release,
	type Stream,
	setPolicy,
	until,
	untilWaiting,
} from "./support.ts";

/** Who is granted, one after the other, as each gives back what it was given; by the name of its stream. */
async function served(holder: { id: string; names: unknown }, waiting: Record<string, Stream>): Promise<string[]> {
	const order: string[] = [];
	let lease: object = holder;
	const left = new Map(Object.entries(waiting));
	while (left.size > 0) {
		await release(lease);
		await until(() => [...left.values()].some((stream) => stream.lease !== null), "a grant");
		const [[name, stream]] = [...left].filter(([, each]) => each.lease !== null) as [[string, Stream]];
		order.push(name);
		left.delete(name);
		lease = await stream.granted();
	}
	return order;
}

describe("keys", () => {
	test("take turns, so that one that floods delays itself", async () => {
		const name = await newLimit({ limit: 1 });
		const holder = await granted({ names: name });
		const a1 = await openQueued({ names: name, key: "a" });
		const a2 = await openQueued({ names: name, key: "a" });
		const a3 = await openQueued({ names: name, key: "a" });
		const b1 = await openQueued({ names: name, key: "b" });
		const c1 = await openQueued({ names: name });
		expect([a1, a2, a3, b1, c1].map(({ positions }) => positions[0])).toEqual([1, 2, 3, 2, 3]);
		const { waiting, waitingKeys } = await inspect(name);
		expect(waiting.map(({ key, position, priority }) => [key, position, priority])).toEqual([
			["a", 1, 0],
			["b", 2, 0],
			[null, 3, 0],
			["a", 4, 0],
			["a", 5, 0],
		]);
		expect(waitingKeys).toEqual([
			{ priority: 0, key: "a", weight: 1, waiting: 3, slots: 3 },
			{ priority: 0, key: "b", weight: 1, waiting: 1, slots: 1 },
			{ priority: 0, key: null, weight: 1, waiting: 1, slots: 1 },
		]);
		expect(await served(holder, { a1, a2, a3, b1, c1 })).toEqual(["a1", "b1", "c1", "a2", "a3"]);
	});

	test("are given turns by their weights, of the limit or of its policy", async () => {
		const prefix = newName();
		await setPolicy(`${prefix}*`, { limit: 1, weights: { gold: 2 } });
		const name = `${prefix}:1`;
		const holder = await granted({ names: name });
		const gold = [];
		for (let index = 0; index < 4; index += 1) gold.push(await openQueued({ names: name, key: "gold" }));
		const b1 = await openQueued({ names: name, key: "b" });
		const b2 = await openQueued({ names: name, key: "b" });
		expect([b1.positions[0], b2.positions[0]]).toEqual([2, 5]);
		expect((await inspect(name)).weights).toEqual({ gold: 2 });
		await release(holder);
		await Promise.all([...gold, b1, b2].map((stream) => stream.leave()));
	});

	test("keep their turns when the object is restarted", async () => {
		const name = await newLimit({ limit: 1 });
		const first = await granted({ names: name });
		const ids = { a1: newId(), a2: newId(), b1: newId() };
		const a1 = await openQueued({ names: name, key: "a", id: ids.a1 });
		await openQueued({ names: name, key: "a", id: ids.a2 });
		await openQueued({ names: name, key: "b", id: ids.b1 });
		await release(first);
		const lease = await a1.granted();
		await untilWaiting(name, 2);
		await crash(name);
		const a2 = await openQueued({ names: name, key: "a", id: ids.a2 });
		const b1 = await openQueued({ names: name, key: "b", id: ids.b1 });
		expect(await served(lease, { a2, b1 })).toEqual(["b1", "a2"]);
	});

	test("are part of a request: the same id with another key is another request", async () => {
		const name = await newLimit({ limit: 1 });
		const id = newId();
		await granted({ names: name, id, key: "a" });
		expectProblem(await acquire({ names: name, id, key: "b" }), 409, "id_in_use");
		expectProblem(await acquire({ names: name, id, key: "a", priority: 1 }), 409, "id_in_use");
		expect((await granted({ names: name, id, key: "a" })).id).toBe(id);
	});

	test("hold for requests of several names: each line by its own order", async () => {
		const [x, y] = (await newLimits(1, 1)) as [string, string];
		const holder = await granted({ names: [x, y] });
		const both = await open({ names: [x, y], key: "a" });
		await untilWaiting(x, 1);
		const low = await open({ names: [x, y], key: "a" });
		await untilWaiting(x, 2);
		const other = await open({ names: [x, y], key: "b" });
		await untilWaiting(x, 3);
		const high = await open({ names: [x, y], priority: 3 });
		await untilWaiting(x, 4);
		expect(await served(holder, { both, low, other, high })).toEqual(["high", "both", "other", "low"]);
	});
});

test("of keys that have a weight, and of no others, metrics tell who waits and who was granted", async () => {
	const name = await newLimit({ limit: 1, weights: { gold: 2, 'a"b': 3 } });
	const first = await granted({ names: name, key: "gold" });
	const stream = await openQueued({ names: name, key: 'a"b' });
	await openQueued({ names: name, key: "nobody's" });
	await release(first);
	const lease = await stream.granted();
	await openQueued({ names: name, key: "gold" });
	const metrics = async () =>
		(await call<string>("GET", "/metrics")).body.split("\n").filter((line) => line.includes(name));
	const labels = (key: string) => `{limit="${name}",origin="configured",key="${key}"}`;
	// One text is given to all who ask within a second.
	await until(async () => (await metrics()).includes(`headgate_key_waiting_requests${labels("gold")} 1`), "the waiter");
	const lines = await metrics();
	expect(lines).toContain(`headgate_key_granted_total${labels("gold")} 1`);
	expect(lines).toContain(`headgate_key_granted_total${labels('a\\"b')} 1`);
	expect(lines.join()).not.toContain("nobody's");
	await release(lease);
});

describe("priorities", () => {
	test("go before lower ones, and a caller that does not wait is granted what no waiter before it could take", async () => {
		const name = await newLimit({ limit: 2 });
		const holder = await granted({ names: name });
		const low = await openQueued({ names: name, occupy: 2 });
		expectProblem(await acquire({ names: name }), 429, "denied");
		const check = (request: object) => call<CheckAnswer>("POST", "/v1/check", { names: name, ...request });
		expect((await check({})).body.allowed).toBe(false);
		expect((await check({ priority: 1 })).body.allowed).toBe(true);
		const high = await granted({ names: name, priority: 1 });
		await Promise.all([release(holder), release(high)]);
		await release(await low.granted());
	});

	test("starve nobody: every second grant is for those that wait for longest", async () => {
		const name = await newLimit({ limit: 1, starveAfterSeconds: 0.001 });
		const holder = await granted({ names: name });
		const low = await openQueued({ names: name });
		const h1 = await openQueued({ names: name, priority: 9 });
		const h2 = await openQueued({ names: name, priority: 9 });
		expect(await served(holder, { low, h1, h2 })).toEqual(["h1", "low", "h2"]);
		expect((await inspect(name)).starveAfterSeconds).toBe(0.001);
	});
});

describe("what is waited for", () => {
	test.each<[reason: string, settings: object]>([
		["slots", { limit: 1 }],
		["rate", { limit: 1, slotDecayPerSecond: 0.001 }],
		["window", { limit: 1, window: { every: "day" } }],
		["window", { limit: 1, window: { every: 3_600, sliding: true } }],
	])("%s", async (reason, settings) => {
		const name = await newLimit({ ...settings });
		const mode = reason === "slots" ? "concurrency" : "rate_limit";
		await granted({ names: name, mode });
		const stream = await openQueued({ names: name, mode });
		expect(stream.events.find(({ event }) => event === "queued")).toEqual({
			event: "queued",
			position: 1,
			waitingFor: { name, reason },
		});
		expect((await inspect(name)).waiting[0]?.waitingFor).toEqual({ name, reason });
		await stream.leave();
	});

	test("changes with a pause, and is told at once", async () => {
		const name = await newLimit({ limit: 1 });
		const lease = await granted({ names: name });
		const stream = await openQueued({ names: name });
		const reasons = () => stream.events.flatMap((event) => (event.event === "queued" ? [event.waitingFor.reason] : []));
		await call("POST", `${path(name)}/pause`, { seconds: 600 });
		await until(() => reasons().length === 2, "another reason");
		await call("POST", `${path(name)}/pause`, { seconds: 0 });
		await until(() => reasons().length === 3, "the first reason");
		expect(reasons()).toEqual(["slots", "paused", "slots"]);
		await release(lease);
		await stream.granted();
	});

	test("names the limit that stands in the way of several", async () => {
		const [x, y] = (await newLimits(1, 1)) as [string, string];
		const lease = await granted({ names: y });
		const stream = await openQueued({ names: [x, y] });
		expect(stream.events.find(({ event }) => event === "queued")).toMatchObject({
			waitingFor: { name: y, reason: "slots" },
		});
		await release(lease);
		await release(await stream.granted());
	});
});

describe("a token that fixes a key", () => {
	async function ask<Body>(method: string, route: string, body?: unknown) {
		const token = "a-token-that-speaks-for-tenant-a-alone";
		const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(token)));
		const sha256 = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
		const tokens = JSON.stringify([{ name: "a", sha256, scope: "use", key: "tenant-a" }]);
		const { LIMITS, DIRECTORY } = bindings;
		const context = createExecutionContext();
		const init = { method, headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" } };
		const request = new Request(`http://headgate.test${route}`, {
			...init,
			...(body !== undefined && { body: JSON.stringify(body) }),
		});
		const env = { LIMITS, DIRECTORY, HEADGATE_HOSTS: "headgate.test", HEADGATE_TOKENS: tokens };
		const answer = await read<Body>(await service.fetch(request, env, context));
		await waitOnExecutionContext(context);
		return answer;
	}

	test("asks in its turn whether or not it says so, and in no other", async () => {
		const name = await newLimit({ limit: 1 });
		await granted({ names: name });
		const asked = ask<Problem>("POST", "/v1/acquire", { names: name, waitSeconds: 1 });
		await untilWaiting(name, 1);
		expect((await inspect(name)).waiting[0]?.key).toBe("tenant-a");
		expectProblem(await asked, 429, "denied");
		const said = await ask<Problem>("POST", "/v1/acquire", { names: name, key: "tenant-a" });
		expectProblem(said, 429, "denied");
		const other = await ask<Problem>("POST", "/v1/acquire", { names: name, key: "tenant-b" });
		expect(expectProblem(other, 403, "forbidden").detail).toContain('"tenant-a"');
		expectProblem(await ask("POST", "/v1/check", { names: name, key: "tenant-b" }), 403, "forbidden");
		const { answers } = (
			await ask<BatchAnswer>("POST", "/v1/acquire/batch", { requests: [{ names: name, key: "tenant-b" }] })
		).body;
		expect(answers).toMatchObject([{ status: 403, problem: { code: "forbidden" } }]);
		expect((await ask<TokenInfo>("GET", "/v1/token")).body).toMatchObject({ key: "tenant-a" });
	});

	test("asks in its turn on Prefect's wire too", async () => {
		const name = await newLimit({ limit: 1 });
		await granted({ names: name });
		const asked = ask("POST", "/api/v2/concurrency_limits/increment-with-lease", {
			names: [name],
			slots: 1,
			mode: "concurrency",
			lease_duration: 60,
		});
		expect((await asked).status).toBe(423);
	});
});

describe("settings of the line", () => {
	test("are shown where they are not the usual ones, and changed by themselves", async () => {
		const name = newName();
		const made = await configure(name, { limit: 1, weights: { b: 2, a: 3 }, starveAfterSeconds: 5 });
		expect(made).toMatchObject({ weights: { a: 3, b: 2 }, starveAfterSeconds: 5 });
		const changed = (await patch(name, { weights: {} })).body;
		expect(changed).not.toHaveProperty("weights");
		expect(changed.starveAfterSeconds).toBe(5);
		const replaced = await configure(name, { limit: 1 });
		expect(replaced).not.toHaveProperty("starveAfterSeconds");
		await crash(name);
		expect(await inspect(name)).not.toHaveProperty("weights");
	});

	test("lets a key have the name that every object has", async () => {
		const name = newName();
		const text = '{"limit":1,"weights":{"__proto__":2,"constructor":3}}';
		const { body } = await call<LimitSummary>("PUT", path(name), text);
		expect(JSON.stringify(body.weights)).toBe('{"__proto__":2,"constructor":3}');
		const holder = await granted({ names: name });
		const stream = await openQueued({ names: name, key: "__proto__" });
		await openQueued({ names: name, key: "a" });
		expect((await inspect(name)).waitingKeys?.map(({ key, weight }) => [key, weight])).toEqual([
			["__proto__", 2],
			["a", 1],
		]);
		await release(holder);
		await stream.granted();
	});

	test.each<[what: string, body: object, field: string]>([
		["a weight of 0", { limit: 1, weights: { a: 0 } }, "weights.a"],
		["a weight that is no whole number", { limit: 1, weights: { a: 1.5 } }, "weights.a"],
		["a weight above 1,000", { limit: 1, weights: { a: 1_001 } }, "weights.a"],
		["a list of weights", { limit: 1, weights: [1] }, "weights"],
		["an empty key", { limit: 1, weights: { "": 1 } }, "weights."],
		["a key of 129 characters", { limit: 1, weights: { ["k".repeat(129)]: 1 } }, `weights.${"k".repeat(129)}`],
		["patience of two days", { limit: 1, starveAfterSeconds: 172_800 }, "starveAfterSeconds"],
		["patience below 0", { limit: 1, starveAfterSeconds: -1 }, "starveAfterSeconds"],
	])("%s is refused", async (_, body, field) => {
		const problem = expectProblem(await call("PUT", path(newName()), body), 422, "invalid");
		expect(problem.errors?.map((error) => error.field)).toContain(field);
	});

	test("1,001 weights are refused, and 1,000 are kept", async () => {
		const weights = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, key) => [`k${key}`, 2]));
		const name = newName();
		expectProblem(await call("PUT", path(name), { limit: 1, weights: weights(1_001) }), 422, "invalid");
		expect(Object.keys((await configure(name, { limit: 1, weights: weights(1_000) })).weights ?? {})).toHaveLength(
			1_000,
		);
	});

	test.each<[what: string, request: object]>([
		["a priority of 10", { priority: 10 }],
		["a priority below 0", { priority: -1 }],
		["a priority that is no whole number", { priority: 0.5 }],
		["an empty key", { key: "" }],
		["a key of 129 characters", { key: "🙂".repeat(129) }],
		["a key that is no text", { key: 7 }],
		["a key of a broken character", { key: "\ud800" }],
	])("%s is refused", async (_, request) => {
		expectProblem(await acquire({ names: await newLimit(), ...request }), 422, "invalid");
	});

	test("a key of 128 characters is one, however many units they have", async () => {
		await granted({ names: await newLimit(), key: "🙂".repeat(128) });
	});
});
