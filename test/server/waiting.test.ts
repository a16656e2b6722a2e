/** Waiting in one limit's line: who is next, what wakes the line, and who has left it. */

import { runInDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { AWAY_MS } from "../../src/core/patience.ts";
import { BOUNDS, type Lease } from "../../src/protocol.ts";
import { BEAT_MS } from "../../src/rhythms.ts";
import {
	acquire,
	call,
	configure,
	expectProblem,
	fromNow,
	granted,
	inspect,
	isSettled,
	limitObject,
	newId,
	newLimit,
	newName,
	open,
	openQueued,
	patch,
	path,
	read,
	release,
	remove,
	renew,
	Stream,
	stopClock,
	storedLimit,
	until,
	untilActive,
	untilWaiting,
} from "./support.ts";

/** A call that stands in line when this resolves; its answer comes later. */
async function waiting(name: string, more: Record<string, unknown> = {}) {
	const before = (await inspect(name)).waitingCount;
	const answer = acquire({ names: name, waitSeconds: 30, ...more });
	await untilWaiting(name, before + 1);
	return { answer };
}

/** Waits in line, one after the other, and answers who is granted in which order. */
async function line(name: string, requests: Record<string, unknown>[]) {
	const order: number[] = [];
	const streams: Stream[] = [];
	for (const [index, request] of requests.entries()) {
		const stream = await openQueued({ names: name, ...request });
		streams.push(stream);
		void stream.granted().then(
			() => order.push(index),
			() => undefined,
		);
	}
	return { order, streams };
}

/** Longer than a stream looks, after a grant, whether its reader is still there; what it might undo is undone by then. */
const PROBED_MS = 300;

describe("promise 4: whatever frees slots grants the next, and nobody has to ask", () => {
	/** A full limit with a stream and a call in line. The stream is granted by `free` alone. */
	async function handOff(free: (name: string, lease: Lease) => Promise<unknown>): Promise<void> {
		const name = await newLimit({ limit: 1 });
		const lease = await granted({ names: name });
		const stream = await openQueued({ names: name });
		const plain = acquire({ names: name, waitSeconds: 60 });
		await untilWaiting(name, 2);
		await free(name, lease);
		expect(await stream.granted()).toMatchObject({ names: { [name]: 1 } });
		if ((await inspect(name)).waitingCount > 0) await patch(name, { active: false });
		expect((await plain).status).toBe(200);
	}

	test.each<[string, (name: string, lease: Lease) => Promise<unknown>]>([
		["release", (_, lease) => release(lease)],
		["forced release", (name, { id }) => call("DELETE", `${path(name)}/leases/${id}`)],
		["a limit raised a little", (name) => patch(name, { limit: 2 })],
		["a limit raised a lot", (name) => configure(name, { limit: 5 })],
	])("%s", (_, free) => handOff(free));

	test("expiry, and not before it", async () => {
		const name = await newLimit();
		const { expiresAt } = await granted({ names: name, leaseSeconds: 1 });
		const next = await open({ names: name });
		await next.granted();
		expect(fromNow(expiresAt)).toBeLessThanOrEqual(0);
	});

	test("deactivation: all of them, and they hold nothing", async () => {
		const name = await newLimit();
		await granted({ names: name });
		const { streams } = await line(name, [{}, {}, {}]);
		await patch(name, { active: false });
		for (const stream of streams) expect((await stream.granted()).limits).toMatchObject([{ enforced: false }]);
		expect(await inspect(name)).toMatchObject({ waitingCount: 0, leaseCount: 1 });
	});

	test("slots in use, corrected by hand", async () => {
		const name = await newLimit({ limit: 2 });
		await patch(name, { activeSlots: 2 });
		const stream = await openQueued({ names: name });
		await patch(name, { activeSlots: 1 });
		await stream.granted();
	});

	test("decay: each in its turn, and none before its slot has come back", async () => {
		const name = await newLimit({ limit: 1, slotDecayPerSecond: 4 });
		const askedAt = Date.now();
		await granted({ names: name, mode: "rate_limit" });
		const streams: Stream[] = [];
		for (let index = 0; index < 4; index += 1) streams.push(await open({ names: name, mode: "rate_limit" }));
		for (const [index, stream] of streams.entries()) {
			await stream.granted();
			expect(Date.now() - askedAt).toBeGreaterThanOrEqual(250 * (index + 1));
		}
	});

	test("a faster decay", async () => {
		const name = await newLimit({ limit: 1, slotDecayPerSecond: 0.001 });
		await granted({ names: name, mode: "rate_limit" });
		const stream = await openQueued({ names: name, mode: "rate_limit" });
		await patch(name, { slotDecayPerSecond: 100 });
		await stream.granted();
	});

	test("the leaving of one that stood in the way", async () => {
		const name = await newLimit({ limit: 3 });
		await granted({ names: name, occupy: 2 });
		const big = await openQueued({ names: name, occupy: 3, id: newId() });
		const small = await openQueued({ names: name });
		const { waiting } = await inspect(name);
		await release({ id: waiting[0]?.id, names: name });
		await small.granted();
		expect((await big.denied()).code).toBe("id_in_use");
	});

	test("a release of several slots grants as many as fit", async () => {
		const name = await newLimit({ limit: 5 });
		const lease = await granted({ names: name, occupy: 5 });
		const { streams } = await line(name, [{ occupy: 2 }, { occupy: 2 }, { occupy: 2 }, {}]);
		await release(lease);
		await Promise.all([streams[0]?.granted(), streams[1]?.granted()]);
		expect((await inspect(name)).waiting.map(({ slots, position }) => [slots, position])).toEqual([
			[2, 1],
			[1, 2],
		]);
	});
});

describe("promise 3: first come, first served", () => {
	test("in the order of arrival, streams and calls alike", async () => {
		const name = await newLimit();
		let lease = await granted({ names: name });
		const order: number[] = [];
		const answers: Promise<unknown>[] = [];
		const leases: Lease[] = [];
		const took = (index: number, each: Lease): void => {
			order.push(index);
			leases.push(each);
		};
		for (let index = 0; index < 6; index += 1) {
			if (index % 2 === 0) {
				const stream = await openQueued({ names: name });
				answers.push(stream.granted().then((each) => took(index, each)));
			} else {
				const { answer } = await waiting(name);
				answers.push(answer.then(({ body }) => took(index, body)));
			}
		}
		for (let index = 0; index < 6; index += 1) {
			await release(lease);
			await until(() => leases.length === index + 1);
			lease = leases[index] as Lease;
		}
		await Promise.all(answers);
		expect(order).toEqual([0, 1, 2, 3, 4, 5]);
	});

	test("a big request at the head is not overtaken by small ones", async () => {
		const name = await newLimit({ limit: 4 });
		const leases = await Promise.all([1, 2, 3].map(() => granted({ names: name })));
		const { order, streams } = await line(name, [{ occupy: 4 }, {}, {}]);
		for (const lease of leases) {
			await release(lease);
			expectProblem(await acquire({ names: name }), 429, "denied");
		}
		const big = await (streams[0] as Stream).granted();
		await until(() => order.length > 0);
		expect(order).toEqual([0]);
		await release(big);
		await Promise.all(streams.map((stream) => stream.granted()));
		expect(order[0]).toBe(0);
	});

	test("a request that does not wait never jumps the line", async () => {
		const name = await newLimit({ limit: 3 });
		await granted({ names: name });
		await openQueued({ names: name, occupy: 3 });
		const answer = await acquire({ names: name });
		const problem = expectProblem(answer, 429, "denied");
		expect(problem.limits).toMatchObject([{ remaining: 2, position: 2 }]);
		expect((await inspect(name)).waitingCount).toBe(1);
	});

	test("promise 8: with decay, what is announced counts those ahead in line", async () => {
		const clock = stopClock();
		const name = await newLimit({ limit: 10, slotDecayPerSecond: 10 });
		await granted({ names: name, occupy: 10, mode: "rate_limit" });
		const ahead = openQueued({ names: name, occupy: 5, mode: "rate_limit" });
		await ahead;
		const { body } = await acquire({ names: name, occupy: 5, mode: "rate_limit" });
		expect(body.retryAfterSeconds).toBe(1);
		clock.pass(1_000);
		expect((await acquire({ names: name, occupy: 5, mode: "rate_limit" })).status).toBe(200);
	});

	test("promise 1: in any time, no more than the limit and what decayed is granted", async () => {
		const [limit, perSecond] = [5, 40];
		const name = await newLimit({ limit, slotDecayPerSecond: perSecond });
		const startedAt = Date.now();
		let grants = 0;
		// Those who wait are all served, however long it takes.
		const ask = async () => {
			for (let times = 0; times < 6; times += 1) {
				const { status } = await acquire({ names: name, mode: "rate_limit", waitSeconds: 60 });
				expect(status).toBe(200);
				grants += 1;
				expect(grants).toBeLessThanOrEqual(limit + (perSecond * (Date.now() - startedAt)) / 1000);
			}
		};
		await Promise.all(Array.from({ length: 10 }, ask));
		expect(grants).toBe(60);
	});

	test("hundreds wait in one limit and are served in order", async () => {
		const name = await newLimit({ limit: 10 });
		const first = await granted({ names: name, occupy: 10 });
		// A plain answer waits for no more than a minute, so they are as many as a busy machine serves in it; a thousand wait
		// by streams in test/process/waiters.test.ts.
		const count = 300;
		const order: number[] = [];
		const ids = Array.from({ length: count }, (_, index) => `${index}`);
		const served = ids.map(async (id, index) => {
			const { status } = await acquire({ names: name, id, waitSeconds: 60 });
			expect(status).toBe(200);
			order.push(index);
			await release({ id, names: name });
		});
		await untilWaiting(name, count);
		const arrived = (await storedLimit(name)).entries.map(({ id }) => id);
		await release(first);
		await Promise.all(served);
		expect(order).toHaveLength(count);
		// Ten hold slots at a time, so that answers cross on their way; none is further off than these.
		const rank = new Map(arrived.slice(1).map((id, index) => [id, index]));
		for (const [at, index] of order.entries()) {
			expect(Math.abs((rank.get(String(index)) ?? Number.NaN) - at)).toBeLessThanOrEqual(10);
		}
		expect(await inspect(name)).toMatchObject({ activeSlots: 0, waitingCount: 0, totals: { grantedAfterWait: count } });
	});
});

describe("an answer that is held back", () => {
	test("is given at the deadline: denied, and nothing is left of the request", async () => {
		const name = await newLimit();
		await granted({ names: name });
		const startedAt = Date.now();
		// One that waits longer is in line meanwhile: it is the deadline that answers, and no slot.
		const longer = await openQueued({ names: name });
		const answer = await acquire({ names: name, waitSeconds: 0.5 });
		expectProblem(answer, 429, "denied");
		expect(Date.now() - startedAt).toBeGreaterThanOrEqual(500);
		expect(longer.problem).toBeNull();
		await longer.leave();
		await untilWaiting(name, 0);
		expect(await inspect(name)).toMatchObject({ activeSlots: 1, waitingCount: 0 });
	});

	test("tells how long was waited", async () => {
		const name = await newLimit();
		const clock = stopClock();
		const lease = await granted({ names: name });
		const { answer } = await waiting(name);
		clock.pass(1_234);
		await release(lease);
		expect((await answer).body.waitedSeconds).toBe(1.234);
		expect((await inspect(name)).totals).toMatchObject({ grantedAtOnce: 1, grantedAfterWait: 1 });
	});

	test("promise 10: those who timed out are passed, and take nothing", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		let over = false;
		const late = acquire({ names: name, waitSeconds: 0.2 }).finally(() => {
			over = true;
		});
		await until(async () => over || (await inspect(name)).waitingCount === 1);
		const next = await openQueued({ names: name });
		expect((await late).status).toBe(429);
		await until(() => next.positions.at(-1) === 1);
		await release(lease);
		await next.granted();
		expect((await inspect(name)).activeSlots).toBe(1);
	});

	test("promise 10: a caller whose connection breaks leaves the line", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const going = new AbortController();
		const gone = exports.default
			.fetch(
				new Request("http://headgate.test/v1/acquire", {
					...{ method: "POST", headers: { "Content-Type": "application/json" } },
					...{ body: JSON.stringify({ names: name, waitSeconds: 30 }), signal: going.signal },
				}),
			)
			.then(read, () => null);
		await untilWaiting(name, 1);
		const next = await openQueued({ names: name });
		going.abort();
		await gone;
		await release(lease);
		await next.granted();
		expect(await inspect(name)).toMatchObject({ activeSlots: 1, leaseCount: 1 });
	});
});

