/** Promise 4, from outside: how long it takes from a release to the granted line of the next in line. */

import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import type { AcquireRequest, Lease } from "../../src/protocol.ts";
import { caller, report, type Stream, startOne, within } from "./support.ts";

startOne();

const HAND_OFFS = 200;
const IN_LINE = 8;
/** Far above what it takes, for the machine may be busy; it is one or two milliseconds. */
const P50_MS = 50;
const ANSWER_MS = 10_000;

test.each([
	{ names: ["handed"], hold: false },
	{ names: ["handed-held"], hold: true },
	{ names: ["handed-first", "handed-second"], hold: false },
])("promise 4: $names (hold: $hold) are handed on at once, in order", async ({ names, hold }) => {
	for (const name of names) await caller.limit(name, 1);
	const ask = (): Stream => caller.stream({ names, hold, id: randomUUID() } satisfies AcquireRequest);
	let lease: Lease = await caller.take({ names, leaseSeconds: 600 });
	const line: Stream[] = [];
	const join = async (): Promise<void> => {
		const stream = ask();
		await within("a place in line", ANSWER_MS, stream.queued);
		line.push(stream);
	};
	for (let count = 0; count < IN_LINE; count += 1) await join();

	const latencies: number[] = [];
	for (let count = 0; count < HAND_OFFS; count += 1) {
		const next = line.shift();
		if (!next) throw new Error("Nobody is in line");
		const releasedAt = performance.now();
		const released = caller.release(lease);
		lease = await within(`hand-off ${count} of ${names}`, ANSWER_MS, next.granted);
		latencies.push(next.grantedAt - releasedAt);
		expect(await released).toBe(names.length);
		expect(line.filter((stream) => stream.decided)).toEqual([]);
		await join();
	}
	const { p50 } = report(`hand-off of ${names.join(" and ")}${hold ? ", held" : ""}`, latencies);
	expect(p50).toBeLessThan(P50_MS);
	for (const stream of line) stream.close();
});
