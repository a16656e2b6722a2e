/** What `/metrics` says: of limits that are asked, and of policies that are told. */

import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { createLimit } from "../../src/core/limit.ts";
import { newTotals, observe } from "../../src/core/totals.ts";
import { BOUNDS } from "../../src/protocol.ts";
import { policySums } from "../../src/server/contract/policy-sums.ts";
import { PolicyTotals } from "../../src/server/directory/policy-totals.ts";
import { text } from "../../src/server/front/metrics/exposition.ts";
import { service } from "../../src/server/front/routes.ts";
import type { Identity } from "../../src/server/limit/store.ts";
import { TELL_MS, TotalsReporter } from "../../src/server/limit/totals-reporter.ts";
import {
	acquire,
	alter,
	bindings,
	call,
	callsOf,
	configure,
	crash,
	directory,
	granted,
	limitObject,
	newLimit,
	newName,
	release,
	remove,
	setPolicy,
	stopClock,
	until,
} from "./support.ts";

const get = async () => (await call<string>("GET", "/metrics")).body;

/** The directory hears of a limit soon after it was made, and metrics with it. */
async function getWith(name: string): Promise<string> {
	let body = "";
	await until(async () => {
		body = await get();
		return sample(body, "active", name) !== undefined;
	});
	return body;
}

/** The value of one sample. */
function sample(body: string, name: string, limit: string): number | undefined {
	const line = body.split("\n").find((each) => each.startsWith(`headgate_${name}{limit="${limit}"`));
	return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(" ") + 1));
}

describe("limits", () => {
	test("each counter and gauge is what the limit did", async () => {
		const name = await newLimit({ limit: 2 });
		const lease = await granted({ names: name });
		await granted({ names: name });
		expect((await acquire({ names: name })).status).toBe(429);
		expect((await acquire({ names: name, waitSeconds: 0.05 })).status).toBe(429);
		await release(lease);
		const body = await getWith(name);
		const of = (metric: string) => sample(body, metric, name);
		expect({
			...{ capacity: of("capacity_slots"), inUse: of("in_use_slots"), waiting: of("waiting_requests") },
			...{ atOnce: of("granted_at_once_total"), afterWait: of("granted_after_wait_total") },
			...{ denied: of("denied_total"), timedOut: of("timed_out_total") },
			...{ released: of("released_total"), expired: of("expired_total"), active: of("active") },
			...{ waits: of("wait_seconds_count"), holds: of("hold_seconds_count") },
		}).toEqual({
			...{ capacity: 2, inUse: 1, waiting: 0, atOnce: 2, afterWait: 0, denied: 2, timedOut: 1 },
			...{ released: 1, expired: 0, active: 1, waits: 2, holds: 1 },
		});
	});

	test("what was counted is there after a crash", async () => {
		const name = await newLimit({ limit: 2 });
		await release(await granted({ names: name }));
		const before = await getWith(name);
		await crash(name);
		const after = await get();
		for (const metric of ["granted_at_once_total", "released_total", "hold_seconds_count", "hold_seconds_sum"]) {
			expect(sample(after, metric, name)).toBe(sample(before, metric, name));
		}
	});

	test("it is OpenMetrics, with its version", async () => {
		const { headers, body } = await call<string>("GET", "/metrics");
		expect(headers.get("Content-Type")).toBe("application/openmetrics-text; version=1.0.0; charset=utf-8");
		expect(body.endsWith("\n# EOF\n")).toBe(true);
	});

	test("a deleted limit is gone", async () => {
		const name = await newLimit();
		expect(sample(await getWith(name), "active", name)).toBe(1);
		await remove(name);
		await until(async () => sample(await get(), "active", name) === undefined);
	});

	test("beyond the bound limits are left out, and counted", async () => {
		const names = [...Array(5)].map((_, index) => `bound-${index}-${newName()}`);
		await Promise.all(names.map((name) => configure(name, { limit: 1 })));
		// The directory hears of new limits a moment after they are answered.
		await until(async () => (await directory().ownNames("bound-", 3)).total === names.length);
		await until(async () => (await directory().ownNames("bound-", 100)).names.length === names.length);
		const { names: some, total } = await directory().ownNames("bound-", 3);
		expect({ some: some.length, total }).toEqual({ some: 3, total: 5 });
		expect(text([], [], { leftOut: 2, unavailable: 1 })).toContain("\nheadgate_limits_left_out 2\n");
	});
});