describe("a stream", () => {
	test("a grant that needs no waiting is its only line, and then it ends", async () => {
		const name = await newLimit();
		const stream = await open({ names: name, holder: "me" });
		await stream.ended;
		expect(stream.events).toEqual([
			{
				event: "granted",
				lease: {
					...{ id: expect.any(String), names: { [name]: 1 }, expiresAt: expect.any(String), waitedSeconds: 0 },
					fence: { [name]: expect.any(Number) },
					limits: [{ name, limit: 1, activeSlots: 1, remaining: 0, enforced: true }],
				},
			},
		]);
		expect(stream.response.headers.get("Cache-Control")).toBe("no-store, no-transform");
		expect(stream.response.headers.get("X-Accel-Buffering")).toBe("no");
		expect((await release(stream.lease as object)).body).toEqual({ released: 1 });
	});

	test("a rate-limit grant is a receipt", async () => {
		const name = await newLimit({ limit: 2, slotDecayPerSecond: 0.001 });
		const stream = await open({ names: name, mode: "rate_limit" });
		await stream.ended;
		expect(stream.lease).not.toHaveProperty("expiresAt");
		expect((await inspect(name)).activeSlots).toBe(1);
	});

	test("what can never be is denied at once, with its problem as a line", async () => {
		const [name] = [await newLimit({ limit: 2 })];
		const stream = await open({ names: name, occupy: 3 });
		await stream.ended;
		expect(stream.events).toEqual([
			{ event: "denied", problem: expect.objectContaining({ status: 422, code: "exceeds_limit" }) },
		]);
		const rate = await open({ names: name, mode: "rate_limit" });
		expect((await rate.denied()).code).toBe("no_decay");
	});

	test("waitSeconds 0 denies what is not free now", async () => {
		const name = await newLimit();
		await granted({ names: name });
		const stream = await open({ names: name, waitSeconds: 0 });
		await stream.ended;
		expect(stream.problem).toMatchObject({ status: 429, code: "denied", "violated-policies": [name] });
		expect(stream.positions).toEqual([]);
		expect((await inspect(name)).waitingCount).toBe(0);
	});

	test.concurrent("waits as long as it says, longer than a held answer may", async () => {
		const name = await newLimit();
		await granted({ names: name });
		const short = await openQueued({ names: name, waitSeconds: 0.6 });
		const long = await openQueued({ names: name, waitSeconds: 100_000 });
		expect((await short.denied()).code).toBe("denied");
		await short.ended;
		expect(long.problem).toBeNull();
		expect((await inspect(name)).waitingCount).toBe(1);
	});

	test("tells the place in line at once whenever it changes", async () => {
		const name = await newLimit();
		let lease = await granted({ names: name });
		const { streams } = await line(name, [{}, {}, {}, {}]);
		expect(streams.map(({ positions }) => positions)).toEqual([[1], [2], [3], [4]]);
		await release(lease);
		lease = await (streams[0] as Stream).granted();
		await until(() => streams[3]?.positions.at(-1) === 3);
		await release(lease);
		await (streams[1] as Stream).granted();
		await until(() => streams[3]?.positions.at(-1) === 2);
		expect(streams[2]?.positions).toEqual([3, 2, 1]);
		expect(streams[3]?.positions).toEqual([4, 3, 2]);
	});

	test.concurrent("beats at least every second while it waits near the head, and while it holds", async () => {
		expect(BEAT_MS).toBeLessThan(1_000);
		const name = await newLimit();
		const holding = await open({ names: name, hold: true });
		await holding.granted();
		const near = await openQueued({ names: name });
		await until(() => [holding, near].every(({ beats }) => beats >= 3));
		await holding.leave();
	});

	test.concurrent("those far back hear less, but all hear their place", async () => {
		const name = await newLimit();
		await granted({ names: name });
		const { streams } = await line(
			name,
			Array.from({ length: 20 }, () => ({})),
		);
		const before = streams.map(({ beats }) => beats);
		const since = (at: number): number => (streams[at] as Stream).beats - (before[at] as number);
		await until(() => since(0) >= 3 && since(15) >= 2);
		// One beat in many, so at most one of these.
		expect(since(19)).toBeLessThanOrEqual(1);
		expect(streams.map(({ positions }) => positions.at(-1))).toEqual(Array.from({ length: 20 }, (_, at) => at + 1));
		await remove(name);
	});
});

