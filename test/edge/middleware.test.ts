/** The middleware on workerd itself, before the routes of a Worker that embeds Headgate. */

import { randomUUID } from "node:crypto";
import net from "node:net";
import path from "node:path";
import { parseList } from "structured-headers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Lease, Headgate as Library, type Settings } from "../../src/client/index.ts";
import { type FreshServer, freshServer } from "../support/server.ts";
import { root } from "./harness.ts";

let server: FreshServer;
let gate: Library;
beforeAll(async () => {
	server = await freshServer({ config: path.join(root, "test/edge/api/wrangler.toml") });
	gate = new Library({ url: server.url });
});
afterAll(() => server[Symbol.asyncDispose]());

async function newLimit(settings: Pick<Settings, "limit"> & Partial<Settings>): Promise<string> {
	const name = randomUUID();
	await gate.configure(name, settings);
	return name;
}
const SLOW = { slotDecayPerSecond: 0.01 };

async function get(at: string, headers: Record<string, string> = {}) {
	const response = await fetch(server.url + at, { headers });
	const text = await response.text();
	const isJson = response.headers.get("Content-Type")?.includes("json") ?? false;
	return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
}

const used = async (name: string): Promise<number> => (await gate.inspect(name)).activeSlots;
const isFree = (name: string) => expect.poll(() => used(name), { interval: 20 }).toBe(0);

/** The headers as a reader of the draft sees them: a structured-fields parser, and only keys that it knows. */
function limitsIn(headers: Headers): Record<string, { q?: number; w?: number; qu?: string; r?: number; t?: number }> {
	const limits: Record<string, object> = {};
	for (const header of ["RateLimit-Policy", "RateLimit"]) {
		for (const [name, parameters] of parseList(headers.get(header) ?? "")) {
			limits[name as string] = { ...limits[name as string], ...Object.fromEntries(parameters) };
		}
	}
	return limits;
}

