/** What a page of another site can make a browser send to a server, and what comes of it: nothing. */

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newToken } from "../../src/cli/tokens.ts";
import type { LimitInfo } from "../../src/protocol.ts";
import { launch } from "../dashboard/browser.ts";
import { findChromium } from "../support/chromium.ts";
import { type FreshServer, freshServer } from "../support/server.ts";
import { type RawAnswer, raw, request } from "./raw.ts";

const LISTED = "https://listed.example";
const { token, entry } = newToken("admin", "admin", undefined);

let open: FreshServer;
let closed: FreshServer;
beforeAll(async () => {
	[open, closed] = await Promise.all([
		freshServer({ cors: [LISTED], hosts: ["gate.internal"] }),
		freshServer({ tokens: [entry], cors: [LISTED] }),
	]);
});
afterAll(async () => {
	await Promise.all([open, closed].map((server) => server?.[Symbol.asyncDispose]()));
});

const JSON_TYPE = { "Content-Type": "application/json" };
const port = (server: FreshServer): string => new URL(server.url).port;
const own = (server: FreshServer): string => `127.0.0.1:${port(server)}`;

/** One request under a host name, with what a browser says of the page that makes it. */
const ask = (
	server: FreshServer,
	method: string,
	path: string,
	headers: Record<string, string> = {},
	body?: string,
): Promise<RawAnswer> => raw(server.url, request(method, path, { Host: own(server), ...headers }, body));

const codeOf = ({ body }: RawAnswer): string => (JSON.parse(body) as { code: string }).code;

/** Every way in: pages, documents, both wires, streams, metrics. */
const WAYS: [method: string, path: string, body?: string][] = [
	["GET", "/"],
	["GET", "/docs"],
	["GET", "/openapi.json"],
	["GET", "/health"],
	["GET", "/metrics"],
	["GET", "/assets/none.js"],
	["GET", "/nothing"],
	["GET", "/v1/limits"],
	["GET", "/v1/watch"],
	["PUT", "/v1/limits/taken", `{"limit":9}`],
	["DELETE", "/v1/limits/taken"],
	["POST", "/v1/acquire", `{"names":"taken"}`],
	["OPTIONS", "/v1/acquire"],
	["HEAD", "/v1/limits"],
	["GET", "/api/health"],
	["POST", "/api/v2/concurrency_limits/filter", "{}"],
	["POST", "/api/v2/concurrency_limits/increment", `{"names":["taken"],"slots":1}`],
];