/** A machine that stalls for seconds renews it late, and one of a second would be lost. */
const HELD_SECONDS = 5;

describe.concurrent("promise 5: a lease that lives as long as its stream", () => {
	test("outlives its seconds, and ends within 2 s of its caller's going", async () => {
		const name = await newLimit();
		const stream = await open({ names: name, hold: true, leaseSeconds: HELD_SECONDS });
		const { id, expiresAt } = await stream.granted();
		const next = await openQueued({ names: name });
		await until(() => Date.now() > Date.parse(expiresAt) + 500);
		expect((await inspect(name)).leases.map((lease) => lease.id)).toEqual([id]);
		expect(stream.state).toBe("open");
		await stream.leave();
		await next.granted();
		expect((await inspect(name)).activeSlots).toBe(1);
	});

	test("ends when it is released, and the stream ends with it", async () => {
		const name = await newLimit();
		const stream = await open({ names: name, hold: true });
		const lease = await stream.granted();
		expect((await release(lease)).body).toEqual({ released: 1 });
		await stream.ended;
		expect(stream.state).toBe("ended");
		expect((await inspect(name)).activeSlots).toBe(0);
	});

	test("ends when it is taken back by force", async () => {
		const name = await newLimit();
		const stream = await open({ names: name, hold: true });
		const { id } = await stream.granted();
		await call("DELETE", `${path(name)}/leases/${id}`);
		await stream.ended;
		expect((await inspect(name)).activeSlots).toBe(0);
	});

	test("ends when its limit is deleted", async () => {
		const name = await newLimit();
		const stream = await open({ names: name, hold: true });
		await stream.granted();
		await remove(name);
		await stream.ended;
		expect(stream.state).toBe("ended");
	});

	test("after a wait in line too", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const stream = await openQueued({ names: name, hold: true, leaseSeconds: HELD_SECONDS });
		await release(lease);
		const { expiresAt } = await stream.granted();
		await until(() => Date.now() > Date.parse(expiresAt) + 500);
		expect((await inspect(name)).leaseCount).toBe(1);
		await stream.leave();
		await untilActive(name, 0);
	});

	test("on a limit that is off as well: it holds nothing, and lives on", async () => {
		const name = newName();
		const stream = await open({ names: name, hold: true });
		await stream.granted();
		await until(() => stream.beats >= 1);
		expect(stream.state).toBe("open");
		await stream.leave();
	});

	test("a caller that comes back under the same id keeps it, and takes over its end", async () => {
		const name = await newLimit();
		const request = { names: name, hold: true, id: newId() };
		const first = await open(request);
		const lease = await first.granted();
		const second = await open(request);
		expect((await second.granted()).expiresAt >= lease.expiresAt).toBe(true);
		await first.leave();
		const beats = second.beats;
		await until(() => second.beats >= beats + 4);
		expect((await inspect(name)).leases.map(({ id }) => id)).toEqual([request.id]);
		await second.leave();
		await untilActive(name, 0);
	});
});

