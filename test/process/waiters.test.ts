/** A thousand waiters on one limit, each with a connection of its own: order, memory, and everybody else meanwhile. */

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { caller, type Stream, server, startOne, until, within } from "./support.ts";

startOne();

const WAITERS = 1_000;
/** Connections that are opened at a time. */
const AT_ONCE = 50;
/** Ends a test that hangs. */
const ALL_MS = 50_000;
/** At most, before the runtime has collected any garbage. */
const WAITER_KB = 300;

/** Memory of the server's process in kB; undefined on systems that do not tell. */
function memory(): number | undefined {
	try {
		const kb = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))?.[1];
		return kb === undefined ? undefined : Number(kb);
	} catch {
		return undefined;
	}
}

test("promise 3: a thousand waiters are each served once, in order, while /health is answered", async () => {
	await caller.limit("thousand", 1);
	const holder = await caller.take({ names: "thousand", leaseSeconds: 600 });
	// One of it all first, so that what is loaded once is not counted for the waiters.
	const first = caller.stream({ names: "thousand" });
	await within("a place in line", ALL_MS, first.queued);
	first.close();
	await until("the line is empty again", ALL_MS, async () => (await caller.inspect("thousand")).waitingCount === 0);

	const before = memory();
	const over = new AbortController();
	const watching = (async () => {
		while (!over.signal.aborted) {
			expect((await caller.call("GET", "/health")).status).toBe(200);
			await sleep(10);
		}
	})();

	try {
		const line: Stream[] = [];
		while (line.length < WAITERS) {
			const some = Array.from({ length: AT_ONCE }, () => caller.stream({ names: "thousand", leaseSeconds: 600 }));
			await Promise.all(some.map(({ queued }) => within("a place in line", ALL_MS, queued)));
			line.push(...some);
		}
		const after = memory();
		const { waitingCount } = await caller.inspect("thousand");
		expect(waitingCount).toBe(WAITERS);
		if (before !== undefined && after !== undefined) {
			const each = (after - before) / WAITERS;
			expect(each).toBeLessThan(WAITER_KB);
		}

		const order: Stream[] = [];
		const served = line.map(async (stream) => {
			const lease = await stream.granted;
			order.push(stream);
			expect(await caller.release(lease)).toBe(1);
		});
		await caller.release(holder);
		await within("all of them served", ALL_MS, Promise.all(served));

		const places = order.map(({ firstPosition }) => firstPosition ?? Number.NaN);
		expect(places).toEqual(Array.from({ length: WAITERS }, (_, index) => index + 1));
		for (const { events } of line) expect(events.filter(({ event }) => event === "granted")).toHaveLength(1);
		const { totals, ...info } = await caller.inspect("thousand");
		expect(info).toMatchObject({ activeSlots: 0, leaseCount: 0, waitingCount: 0 });
		expect(totals).toMatchObject({ grantedAtOnce: 1, grantedAfterWait: WAITERS, released: WAITERS + 1, expired: 0 });
	} finally {
		over.abort();
		await watching;
	}
});
