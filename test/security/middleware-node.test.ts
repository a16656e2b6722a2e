/** The middleware in a program on Node, whose process has to live through whatever is asked of it. */

import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import net from "node:net";
import path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { Headgate, type Settings } from "../../src/client/index.ts";
import { type FreshServer, freshServer } from "../support/server.ts";

let server: FreshServer;
let gate: Headgate;
let program: ChildProcess;
let url: string;
let printed = "";
beforeAll(async () => {
	server = await freshServer();
	gate = new Headgate({ url: server.url });
	program = spawn(process.execPath, [path.join(import.meta.dirname, "node-program.ts"), server.url], {
		stdio: ["ignore", "pipe", "pipe"],
	});
	program.stderr?.on("data", (data) => {
		printed += data;
	});
	url = await new Promise((resolve, reject) => {
		program.once("exit", (code) => reject(new Error(`the program ended with ${code}: ${printed}`)));
		program.stdout?.on("data", (data) => {
			const port = /port (\d+)/.exec(String(data))?.[1];
			if (port) resolve(`http://127.0.0.1:${port}`);
		});
	});
});
afterAll(async () => {
	program?.kill("SIGKILL");
	await server[Symbol.asyncDispose]();
});

afterEach(async () => {
	// A rejection that nobody handles ends the process a moment later.
	await new Promise((resolve) => setTimeout(resolve, 50));
	expect(program.exitCode, printed).toBeNull();
	expect(await (await ask("/alive")).text()).toBe("alive");
});

async function newLimit(settings: Pick<Settings, "limit"> & Partial<Settings>): Promise<string> {
	const name = randomUUID();
	await gate.configure(name, settings);
	return name;
}
const ask = (at: string, method = "GET") => fetch(url + at, { method, signal: AbortSignal.timeout(45_000) });
async function givesBack(name: string, released = 1): Promise<void> {
	await expect.poll(async () => (await gate.inspect(name)).activeSlots, { interval: 20 }).toBe(0);
	expect((await gate.inspect(name)).totals).toMatchObject({ released, expired: 0 });
}

describe("slots of an answer that nobody sends come back", () => {
	test.each(["/report", "/long", "/plain/report", "/plain/long", "/plain/silent"])(
		"HEAD %s gives its slot back at once",
		async (at) => {
			const name = await newLimit({ limit: 2 });
			for (const _ of [1, 2, 3, 4]) expect((await ask(`${at}?name=${name}`, "HEAD")).status).toBe(200);
			await givesBack(name, 4);
		},
	);

	test("the body of an answer to HEAD is not made without its slots", async () => {
		const name = await newLimit({ limit: 1 });
		const made = async () => Number(await (await ask("/plain/made")).text());
		expect((await ask(`/plain/counted?name=${name}`, "HEAD")).status).toBe(200);
		await givesBack(name);
		const before = await made();
		await new Promise((resolve) => setTimeout(resolve, 200));
		expect(await made()).toBe(before);
	});

	test.each([
		["/replaced-long", 203],
		["/replaced-silent", 203],
		["/peeked-long", 203],
		["/cloned-long", 203],
		["/dropped/long", 200],
		["/dropped/silent", 200],
	])("another answer takes its place: %s", async (at, status) => {
		const name = await newLimit({ limit: 1 });
		const response = await ask(`${at}?name=${name}`);
		expect(response.status).toBe(status);
		expect(await response.text()).toBe("another");
		await givesBack(name);
	});

	test.each([
		["/begun/long", "7"],
		["/begun/bulk", "65536"],
	])("its reader takes two parts and forgets the rest: %s", async (at, length) => {
		const name = await newLimit({ limit: 1 });
		expect(await (await ask(`${at}?name=${name}`)).text()).toBe(length);
		await givesBack(name);
	});

	test.each([
		["/nothing", 500],
		["/no-response", 500],
		["/locked", 500],
		["/error-response", 500],
		["/plain/nothing", 500],
		["/plain/locked", 500],
		["/bad-label", 500],
		["/too-late", 500],
		["/no-header", 200],
	])("none can be made, or not with headers: %s is %i", async (at, status) => {
		const name = await newLimit({ limit: 1 });
		const response = await ask(`${at}?name=${name}`);
		expect(response.status).toBe(status);
		await response.text();
		await givesBack(name);
	});

	test("one Response for all requests is sent once, and is an error from then on", async () => {
		const name = await newLimit({ limit: 1 });
		expect(await (await ask(`/constant?name=${name}`)).text()).toBe("one for all");
		await givesBack(name);
		expect((await ask(`/constant?name=${name}`)).status).toBe(500);
		await givesBack(name, 2);
	});

	test("a body that breaks breaks its answer", async () => {
		const name = await newLimit({ limit: 1 });
		await expect(ask(`/breaks?name=${name}`).then((response) => response.text())).rejects.toThrow();
		await givesBack(name);
	});

	test.each(["/rate-nothing", "/rate-locked"])("a rate limit before a handler that fails: %s is 500", async (at) => {
		const name = await newLimit({ limit: 5, slotDecayPerSecond: 0.01 });
		expect((await ask(`${at}?name=${name}`)).status).toBe(500);
	});

	test("a client that reads nothing is cut after the longest time, and not held by what it does not read", async () => {
		const name = await newLimit({ limit: 1 });
		const { hostname, port } = new URL(url);
		const socket = net.connect(Number(port), hostname);
		socket.on("error", () => undefined);
		// Far more than the buffers on the way take.
		socket.pause();
		socket.write(`GET /huge?name=${name} HTTP/1.1\r\nHost: x\r\n\r\n`);
		await expect.poll(async () => (await gate.inspect(name)).totals.grantedAtOnce).toBe(1);
		await givesBack(name);
		socket.destroy();
	});

	test("a client goes before it has read anything", async () => {
		const name = await newLimit({ limit: 1 });
		const { hostname, port } = new URL(url);
		const socket = net.connect(Number(port), hostname);
		socket.on("error", () => undefined);
		socket.write(`GET /long?name=${name} HTTP/1.1\r\nHost: x\r\n\r\n`);
		await expect.poll(async () => (await gate.inspect(name)).activeSlots).toBe(1);
		socket.resetAndDestroy();
		await givesBack(name);
	});
});