describe.concurrent("promise 10: gone waiters take nothing", () => {
	test("at the second line that nobody reads, and what is left of its patience, the two seconds are not over", () => {
		expect(2 * BEAT_MS + AWAY_MS).toBeLessThan(2_000);
	});

	test("a stream that its reader leaves is out of the line within 2 s", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const { streams } = await line(name, [{}, {}, {}]);
		await (streams[0] as Stream).leave();
		await untilWaiting(name, 2);
		await until(() => streams[1]?.positions.at(-1) === 1);
		await release(lease);
		await (streams[1] as Stream).granted();
	});

	test("slots that come free before it is noticed go to the next in line", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const { streams } = await line(name, [{}, {}, {}]);
		await Promise.all([streams[0]?.leave(), streams[1]?.leave()]);
		await release(lease);
		await (streams[2] as Stream).granted();
		expect((await inspect(name)).leases.map(({ id }) => id)).toEqual([streams[2]?.lease?.id]);
		await untilWaiting(name, 0);
	});

	test("a grant to a reader that has gone is undone", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const gone = await openQueued({ names: name });
		const going = gone.leave();
		await release(lease);
		await going;
		const isIdle = async () => {
			const { leaseCount, waitingCount } = await inspect(name);
			return leaseCount + waitingCount === 0;
		};
		await until(isIdle, "neither a lease nor a waiter");
	});

	test("a grant that was heard stays, though its reader closes the stream at once", async () => {
		const name = await newLimit({ limit: 2 });
		const stream = await open({ names: name });
		const lease = await stream.granted();
		await stream.leave();
		await scheduler.wait(PROBED_MS);
		expect((await inspect(name)).leases.map(({ id }) => id)).toEqual([lease.id]);
	});

	test("a stream that goes does not take the lease from a call that was told of it", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const id = newId();
		const stream = await openQueued({ names: name, id });
		const plain = acquire({ names: name, id, waitSeconds: 30 });
		await until(async () => (await inspect(name)).waiting[0]?.id === id);
		await scheduler.wait(20);
		const left = plain.then(() => stream.leave());
		await release(lease);
		expect((await plain).status).toBe(200);
		await left;
		await scheduler.wait(PROBED_MS);
		expect((await renew({ id, names: name })).status).toBe(200);
		expect((await inspect(name)).leases.map((each) => each.id)).toEqual([id]);
	});
});

