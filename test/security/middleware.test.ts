/** What strangers can do to a Worker behind the middleware, and what a program does wrong that they then use. */

import { randomUUID } from "node:crypto";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Headgate, type Settings } from "../../src/client/index.ts";
import { BOUNDS } from "../../src/protocol.ts";
import { type FreshServer, freshServer } from "../support/server.ts";

const root = path.resolve(import.meta.dirname, "../..");
let server: FreshServer;
let gate: Headgate;
beforeAll(async () => {
	server = await freshServer({ config: path.join(root, "test/edge/api/wrangler.toml") });
	gate = new Headgate({ url: server.url });
});
afterAll(() => server[Symbol.asyncDispose]());

const SLOW = { slotDecayPerSecond: 0.01 };
async function newLimit(settings: Pick<Settings, "limit"> & Partial<Settings>): Promise<string> {
	const name = randomUUID();
	await gate.configure(name, settings);
	return name;
}
/** The slots come back long before anything but their release could give them back. */
async function givesBack(name: string): Promise<void> {
	await expect.poll(async () => (await gate.inspect(name)).activeSlots, { interval: 20 }).toBe(0);
	expect((await gate.inspect(name)).totals).toMatchObject({ released: 1, expired: 0 });
}
const ask = (at: string, method = "GET") => fetch(server.url + at, { method, signal: AbortSignal.timeout(45_000) });

describe("slots of an answer that nobody sends come back", () => {
	test.each(["/long", "/plain/long", "/plain/silent"])("HEAD %s", async (at) => {
		const name = await newLimit({ limit: 2 });
		for (const _ of [1, 2, 3, 4]) {
			expect((await ask(`${at}?name=${name}`, "HEAD")).status).toBe(200);
			await expect.poll(async () => (await gate.inspect(name)).activeSlots).toBe(0);
		}
		expect((await gate.inspect(name)).totals).toMatchObject({ released: 4, expired: 0 });
	});

	test.each([
		["/replaced-endless", 203, "another"],
		["/replaced-silent", 203, "another"],
		["/outer-throws", 500, "outside"],
		["/dropped/long", 200, "another"],
		["/dropped/silent", 200, "another"],
	])("another answer takes its place: %s", async (at, status, text) => {
		const name = await newLimit({ limit: 1 });
		const response = await ask(`${at}?name=${name}`);
		expect(response.status).toBe(status);
		expect(await response.text()).toContain(text);
		await givesBack(name);
	});

	test.each(["/begun/long", "/begun/bulk"])("its reader takes two parts and forgets the rest: %s", async (at) => {
		const name = await newLimit({ limit: 1 });
		expect(Number(await (await ask(`${at}?name=${name}`)).text())).toBeGreaterThan(0);
		await givesBack(name);
	});

	test("another answer takes the place of one that two guards hold", async () => {
		const name = await newLimit({ limit: 1 });
		await gate.configure(`${name}-b`, { limit: 1 });
		expect(await (await ask(`/replaced-twice?name=${name}`)).text()).toBe("another");
		await givesBack(name);
		await givesBack(`${name}-b`);
	});

	test.each([
		["/nothing", 500],
		["/no-response", 500],
		["/locked", 500],
		["/plain/nothing", 500],
		["/plain/locked", 500],
		["/bad-label", 500],
		["/too-late", 500],
		["/not-modified", 304],
	])("none can be made: %s is %i, and no body without an end", async (at, status) => {
		const name = await newLimit({ limit: 1 });
		const response = await ask(`${at}?name=${name}`);
		expect(response.status).toBe(status);
		await response.text();
		await givesBack(name);
	});

	test.each(["/rate-nothing", "/rate-locked"])("a rate limit before a handler that fails: %s is 500", async (at) => {
		const name = await newLimit({ limit: 5, ...SLOW });
		const response = await ask(`${at}?name=${name}`);
		expect(response.status).toBe(500);
		await response.text();
	});

	test.each(["/no-context/stream", "/no-context/held", "/no-context/untied"])(
		"a program that forgets its context: %s",
		async (at) => {
			const name = await newLimit({ limit: 1 });
			await (await ask(`${at}?name=${name}`)).text();
			await givesBack(name);
		},
	);
});