const UPGRADE = {
	...{ Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13" },
	"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
};

describe("the host of an open server", () => {
	test.each([
		"localhost",
		"LOCALHOST",
		"localhost.",
		"app.localhost",
		"127.0.0.1",
		"127.8.8.8",
		"127.1",
		"[::1]",
		"gate.internal",
	])("%s is its own, with any port", async (host) => {
		for (const suffix of ["", ":1", `:${port(open)}`]) {
			expect((await ask(open, "GET", "/v1/limits", { Host: `${host}${suffix}` })).status, host + suffix).toBe(200);
		}
	});

	test.each([
		"rebound.example",
		"localhost.example",
		"notlocalhost",
		"127.0.0.1.example",
		"127.0.0.1@rebound.example",
		"rebound.example@127.0.0.1",
		"0.0.0.0",
		"128.0.0.1",
		"10.0.0.1",
		"[::]",
		"[::ffff:127.0.0.1]",
		"gate.internal.example",
		"xgate.internal",
	])("%s is not, by any way in", async (host) => {
		for (const [method, path, body] of WAYS) {
			const answer = await ask(open, method, path, { Host: host, ...JSON_TYPE }, body);
			expect(answer.status, `${method} ${path}`).toBe(403);
			if (!path.startsWith("/api") && method !== "HEAD") expect(codeOf(answer)).toBe("forbidden_host");
		}
		expect((await ask(open, "GET", "/api/events/in", { ...UPGRADE, Host: host })).status).toBe(403);
	});

	test("the name in the request's own line counts as little as the header", async () => {
		const lines = (url: string, host: string) =>
			`GET ${url}/v1/limits HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
		expect((await raw(open.url, lines(open.url, "rebound.example"))).status).toBe(403);
		expect((await raw(open.url, "GET /v1/limits HTTP/1.0\r\n\r\n")).status).toBe(400);
	});

	test("of a server with tokens may be any: a name of somebody else's brings no token along", async () => {
		const headers = { Host: "limits.example", Authorization: `Bearer ${token}` };
		expect((await ask(closed, "GET", "/v1/limits", headers)).status).toBe(200);
		expect((await ask(closed, "GET", "/v1/limits", { Host: "limits.example" })).status).toBe(401);
	});
});

describe("a page of another origin", () => {
	test.each([
		["its origin is told", { Origin: "https://evil.example" }],
		["it has no origin", { Origin: "null" }],
		["it is on another port of this machine", { Origin: "http://localhost:3000", "Sec-Fetch-Site": "same-site" }],
		["its origin begins like a listed one", { Origin: `${LISTED}.evil.example` }],
		["its origin is no URL", { Origin: "127.0.0.1" }],
		["nothing but that it is of another site is told", { "Sec-Fetch-Site": "cross-site" }],
		["nothing but that it is of the same site is told", { "Sec-Fetch-Site": "same-site" }],
		[
			"a frame of it opens the page",
			{ "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe" },
		],
	])("is refused on an open server: %s", async (_, headers) => {
		for (const [method, path, body] of WAYS) {
			const answer = await ask(open, method, path, { ...headers, ...JSON_TYPE }, body);
			expect(answer.status, `${method} ${path}`).toBe(403);
			expect(answer.headers).not.toMatch(/access-control-allow-origin/i);
			if (!path.startsWith("/api") && method !== "HEAD") expect(codeOf(answer)).toBe("forbidden_origin");
		}
		expect((await ask(open, "GET", "/api/events/in", { ...UPGRADE, ...headers })).status).toBe(403);
	});

	test("is refused with tokens too, for a browser sends a password along by itself", async () => {
		const Authorization = `Basic ${btoa(`me:${token}`)}`;
		for (const page of [{ Origin: "https://evil.example" }, { Origin: "null" }, { "Sec-Fetch-Site": "cross-site" }]) {
			const headers = { ...page, ...JSON_TYPE, Authorization };
			expect(codeOf(await ask(closed, "PUT", "/v1/limits/taken", headers, `{"limit":9}`))).toBe("forbidden_origin");
			expect((await ask(closed, "GET", "/api/events/in", { ...UPGRADE, ...page })).status).toBe(403);
		}
		expect((await ask(closed, "GET", "/v1/limits/taken", { Authorization })).status).toBe(404);
	});

	test("is let in where its origin is listed, and so is the page of the server itself", async () => {
		for (const Origin of [LISTED, `http://${own(open)}`]) {
			const answer = await ask(open, "POST", "/v1/acquire", { Origin, ...JSON_TYPE }, `{"names":"listed"}`);
			expect(answer.status, Origin).toBe(200);
		}
		const listed = { Origin: LISTED, "Sec-Fetch-Site": "cross-site" };
		expect((await ask(open, "GET", "/v1/limits", listed)).headers).toContain(`Access-Control-Allow-Origin: ${LISTED}`);
		expect((await ask(open, "GET", "/api/events/in", { ...UPGRADE, Origin: `http://${own(open)}` })).status).toBe(101);
		expect((await ask(open, "GET", "/v1/limits", { "Sec-Fetch-Site": "same-origin" })).status).toBe(200);
		expect((await ask(open, "GET", "/v1/limits", { "Sec-Fetch-Site": "none" })).status).toBe(200);
	});

	test("behind a proxy that changes the host, the browser's word for the own origin counts", async () => {
		const headers = {
			Origin: "https://limits.example",
			"Sec-Fetch-Site": "same-origin",
			Authorization: `Bearer ${token}`,
		};
		expect((await ask(closed, "GET", "/v1/limits", headers)).status).toBe(200);
	});

	test("may link to the page and the reference, and to nothing else", async () => {
		const link = { "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document" };
		for (const path of ["/", "/docs", "/health", "/openapi.json"]) {
			expect((await ask(open, "GET", path, link)).status, path).toBe(200);
		}
		for (const path of ["/v1/limits", "/v1/watch", "/metrics", "/api/v2/concurrency_limits/a", "//", "/docs/x"]) {
			expect((await ask(open, "GET", path, link)).status, path).toBe(403);
		}
		expect((await ask(open, "POST", "/", { ...link, Origin: "https://evil.example" }, "a=b")).status).toBe(403);
	});
});