describe("rateLimit", () => {
	test("lets through what fits, denies the rest, and says how much is left in the draft's own grammar", async () => {
		const name = await newLimit({ limit: 2, ...SLOW });
		const first = await get(`/rate?name=${name}`);
		expect(first).toMatchObject({ status: 200, body: "hello" });
		expect(limitsIn(first.headers)).toEqual({ [name]: { q: 2, w: 200, r: 1, t: expect.any(Number) } });
		await get(`/rate?name=${name}`);
		const denied = await get(`/rate?name=${name}`);
		expect(denied.status).toBe(429);
		expect(denied.headers.get("Content-Type")).toBe("application/problem+json");
		expect(denied.body).toEqual({
			type: "https://iana.org/assignments/http-problem-types#quota-exceeded",
			...{ title: "Too many requests", status: 429, code: "denied", detail: expect.stringContaining(name) },
			...{ retryAfterSeconds: expect.any(Number), "violated-policies": [name] },
		});
		const retryAfter = Number(denied.headers.get("Retry-After"));
		expect(retryAfter).toBe(Math.ceil(denied.body.retryAfterSeconds));
		expect(limitsIn(denied.headers)[name]).toEqual({ q: 2, w: 200, r: 0, t: retryAfter });
	});

	test("writes the older headers, or none", async () => {
		const name = await newLimit({ limit: 1, ...SLOW });
		const older = await get(`/rate-06?name=${name}`);
		const { headers } = older;
		expect(headers.get("RateLimit-Limit")).toBe("1");
		expect(headers.get("RateLimit-Remaining")).toBe("0");
		expect(headers.get("RateLimit-Policy")).toBe("1;w=100");
		expect(Number(headers.get("RateLimit-Reset"))).toBeGreaterThan(90);
		expect(headers.has("RateLimit")).toBe(false);
		const quiet = await get(`/rate-quiet?name=${name}`);
		expect(quiet.status).toBe(429);
		expect(quiet.headers.has("Retry-After")).toBe(true);
		expect([...quiet.headers.keys()].filter((key) => key.startsWith("ratelimit"))).toEqual([]);
	});

	test("calls a limit what it is told to, in headers and problems", async () => {
		const name = await newLimit({ limit: 1, ...SLOW });
		expect(limitsIn((await get(`/label?name=${name}`)).headers)).toHaveProperty("your quota");
		const { status, body } = await get(`/label?name=${name}`);
		expect(status).toBe(429);
		expect(body["violated-policies"]).toEqual(["your quota"]);
		expect(JSON.stringify(body)).not.toContain(name);
	});

	test("promise 2: of several limits takes all or none, and tells of each", async () => {
		const name = await newLimit({ limit: 5, ...SLOW });
		await gate.configure(`${name}-all`, { limit: 1, ...SLOW });
		const first = await get(`/two?name=${name}`);
		expect(Object.keys(limitsIn(first.headers))).toEqual([name, `${name}-all`]);
		const denied = await get(`/two?name=${name}`);
		expect(denied.body["violated-policies"]).toEqual([`${name}-all`]);
		expect(await used(name)).toBe(1);
	});

	test("two of them on one route make one list of headers", async () => {
		const name = await newLimit({ limit: 5, ...SLOW });
		await gate.configure(`${name}-all`, { limit: 3, ...SLOW });
		const { headers } = await get(`/twice?name=${name}`);
		expect(limitsIn(headers)).toMatchObject({ [name]: { q: 5, r: 4 }, [`${name}-all`]: { q: 3, r: 2 } });
	});

	test("takes what the request costs; to cost more than there ever is is an error of the program", async () => {
		const name = await newLimit({ limit: 5, ...SLOW });
		expect((await get(`/cost?name=${name}&cost=4`)).status).toBe(200);
		expect(await used(name)).toBe(4);
		const { status, body } = await get(`/cost?name=${name}&cost=6`);
		expect(status).toBe(500);
		expect(body.message).toContain("exceeds_limit");
		expect(await used(name)).toBe(4);
	});

	test.each(["0", "NaN", "1.5", "-1"])(
		"a cost of %s is an error of the program, and lets nothing through",
		async (cost) => {
			const name = await newLimit({ limit: 5, ...SLOW });
			const { status, body } = await get(`/cost?name=${name}&cost=${cost}`);
			expect(status).toBe(500);
			expect(body).toMatchObject({ name: "RangeError", message: expect.stringContaining(`was ${Number(cost)}`) });
			expect(await used(name)).toBe(0);
		},
	);

	test("skips what it is told to skip", async () => {
		const name = await newLimit({ limit: 1, ...SLOW });
		for (let times = 0; times < 3; times += 1) expect((await get(`/skip?name=${name}&free=yes`)).status).toBe(200);
		expect(await used(name)).toBe(0);
		expect((await get(`/skip?name=${name}`)).status).toBe(200);
		expect((await get(`/skip?name=${name}`)).status).toBe(429);
	});

	test("waits in line, if it may", async () => {
		const name = await newLimit({ limit: 1, slotDecayPerSecond: 2 });
		const answers = await Promise.all([1, 2, 3].map(() => get(`/waits?name=${name}`)));
		expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
		expect(limitsIn(answers[2]?.headers ?? new Headers())).toHaveProperty(name);
	});

	test("answers as it is told to", async () => {
		const name = await newLimit({ limit: 1, ...SLOW });
		await get(`/own-answer?name=${name}`);
		const own = await get(`/own-answer?name=${name}`);
		expect(own).toMatchObject({ status: 418, body: "denied" });
		expect(own.headers.has("Retry-After")).toBe(true);
		expect(limitsIn(own.headers)).toHaveProperty(name);
	});

	test.each([
		["throws", "no key in this request"],
		["nothing", "`name` gave no name"],
		["empty", "`name` gave no name"],
		["blank", "`name` gave no name"],
		["many", "`name` gave 10000 names; a request takes at most 16"],
	])("a name function that gives %s is an error of the program", async (how, message) => {
		const { status, body } = await get(`/name-${how}`);
		expect(status).toBe(500);
		expect(body.message).toContain(message);
	});

	test("a name that cannot be one is an error of the program", async () => {
		const { status, body } = await get("/name-illegal");
		expect(status).toBe(500);
		expect(body).toMatchObject({
			name: "ConcurrencySlotAcquisitionError",
			message: expect.stringContaining("invalid"),
		});
	});

	test("a wait that ends in vain is denied with its names, its headers and when to come back", async () => {
		const name = await newLimit({ limit: 1 });
		const outside = await gate.acquire(name);
		const { status, headers, body } = await get(`/held-waits-briefly?name=${name}`);
		expect(status).toBe(429);
		expect(body["violated-policies"]).toEqual([name]);
		expect(limitsIn(headers)[name]).toMatchObject({ q: 1, r: 0 });
		expect(headers.has("Retry-After")).toBe(true);
		await outside.release();
	});

	test("promise 13: closed when the limiter is out of reach, and open only when told to be", async () => {
		for (const at of ["/closed", "/closed-held"]) {
			const closed = await get(`${at}?name=x`);
			expect(closed).toMatchObject({ status: 503, body: { status: 503, code: "overloaded", retryAfterSeconds: 1 } });
			expect(closed.headers.get("Retry-After")).toBe("1");
			expect(closed.headers.get("Content-Type")).toBe("application/problem+json");
		}
		expect(await get("/open?name=x")).toMatchObject({ status: 200, body: "hello" });
		expect(await get("/error?name=x")).toMatchObject({ status: 502, body: "own" });
	});
});

