/**
 * The library and plain HTTP behind a real nginx: with its defaults, with one that buffers whatever it is told, and
 * with one that compresses.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Headgate, type HeadgateOptions, type LimitInfo } from "../../src/client/index.ts";
import { type FreshServer, freshServer } from "../support/server.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/temporary.ts";
import { until } from "./support.ts";

/** What the configuration says beside `proxy_pass`, by the name that the tests have for it. */
const PROXIES = {
	/** Talks HTTP/1.0 to the server, buffers unless told not to, and cuts what is quiet for 60 s. */
	defaults: "",
	buffering: "proxy_ignore_headers X-Accel-Buffering;",
	compressing: "gzip on; gzip_types *; gzip_proxied any; gzip_min_length 1; proxy_http_version 1.1;",
} as const;
type Proxy = keyof typeof PROXIES;

/** How long a test waits for what it knows will come; only to end one that hangs. */
const PATIENCE_MS = 45_000;

let server: FreshServer;
let folder: TemporaryFolder;
let nginx: ChildProcess;
const urls = {} as Record<Proxy, string>;
let said = "";

beforeAll(async () => {
	[server, folder] = await Promise.all([freshServer(), temporaryFolder()]);
	const hosts: string[] = [];
	for (const [name, directives] of Object.entries(PROXIES)) {
		const port = await freePort();
		urls[name as Proxy] = `http://127.0.0.1:${port}`;
		hosts.push(`server { listen 127.0.0.1:${port}; location / { proxy_pass ${server.url}; ${directives} } }`);
	}
	mkdirSync(path.join(folder.path, "temp"));
	const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path temp;`).join(" ");
	const config = `
		daemon off; master_process off; pid nginx.pid; error_log stderr;
		events {}
		http { access_log off; ${temp} ${hosts.join("\n")} }`;
	writeFileSync(path.join(folder.path, "nginx.conf"), config);
	nginx = spawn("nginx", ["-p", folder.path, "-c", "nginx.conf", "-e", "stderr"], {
		stdio: ["ignore", "ignore", "pipe"],
	});
	nginx.stderr?.on("data", (chunk) => {
		said += chunk;
	});
	await until("nginx answers", PATIENCE_MS, async () => {
		if (nginx.exitCode !== null) throw new Error(`nginx ended: ${said}`);
		return (await fetch(`${urls.defaults}/health`).catch(() => null))?.ok;
	});
});

afterAll(async () => {
	const ended = new Promise((resolve) => nginx.once("close", resolve));
	nginx.kill("SIGTERM");
	await ended;
	await server[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});

function freePort(): Promise<number> {
	return new Promise((resolve, reject) => {
		const probe = createServer();
		probe.once("error", reject);
		probe.listen(0, "127.0.0.1", () => {
			const { port } = probe.address() as { port: number };
			probe.close(() => resolve(port));
		});
	});
}

/** A caller behind a proxy, and what it asked of its server, as `stream` or `plain`. */
function behind(proxy: Proxy): { gate: Headgate; asks: string[] } {
	const asks: string[] = [];
	const send: HeadgateOptions["fetch"] = (target, init) => {
		const stream = new Headers(init.headers).get("Accept") === "application/x-ndjson";
		if (target.endsWith("/v1/acquire")) asks.push(stream ? "stream" : "plain");
		return fetch(target, init);
	};
	return { gate: new Headgate({ url: urls[proxy], fetch: send }), asks };
}

let limits = 0;
async function newLimit(settings = {}): Promise<{ name: string; look(): Promise<LimitInfo> }> {
	limits += 1;
	const name = `behind-${limits}`;
	const direct = new Headgate({ url: server.url });
	await direct.configure(name, { limit: 1, ...settings });
	return { name, look: () => direct.inspect(name) };
}

const direct = (): Headgate => new Headgate({ url: server.url });

/** Asks by plain HTTP, as `curl` does. */
const plain = (proxy: Proxy, body: object): Promise<Response> =>
	fetch(`${urls[proxy]}/v1/acquire`, {
		method: "POST",
		headers: { "Content-Type": "application/json" },
		body: JSON.stringify(body),
	});

describe.concurrent("behind nginx with its defaults", () => {
	test("a plain wait of 60 s is answered with a denial, before nginx gives it up", async () => {
		const { name } = await newLimit();
		await using _holder = await direct().acquire(name);
		const several = await newLimit();
		const answers = await Promise.all([
			plain("defaults", { names: name, waitSeconds: 60 }),
			plain("defaults", { names: [several.name, name], waitSeconds: 60 }),
		]);
		expect(answers.map(({ status }) => status)).toEqual([429, 429]);
	});

	test.each(["defaults", "compressing"] as const)(
		"a waiting caller is told its place, and granted (%s)",
		async (proxy) => {
			const { name, look } = await newLimit();
			const holder = await direct().acquire(name);
			const { gate, asks } = behind(proxy);
			const places: number[] = [];
			const waiting = gate.acquire(name, { onQueued: (place) => places.push(place) });
			await until("a place in line", PATIENCE_MS, () => places.length > 0);
			expect((await look()).waitingCount).toBe(1);
			await holder.release();
			await (await waiting).release();
			expect([places[0], asks]).toEqual([1, ["stream"]]);
		},
	);

	test("a caller that goes gives its place to the next", async () => {
		const { name, look } = await newLimit();
		await using _holder = await direct().acquire(name);
		const control = new AbortController();
		const waiting = behind("defaults").gate.acquire(name, { signal: control.signal });
		await until("it waits", PATIENCE_MS, async () => (await look()).waitingCount === 1);
		control.abort(new Error("gone"));
		await expect(waiting).rejects.toThrow("gone");
		await until("it has left", PATIENCE_MS, async () => (await look()).waitingCount === 0);
	});

	test("the lines of a stream of limits come one by one", async () => {
		const { name } = await newLimit();
		const control = new AbortController();
		const answer = await fetch(`${urls.defaults}/v1/watch?name=${name}`, { signal: control.signal });
		const reader = answer.body?.getReader();
		const first = new TextDecoder().decode((await reader?.read())?.value);
		expect(first).toContain(`"name":"${name}"`);
		control.abort();
	});
});

test.concurrent("nginx compresses what is plain, and it stays what it was", async () => {
	const answer = await fetch(`${urls.compressing}/openapi.json`, { headers: { "Accept-Encoding": "gzip" } });
	expect(((await answer.json()) as { openapi: string }).openapi).toMatch(/^3\.1/);
});

describe.concurrent("behind a proxy that buffers streams whatever it is told", () => {
	test.each([
		{ how: "one name", count: 1 },
		{ how: "several names", count: 2 },
	])(
		"a caller waits by plain answers, keeps its place over several, and is granted ($how)",
		{ timeout: 120_000 },
		async ({ count }) => {
			const all = await Promise.all(Array.from({ length: count }, () => newLimit()));
			const names = all.map(({ name }) => name);
			const { look } = all[0] as (typeof all)[0];
			const holder = await direct().acquire(names);
			const { gate, asks } = behind("buffering");
			const order: string[] = [];
			const first = gate.concurrency(names, () => order.push("first"));
			await until("it waits", PATIENCE_MS, async () => (await look()).waitingCount === 1);
			const id = (await look()).waiting[0]?.id;
			const second = direct().concurrency(names, () => order.push("second"));
			await until("the other waits", PATIENCE_MS, async () => (await look()).waitingCount === 2);
			await until("it asks plainly, and again", PATIENCE_MS, () => asks.filter((ask) => ask === "plain").length === 2);
			await until("its place is its own", PATIENCE_MS, async () => (await look()).waiting[0]?.id === id);
			await holder.release();
			await Promise.all([first, second]);
			expect(order).toEqual(["first", "second"]);
			// What the gate has learnt it knows for the next wait.
			asks.length = 0;
			const again = await direct().acquire(names);
			const next = gate.acquire(names);
			await until("it waits", PATIENCE_MS, async () => (await look()).waitingCount === 1);
			await again.release();
			await (await next).release();
			expect(asks).toEqual(["plain"]);
		},
	);

	test("a wait that ends before anything came through is a timeout, and takes nothing", async () => {
		const { name, look } = await newLimit();
		await using _holder = await direct().acquire(name);
		await expect(behind("buffering").gate.acquire(name, { timeoutSeconds: 2 })).rejects.toThrow("within 2 s");
		await until("it has left", PATIENCE_MS, async () => (await look()).waitingCount === 0);
	});
});