describe.concurrent("promise 11: the same id again while it waits", () => {
	test("keeps its place after the connection broke", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const id = newId();
		const first = await openQueued({ names: name, id });
		const other = await openQueued({ names: name });
		await first.leave();
		const again = await openQueued({ names: name, id });
		expect(again.positions).toEqual([1]);
		await until(() => other.positions.at(-1) === 2);
		await release(lease);
		expect((await again.granted()).id).toBe(id);
		expect(other.lease).toBeNull();
	});

	test("is the same request, whether asked by stream or by call", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const request = { names: name, id: newId() };
		const stream = await openQueued(request);
		const calls = [1, 2].map(() => acquire({ ...request, waitSeconds: 30 }));
		const another = await openQueued(request);
		expect(another.positions).toEqual([1]);
		expect((await inspect(name)).waitingCount).toBe(1);
		await release(lease);
		const answers = await Promise.all(calls);
		const leases = [await stream.granted(), await another.granted(), ...answers.map(({ body }) => body)];
		expect(new Set(leases.map(({ id, expiresAt }) => `${id} ${expiresAt}`)).size).toBe(1);
		expect(await inspect(name)).toMatchObject({ activeSlots: 1, leaseCount: 1 });
	});

	test("gets the same lease when the grant was missed", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const request = { names: name, id: newId() };
		const { answer } = await waiting(name, request);
		await release(lease);
		const missed = await answer;
		const again = await open(request);
		expect((await again.granted()).expiresAt).toBe(missed.body.expiresAt);
		await again.leave();
		await scheduler.wait(PROBED_MS);
		expect((await renew({ id: request.id, names: name })).status).toBe(200);
	});

	test("with other parameters is refused with 409, and the first keeps its place", async () => {
		const name = await newLimit({ limit: 5 });
		const lease = await granted({ names: name, occupy: 5 });
		const id = newId();
		const first = await openQueued({ names: name, id });
		for (const change of [{ occupy: 2 }, { leaseSeconds: 30 }, { holder: "x" }]) {
			expectProblem(await acquire({ names: name, id, waitSeconds: 5, ...change }), 409, "id_in_use");
			expect((await (await open({ names: name, id, ...change })).denied()).code).toBe("id_in_use");
		}
		expect(first.problem).toBeNull();
		expect((await inspect(name)).waiting.map((waiter) => waiter.id)).toEqual([id]);
		await release(lease);
		await first.granted();
	});

	test("may ask for a longer or a shorter wait", async () => {
		const name = await newLimit();
		await granted({ names: name });
		const request = { names: name, id: newId() };
		const { answer } = await waiting(name, { ...request, waitSeconds: 30 });
		const shorter = await acquire({ ...request, waitSeconds: 0.2 });
		expect(shorter.status).toBe(429);
		expect((await answer).status).toBe(429);
		expect((await inspect(name)).waitingCount).toBe(0);
	});

	test("release while it waits withdraws the request", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const request = { names: name, id: newId() };
		const stream = await openQueued(request);
		const plain = acquire({ ...request, waitSeconds: 30 });
		const next = await openQueued({ names: name });
		expect((await release(request)).body).toEqual({ released: 0 });
		expect((await stream.denied()).code).toBe("id_in_use");
		await stream.ended;
		expectProblem(await plain, 409, "id_in_use");
		expectProblem(await acquire({ ...request, waitSeconds: 1 }), 409, "id_in_use");
		await release(lease);
		await next.granted();
		expect((await inspect(name)).leases.map(({ id }) => id)).toEqual([next.lease?.id]);
	});

	test("renewing what only waits is refused", async () => {
		const name = await newLimit();
		await granted({ names: name });
		const id = newId();
		await openQueued({ names: name, id });
		expectProblem(await renew({ id, names: name }), 410, "lease_gone");
		expect((await inspect(name)).waitingCount).toBe(1);
	});
});