describe("a body", () => {
	const bodies: [method: string, path: string, body: string][] = [
		["POST", "/v1/acquire", `{"names":"typed"}`],
		["POST", "/v1/renew", `{"names":"typed","id":"x"}`],
		["POST", "/v1/release", `{"names":"typed","id":"x"}`],
		["PUT", "/v1/limits/typed", `{"limit":1}`],
		["PATCH", "/v1/limits/typed", `{"limit":1}`],
		["PUT", "/v1/policies/typed*", `{"limit":1}`],
		["POST", "/api/v2/concurrency_limits/", `{"name":"typed","limit":1}`],
		["POST", "/api/v2/concurrency_limits/filter", "{}"],
		["POST", "/api/v2/concurrency_limits/increment", `{"names":["typed"],"slots":1}`],
		["POST", "/api/v2/concurrency_limits/increment-with-lease", `{"names":["typed"],"slots":1}`],
	];

	test.each([
		undefined,
		"application/x-www-form-urlencoded",
		"text/plain",
		"multipart/form-data; boundary=x",
		"application/jsonx",
	])("of the type %s is refused with the type that is wanted", async (type) => {
		for (const [method, path, body] of bodies) {
			const answer = await ask(open, method, path, type === undefined ? {} : { "Content-Type": type }, body);
			expect(answer.status, `${method} ${path}`).toBe(415);
			expect(answer.body).toContain("Content-Type: application/json");
		}
		expect((await ask(open, "GET", "/v1/limits/typed")).status).toBe(404);
	});
});

test("every answer of the interface is for its caller alone, and of the type that it says", async () => {
	for (const [method, path, body] of WAYS) {
		if (path === "/v1/watch") continue;
		const { headers, status } = await ask(open, method, path, JSON_TYPE, body);
		expect(status, `${method} ${path}`).not.toBe(403);
		expect(headers, `${method} ${path}`).toMatch(/x-content-type-options: nosniff/i);
		expect(headers, `${method} ${path}`).toMatch(/cache-control: no-/i);
	}
	const stream = { ...JSON_TYPE, Accept: "application/x-ndjson" };
	const { headers } = await ask(open, "POST", "/v1/acquire", stream, `{"names":"streamed"}`);
	expect(headers).toMatch(/cache-control: no-store, no-transform/i);
	expect(headers).toMatch(/x-accel-buffering: no/i);
});

test("whoever is refused stands in the log, without a token and without what moves a cursor", async () => {
	const lines: string[] = [];
	await using server = await freshServer({ tokens: [entry], onLine: (line) => lines.push(line) });
	const secret = "not-a-token-of-this-server";
	await ask(server, "GET", `/v1/limits/a%1b%5b2J?token=${secret}`, { Authorization: `Bearer ${secret}` });
	await ask(server, "GET", "/v1/limits/\u009b2J\u202e", {});
	await ask(server, "GET", "/v1/limits", { Origin: "https://evil.example" });
	for (let more = 0; more < 200; more += 1) await ask(server, "GET", "/v1/limits", {});
	await expect.poll(() => lines.filter((line) => line.includes("refused")).length).toBe(60);
	const log = lines.join("");
	expect(log).not.toContain(secret);
	expect(log).not.toMatch(/[\p{Cc}\p{Bidi_Control}]/u);
	const entries = lines.map((line) => JSON.parse(line) as object);
	expect(entries[0]).toEqual({ event: "refused", status: 401, method: "GET", path: "/v1/limits/a%1b%5b2J" });
	expect(entries[2]).toMatchObject({ status: 403, code: "forbidden_origin" });
});

