/**
 * An object that has nothing to do leaves memory, whatever it did: an object that stays is billed for its time. Each of these
 * lives ends, and the next call finds an object that was made anew.
 */

import { globSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Lease } from "../../src/protocol.ts";
import { freshServer } from "../support/server.ts";
import { Caller, until } from "./support.ts";

/** An object without a call leaves memory after ten seconds; a test that waits as long as this waits for ever. */
const PATIENCE_MS = 240_000;

const LIVES: Record<string, (caller: Caller, name: string) => Promise<void>> = {
	"a lease that was given back": async (caller, names) => {
		await release(caller, await taken(caller, { names }));
	},
	"a lease that is still held": async (caller, names) => {
		await taken(caller, { names, leaseSeconds: 3_600 });
	},
	"a rate-limit grant with an id": async (caller, name) => {
		await caller.call("PUT", `/v1/limits/${name}`, { limit: 5, slotDecayPerSecond: 1 });
		await taken(caller, { names: name, mode: "rate_limit", id: `${name}-id` });
	},
	"denials, the last of them from memory": async (caller, name) => {
		await caller.call("PUT", `/v1/limits/${name}`, { limit: 1, slotDecayPerSecond: 0.01 });
		await taken(caller, { names: name, mode: "rate_limit" });
		for (let asked = 0; asked < 5; asked += 1) {
			const { status } = await caller.call("POST", "/v1/acquire", { names: name, mode: "rate_limit" });
			expect(status).toBe(429);
		}
	},
	"a wait that was given up": async (caller, names) => {
		await taken(caller, { names, occupy: 5 });
		expect((await caller.call("POST", "/v1/acquire", { names, waitSeconds: 0.2 })).status).toBe(429);
	},
	"a held stream that its caller left": async (caller, names) => {
		const stream = await lines(caller.url, "/v1/acquire", { names, hold: true });
		expect(await stream.next()).toContain('"granted"');
		await stream.leave();
	},
	"a watch that its caller left": async (caller, name) => {
		const stream = await lines(caller.url, `/v1/watch?name=${name}`);
		expect(await stream.next()).toContain('"limit"');
		await stream.leave();
	},
	"metrics and history": async (caller, names) => {
		await release(caller, await taken(caller, { names }));
		expect((await fetch(`${caller.url}/metrics`)).status).toBe(200);
		expect((await caller.call("GET", `/v1/limits/${names}/history`)).status).toBe(200);
	},
	"several names": async (caller, name) => {
		await caller.call("PUT", `/v1/limits/${name}-2`, { limit: 5 });
		await release(caller, await taken(caller, { names: [name, `${name}-2`] }));
	},
};

const server = await freshServer({ config: "bench/counting/wrangler.toml" });
const caller = new Caller(server.url);

afterAll(async () => {
	caller.close();
	await server[Symbol.asyncDispose]();
});

const nameOf = (title: string): string => title.replaceAll(/\W+/g, "-");
const lived = new Map<string, number>();

beforeAll(async () => {
	const lives = Object.entries(LIVES).map(async ([title, live]) => {
		const name = nameOf(title);
		await caller.call("PUT", `/v1/limits/${name}`, { limit: 5 });
		await live(caller, name);
		lived.set(title, await timesMade(name));
	});
	await Promise.all(lives);
	// A database that no object has open has no log beside it; asking an object would keep it in memory.
	await until("every object has let its file go", PATIENCE_MS, () => logs(server.data).length === 0);
});

test.each(Object.keys(LIVES))("an object leaves memory after %s", async (title) => {
	const made = lived.get(title) ?? 0;
	expect(made).toBeGreaterThan(0);
	await caller.inspect(nameOf(title));
	expect(await timesMade(nameOf(title))).toBe(made + 1);
});

const logs = (data: string): string[] => globSync("objects/*-LimitObject/[0-9a-f]*-wal", { cwd: data });

async function timesMade(name: string): Promise<number> {
	return (await caller.call<{ made: number }>("GET", `/made/${name}`)).body.made;
}

async function taken(caller: Caller, request: object): Promise<Lease> {
	const { status, body } = await caller.call<Lease>("POST", "/v1/acquire", request);
	expect(status, JSON.stringify(body)).toBe(200);
	return body;
}

const release = (caller: Caller, lease: Lease) => caller.call("POST", "/v1/release", lease);

/** A stream, line by line, that its reader can leave. */
async function lines(url: string, route: string, body?: object) {
	const gone = new AbortController();
	const answer = await fetch(url + route, {
		method: body ? "POST" : "GET",
		headers: { Accept: "application/x-ndjson", "Content-Type": "application/json" },
		...(body && { body: JSON.stringify(body) }),
		signal: gone.signal,
	});
	const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
	return {
		next: async (): Promise<string> => (await reader?.read())?.value ?? "",
		leave: async (): Promise<void> => gone.abort(),
	};
}