describe("settings that change under those who wait", () => {
	test.each([0, 0.5])(
		"a limit set to 0 is a pause for them, and a denial for who does not wait (decay: %d)",
		async (slotDecayPerSecond) => {
			const name = await newLimit({ limit: 1, slotDecayPerSecond });
			const lease = await granted({ names: name });
			const stream = await openQueued({ names: name });
			const { answer } = await waiting(name);
			await patch(name, { limit: 0 });
			expect(expectProblem(await acquire({ names: name, occupy: 3 }), 429, "denied").retryAfterSeconds).toBe(30);
			await release(lease);
			expect(await isSettled(answer)).toBe(false);
			await patch(name, { limit: 1 });
			await release(await stream.granted());
			expect((await answer).status).toBe(200);
		},
	);

	test("a limit lowered below what a waiter asks refuses it at once, and serves the next", async () => {
		const name = await newLimit({ limit: 4 });
		const lease = await granted({ names: name, occupy: 1 });
		const big = await openQueued({ names: name, occupy: 4 });
		const { answer } = await waiting(name, { occupy: 4 });
		const small = await openQueued({ names: name, occupy: 3 });
		expect(small.lease).toBeNull();
		await patch(name, { limit: 3 });
		const problem = await big.denied();
		expect(problem).toMatchObject({ status: 422, code: "exceeds_limit" });
		await big.ended;
		expectProblem(await answer, 422, "exceeds_limit");
		await until(() => small.positions.at(-1) === 1);
		await release(lease);
		await small.granted();
	});

	test("decay that is taken away refuses those who wait in rate-limit mode", async () => {
		const name = await newLimit({ limit: 2, slotDecayPerSecond: 0.001 });
		await granted({ names: name, occupy: 2, mode: "rate_limit" });
		const rate = await openQueued({ names: name, mode: "rate_limit" });
		const { answer } = await waiting(name, { mode: "rate_limit" });
		await patch(name, { slotDecayPerSecond: 0 });
		expect(await rate.denied()).toMatchObject({ status: 422, code: "no_decay" });
		expectProblem(await answer, 422, "no_decay");
		expect((await inspect(name)).waitingCount).toBe(0);
	});

	test("a deleted limit answers those who wait, and ends its leases", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const held = await openQueued({ names: name, hold: true });
		const stream = await openQueued({ names: name });
		const { answer } = await waiting(name);
		expect((await remove(name)).status).toBe(204);
		for (const each of [held, stream]) {
			expect(await each.denied()).toMatchObject({ status: 404, code: "unknown_limit" });
			await each.ended;
		}
		expectProblem(await answer, 404, "unknown_limit");
		expectProblem(await renew(lease), 410, "lease_gone");
		await configure(name, { limit: 1 });
		expect(await inspect(name)).toMatchObject({ activeSlots: 0, waitingCount: 0 });
	});

	test("a limit that is switched on again serves those who come then in their turn", async () => {
		const name = await newLimit();
		await patch(name, { active: false });
		await granted({ names: name });
		await patch(name, { active: true });
		const lease = await granted({ names: name });
		const { answer } = await waiting(name);
		expect(await isSettled(answer)).toBe(false);
		await release(lease);
		expect((await answer).status).toBe(200);
	});
});

