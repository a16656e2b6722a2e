/** The stream of those who watch, and the history, in workerd. */

import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import {
	BOUNDS,
	type LimitHistory,
	type LimitInfo,
	type LimitSummary,
	type LimitsPage,
	type WatchEvent,
} from "../../src/protocol.ts";
import {
	acquire,
	bindings,
	call,
	configure,
	crash,
	directory,
	expectProblem,
	granted,
	limitObject,
	newLimit,
	newName,
	openQueued,
	patch,
	path,
	release,
	remove,
	removePolicy,
	setPolicy,
	stopClock,
	until,
} from "./support.ts";

/** A stream that watches, and how things stand by its lines. */
class Watching {
	readonly events: WatchEvent[] = [];
	readonly limits = new Map<string, LimitSummary | LimitInfo>();
	ended = false;
	broken: unknown = null;
	readonly #reader: ReadableStreamDefaultReader<Uint8Array>;

	constructor(response: Response) {
		expect(response.status).toBe(200);
		expect(response.headers.get("Content-Type")).toBe("application/x-ndjson");
		this.#reader = (response.body as ReadableStream<Uint8Array>).getReader();
		this.#read().catch((error: unknown) => {
			this.broken = error;
		});
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#reader.cancel();
	}

	get list(): LimitsPage {
		const first = this.events[0];
		if (first?.event !== "limits") throw new Error(`The first line is ${JSON.stringify(first)}`);
		return first;
	}

	has(event: WatchEvent["event"], name?: string): boolean {
		return this.events.some(
			(each) => each.event === event && (name === undefined || ("name" in each && each.name === name)),
		);
	}

	async #read(): Promise<void> {
		const decoder = new TextDecoder();
		let text = "";
		for (;;) {
			const { done, value } = await this.#reader.read();
			if (done) break;
			const lines = (text + decoder.decode(value, { stream: true })).split("\n");
			text = lines.pop() ?? "";
			for (const line of lines) this.#hear(JSON.parse(line) as WatchEvent);
		}
		this.ended = true;
	}

	#hear(event: WatchEvent): void {
		this.events.push(event);
		if (event.event === "limits") for (const limit of event.limits) this.limits.set(limit.name, limit);
		else if (event.event === "limit") this.limits.set(event.limit.name, event.limit);
		else if (event.event === "deleted") this.limits.delete(event.name);
	}
}

async function watch(query: Record<string, string>): Promise<Watching> {
	const url = `http://headgate.test/v1/watch?${new URLSearchParams(query)}`;
	const watching = new Watching(await exports.default.fetch(new Request(url)));
	await until(() => watching.events.length > 0, "a first line");
	return watching;
}

const stub = (name: string) => bindings.LIMITS.getByName(name);

