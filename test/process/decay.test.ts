/**
 * Promises 1 and 8 over real time: never more than the configured rate, everybody in line is served, and a retry is worth
 * its wait. How much of the rate is given is a figure: `npm run bench -- --check` has it beside its control.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import type { Problem } from "../../src/protocol.ts";
import { caller, startOne, within } from "./support.ts";

startOne();

/** Ends a test that hangs. */
const ALL_MS = 50_000;

/** Until a moment of `performance.now()`, and not a fraction of a millisecond less, which timers do not promise. */
async function sleepUntil(at: number): Promise<void> {
	for (let left = at - performance.now(); left > 0; left = at - performance.now()) await sleep(Math.ceil(left));
}

test("promise 1: ten times too much is asked for, and never more than the limit allows is granted", async () => {
	const [limit, perSecond, forMs, everyMs] = [10, 20, 5_000, 5];
	await caller.limit("overload", limit, perSecond);
	let granted = 0;
	let refused = 0;
	const startedAt = performance.now();
	const asked: Promise<void>[] = [];
	for (let at = startedAt; at < startedAt + forMs; at += everyMs) {
		await sleepUntil(at);
		const request = caller.acquire({ names: "overload", mode: "rate_limit" }).then(({ status, body }) => {
			if (status === 200) granted += 1;
			else if (status === 429) refused += 1;
			else throw new Error(`${status} ${JSON.stringify(body)}`);
		});
		asked.push(request);
	}
	await within("every answer", ALL_MS, Promise.all(asked));
	const askedForMs = performance.now() - startedAt;
	expect(granted + refused).toBe(asked.length);
	expect(granted).toBeGreaterThanOrEqual(limit);
	expect(granted).toBeLessThanOrEqual(limit + (perSecond * askedForMs) / 1000);
});

test.concurrent.each([
	{ limit: 10, perSecond: 20, seconds: 3 },
	{ limit: 20, perSecond: 200, seconds: 3 },
	{ limit: 2, perSecond: 50, seconds: 2 },
])(
	"promise 8: everybody in a line is served by decay, and never too soon: $limit decaying $perSecond/s",
	async (each) => {
		const { limit, perSecond, seconds } = each;
		const name = `line-${limit}-${perSecond}`;
		await caller.limit(name, limit, perSecond);
		const waiting = perSecond * seconds;
		const startedAt = performance.now();
		const streams = Array.from({ length: limit + waiting }, () => caller.stream({ names: name, mode: "rate_limit" }));
		await within("every grant", ALL_MS, Promise.all(streams.map(({ granted }) => granted)));
		const grants = streams.map(({ grantedAt }) => grantedAt).sort((a, b) => a - b);
		const tookMs = (grants.at(-1) ?? Number.NaN) - startedAt;
		// In no interval more than the promise allows, seen from the first request on.
		expect(grants.length).toBeLessThanOrEqual(limit + (perSecond * tookMs) / 1000);
	},
);

const LIMITS = [
	{ limit: 1, perSecond: 7.3, occupy: 1 },
	{ limit: 3, perSecond: 11, occupy: 2 },
	{ limit: 5, perSecond: 25, occupy: 5 },
	{ limit: 2, perSecond: 3.7, occupy: 1 },
	{ limit: 10, perSecond: 60, occupy: 7 },
];
const RETRIES = 10;

test("promise 8: a retry after exactly retryAfterSeconds is granted", async () => {
	let granted = 0;
	await Promise.all(
		LIMITS.map(async ({ limit, perSecond, occupy }) => {
			const names = `retry-${limit}-${perSecond}`;
			await caller.limit(names, limit, perSecond);
			const ask = () => caller.acquire({ names, occupy, mode: "rate_limit" });
			for (let done = 0; done < RETRIES; ) {
				const { status, body } = await ask();
				if (status === 200) continue;
				expect(status).toBe(429);
				const deniedAt = performance.now();
				const seconds = (body as Problem).retryAfterSeconds ?? Number.NaN;
				expect(seconds).toBeGreaterThan(0);
				// Never longer than all that is asked for takes to come back; a millisecond is the finest step.
				expect(seconds).toBeLessThanOrEqual(occupy / perSecond + 0.001);
				await sleepUntil(deniedAt + seconds * 1000);
				const again = await ask();
				expect([names, done, again.status, again.body]).toEqual([names, done, 200, again.body]);
				granted += 1;
				done += 1;
			}
		}),
	);
	expect(granted).toBe(LIMITS.length * RETRIES);
});