describe("policies", () => {
	/** A policy whose keys went when they were idle for a second. */
	async function newPolicy(): Promise<string> {
		const family = newName();
		await setPolicy(`${family}:*`, { limit: 3, idleSeconds: 1 });
		return family;
	}

	const sumOf = async (pattern: string) => (await policySums(bindings)).find((sum) => sum.pattern === pattern);

	test("keys tell their policy before they go, and no key has a sample of its own", async () => {
		const family = await newPolicy();
		const keys = ["a", "b", "c"].map((key) => `${family}:${key}`);
		for (const key of keys) await release(await granted({ names: key, id: undefined }));
		for (const key of keys) {
			// The id is remembered for five minutes and keeps the key; a test does not wait for that.
			await alter(key, () => ({ ended: [] }));
		}
		await until(async () => {
			for (const key of keys) await runDurableObjectAlarm(limitObject(key));
			return (await sumOf(`${family}:*`))?.totals.released === 3;
		});
		const body = await get();
		expect(sample(body, "granted_at_once_total", `${family}:*`)).toBe(3);
		expect(sample(body, "capacity_slots", `${family}:*`)).toBe(3);
		for (const key of keys) expect(body).not.toContain(key);
	});

	test("a key that is deleted by hand tells what it did", async () => {
		const family = await newPolicy();
		await granted({ names: `${family}:a` });
		await remove(`${family}:a`);
		await until(async () => {
			const totals = (await sumOf(`${family}:*`))?.totals;
			return totals?.grantedAtOnce === 1 && totals.released === 1;
		});
	});

	test("a key that is configured by hand has samples of its own from then on", async () => {
		const family = await newPolicy();
		const name = `${family}:special`;
		await granted({ names: name });
		expect(sample(await get(), "active", name)).toBeUndefined();
		await configure(name, { limit: 7 });
		await until(async () => sample(await get(), "capacity_slots", name) === 7);
	});

	test("the figures of the moment are of keys that told within the last whole minute", async () => {
		await runInDurableObject(directory(), (_, state) => {
			state.storage.sql.exec("DELETE FROM totals");
			const sums = new PolicyTotals(state.storage.sql);
			const totals = newTotals();
			totals.denied = 1;
			const look = (at: number) => sums.all(at).map(({ keys, inUse, totals: { denied } }) => ({ keys, inUse, denied }));
			sums.add("x:*", { name: "x:a", totals, inUse: 2, waiting: 0 }, 1_000_000);
			sums.add("x:*", { name: "x:a", totals, inUse: 3, waiting: 0 }, 1_010_000);
			expect(look(1_020_000)).toEqual([{ keys: 0, inUse: 0, denied: 2 }]);
			expect(look(1_060_000)).toEqual([{ keys: 2, inUse: 5, denied: 2 }]);
			sums.add("x:*", { name: "x:a", totals, inUse: 1, waiting: 0 }, 1_070_000);
			expect(look(1_121_000)).toEqual([{ keys: 1, inUse: 1, denied: 3 }]);
			expect(look(1_300_000)).toEqual([{ keys: 0, inUse: 0, denied: 3 }]);
			expect(new PolicyTotals(state.storage.sql).all(1_300_000)).toMatchObject([
				{ pattern: "x:*", totals: { denied: 3 } },
			]);
			state.storage.sql.exec("DELETE FROM totals");
		});
	});
});

