/** `testGate()`: the library over the core, with time in the hand of the test. */

import { describe, expect, test, vi } from "vitest";
import {
	ConcurrencySlotAcquisitionError,
	HeadgateError,
	isLeaseLostError,
	isTimeoutError,
	testGate,
} from "../../src/testing/index.ts";

const HOUR_MS = 3_600_000;

describe("time in the hand of the test", () => {
	test("one waits an hour in line, and is next the moment the slot is back", async () => {
		const { gate, clock, limits } = testGate({ limits: { database: 1 } });
		const held = await gate.acquire("database", { holder: "the other" });
		const order: string[] = [];
		const waits = gate.concurrency("database", { timeoutSeconds: 7_200 }, async (lease) => {
			order.push(`ran after ${lease.waitedSeconds} s`);
		});
		await clock.advance(HOUR_MS);
		expect(limits.get("database")).toMatchObject({
			activeSlots: 1,
			waitingCount: 1,
			leases: [{ holder: "the other" }],
		});
		expect(order).toEqual([]);
		await held.release();
		await waits;
		expect(order).toEqual(["ran after 3600 s"]);
		expect(limits.get("database")).toMatchObject({ activeSlots: 0, waitingCount: 0, totals: { grantedAfterWait: 1 } });
	});

	test("a lease that is held is renewed; one that nobody renews ends", async () => {
		const { gate, clock, limits } = testGate({ limits: { database: 2 } });
		const lease = await gate.acquire("database", { leaseSeconds: 30 });
		await clock.advance(HOUR_MS);
		expect(lease.signal.aborted).toBe(false);
		expect(limits.get("database")?.activeSlots).toBe(1);
		await gate.forceRelease("database", lease.id);
		await clock.advance(30_000);
		expect(isLeaseLostError(lease.signal.reason)).toBe(true);
		expect(limits.get("database")?.activeSlots).toBe(0);
	});

	test("a wait that takes too long is the library's own error, at the moment it said", async () => {
		const { gate, clock } = testGate({ limits: { database: 1 } });
		await gate.acquire("database");
		const failed = gate.acquire("database", { timeoutSeconds: 30 }).catch((error: unknown) => error);
		let over = false;
		void failed.then(() => {
			over = true;
		});
		await clock.advance(29_000);
		expect(over).toBe(false);
		await clock.advance(1_000);
		expect(over).toBe(true);
		expect(isTimeoutError(await failed)).toBe(true);
	});

	test("slots of a rate limit come back as time passes, exactly when it was announced", async () => {
		const { gate, clock, limits } = testGate({ limits: { openai: { limit: 2, slotDecayPerSecond: 0.5 } } });
		await gate.rateLimit("openai", { occupy: 2 });
		const { denied } = await gate.tryAcquire("openai");
		expect(denied?.retryAfterSeconds).toBe(2);
		const times: number[] = [];
		const startedAt = clock.now();
		const third = gate.rateLimit("openai").then(() => times.push(clock.now() - startedAt));
		await clock.advance(1_999);
		expect(times).toEqual([]);
		await clock.advance(1);
		await third;
		expect(times).toEqual([2_000]);
		expect(limits.get("openai")?.activeSlots).toBe(2);
	});

	test("time does not go back", async () => {
		const { clock } = testGate();
		await expect(clock.advance(-1)).rejects.toThrow(RangeError);
	});
});

