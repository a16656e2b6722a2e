/** Promise 4, from outside: each release is the grant of the next in line and of nobody else. */

import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import type { AcquireRequest, Lease } from "../../src/protocol.ts";
import { caller, type Stream, startOne, within } from "./support.ts";

startOne();

const HAND_OFFS = 200;
const IN_LINE = 8;
/** Ends a test that hangs. */
const ANSWER_MS = 45_000;

test.each([
	{ names: ["handed"], hold: false },
	{ names: ["handed-held"], hold: true },
	{ names: ["handed-first", "handed-second"], hold: false },
])("promise 4: $names (hold: $hold) are handed on in order", async ({ names, hold }) => {
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

	for (let count = 0; count < HAND_OFFS; count += 1) {
		const next = line.shift();
		if (!next) throw new Error("Nobody is in line");
		const released = caller.release(lease);
		lease = await within(`hand-off ${count} of ${names}`, ANSWER_MS, next.granted);
		expect(await released).toBe(names.length);
		expect(line.filter((stream) => stream.decided)).toEqual([]);
		await join();
	}
	for (const stream of line) stream.close();
});