describe("a caller's address", () => {
	test("is Cloudflare's header where the program says that it is Cloudflare's", async () => {
		const headers = { "CF-Connecting-IP": "2001:DB8:0001:0002::9", "X-Forwarded-For": "192.0.2.66" };
		expect((await get("/address-trusted", headers)).body).toBe("2001:db8:1:2::");
		expect((await get("/address-trusted", { "X-Forwarded-For": "192.0.2.66" })).body).toBe("unknown");
	});

	test("a part of a name is one that a limit can have", async () => {
		for (const text of ["a/b", "a:b", "a=2fb", "a%2Fb", "<>&", "é", "x".repeat(500), "", ".", ".."]) {
			const { body: part } = await get(`/part?text=${encodeURIComponent(text)}`);
			expect((await gate.configure(part, { limit: 1 })).name).toBe(part);
		}
	});
});

describe("concurrency", () => {
	test("tells the handler its lease, and gives the slots back when the answer was sent", async () => {
		const name = await newLimit({ limit: 1 });
		const { status, body, headers } = await get(`/held?name=${name}`);
		expect({ status, body }).toEqual({ status: 200, body: { lease: { [name]: 1 } } });
		expect(limitsIn(headers)).toEqual({ [name]: { q: 1, qu: "concurrent-requests", r: 0 } });
		await isFree(name);
	});

	test("holds them until the last part of the body, and not only until the first", async () => {
		const name = await newLimit({ limit: 1 });
		const response = await fetch(`${server.url}/held-stream?name=${name}`);
		const reader = response.body?.getReader();
		await reader?.read();
		expect(await used(name)).toBe(1);
		expect((await get(`/held?name=${name}`)).status).toBe(429);
		while (!(await reader?.read())?.done);
		await isFree(name);
	});

	test.each(["held-empty", "held-throws", "held-breaks"])("%s: gives them back", async (how) => {
		const name = await newLimit({ limit: 1 });
		await get(`/${how}?name=${name}`).catch(() => undefined);
		await isFree(name);
		expect((await gate.inspect(name)).totals).toMatchObject({ released: 1, expired: 0 });
	});

	test.each(["FIN", "RST"])(
		"promise 5: a client that goes by %s in the middle of the body gives them back",
		async (how) => {
			const name = await newLimit({ limit: 1 });
			const socket = await open(`/held-long?name=${name}`);
			expect(await used(name)).toBe(1);
			if (how === "FIN") socket.destroy();
			else socket.resetAndDestroy();
			await isFree(name);
			expect((await gate.inspect(name)).totals).toMatchObject({ released: 1, expired: 0 });
		},
	);

	test.each(["held-endless", "held-silent"])("a body that never ends is cut after its maximum: %s", async (how) => {
		const name = await newLimit({ limit: 1 });
		const startedAt = performance.now();
		const reading = get(`/${how}?name=${name}`).then(
			() => "whole",
			() => "cut",
		);
		await expect.poll(() => used(name)).toBe(1);
		const [first] = (await gate.inspect(name)).leases;
		// It was renewed meanwhile: its lease is for one second only.
		await expect.poll(async () => (await gate.inspect(name)).leases[0]?.expiresAt).not.toBe(first?.expiresAt);
		await isFree(name);
		expect(performance.now() - startedAt).toBeGreaterThan(3_500);
		expect(await reading).toBe("cut");
		expect((await gate.inspect(name)).totals).toMatchObject({ released: 1, expired: 0 });
	});

	test("a body whose lease was taken back is cut", async () => {
		const name = await newLimit({ limit: 1 });
		const reading = get(`/held-endless?name=${name}`).then(
			() => "whole",
			() => "cut",
		);
		await expect.poll(() => used(name)).toBe(1);
		const [lease] = (await gate.inspect(name)).leases;
		await gate.forceRelease(name, (lease as unknown as Lease).id);
		expect(await reading).toBe("cut");
	});

	test("waits in line, if it may, behind a lease that is held from outside", async () => {
		const name = await newLimit({ limit: 1 });
		const outside = await gate.acquire(name);
		const waiting = get(`/held-waits?name=${name}`);
		await expect.poll(async () => (await gate.inspect(name)).waitingCount).toBe(1);
		await outside.release();
		expect((await waiting).status).toBe(200);
	});

	test.each(["/told", "/told-twice"])("keeps the length that the handler gave: %s", async (at) => {
		const name = await newLimit({ limit: 1 });
		await gate.configure(`${name}-b`, { limit: 1 });
		const { headers, body } = await get(`${at}?name=${name}`);
		expect(body).toBe("part 0\npart 1\npart 2\n");
		expect(headers.get("Content-Length")).toBe("21");
		expect(headers.has("Transfer-Encoding")).toBe(false);
		await isFree(name);
		for (const each of ["/told", "/plain/told"]) {
			const head = await fetch(`${server.url}${each}?name=${name}`, { method: "HEAD" });
			expect(head.headers.get("Content-Length")).toBe("21");
			await isFree(name);
		}
	});

	test("a body that is shorter than its handler said is cut, and gives them back", async () => {
		const name = await newLimit({ limit: 1 });
		await expect(get(`/told-too-much?name=${name}`)).rejects.toThrow();
		await isFree(name);
	});

	test("a body that is encoded on its way has another length than the handler's", async () => {
		const name = await newLimit({ limit: 1 });
		const { headers, body } = await get(`/told-encoded?name=${name}`);
		expect(body).toBe("part 0\npart 1\npart 2\n");
		expect(headers.get("Content-Encoding")).toBe("gzip");
		await isFree(name);
	});

	test.each(["/held-over-rate", "/rate-over-held", "/held-twice"])("beside another guard: %s", async (at) => {
		const name = await newLimit({ limit: 1 });
		await gate.configure(`${name}-b`, { limit: 1, ...(at !== "/held-twice" && SLOW) });
		const { status, headers, body } = await get(`${at}?name=${name}`);
		expect({ status, body }).toEqual({ status: 200, body: "part 0\npart 1\npart 2\n" });
		expect(limitsIn(headers)).toMatchObject({ [name]: { q: 1, r: 0 }, [`${name}-b`]: { q: 1, r: 0 } });
		await isFree(name);
	});

	test("an answer that middleware outside copies or changes is held until it was sent, and is whole", async () => {
		const name = await newLimit({ limit: 1 });
		for (const at of ["/copies", "/changes"]) {
			const answer = get(`${at}?name=${name}`);
			await expect.poll(() => used(name)).toBe(1);
			expect((await answer).body).toBe("part 0\npart 1\npart 2\n");
			await isFree(name);
		}
	});

	test("takes other limits by rate in the same request", async () => {
		const name = await newLimit({ limit: 1 });
		await gate.configure(`${name}-rate`, { limit: 2, ...SLOW });
		for (let times = 0; times < 2; times += 1) {
			expect((await get(`/held-and-rate?name=${name}`)).status).toBe(200);
			await isFree(name);
		}
		const denied = await get(`/held-and-rate?name=${name}`);
		expect(denied.body["violated-policies"]).toEqual([`${name}-rate`]);
	});
});

