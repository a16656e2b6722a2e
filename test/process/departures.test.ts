/** Promises 5 and 10, from outside: callers that go, each in its own way, and when their slots reach the next in line. */

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { AWAY_MS } from "../../src/core/patience.ts";
import type { AcquireRequest, Lease } from "../../src/protocol.ts";
import { Random } from "../core/random.ts";
import {
	ClientProcess,
	caller,
	type Heard,
	hasCurl,
	newSeed,
	report,
	server,
	startOne,
	until,
	within,
} from "./support.ts";

startOne();

/** A waiter that is gone stays in line for less than this. How much less is a figure: `npm run bench -- --check`. */
const GONE_MS = 2_000;
/** A caller that goes later than this after its grant may have heard of it, and its lease stands. */
const HEARD_MS = 40;
const ROUNDS = 5;
/** Ends what hangs: below every lease and every wait here, so that none of those is what brings the slots back. */
const ANSWER_MS = 45_000;

interface Client extends Heard {
	leave(): void;
}

const program = hasCurl ? "curl" : "node";

/** Each asks for slots, and can go in its own way. */
const WAYS: Record<string, (body: AcquireRequest) => Client> = {
	[`${program} killed with -9`]: (body) => processThatEnds("SIGKILL", body),
	[`${program} stopped by Ctrl-C`]: (body) => processThatEnds("SIGINT", body),
	"a connection closed (FIN)": (body) => {
		const stream = caller.stream(body);
		return Object.assign(stream, { leave: () => stream.close() });
	},
	"a connection reset (RST)": (body) => {
		const stream = caller.stream(body);
		return Object.assign(stream, { leave: () => stream.reset() });
	},
};

function processThatEnds(signal: "SIGKILL" | "SIGINT", body: AcquireRequest): Client {
	const client = new ClientProcess(program, server.url, body);
	return Object.assign(client, { leave: () => client.kill(signal) });
}

/** Runs the rounds side by side, each on limits of its own, and reports what they measured. */
async function rounds(what: string, round: (index: number) => Promise<number>): Promise<void> {
	report(what, await Promise.all(Array.from({ length: ROUNDS }, (_, index) => round(index))));
}

// Side by side, for each of them waits most of the time.
describe.concurrent.each(Object.entries(WAYS))("%s", (way, ask) => {
	test.each([1, 2])("promise 5: slots of %i names held by the stream go to the next in line", async (count) => {
		await rounds(`${way}, ${count} held: slots with the next after`, async () => {
			const names = await caller.fresh(count);
			const holder = ask({ names, hold: true });
			await within("the held lease", ANSWER_MS, holder.granted);
			const next = caller.stream({ names, hold: true });
			await within("a place in line", ANSWER_MS, next.queued);
			const leftAt = performance.now();
			holder.leave();
			await within("the hand-off", ANSWER_MS, next.granted);
			next.close();
			return next.grantedAt - leftAt;
		});
	});

	test.each([1, 2])("promise 10: a waiter for %i names leaves the line", async (count) => {
		const passed: number[] = [];
		await rounds(`${way}, ${count} waited for: out of the line after`, async () => {
			const names = await caller.fresh(count);
			const first = names[0] as string;
			const lease = await caller.take({ names: first, leaseSeconds: 600 });
			const waiter = ask({ names, id: randomUUID() });
			await within("a place in line", ANSWER_MS, waiter.queued);
			const next = caller.stream({ names });
			expect(await within("a place behind", ANSWER_MS, next.queued)).toBe(2);
			const leftAt = performance.now();
			waiter.leave();
			await until("the next moves up", ANSWER_MS, () => next.position === 1);
			passed.push(performance.now() - leftAt);
			for (const name of names) {
				await until("the waiter is out of every line", ANSWER_MS, async () => {
					const { waiting } = await caller.inspect(name);
					return waiting.every(({ id }) => id !== waiter.body.id);
				});
			}
			const goneAfter = performance.now() - leftAt;
			await caller.release(lease);
			await within("the hand-off", ANSWER_MS, next.granted);
			next.close();
			return goneAfter;
		});
		report(`${way}, ${count} waited for: passed by the next after`, passed);
	});

	test.each([
		{ count: 1, hold: false },
		{ count: 1, hold: true },
		{ count: 2, hold: false },
		{ count: 2, hold: true },
	])(
		"promise 10: a waiter that goes as it is granted loses the slot: $count names, hold: $hold",
		async ({ count, hold }) => {
			const seed = newSeed();
			const random = new Random(seed);
			// A caller that heard of its grant owns the lease, and only a held one gives it back by going.
			const pauses = Array.from({ length: ROUNDS }, () => (hold ? random.int(0, 8) : 0));
			await rounds(
				`${way}, granted ${count} as it went${hold ? ", holding" : ""} (seed ${seed}): next after`,
				async (index) => {
					const names = await caller.fresh(count);
					const lease = await caller.take({ names, leaseSeconds: 600 });
					// A lease far longer than the test, so that only the departure can bring it back.
					const waiter = ask({ names, hold, id: randomUUID(), leaseSeconds: 600 });
					await within("a place in line", ANSWER_MS, waiter.queued);
					const next = caller.stream({ names, leaseSeconds: 600 });
					await within("a place behind", ANSWER_MS, next.queued);
					const freedAt = performance.now();
					// Gone before the grant, or a few milliseconds into it: the pause is part of what is tried.
					if (index === 0 || !hold) waiter.leave();
					if (!hold) await within("its end", ANSWER_MS, waiter.ended);
					const released = caller.release(lease);
					if (pauses[index]) await sleep(pauses[index]);
					if (index > 0 && hold) waiter.leave();
					const leftAt = performance.now();
					// On a machine that stalled it may have had all the time to hear of its grant; then the lease is its own.
					if (index > 0 && leftAt - freedAt > HEARD_MS) await caller.release({ id: waiter.body.id ?? "", names });
					await within("the hand-off", ANSWER_MS, next.granted);
					await released;
					for (const name of names) {
						const { leases, activeSlots } = await caller.inspect(name);
						const ids = leases.map(({ id }) => id);
						expect({ ids, activeSlots }).toEqual({ ids: [(await next.granted).id], activeSlots: 1 });
					}
					return next.grantedAt - leftAt;
				},
			);
		},
	);

	test.each([1, 2])(
		"promise 11: a waiter for %i names whose connection broke keeps its place when it is back at once",
		async (count) => {
			const names = await caller.fresh(count);
			const lease = await caller.take({ names, leaseSeconds: 600 });
			const request = { names, id: randomUUID() };
			const broken = ask(request);
			await within("a place in line", ANSWER_MS, broken.queued);
			const behind = caller.stream({ names });
			await within("a place behind", ANSWER_MS, behind.queued);
			const leftAt = performance.now();
			broken.leave();
			await broken.ended;
			const again = caller.stream(request);
			const place = await within("the place it had", ANSWER_MS, again.queued);
			// A machine that took longer than the patience with those who are away did not let it be back at once.
			if (place !== 1) {
				expect(performance.now() - leftAt).toBeGreaterThan(AWAY_MS);
				return;
			}
			// Past the moment in which the broken connection is noticed and given up.
			await sleep(GONE_MS);
			for (const name of names) expect((await caller.inspect(name)).waiting[0]?.id).toBe(request.id);
			expect(again.position).toBe(1);
			await caller.release(lease);
			await caller.release(await within("the hand-off", ANSWER_MS, again.granted));
			await within("the hand-off to the one behind", ANSWER_MS, behind.granted);
		},
	);
});