describe("a name that nobody has configured", () => {
	test("is refused with a problem that says what to configure, and is not made", async () => {
		const name = randomUUID();
		const response = await ask(`/rate?name=${name}`);
		expect(response.status).toBe(503);
		const problem = await response.json();
		expect(problem).toMatchObject({ status: 503, code: "unknown_limit", "violated-policies": [name] });
		expect(problem.detail).toContain(`"${name}"`);
		await expect(gate.inspect(name)).rejects.toMatchObject({ code: "unknown_limit" });
		await gate.configure(name, { limit: 1, ...SLOW });
		expect((await ask(`/rate?name=${name}`)).status).toBe(200);
	});

	test("is refused also when an earlier request has made it, switched off", async () => {
		const name = randomUUID();
		expect((await ask(`/lenient?name=${name}`)).status).toBe(200);
		expect((await gate.inspect(name)).origin).toBe("default");
		expect((await ask(`/rate?name=${name}`)).status).toBe(503);
	});

	test("is answered as onError says", async () => {
		const name = randomUUID();
		expect((await ask(`/open-asked?name=${name}`)).status).toBe(200);
		const own = await ask(`/error-asked?name=${name}`);
		expect(own.status).toBe(502);
		expect(await own.text()).toContain("unknown_limit");
	});

	test("is called what it is told to be", async () => {
		const name = randomUUID();
		const text = await (await ask(`/label-asked?name=${name}`)).text();
		expect(text).toContain("your quota");
		expect(text).not.toContain(name);
	});

	test("does not take the slots of the names beside it", async () => {
		const name = await newLimit({ limit: 1, ...SLOW });
		expect((await ask(`/two?name=${name}`)).status).toBe(503);
		expect((await gate.inspect(name)).activeSlots).toBe(0);
	});

	test("a limit that an operator has switched off lets through", async () => {
		const name = await newLimit({ limit: 1, active: false });
		for (const _ of [1, 2, 3]) expect((await ask(`/rate?name=${name}`)).status).toBe(200);
	});

	test("a key that a policy is for is made by its first request", async () => {
		const prefix = `${randomUUID()}-`;
		await gate.configurePolicy(`${prefix}*`, { limit: 1, ...SLOW });
		expect((await ask(`/rate?name=${prefix}a`)).status).toBe(200);
		expect((await ask(`/rate?name=${prefix}a`)).status).toBe(429);
	});
});

describe("only out of reach is out of reach", () => {
	test.each(["bob/", "a&b", "x\u0007", "..", "x".repeat(256), "\ufffe%"])(
		"a name that cannot be one: %j",
		async (name) => {
			for (const at of ["/rate", "/open-asked", "/error-asked"]) {
				const response = await ask(`${at}?name=${encodeURIComponent(`login:${name}`)}`);
				// Two dots are a name where something stands before them.
				expect(response.status).toBe(name === ".." ? (at === "/rate" ? 503 : at === "/open-asked" ? 200 : 502) : 500);
				await response.text();
			}
		},
	);

	test("a limit that cannot be asked by rate is an error of the program", async () => {
		const name = await newLimit({ limit: 1 });
		for (const at of ["/rate", "/open-asked"]) expect((await ask(`${at}?name=${name}`)).status).toBe(500);
	});
});

describe("who the caller is", () => {
	test("is not what a stranger says it is, on the same runtime outside of Cloudflare", async () => {
		const headers = { "CF-Connecting-IP": "192.0.2.7", "X-Forwarded-For": "192.0.2.7" };
		const response = await fetch(`${server.url}/address`, { headers });
		expect(response.status).toBe(500);
		expect(await response.text()).toContain("trustCloudflare");
	});
});

test("the headers of sixteen long names leave an answer that clients can read", async () => {
	const names = Array.from({ length: 16 }, (_, index) => `${String(index).padStart(2, "0")}${"界".repeat(84)}`);
	for (const name of names) await gate.configure(name, { limit: 1, ...SLOW });
	const query = names.map((name) => `name=${encodeURIComponent(name)}`).join("&");
	for (const status of [200, 429]) {
		const response = await ask(`/sixteen?${query}`);
		expect(response.status).toBe(status);
		const length = [...response.headers].reduce((sum, [name, value]) => sum + name.length + value.length + 4, 0);
		expect(length).toBeLessThan(BOUNDS.rateLimitHeadersLength + 500);
		if (status === 429) expect((await response.json())["violated-policies"]).toHaveLength(16);
		else await response.text();
	}
});