describe("promise 12: the line is bounded", () => {
	test("a full line refuses more with 503, and takes them again when it is shorter", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const ids = Array.from({ length: 10_000 }, (_, index) => `waiter-${index}`);
		const asked = runInDurableObject(limitObject(name), async (instance) => {
			const asks = ids.map((id) =>
				instance
					.acquire({
						request: {
							...{ id, slots: 1, mode: "concurrency" as const, leaseMs: 60_000, waitMs: 60_000 },
							...{ ifBusy: "wait" as const, holder: null, held: false, print: "", remember: false },
						},
						createIfMissing: false,
						// All of them are of the caller that is refused then: its part of the line is all of it.
						share: { token: "\n", most: BOUNDS.alone.waiters },
					})
					.then((outcome) => ("missing" in outcome ? "missing" : outcome.event.kind)),
			);
			return Promise.all(asks);
		});
		await untilWaiting(name, 10_000);
		const answer = await acquire({ names: name, waitSeconds: 5 });
		const problem = expectProblem(answer, 503, "queue_full");
		expect(problem["violated-policies"]).toEqual([name]);
		expect(answer.headers.get("Retry-After")).toMatch(/^\d+$/);
		expect((await (await open({ names: name })).denied()).code).toBe("queue_full");
		// Whoever does not wait needs no place in it.
		expectProblem(await acquire({ names: name }), 429, "denied");
		const { waiting: shown, waitingCount } = await inspect(name);
		expect({ shown: shown.length, waitingCount }).toEqual({ shown: 100, waitingCount: 10_000 });
		await release(lease);
		const last = await openQueued({ names: name });
		expect(last.positions).toEqual([10_000]);
		await last.leave();
		await patch(name, { active: false });
		expect(new Set(await asked)).toEqual(new Set(["granted"]));
	});
});