test.concurrent.each([1, 2])(
	"promise 10: a held response for %i names that is reset leaves the line",
	async (count) => {
		await rounds(`a held response for ${count} reset: slots with the next after`, async (index) => {
			const names = await caller.fresh(count);
			const lease = await caller.take({ names, leaseSeconds: 600 });
			const body = { names, waitSeconds: 60, leaseSeconds: 600 };
			const { request, response } = caller.send("POST", "/v1/acquire", body);
			response.catch(() => undefined);
			const first = names[0] as string;
			await until("a place in line", ANSWER_MS, async () => (await caller.inspect(first)).waitingCount === 1);
			const next = caller.stream({ names });
			await within("a place behind", ANSWER_MS, next.queued);
			const leftAt = performance.now();
			request.socket?.resetAndDestroy();
			// Now the slots come free at once, and now after it was noticed that the caller went.
			if (index > 1) await until("the next moves up", ANSWER_MS, () => next.position === 1);
			await caller.release(lease);
			await within("the hand-off", ANSWER_MS, next.granted);
			return next.grantedAt - leftAt;
		});
	},
);

test.concurrent("promise 11: a held response that is asked for again keeps its place when the first one breaks", async () => {
	const [name = ""] = await caller.fresh(1);
	const lease = await caller.take({ names: name, leaseSeconds: 600 });
	const body = { names: name, id: randomUUID(), waitSeconds: 60 };
	const broken = caller.send("POST", "/v1/acquire", body);
	broken.response.catch(() => undefined);
	await until("a place in line", ANSWER_MS, async () => (await caller.inspect(name)).waitingCount === 1);
	const again = caller.acquire(body);
	const behind = caller.stream({ names: name });
	await within("a place behind", ANSWER_MS, behind.queued);
	broken.request.socket?.resetAndDestroy();
	// Longer than a waiter that is gone stays in line.
	await sleep(GONE_MS);
	expect((await caller.inspect(name)).waiting.map(({ id }) => id)[0]).toBe(body.id);
	expect(behind.position).toBe(2);
	await caller.release(lease);
	const { status, body: granted } = await within("the grant", ANSWER_MS, again);
	expect([status, granted]).toEqual([200, expect.objectContaining({ id: body.id })]);
	await caller.release(granted as Lease);
	await within("the hand-off to the one behind", ANSWER_MS, behind.granted);
});

test.concurrent("promise 5: a plain lease of a process that was killed comes back when it ends, and not before", async () => {
	const late = await Promise.all(
		Array.from({ length: ROUNDS }, async () => {
			const [name = ""] = await caller.fresh(1);
			const holder = new ClientProcess(program, server.url, { names: name, leaseSeconds: 1 });
			const { expiresAt } = await within("the lease", ANSWER_MS, holder.granted);
			await within("the end of the stream", ANSWER_MS, holder.ended);
			const next = caller.stream({ names: name });
			await within("the hand-off", ANSWER_MS, next.granted);
			return performance.timeOrigin + next.grantedAt - Date.parse(expiresAt);
		}),
	);
	expect(Math.min(...late)).toBeGreaterThan(-5);
	report("after its end a plain lease was with the next", late);
});