describe("GET /v1/watch", () => {
	test("the first line is the page as the list has it; each change is a line", async () => {
		const family = newName();
		const [a, b] = [`${family}-a`, `${family}-b`];
		await configure(a, { limit: 2 });
		await configure(b, { limit: 2 });
		await using watching = await watch({ prefix: family });
		const { limits, next } = watching.list;
		const { body } = await call<LimitsPage>("GET", `/v1/limits?prefix=${family}`);
		expect({ limits, next }).toEqual(body);

		const lease = await granted({ names: [a, b], occupy: 2, holder: "me" });
		await until(() => watching.limits.get(a)?.activeSlots === 2 && watching.limits.get(b)?.activeSlots === 2);
		await acquire({ names: a });
		await until(() => watching.limits.get(a)?.lastMinute.denied === 1);
		expect(watching.limits.get(a)).toMatchObject({ remaining: 0, leaseCount: 1, lastMinute: { granted: 1 } });
		await release(lease);
		await until(() => watching.limits.get(a)?.activeSlots === 0 && watching.limits.get(b)?.activeSlots === 0);
	});

	test("limits that appear and vanish, and one that comes back under its name", async () => {
		const family = newName();
		await using watching = await watch({ prefix: family });
		expect(watching.list).toMatchObject({ limits: [], next: null });
		const name = `${family}-new`;
		await configure(name, { limit: 1 });
		await until(() => watching.limits.has(name));
		await remove(name);
		await until(() => !watching.limits.has(name));
		await configure(name, { limit: 5 });
		await until(() => watching.limits.get(name)?.limit === 5);
		await patch(name, { active: false });
		await until(() => watching.limits.get(name)?.active === false);
	});

	test("limits of other prefixes are not shown", async () => {
		const [mine, other] = [newName(), newName()];
		await using watching = await watch({ prefix: mine });
		await configure(`${other}-x`, { limit: 1 });
		await configure(`${mine}-x`, { limit: 1 });
		await until(() => watching.limits.has(`${mine}-x`));
		expect([...watching.limits.keys()]).toEqual([`${mine}-x`]);
	});

	test("a page of them; what appears behind its end is of another page", async () => {
		const family = newName();
		for (const letter of ["a", "c", "e"]) await configure(`${family}-${letter}`, { limit: 1 });
		await using watching = await watch({ prefix: family, count: "2" });
		expect(watching.list.next).toBe(`${family}-c`);
		await configure(`${family}-d`, { limit: 1 });
		await configure(`${family}-b`, { limit: 1 });
		await until(() => watching.limits.has(`${family}-b`));
		expect([...watching.limits.keys()].sort()).toEqual(["a", "b", "c"].map((letter) => `${family}-${letter}`));
		await using second = await watch({ prefix: family, after: `${family}-c` });
		expect([...second.limits.keys()].sort()).toEqual(["d", "e"].map((letter) => `${family}-${letter}`));
	});

	test("one limit in full: who holds, who waits, and its newest samples", async () => {
		const name = await newLimit({ limit: 1 });
		await using watching = await watch({ name });
		const info = () => watching.limits.get(name) as LimitInfo;
		expect(info()).toEqual((await call<LimitInfo>("GET", path(name))).body);
		const lease = await granted({ names: name, holder: "<b>holder</b>" });
		await until(() => info().leases[0]?.holder === "<b>holder</b>");
		const waiter = await openQueued({ names: name, holder: "waiter" });
		await until(() => info().waiting[0]?.holder === "waiter");
		const samples = () => watching.events.flatMap((event) => (event.event === "samples" ? event.samples : []));
		await until(() => samples().some((sample) => sample.waiting === 1 && sample.activeSlots === 1));
		await release(lease);
		await waiter.granted();
		await until(() => info().waitingCount === 0 && info().totals.grantedAfterWait === 1);
		await remove(name);
		await until(() => watching.ended);
		expect(watching.events.at(-1)).toEqual({ event: "deleted", name });
	});

	test("a level that drains is told though nothing happens", async () => {
		const clock = stopClock();
		const name = await newLimit({ limit: 3, slotDecayPerSecond: 2 });
		await using watching = await watch({ name });
		await granted({ names: name, occupy: 3, mode: "rate_limit" });
		for (const level of [3, 1, 0]) {
			await until(() => watching.limits.get(name)?.activeSlots === level);
			clock.pass(1_000);
		}
	});

	test("a hot limit is told of at most four times a second", async () => {
		const name = await newLimit({ limit: 100 });
		await using watching = await watch({ name });
		const startedAt = Date.now();
		let calls = 0;
		while (Date.now() - startedAt < 1_500) {
			await release(await granted({ names: name }));
			calls += 2;
		}
		const lines = watching.events.filter(({ event }) => event === "limit").length;
		expect(lines).toBeLessThanOrEqual(2 + (4 * (Date.now() - startedAt)) / 1_000);
		await until(() => watching.limits.get(name)?.totals.released === calls / 2);
	});

	test("a heartbeat says what time it is, and a watcher that goes is forgotten", async () => {
		const name = await newLimit();
		const watching = await watch({ name });
		await until(() => watching.has("heartbeat"));
		const beat = watching.events.find(({ event }) => event === "heartbeat") as WatchEvent & { event: "heartbeat" };
		expect(Math.abs(Date.parse(beat.at) - Date.now())).toBeLessThan(60_000);
		await watching[Symbol.asyncDispose]();
		// An object that is still read by somebody cannot be evicted.
		await until(async () => evictDurableObject(stub(name)).then(() => true));
	});

	test("an object that goes and comes back is followed again", async () => {
		const family = newName();
		const name = `${family}-x`;
		await configure(name, { limit: 4 });
		await using watching = await watch({ prefix: family });
		await crash(name);
		await until(async () => (await call("GET", path(name))).status === 200);
		await patch(name, { limit: 9 });
		await until(() => watching.limits.get(name)?.limit === 9);
	});

	test("a changed policy is seen by those who watch its names", async () => {
		const prefix = newName();
		await setPolicy(`${prefix}:*`, { limit: 3 });
		await granted({ names: `${prefix}:x` });
		await using watching = await watch({ name: `${prefix}:x` });
		expect(watching.limits.get(`${prefix}:x`)).toMatchObject({ limit: 3, origin: "policy", policy: `${prefix}:*` });
		await setPolicy(`${prefix}:*`, { limit: 7 });
		await until(() => watching.limits.get(`${prefix}:x`)?.limit === 7);
		await removePolicy(`${prefix}:*`);
	});

	test("a limit that nobody knows: 404; a name that cannot be one: 422", async () => {
		expectProblem(await call("GET", `/v1/watch?name=${newName()}`), 404, "unknown_limit");
		expectProblem(await call("GET", "/v1/watch?name=a%2Fb"), 422, "invalid");
		expectProblem(await call("GET", "/v1/watch?count=0"), 422, "invalid");
		expectProblem(await call("POST", "/v1/watch"), 405, "method_not_allowed");
	});

	test("a limit and the directory count watchers by token, whatever Worker they come from", async () => {
		const name = await newLimit();
		const one = { token: newName(), most: 2 };
		const another = { token: newName(), most: 2 };
		for (const watchBy of [
			(share: typeof one) => limitObject(name).watch(false, share),
			(share: typeof one) => directory().watch(newName(), share),
		]) {
			const answers = [await watchBy(one), await watchBy(one), await watchBy(one), await watchBy(another)];
			expect(answers.map((answer) => (typeof answer === "string" ? answer : "watches"))).toEqual([
				...["watches", "watches", "share", "watches"],
			]);
		}
	});

	test("promise 12: one limit has a bounded number of watchers", async () => {
		const name = await newLimit();
		const watchers = await Promise.all(Array.from({ length: BOUNDS.watchers }, () => watch({ name })));
		const problem = expectProblem(await call("GET", `/v1/watch?name=${name}`), 429, "too_many_streams");
		expect(problem.detail).toContain(String(BOUNDS.watchers));
		await Promise.all(watchers.map((watching) => watching[Symbol.asyncDispose]()));
		// Those that have gone are noticed at a heartbeat.
		await until(async () => {
			const response = await exports.default.fetch(new Request(`http://headgate.test/v1/watch?name=${name}`));
			await response.body?.cancel();
			return response.status === 200;
		});
	});
});