describe("what the service does", () => {
	test("several names, all or nothing, in line too; places are told", async () => {
		const { gate, clock, limits } = testGate({ limits: { a: 1, b: 1 } });
		const b = await gate.acquire("b");
		const places: number[] = [];
		const both = gate.acquire(["a", "b"], { onQueued: (place) => places.push(place) });
		await clock.advance(60_000);
		expect(limits.get("a")).toMatchObject({ activeSlots: 0, waitingCount: 1 });
		await b.release();
		await clock.advance(0);
		const lease = await both;
		expect(lease.names).toEqual({ a: 1, b: 1 });
		expect(lease.waitedSeconds).toBe(60);
		expect(places).toEqual([1]);
		expect(limits.get("a")?.activeSlots).toBe(1);
		await lease.release();
		expect([limits.get("a")?.activeSlots, limits.get("b")?.activeSlots]).toEqual([0, 0]);
	});

	test("the line is first come, first served, and each hears its place", async () => {
		const { gate, clock } = testGate({ limits: { printer: 1 } });
		const first = await gate.acquire("printer");
		const places: string[] = [];
		const next = ["second", "third"].map((holder) =>
			gate.acquire("printer", { holder, onQueued: (place) => places.push(`${holder} ${place}`) }),
		);
		await clock.advance(40_000);
		expect(places).toEqual(["second 1", "third 2"]);
		await first.release();
		await (await (next[0] as (typeof next)[number])).release();
		await next[1];
		expect(places).toEqual(["second 1", "third 2", "third 1"]);
	});

	test("a caller that leaves takes nothing", async () => {
		const { gate, clock, limits } = testGate({ limits: { database: 1 } });
		const held = await gate.acquire("database");
		const gone = new AbortController();
		const left = gate.acquire("database", { signal: gone.signal }).catch((error: unknown) => error);
		await clock.advance(1_000);
		gone.abort(new Error("gone"));
		expect(await left).toMatchObject({ message: "gone" });
		await held.release();
		await clock.advance(0);
		expect(limits.get("database")).toMatchObject({ activeSlots: 0, waitingCount: 0 });
	});

	test("refusals are those of the service: too many, without decay, unknown, a wrong field", async () => {
		const { gate } = testGate({ limits: { database: 1 } });
		await expect(gate.acquire("database", { occupy: 2 })).rejects.toThrow(ConcurrencySlotAcquisitionError);
		await expect(gate.rateLimit("database")).rejects.toMatchObject({ code: "no_decay" });
		await expect(gate.acquire("nowhere", { strict: true })).rejects.toMatchObject({ code: "unknown_limit" });
		await expect(gate.inspect("nowhere")).rejects.toThrow(HeadgateError);
		await expect(gate.configure("database", { limit: -1 })).rejects.toMatchObject({ code: "invalid" });
		expect(() => testGate({ limits: { database: -1 } })).toThrow(TypeError);
	});

	test("a name that nobody configured holds nobody back, and `createIfMissing: false` makes none", async () => {
		const { gate, limits } = testGate();
		const lease = await gate.acquire("new");
		expect(lease.enforced).toBe(false);
		expect(limits.get("new")).toMatchObject({ active: false, origin: "default" });
		expect((await gate.acquire("none", { createIfMissing: false })).names).toEqual({});
		expect(limits.get("none")).toBeUndefined();
	});

	test("a check says what a request would be answered, and takes, counts and makes nothing", async () => {
		const { gate, clock, limits } = testGate({
			limits: { database: 2, openai: { limit: 5, slotDecayPerSecond: 0.5 }, "login:*": 3 },
		});
		expect(await gate.check("database", { occupy: 2, rate: { openai: 5 } })).toMatchObject({
			allowed: true,
			limits: [{ name: "database" }, { name: "openai", remaining: 5 }],
		});
		await gate.acquire("database");
		await gate.rateLimit("openai", { occupy: 5 });
		expect(await gate.check("database", { occupy: 2 })).toMatchObject({ allowed: false, code: "denied" });
		const later = await gate.check("openai", { mode: "rate_limit" });
		expect(later).toMatchObject({ allowed: false, retryAfterSeconds: 2, limits: [{ position: 1 }] });
		await clock.advance(2_000);
		expect(await gate.check("openai", { mode: "rate_limit" })).toMatchObject({ allowed: true });
		expect(await gate.check("database", { mode: "rate_limit" })).toMatchObject({ allowed: false, code: "no_decay" });
		expect(await gate.check("login:ann", { occupy: 3 })).toMatchObject({ allowed: true, limits: [{ remaining: 3 }] });
		expect(await gate.check("login:ann", { occupy: 4 })).toMatchObject({ allowed: false, code: "exceeds_limit" });
		expect(await gate.check("new")).toMatchObject({ allowed: true, limits: [{ configured: false }] });
		await expect(gate.check("new", { strict: true })).rejects.toMatchObject({ code: "unknown_limit" });
		expect(limits.get("database")?.totals).toMatchObject({ grantedAtOnce: 1, denied: 0 });
		expect([limits.get("login:ann"), limits.get("new")]).toEqual([undefined, undefined]);
	});

	test("an estimate is settled: the rest is for the next in line, once", async () => {
		const { gate, clock, limits } = testGate({
			limits: { tokens: { limit: 100, slotDecayPerSecond: 0.001 }, model: 1 },
		});
		const receipt = await gate.rateLimit("tokens", { occupy: 250, settleSeconds: 600, atMost: true });
		expect(receipt.names).toEqual({ tokens: 100 });
		const next = gate.concurrency("model", { rate: { tokens: 60 }, settleSeconds: 60 });
		await clock.advance(1_000);
		expect(limits.get("tokens")).toMatchObject({ waitingCount: 1 });
		await receipt.settle(30);
		await clock.advance(0);
		const lease = await next;
		expect(limits.get("tokens")).toMatchObject({ activeSlots: 90, settled: { count: 1, meanRatio: 0.3 } });
		expect((await receipt.settle(30)).actual).toEqual({ tokens: 30 });
		await expect(receipt.settle(31)).rejects.toMatchObject({ code: "already_settled" });
		await lease.settle({ tokens: 10 });
		await lease.release();
		expect([limits.get("tokens")?.activeSlots, limits.get("model")?.activeSlots]).toEqual([40, 0]);
		const late = await gate.rateLimit("tokens", { settleSeconds: 60 });
		await clock.advance(60_000);
		await expect(late.settle(0)).rejects.toMatchObject({ code: "receipt_gone" });
	});

	test("a pause, a window by the calendar, and a limit that only watches", async () => {
		const { gate, clock, limits } = testGate({
			limits: { upstream: 1, daily: { limit: 1, window: { every: "day" } }, shadow: { limit: 1, enforce: false } },
		});
		await gate.pause("upstream", 30);
		const waits = gate.acquire("upstream");
		await clock.advance(29_999);
		expect(limits.get("upstream")).toMatchObject({ activeSlots: 0, waitingCount: 1 });
		await clock.advance(1);
		expect((await waits).waitedSeconds).toBe(30);
		await gate.rateLimit("daily");
		expect((await gate.tryAcquire("shadow", { occupy: 1 })).denied).toBeNull();
		const tomorrow = gate.rateLimit("daily");
		await clock.advance(24 * HOUR_MS);
		expect((await tomorrow).names).toEqual({ daily: 1 });
		const { limits: worst } = await gate.attention();
		expect(worst[0]?.name).toBe("daily");
	});

	test("policies, and what changes them", async () => {
		const { gate, limits } = testGate({ limits: { "login:*": { limit: 1, slotDecayPerSecond: 0.1 } } });
		await gate.rateLimit("login:alice");
		expect(limits.get("login:alice")).toMatchObject({ origin: "policy", policy: "login:*", limit: 1 });
		limits.set("login:*", { limit: 3, slotDecayPerSecond: 0.1 });
		expect(limits.get("login:alice")).toMatchObject({ limit: 3, activeSlots: 1 });
		expect(await gate.policies()).toMatchObject([{ pattern: "login:*", limit: 3 }]);
		expect(await gate.deletePolicy("login:*")).toBe(true);
		expect(await gate.deletePolicy("login:*")).toBe(false);
		expect(limits.get("login:alice")).toMatchObject({ active: false, origin: "default" });
	});

	test("the rest of the library: many at once, lists, changes, renewing and releasing by id", async () => {
		const { gate, limits } = testGate({ limits: { a: 1, b: 2 } });
		const outcomes = await gate.acquireMany([{ names: "a" }, { names: "a" }, { names: "b" }]);
		expect(outcomes.map(({ denied }) => denied?.code ?? "granted")).toEqual(["granted", "denied", "granted"]);
		const listed: string[] = [];
		for await (const { name } of gate.limits()) listed.push(name);
		expect(listed).toEqual(["a", "b"]);
		const { limits: worst, totals } = await gate.attention();
		expect(worst.map(({ name }) => name)).toEqual(["a", "b"]);
		expect(totals).toMatchObject({ limits: 2, full: 1, lastMinute: { granted: 2, denied: 1 } });
		const [lease] = outcomes;
		const record = JSON.parse(JSON.stringify(lease?.lease)) as { id: string; names: Record<string, number> };
		expect(Date.parse((await gate.renew(record, { leaseSeconds: 120 })).expiresAt)).toBeGreaterThan(0);
		expect(await gate.release(record)).toEqual({ released: 1 });
		await expect(gate.renew(record)).rejects.toMatchObject({ code: "lease_gone" });
		await gate.update("b", { limit: 5 });
		expect(limits.get("b")).toMatchObject({ limit: 5, activeSlots: 1 });
		for await (const { slots } of gate.leases("b")) expect(slots).toBe(1);
		expect(await gate.delete("b")).toBe(true);
		expect(limits.get("b")).toBeUndefined();
	});
});

describe("with vitest's fake timers", () => {
	test("the work sleeps on them, the lease is renewed on them, and `vi` alone moves both", async () => {
		vi.useFakeTimers();
		try {
			const { gate, clock, limits } = testGate({
				limits: { database: 1 },
				tick: (ms) => vi.advanceTimersByTimeAsync(ms),
			});
			const nightly = () =>
				gate.concurrency("database", { leaseSeconds: 30 }, async ({ signal }) => {
					await new Promise((resolve) => setTimeout(resolve, HOUR_MS));
					return signal.aborted;
				});
			const [first, second] = [nightly(), nightly()];
			await clock.advance(HOUR_MS - 1);
			expect(limits.get("database")).toMatchObject({ activeSlots: 1, waitingCount: 1 });
			await vi.advanceTimersByTimeAsync(1);
			expect(await first).toBe(false);
			await vi.advanceTimersByTimeAsync(HOUR_MS);
			expect(await second).toBe(false);
			expect(limits.get("database")).toMatchObject({ activeSlots: 0, totals: { released: 2, expired: 0 } });
		} finally {
			vi.useRealTimers();
		}
	});
});
