/** One request that is made to cost much: text that an expression stumbles over, depth, floods of faults, broken text. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newToken } from "../../src/cli/tokens.ts";
import { BOUNDS } from "../../src/protocol.ts";
import { type FreshServer, freshServer } from "../support/server.ts";
import { raw, request } from "./raw.ts";

const read = newToken("reader", "read", undefined);
const admin = newToken("admin", "admin", undefined);
const lines: string[] = [];

let server: FreshServer;
beforeAll(async () => {
	server = await freshServer({ tokens: [read.entry, admin.entry], onLine: (line) => lines.push(line) });
});
afterAll(() => server?.[Symbol.asyncDispose]());

const PREFECT = "/api/v2/concurrency_limits";

function send(method: string, path: string, body?: string | Buffer, token = admin.token) {
	const headers = { Host: "localhost", Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
	return raw(server.url, request(method, path, headers, body));
}

const FILL = 65_000;
const uuid = "0b7f1a52-7f0c-4a43-9d39-1b9c86f2c0de";

/** Texts over which a careless expression goes again and again. */
const STUMBLES = ["{", "}", "{}", " ", "0", "1", "-", ".", "urn:", "uuid:"].map(
	(one) => `x${one.repeat(Math.floor(FILL / one.length) - 2)}x`,
);

describe("a text as long as a body may be", () => {
	const fields: [path: string, field: string, rest?: object][] = [
		["/decrement-with-lease", "lease_id"],
		["/", "name", { limit: 1 }],
		["/", "limit", { name: "a" }],
		["/", "slot_decay_per_second", { name: "a", limit: 1 }],
		["/", "active", { name: "a", limit: 1 }],
		["/increment", "mode", { names: ["a"], slots: 1 }],
		["/increment-with-lease", "lease_duration", { names: ["a"], slots: 1 }],
		[`/leases/${uuid}/renew`, "lease_duration"],
		["/filter", "limit"],
		["/decrement", "occupancy_seconds", { names: ["a"], slots: 1 }],
	];

	test.each(fields)("is refused in few words: %s, %s", async (path, field, rest = {}) => {
		for (const text of STUMBLES) {
			const { status, body } = await send("POST", PREFECT + path, JSON.stringify({ ...rest, [field]: text }));
			expect({ status, text: text.slice(0, 3) }).toEqual({ status: 422, text: text.slice(0, 3) });
			expect(body.length).toBeLessThan(4_000);
		}
	});

	test("costs nothing of note, whatever it is made of", async () => {
		// A thousand of them: the expression that went over each of them again and again took a second for one.
		for (let round = 0; round < 1_000; round += 1) {
			const text = STUMBLES[round % STUMBLES.length] as string;
			const { status } = await send("POST", `${PREFECT}/decrement-with-lease`, JSON.stringify({ lease_id: text }));
			expect(status).toBe(422);
		}
	});

	test("is cut where a refusal shows it, on the native wire too", async () => {
		for (const body of [{ names: "/".repeat(FILL) }, { names: "a", id: "x".repeat(FILL) }, { ["k".repeat(FILL)]: 1 }]) {
			const answer = await send("POST", "/v1/acquire", JSON.stringify(body));
			expect(answer.status).toBe(422);
			expect(answer.body.length).toBeLessThan(4_000);
		}
	});
});

describe("a body that nests deep", () => {
	const deep = "[".repeat(30_000) + "]".repeat(30_000);
	const objects = `${'{"x":'.repeat(10_000)}1${"}".repeat(10_000)}`;
	test.each([
		["POST", "/v1/acquire"],
		["POST", "/v1/renew"],
		["PUT", "/v1/limits/a"],
		["POST", `${PREFECT}/`],
		["POST", `${PREFECT}/filter`],
		["POST", `${PREFECT}/increment`],
		["POST", `${PREFECT}/increment-with-lease`],
		["POST", `${PREFECT}/decrement-with-lease`],
		["POST", `${PREFECT}/leases/${uuid}/renew`],
		["PATCH", `${PREFECT}/a`],
	])("is the caller's mistake: %s %s", async (method, path) => {
		await send("PUT", "/v1/limits/a", `{"limit":1}`);
		for (const each of [deep, objects]) {
			for (const body of [each, `{"names":${each},"holder":${each},"lease_id":${each}}`.slice(0, BOUNDS.bodyBytes)]) {
				const { status } = await send(method, path, body);
				// Prefect's server passes over keys that it does not know.
				expect([400, 410, 422, 200], body.slice(0, 20)).toContain(status);
			}
		}
	});
});

describe("a body full of faults", () => {
	const keys = (of: string) =>
		JSON.stringify(Object.fromEntries(Array.from({ length: 5_000 }, (_, at) => [`${of}${at}`, 0])));
	test.each([
		["/v1/acquire", `{"names":${keys("/")}}`],
		["/v1/acquire", `{"names":[${`"",`.repeat(20_000)}""]}`],
		["/v1/acquire", keys("k")],
		["/v1/renew", `{"id":"x","names":[${`"",`.repeat(20_000)}""]}`],
		["/v1/release", `{"id":"x","names":${keys("/")}}`],
		[`${PREFECT}/increment`, `{"slots":1,"names":[${"0,".repeat(30_000)}0]}`],
		[`${PREFECT}/increment`, `{"slots":1,"names":[${"0,".repeat(100)}0]}`],
		[`${PREFECT}/`, keys("k")],
		[`${PREFECT}/`, "\u0001".repeat(FILL)],
	])("is told of the first ones: %s", async (path, body) => {
		const answer = await send("POST", path, body);
		expect([400, 422]).toContain(answer.status);
		expect(answer.body.length).toBeLessThan(8_000);
		const told = JSON.parse(answer.body) as { errors?: object[]; exception_detail?: object[] };
		expect((told.errors ?? told.exception_detail ?? []).length).toBeLessThanOrEqual(BOUNDS.faults);
	});
});