describe("what is told, and when", () => {
	/** A reporter over a limit that is not there, whose clock is the test's. */
	function reporterOf(origin: Identity["origin"], env: object) {
		const identity = { name: "n", id: "i", origin, policy: "n*", createdAt: 0, alive: true } as Identity;
		const lifecycle = {
			identity,
			told: (told: NonNullable<Identity["told"]>) => Object.assign(identity, { told }),
		};
		const limit = createLimit({ limit: 5, slotDecayPerSecond: 0, active: true }, 0, () => undefined);
		const { totals } = limit;
		const work: Promise<unknown>[] = [];
		const reporter = new TotalsReporter({
			...{ env: env as never, lifecycle: lifecycle as never, limit: () => limit },
			background: (promise) => void work.push(promise),
		});
		return { reporter, identity, totals, settled: () => Promise.all(work) };
	}

	/** A directory that remembers what it was told. */
	function told() {
		const heard: number[] = [];
		const points: unknown[] = [];
		const addTotals = async (_: string, { totals }: { totals: { denied: number } }) => void heard.push(totals.denied);
		return {
			...{ heard, points },
			env: { DIRECTORY: { getByName: () => ({ addTotals }) } },
			analytics: { ANALYTICS: { writeDataPoint: (point: unknown) => void points.push(point) } },
		};
	}

	test("a key in use tells once a minute what it counted since, and not in its first minute", async () => {
		const { heard, env } = told();
		const { reporter, totals, settled } = reporterOf("policy", env);
		for (let at = 1_000; at <= 3 * TELL_MS; at += 1_000) {
			totals.denied += 1;
			reporter.after(at);
			await settled();
		}
		expect(heard).toEqual([60, 60, 60]);
		expect(reporter.dueAt()).toBe(Number.POSITIVE_INFINITY);
	});

	test("what could not be told is told later, once", async () => {
		const { heard, env } = told();
		let isDown = true;
		const failing = {
			DIRECTORY: {
				getByName: () => (isDown ? { addTotals: () => Promise.reject(new Error("down")) } : env.DIRECTORY.getByName()),
			},
		};
		const { reporter, totals } = reporterOf("policy", failing);
		totals.denied = 4;
		expect(await reporter.tell(TELL_MS)).toBe(false);
		isDown = false;
		expect(await reporter.tell(TELL_MS + 1)).toBe(true);
		expect(await reporter.tell(TELL_MS + 2)).toBe(true);
		expect(heard).toEqual([4]);
	});

	test("Analytics Engine gets a point a minute from a limit that did something, and is waited for by an alarm", async () => {
		const { points, env, analytics } = told();
		const { reporter, totals, settled } = reporterOf("configured", { ...env, ...analytics });
		totals.grantedAtOnce = 1;
		totals.wouldDeny = 2;
		observe(totals.waits, 0);
		reporter.after(1_000);
		expect({ due: reporter.dueAt(), points: points.length }).toEqual({ due: TELL_MS, points: 0 });
		reporter.after(TELL_MS);
		await settled();
		await reporter.tell(TELL_MS + 1);
		expect(points).toEqual([
			{ indexes: ["n"], blobs: ["n", "configured", "n*"], doubles: [5, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2] },
		]);
	});

	test("an object that wakes is waited for only if there is something that it has not told", () => {
		const { env, analytics } = told();
		const quiet = reporterOf("configured", { ...env, ...analytics });
		expect(quiet.reporter.dueAt()).toBe(Number.POSITIVE_INFINITY);
		const counted = reporterOf("configured", { ...env, ...analytics });
		counted.totals.denied = 1;
		expect(counted.reporter.dueAt()).toBe(TELL_MS);
	});

	test("without Analytics Engine a configured limit tells nobody", async () => {
		const { points, heard, env } = told();
		const { reporter, totals, settled } = reporterOf("configured", env);
		totals.denied = 1;
		reporter.after(10 * TELL_MS);
		await settled();
		expect([points.length, heard.length, reporter.dueAt()]).toEqual([0, 0, Number.POSITIVE_INFINITY]);
	});
});

test("those who ask at once share one text, which is made once", async () => {
	// Longer than a text of another test is shared, and from then on no time passes.
	stopClock().pass(1_000 * BOUNDS.metricsSeconds);
	let texts: unknown[] = [];
	const made = await callsOf(directory(), ["ownNames"], async () => {
		texts = await Promise.all(Array.from({ length: 8 }, async () => (await call("GET", "/metrics")).body));
	});
	expect(made).toBe(1);
	expect(new Set(texts).size).toBe(1);
});

test("a token with a prefix sees its own limits alone", async () => {
	const family = newName();
	const [mine, other] = [`${family}:mine`, `other-${family}`];
	await Promise.all([mine, other].map((name) => configure(name, { limit: 1 })));
	const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode("metrics-token-of-a-scraper"));
	const sha256 = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
	const tokens = JSON.stringify([{ name: "t", sha256, scope: "read", prefix: `${family}:` }]);
	const vars = { ...env, HEADGATE_TOKENS: tokens } as never;
	const request = new Request("http://headgate.test/metrics", {
		headers: { Authorization: "Bearer metrics-token-of-a-scraper" },
	});
	const ctx = { waitUntil: () => undefined, passThroughOnException: () => undefined } as never;
	await Promise.all([mine, other].map(getWith));
	const answer = await service.fetch(request, vars, ctx);
	const body = await answer.text();
	expect(sample(body, "active", mine)).toBe(1);
	expect(body).not.toContain(other);
});
