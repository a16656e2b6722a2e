/** The middleware under a load generator's load, with a part of each limit taken from outside of it. */

import { randomUUID } from "node:crypto";
import path from "node:path";
import autocannon, { type Result } from "autocannon";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Headgate as Library } from "../../src/client/index.ts";
import { type FreshServer, freshServer } from "../support/server.ts";
import { root } from "./harness.ts";

const CONNECTIONS = 64;
/** Ends what hangs. */
const LONGEST_SECONDS = 240;

let server: FreshServer;
let gate: Library;
beforeAll(async () => {
	server = await freshServer({ config: path.join(root, "test/edge/api/wrangler.toml") });
	gate = new Library({ url: server.url });
});
afterAll(() => server[Symbol.asyncDispose]());

interface Counts {
	granted: number;
	denied: number;
}

/** Goes on until it has been answered as often as is enough, and `look` has looked; nothing may fail or be answered in another way. */
async function load(
	at: string,
	enough: (counts: Counts) => boolean,
	look: () => Promise<void> = async () => undefined,
): Promise<Counts & { result: Result }> {
	let isOver = false;
	const counts: Counts = { granted: 0, denied: 0 };
	const result = await new Promise<Result>((resolve, reject) => {
		const options = { url: server.url + at, connections: CONNECTIONS, duration: LONGEST_SECONDS };
		const loading = autocannon(options, (error, result) => (error ? reject(error) : resolve(result)));
		loading.on("response", (_, status) => {
			if (status === 200) counts.granted++;
			if (status === 429) counts.denied++;
			if (isOver || !enough(counts)) return;
			isOver = true;
			look().then(() => loading.stop(), reject);
		});
	});
	expect(result).toMatchObject({ errors: 0, timeouts: 0, mismatches: 0, non2xx: counts.denied });
	expect(enough(counts), JSON.stringify(result.statusCodeStats)).toBe(true);
	return { ...counts, result };
}

/** Enough for every connection to have been let in and turned away. */
const both = ({ granted, denied }: Counts): boolean => granted > CONNECTIONS && denied > CONNECTIONS;

async function get<T>(at: string): Promise<T> {
	return (await (await fetch(server.url + at)).json()) as T;
}

let runs = 0;
/** The most that were at work at once under a load. It is asked for before the load ends: whom that cuts off is counted on. */
async function mostAtWork(name: string, full: number, enough: (counts: Counts) => boolean): Promise<number> {
	const query = `name=${name}&run=${++runs}&full=${full}`;
	let most = Number.NaN;
	await load(`/held-work?${query}`, enough, async () => {
		most = (await get<{ most: number }>(`/work-most?${query}`)).most;
	});
	return most;
}

const taken = async (name: string): Promise<number> => (await gate.inspect(name)).activeSlots;

describe("concurrency", () => {
	test("promise 1: never lets more in than are left beside what is held from outside, and all that are", async () => {
		const name = randomUUID();
		await gate.configure(name, { limit: 8 });
		const outside = await gate.acquire(name, { occupy: 3 });
		expect(await mostAtWork(name, 5, both)).toBe(5);
		// What was cut off at the end of the load is given back too.
		await expect.poll(() => taken(name)).toBe(3);
		await outside.release();
		expect(await mostAtWork(name, 8, both)).toBe(8);
		await expect.poll(() => taken(name)).toBe(0);
	});

	test("lets nobody in while all of it is held from outside, and goes on when it is given back", async () => {
		const name = randomUUID();
		await gate.configure(name, { limit: 4 });
		const outside = await gate.acquire(name, { occupy: 4 });
		expect(await mostAtWork(name, 0, ({ denied }) => denied > CONNECTIONS)).toBe(0);
		const most = mostAtWork(name, 4, both);
		await outside.release();
		expect(await most).toBe(4);
	});
});

describe("rateLimit", () => {
	test("promise 1: lets through what decays and no more, beside what was taken from outside", async () => {
		const name = randomUUID();
		const RATE = 20;
		await gate.configure(name, { limit: RATE, slotDecayPerSecond: RATE });
		const startedAt = performance.now();
		await gate.rateLimit(name, { occupy: RATE / 2 });
		// More than are left at once, so that the last of them have decayed.
		const { granted } = await load(`/rate?name=${name}`, ({ granted, denied }) => granted > RATE && denied > RATE);
		const elapsed = (performance.now() - startedAt) / 1_000;
		expect(granted).toBeLessThanOrEqual(RATE / 2 + Math.ceil(RATE * elapsed));
		// Every grant is one of the limit's; those whose answers are cut off at the end of the load have taken theirs.
		expect((await gate.inspect(name)).totals.grantedAtOnce).toBeGreaterThanOrEqual(granted + 1);
	});

	test("a flood against an empty limit is denied from memory, and reaches the limit a few times a second", async () => {
		const name = randomUUID();
		await gate.configure(name, { limit: 3, slotDecayPerSecond: 0.001 });
		await gate.rateLimit(name, { occupy: 2 });
		const { granted, denied, result } = await load(`/rate?name=${name}`, ({ denied }) => denied > 10 * CONNECTIONS);
		expect(granted).toBe(1);
		const { asked } = await get<{ asked: number }>(`/asked?name=${name}`);
		// A denial is kept for a second; when it ends, each connection may ask before the next one is answered.
		expect(asked).toBeLessThanOrEqual(3 + (result.duration + 1) * CONNECTIONS);
		await expect.poll(async () => (await gate.inspect(name)).totals.denied).toBeGreaterThanOrEqual(denied);
	});
});