describe("bytes that are no UTF-8", () => {
	const broken = (text: string) => Buffer.from(text.replaceAll("?", "\xff"), "latin1");
	test.each([
		["POST", "/v1/acquire", `{"names":"a?"}`],
		["POST", "/v1/acquire", `{"names":"a","holder":"\xc3"}`],
		["PUT", "/v1/limits/a", `{"limit":1,"x":"?"}`],
		["POST", `${PREFECT}/`, `{"name":"a?","limit":1}`],
		["POST", `${PREFECT}/increment`, `{"names":["\xed\xa0\x80"],"slots":1}`],
	])("are refused, for two names would be one: %s %s", async (method, path, text) => {
		const { status, body } = await send(method, path, broken(text));
		expect(status).toBe(400);
		expect(body).toContain("UTF-8");
	});

	test.each([
		"/v1/limits/a\xff",
		"/v1/limits/a\xc3",
		"/v1/limits?prefix=%ff",
		"/v1/limits?prefix=%c3%28",
		"/v1/limits/%ff",
		`${PREFECT}/%ff`,
	])("are refused in a URL: %j", async (path) => {
		const head = Buffer.from(
			`GET ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${admin.token}\r\n`,
			"latin1",
		);
		const { status } = await raw(server.url, Buffer.concat([head, Buffer.from("Connection: close\r\n\r\n")]));
		expect([400, 404, 422]).toContain(status);
	});
});

test("an id of dots alone is refused, for its lease could never be named in a URL", async () => {
	for (const id of [".", ".."]) {
		const { status, body } = await send("POST", "/v1/acquire", JSON.stringify({ names: "dots", id }));
		expect({ status, body: JSON.parse(body) }).toMatchObject({ status: 422, body: { errors: [{ field: "id" }] } });
	}
	expect((await send("POST", "/v1/acquire", JSON.stringify({ names: "dots", id: "..." }))).status).toBe(200);
});

test("a URL has an end", async () => {
	expect((await send("GET", `/v1/limits/${"a".repeat(BOUNDS.urlLength)}`)).status).toBe(414);
	expect((await send("GET", `/v1/limits?prefix=${"a".repeat(BOUNDS.urlLength)}`)).status).toBe(414);
	expect((await send("GET", `${PREFECT}/${"a".repeat(BOUNDS.urlLength)}`)).status).toBe(414);
});

test("a long path is cut where a refusal shows it", async () => {
	await send("PUT", "/v1/limits/a", `{"limit":1}`);
	const long = "x".repeat(BOUNDS.urlLength - 100);
	for (const [method, path, status] of [
		["DELETE", `/v1/limits/a/leases/${long}`, 410],
		["GET", `/v1/limits/a/leases/${long}`, 405],
		["GET", `/v1/limits/${long}`, 422],
		["GET", `/v1/policies/${long}`, 422],
		["GET", `/v1/${long}`, 404],
		["GET", `/${long}`, 404],
		["GET", `/assets/${long}`, 404],
		["GET", `${PREFECT}/${long}`, 404],
	] as const) {
		const answer = await send(method, path);
		expect(answer.status, `${method} ${path.slice(0, 30)}`).toBe(status);
		expect(answer.body.length).toBeLessThan(1_000);
	}
});

test("who may not is told so before anything of the body is read", async () => {
	// Of a body that never comes nothing can be read.
	const head = (method: string, path: string) =>
		`${method} ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${read.token}\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n`;
	for (const [method, path] of [
		["POST", "/v1/acquire"],
		["PUT", "/v1/limits/a"],
		["POST", `${PREFECT}/`],
		["POST", `${PREFECT}/increment`],
		["POST", `${PREFECT}/decrement-with-lease`],
		["POST", `${PREFECT}/leases/${uuid}/renew`],
		["PATCH", `${PREFECT}/a`],
	] as const) {
		expect((await raw(server.url, head(method, path))).status, path).toBe(403);
	}
});

test("a body that its caller cuts off is the caller's, and no error of ours", async () => {
	const before = lines.length;
	const cut = (path: string, length: string) =>
		`POST ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${admin.token}\r\nContent-Type: application/json\r\n${length}\r\n\r\n`;
	for (const path of ["/v1/acquire", `${PREFECT}/filter`]) {
		for (const bytes of [
			`${cut(path, "Content-Length: 99")}{"na`,
			`${cut(path, "Transfer-Encoding: chunked")}9\r\n{"na`,
		]) {
			expect((await raw(server.url, bytes, { ends: true })).status).toBe(400);
		}
	}
	expect(lines.slice(before)).toEqual([]);
});