test("a change stands in the log: who, what, from what, to what", async () => {
	const lines: string[] = [];
	await using server = await freshServer({ tokens: [entry], onLine: (line) => lines.push(line) });
	const headers = { ...JSON_TYPE, Authorization: `Bearer ${token}` };
	await ask(server, "PUT", "/v1/limits/a", headers, `{"limit":1}`);
	await ask(server, "PATCH", "/v1/limits/a", headers, `{"limit":2}`);
	await ask(server, "POST", "/v1/acquire", headers, `{"names":"a","id":"job-7"}`);
	await ask(server, "DELETE", "/v1/limits/a/leases/job-7", headers);
	await ask(server, "PATCH", "/api/v2/concurrency_limits/a", headers, `{"name":"b"}`);
	await ask(server, "PATCH", "/api/v2/concurrency_limits/b", headers, `{"name":"c","limit":3}`);
	await ask(server, "DELETE", "/v1/limits/c", headers);
	await ask(server, "DELETE", "/v1/limits/c", headers);
	await ask(server, "PUT", "/v1/policies/p*", headers, `{"limit":1}`);
	await ask(server, "DELETE", "/v1/policies/p*", headers);
	const of = (limit: number) => expect.objectContaining({ limit, active: true });
	const by = "admin";
	const expected = [
		{ event: "changed", action: "configure", limit: "a", by, from: null, to: of(1) },
		{ event: "changed", action: "configure", limit: "a", by, from: of(1), to: of(2) },
		{ event: "changed", action: "release", limit: "a", lease: "job-7", by, from: 1, to: 0 },
		{ event: "changed", action: "rename", limit: "a", by, from: "a", to: "b" },
		// Another name and another number are two changes.
		{ event: "changed", action: "rename", limit: "b", by, from: "b", to: "c" },
		{ event: "changed", action: "configure", limit: "c", by, from: of(2), to: of(3) },
		{ event: "changed", action: "delete", limit: "c", by, from: of(3), to: null },
		{ event: "changed", action: "configure", policy: "p*", by, from: null, to: of(1) },
		{ event: "changed", action: "delete", policy: "p*", by, from: of(1), to: null },
	];
	await expect.poll(() => lines.length).toBe(expected.length);
	expect(lines.map((line) => JSON.parse(line))).toEqual(expected);
});

test("an entry with the digest of an empty token is refused at the start, with the reason", async () => {
	const sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	const start = freshServer({ tokens: [{ ...entry, sha256 }] });
	await expect(start).rejects.toThrow("digest of an empty token");
});

describe.skipIf(findChromium() === undefined)("a real browser on a page of another site", () => {
	let page: Server;
	beforeAll(async () => {
		page = createServer((_, answer) => answer.setHeader("Content-Type", "text/html").end("<title>evil</title>"));
		await new Promise<void>((resolve) => page.listen(0, "127.0.0.1", resolve));
	});
	afterAll(() => void page.close());

	test("takes nothing, opens no socket, and reads nothing under a name of its own", async () => {
		const name = "browsed";
		await ask(open, "PUT", `/v1/limits/${name}`, JSON_TYPE, `{"limit":1}`);
		const evil = (page.address() as AddressInfo).port;
		const browser = await launch([`--host-resolver-rules=MAP *.example 127.0.0.1`]);
		try {
			const tab = await browser.newPage();
			await tab.goto(`http://evil.example:${evil}/`);
			const heard = await tab.evaluate(
				async ({ target, name }) => {
					const send = async (path: string, body: BodyInit) => {
						await fetch(target + path, { method: "POST", mode: "no-cors", body }).catch(() => undefined);
					};
					const lease = JSON.stringify({ names: [name], slots: 1, lease_duration: 86_400 });
					await send("/api/v2/concurrency_limits/increment-with-lease", new Blob([lease]));
					await send("/v1/acquire", new Blob([JSON.stringify({ names: name })]));
					await send("/v1/acquire", new Blob([JSON.stringify({ names: name })], { type: "text/plain" }));
					const socket = new WebSocket(`${target.replace("http", "ws")}/api/events/in`);
					return new Promise<string>((resolve) => {
						socket.onopen = () => resolve("welcomed");
						socket.onerror = () => resolve("refused");
					});
				},
				{ target: open.url, name },
			);
			expect(heard).toBe("refused");
			const info = JSON.parse((await ask(open, "GET", `/v1/limits/${name}`)).body) as LimitInfo;
			expect(info).toMatchObject({ activeSlots: 0, leaseCount: 0 });
			// A name of the attacker's that leads to this machine: to the browser one origin with the server.
			const rebound = await tab.goto(`http://rebound.example:${port(open)}/v1/limits`);
			expect(rebound?.status()).toBe(403);
			// From a link the page still opens, and does its work.
			await tab.goto(`http://evil.example:${evil}/`);
			await tab.evaluate((url) => {
				document.body.innerHTML = `<a id="link" href="${url}">limits</a>`;
			}, `${open.url}/`);
			await tab.click("#link");
			await tab.waitForSelector(`text=${name}`);
		} finally {
			await browser.close();
		}
	});
});