describe("pauseOn429", () => {
	const date = (inSeconds: number) => () => new Date(Date.now() + inSeconds * 1_000).toUTCString();

	test.each<[at: string, what: string, said: () => string | null, seconds: number]>([
		["/busy", "of so many seconds", () => "30", 30],
		["/busy", "of no time", () => "0", 1],
		["/busy", "of more than may be", () => "99999999999999999999", 600],
		["/busy", "of a date", date(300), 300],
		["/busy", "of a date that is past", date(-300), 1],
		["/busy", "of no number", () => "soon", 5],
		["/busy", "that was left out", () => null, 5],
		["/busy-rate", "of so many seconds", () => "30", 30],
		["/plain/busy", "of so many seconds", () => "30", 30],
		["/plain/busy-rate", "of so many seconds", () => "30", 30],
	])("%s with a Retry-After %s pauses its limit", async (at, _, said, seconds) => {
		const name = await newLimit({ limit: 5, ...(at.endsWith("rate") && SLOW) });
		const value = said();
		const askedAt = Date.now();
		const answer = await get(`${at}?name=${name}${value === null ? "" : `&said=${encodeURIComponent(value)}`}`);
		expect(answer).toMatchObject({ status: 429, body: "busy" });
		const answeredAt = Date.now();
		const { pausedUntil } = await gate.inspect(name);
		// A pause may be over before it is looked at, and a date is rounded to seconds.
		const until = pausedUntil === null ? Date.now() : Date.parse(pausedUntil);
		expect(until).toBeGreaterThanOrEqual(askedAt + (seconds - 1) * 1_000);
		if (pausedUntil !== null) expect(until).toBeLessThanOrEqual(answeredAt + seconds * 1_000);
	});

	test("the denial of a guard pauses nothing, whatever another middleware made of it, nor does another failure", async () => {
		const name = await newLimit({ limit: 5 });
		await gate.configure(`${name}-own`, { limit: 1, ...SLOW });
		expect((await get(`/busy-own?name=${name}`)).status).toBe(200);
		expect((await get(`/busy-own?name=${name}`)).body["violated-policies"]).toEqual([`${name}-own`]);
		expect((await get(`/not-busy?name=${name}`)).status).toBe(503);
		await isFree(name);
		expect((await gate.inspect(name)).pausedUntil).toBeNull();
	});

	test("a limit that cannot be paused changes nothing of the answer", async () => {
		const name = await newLimit({ limit: 1 });
		expect(await get(`/busy-nowhere?name=${name}&said=30`)).toMatchObject({ status: 429, body: "busy" });
		await isFree(name);
		expect((await gate.inspect(name)).pausedUntil).toBeNull();
	});
});