test("an answer that two guards hold, and that others copy, is held until it was sent, and is whole", async () => {
	const name = await newLimit({ limit: 1 });
	await gate.configure(`${name}-b`, { limit: 1, slotDecayPerSecond: 0.01 });
	await gate.configure(`${name}-c`, { limit: 1 });
	const response = await ask(`/copied?name=${name}`);
	expect((await gate.inspect(name)).activeSlots).toBe(1);
	expect(await response.text()).toBe(Array.from({ length: 9 }, (_, part) => `part ${part}\n`).join(""));
	expect(response.headers.get("RateLimit")?.split(", ")).toHaveLength(3);
	await givesBack(name);
	await givesBack(`${name}-c`);
});

test("an answer that another one is made of is held while it is read, and is whole", async () => {
	const name = await newLimit({ limit: 1 });
	const response = await ask(`/slowly?name=${name}`);
	expect((await gate.inspect(name)).activeSlots).toBe(1);
	expect(await response.text()).toBe(Array.from({ length: 6 }, (_, part) => `part ${part}\n`).join(""));
	await givesBack(name);
});

test("an answer that is written as text, and not as bytes, is whole", async () => {
	const name = await newLimit({ limit: 1 });
	expect(await (await ask(`/plain/text?name=${name}`)).text()).toBe("a text in parts");
	await givesBack(name);
});

test("a name that nobody has configured is refused each time, and logged once", async () => {
	const name = randomUUID();
	for (const _ of [1, 2, 3]) expect((await ask(`/report?name=${name}`)).status).toBe(503);
	await expect.poll(() => printed).toContain(name);
	expect(printed.split(name)).toHaveLength(2);
});

test("slots are held until the last part was sent, and the length stays that the handler gave", async () => {
	const name = await newLimit({ limit: 1 });
	const answer = await ask(`/told?name=${name}`);
	expect(answer.headers.get("Content-Length")).toBe("21");
	expect((await gate.inspect(name)).activeSlots).toBe(1);
	await ask("/tell-on");
	expect(await answer.text()).toBe("part 0\npart 1\npart 2\n");
	await givesBack(name);
});