describe("GET /v1/limits/{name}/history", () => {
	const history = async (name: string) => (await call<LimitHistory>("GET", `${path(name)}/history`)).body;

	test("shows what happened, also after the object slept", async () => {
		const name = await newLimit({ limit: 5 });
		const lease = await granted({ names: name, occupy: 4 });
		await acquire({ names: name, occupy: 2 });
		await release(lease);
		const check = async () => {
			const { samples, ...rest } = await history(name);
			expect(rest).toEqual({ name, sampleSeconds: 5 });
			const sum = (key: "grantedAtOnce" | "denied" | "released") =>
				samples.reduce((total, each) => total + each[key], 0);
			expect([sum("grantedAtOnce"), sum("denied"), sum("released")]).toEqual([1, 1, 1]);
			expect(Math.max(...samples.map(({ activeSlots }) => activeSlots))).toBe(4);
			expect(samples.every(({ limit }) => limit === 5)).toBe(true);
		};
		await check();
		await evictDurableObject(stub(name));
		await check();
	});

	test("costs no write of its own: the sample being taken is in the limit's row", async () => {
		const name = await newLimit({ limit: 5 });
		await granted({ names: name });
		const newest = "SELECT state FROM schema ORDER BY number DESC LIMIT 1";
		const state = await runInDurableObject(
			stub(name),
			(_, { storage }) => storage.sql.exec<{ state: string }>(newest).one().state,
		);
		expect(JSON.parse(state)).toHaveProperty("sample");
	});

	test("denials that a Worker gave from its memory are in it, and are told to those who watch", async () => {
		const name = await newLimit();
		await using watching = await watch({ name });
		await stub(name).absorbed(5);
		const { samples } = await history(name);
		expect(samples.reduce((sum, { denied }) => sum + denied, 0)).toBe(5);
		await until(() => watching.limits.get(name)?.lastMinute.denied === 5);
	});

	test("a limit that is made anew has no past", async () => {
		const name = await newLimit({ limit: 5 });
		await granted({ names: name, occupy: 5 });
		await remove(name);
		await configure(name, { limit: 5 });
		const { samples } = await history(name);
		expect(samples.map(({ grantedAtOnce }) => grantedAtOnce)).not.toContain(1);
	});

	test("a limit that nobody knows: 404", async () => {
		expectProblem(await call("GET", `${path(newName())}/history`), 404, "unknown_limit");
	});
});