test("promise 11: who asks again as its time in line ends hears of the new request, and not of the end of the first", async () => {
	const clock = stopClock();
	const ids = Array.from({ length: 12 }, newId);
	const name = await newLimit({ limit: ids.length });
	const lease = await granted({ names: { [name]: ids.length } });
	const request = {
		...{ slots: 1, mode: "concurrency" as const, leaseMs: 60_000, waitMs: 1_000, ifBusy: "wait" as const },
		...{ holder: null, held: false, print: "", remember: true },
	};
	const streams = await runInDurableObject(limitObject(name), async (instance) => {
		const ask = async (id: string): Promise<Stream> => {
			const opened = await instance.open({ request: { ...request, id }, createIfMissing: false }, "acquire", "wire");
			return new Stream(new Response(opened as ReadableStream));
		};
		const first = await Promise.all(ids.map(ask));
		await Promise.all(first.map((stream) => stream.queued()));
		clock.pass(2_000);
		// The release ends the first ones, which is told once it is written; the others come at all the moments until then.
		const released = instance.release(lease.id, "caller");
		const again: Promise<Stream>[] = [];
		for (const id of ids) {
			again.push(ask(id));
			await null;
		}
		await released;
		return Promise.all(again);
	});
	expect((await Promise.all(streams.map((stream) => stream.granted()))).map(({ id }) => id)).toEqual(ids);
	expect((await inspect(name)).leases.map(({ id }) => id).sort()).toEqual(ids.toSorted());
});