describe("a plain fetch handler", () => {
	test("is limited in the same way", async () => {
		const name = await newLimit({ limit: 1, ...SLOW });
		const first = await get(`/plain/rate?name=${name}`);
		expect(first).toMatchObject({ status: 200, body: "hello" });
		expect(limitsIn(first.headers)[name]).toMatchObject({ q: 1, r: 0 });
		expect((await get(`/plain/rate?name=${name}`)).status).toBe(429);
	});

	test("is told its lease, and holds it until its body was sent", async () => {
		const name = await newLimit({ limit: 1 });
		expect((await get(`/plain/held?name=${name}`)).body).toMatchObject({ lease: { [name]: 1 } });
		await isFree(name);
		const streaming = get(`/plain/stream?name=${name}`);
		await expect.poll(() => used(name)).toBe(1);
		expect((await streaming).body).toBe("part 0\npart 1\npart 2\n");
		await isFree(name);
	});
});

/** Opens a connection of its own, and answers once the first part of the body is there. */
function open(at: string): Promise<net.Socket> {
	const { hostname, port } = new URL(server.url);
	const socket = net.connect(Number(port), hostname);
	return new Promise((resolve, reject) => {
		let text = "";
		// Whoever ends it does not ask how.
		socket.on("error", reject);
		socket.on("data", (data) => {
			text += data;
			if (text.includes("part 0")) resolve(socket);
		});
		socket.write(`GET ${at} HTTP/1.1\r\nHost: x\r\n\r\n`);
	});
}
