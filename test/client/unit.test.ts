/**
 * The library against a service that fails on demand, with time that the tests move. Node only: what is shown here is
 * plain JavaScript, the same everywhere.
 */

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
	type AcquireOptions,
	Headgate,
	type HeadgateOptions,
	isAcquisitionError,
	isHeadgateError,
	isLeaseLostError,
	isTimeoutError,
	isUnreachableError,
	type Lease,
	LeaseLostError,
	type Problem,
} from "../../src/client/index.ts";

beforeEach(() => {
	vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
	// Without its random part a pause is known to the millisecond.
	vi.spyOn(Math, "random").mockReturnValue(0);
});

afterEach(() => {
	const timers = vi.getTimerCount();
	vi.useRealTimers();
	vi.restoreAllMocks();
	vi.unstubAllEnvs();
	vi.unstubAllGlobals();
	expect(timers, "timers left behind").toBe(0);
});

/** A request as the service sees it. */
interface Seen {
	path: string;
	method: string;
	stream: boolean;
	// biome-ignore lint/suspicious/noExplicitAny: the tests know what they sent.
	body: any;
	signal: AbortSignal;
	/** On the clock of the test. */
	at: number;
}

type Answer = Response | Promise<Response>;

/** A service that answers acquires, and everything else, as it is told. Each call sees its number, from 1. */
function service(acquire: (seen: Seen, count: number) => Answer, other: (seen: Seen, count: number) => Answer = ok) {
	const seen: Seen[] = [];
	const warnings: [message: string, cause: unknown][] = [];
	const startedAt = performance.now();
	const send: HeadgateOptions["fetch"] = async (url, init) => {
		const call: Seen = {
			path: url.replace("http://fake", ""),
			method: init.method ?? "GET",
			stream: (init.headers as Record<string, string>).Accept === "application/x-ndjson",
			body: init.body === undefined ? undefined : JSON.parse(String(init.body)),
			signal: init.signal as AbortSignal,
			at: performance.now() - startedAt,
		};
		seen.push(call);
		call.signal.throwIfAborted();
		const answer = call.path === "/v1/acquire" ? acquire : other;
		return answer(call, seen.filter(({ path }) => path === call.path).length);
	};
	const gate = new Headgate({
		url: "http://fake",
		fetch: send,
		onWarning: (message, cause) => warnings.push([message, cause]),
	});
	const of = (path: string): Seen[] => seen.filter((call) => call.path === path);
	return { gate, seen, warnings, of };
}

const json = (value: unknown, status = 200, headers: Record<string, string> = {}): Response =>
	new Response(JSON.stringify(value), { status, headers: { "Content-Type": "application/json", ...headers } });

function problem(status: number, code: Problem["code"], more: Partial<Problem> = {}): Response {
	const body = { type: "about:blank", title: code, status, code, detail: `because ${code}`, ...more };
	return new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/problem+json" } });
}

const EXPIRES = "2030-01-01T00:00:00.000Z";

const leaseFor = ({ body }: Seen): object => ({
	...{ id: body.id, names: body.names, expiresAt: EXPIRES, waitedSeconds: 0 },
	limits: Object.keys(body.names).map((name) => ({ name, limit: 1, activeSlots: 1, remaining: 0, enforced: true })),
});

const ok = (seen: Seen): Response =>
	json(seen.path === "/v1/renew" ? { id: seen.body.id, expiresAt: EXPIRES } : { released: 1 });

const refused = (): never => {
	throw new TypeError("fetch failed", { cause: new Error("connect ECONNREFUSED") });
};

const never = (): Promise<never> => new Promise(() => {});

const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

/** A line as its event, or as it stands: text or bytes. */
type Line = object | string | Uint8Array<ArrayBuffer>;

/** A stream whose lines the test writes. It breaks when its caller aborts, as a real one does. */
function stream(seen: Seen) {
	let controller!: ReadableStreamDefaultController<Uint8Array>;
	let open = true;
	let cancelled = false;
	const body = new ReadableStream<Uint8Array>({
		start: (made) => {
			controller = made;
		},
		cancel: () => {
			cancelled = true;
		},
	});
	const end = (how: () => void): void => {
		if (open) how();
		open = false;
	};
	seen.signal.addEventListener("abort", () => end(() => controller.error(seen.signal.reason)));
	return {
		response: new Response(body, { headers: { "Content-Type": "application/x-ndjson" } }),
		write: (...lines: Line[]) => {
			for (const line of lines) {
				if (line instanceof Uint8Array) controller.enqueue(line);
				else controller.enqueue(encode(typeof line === "string" ? line : `${JSON.stringify(line)}\n`));
			}
		},
		close: () => end(() => controller.close()),
		crash: () => end(() => controller.error(new TypeError("terminated"))),
		get cancelled() {
			return cancelled || seen.signal.aborted;
		},
	};
}

/** A stream that says all it has to say at once, and ends as it should. */
function said(seen: Seen, ...lines: Line[]): Response {
	const { response, write, close } = stream(seen);
	write(...lines);
	close();
	return response;
}

const granted = (seen: Seen): Response => said(seen, { event: "granted", lease: leaseFor(seen) });

/** What a promise comes to; asked for early, so that no rejection is unhandled while time is moved. */
const outcome = (promise: Promise<unknown>): Promise<unknown> => promise.catch((error: unknown) => error);

const pass = (seconds: number): Promise<unknown> => vi.advanceTimersByTimeAsync(seconds * 1_000);

describe("a service that fails", () => {
	test("503 is tried again after 100 and 200 ms, under the same id", async () => {
		const { gate, of } = service((seen, count) => (count < 3 ? problem(503, "overloaded") : granted(seen)));
		const leasing = gate.acquire("a");
		await pass(1);
		await (await leasing).release();
		expect(of("/v1/acquire").map(({ at }) => at)).toEqual([0, 100, 300]);
		expect(new Set(of("/v1/acquire").map(({ body }) => body.id)).size).toBe(1);
	});

	test("Retry-After is honoured, from the problem or from the header", async () => {
		const { gate, of } = service((seen, count) => {
			if (count === 1) return problem(503, "overloaded", { retryAfterSeconds: 2 });
			if (count === 2) return new Response("busy", { status: 503, headers: { "Retry-After": "3" } });
			return granted(seen);
		});
		const leasing = gate.acquire("a");
		await pass(10);
		await (await leasing).release();
		const [first, second, third] = of("/v1/acquire").map(({ at }) => at);
		expect(second).toBeGreaterThanOrEqual(2_000);
		expect((third ?? 0) - (second ?? 0)).toBeGreaterThanOrEqual(3_000);
		expect(first).toBe(0);
	});

	test("a proxy that asks for an hour is not waited for", async () => {
		const { gate, of } = service(() => new Response("", { status: 503, headers: { "Retry-After": "3600" } }));
		const failed = outcome(gate.acquire("a"));
		await pass(0.1);
		expect(isUnreachableError(await failed)).toBe(true);
		expect(of("/v1/acquire").length).toBe(1);
	});

	test("a refused connection is tried for five seconds, and its reason is in the message", async () => {
		const { gate, of } = service(refused, refused);
		const failed = outcome(gate.acquire("a"));
		await pass(12);
		expect(String(await failed)).toBe(
			"HeadgateUnreachableError: Headgate at http://fake could not be reached in 8 attempts: connect ECONNREFUSED",
		);
		expect(of("/v1/acquire").map(({ at }) => at)).toEqual([0, 100, 300, 700, 1_500, 2_500, 3_500, 4_500]);
	});

	test("a service that is back within five seconds has cost nobody a slot, or an error", async () => {
		let backAt = 4_000;
		const restarted = (seen: Seen): Response => (seen.at < backAt ? refused() : granted(seen));
		const { gate, of } = service(restarted, (seen) => (seen.at < backAt ? refused() : ok(seen)));
		const [waiting, configured] = [gate.acquire("a"), gate.configure("b", { limit: 1 })];
		await pass(5);
		await configured;
		const lease = await waiting;
		backAt = 9_000;
		const released = lease.release();
		await pass(5);
		await released;
		expect(of("/v1/release").at(-1)?.at).toBeLessThan(10_000);
	});

	test("whoever does not wait for slots tries for a second", async () => {
		const { gate, of } = service(refused, refused);
		const failed = outcome(gate.tryAcquire("a"));
		await pass(8);
		expect(isUnreachableError(await failed)).toBe(true);
		expect(of("/v1/acquire").map(({ at }) => at)).toEqual([0, 100, 300, 700]);
	});

	test("a service that never answers is given up after 20 s, and what it may grant is taken back", async () => {
		const { gate, of } = service(never, never);
		const failed = outcome(gate.acquire("a"));
		await pass(20);
		expect(isUnreachableError(await failed)).toBe(true);
		const ids = of("/v1/acquire").map(({ body }) => body.id);
		expect(ids.length).toBe(1);
		expect(of("/v1/release").map(({ body }) => body)).toEqual([{ id: ids[0], names: { a: 1 } }]);
		expect(of("/v1/acquire").every(({ signal }) => signal.aborted)).toBe(true);
		await pass(10);
	});

	test("a request is said to be the first of its id once, so that its repetition is never denied from memory", async () => {
		const { gate, of } = service((seen, count) => (count === 1 ? refused() : json(leaseFor(seen))));
		const taken = gate.rateLimit("a", { timeoutSeconds: 0 });
		await pass(1);
		const { id } = await taken;
		expect(of("/v1/acquire").map(({ body }) => [body.id, body.firstAttempt])).toEqual([
			[id, true],
			[id, undefined],
		]);
	});

	test('onError: "open" also when the time ran out before the service said anything', async () => {
		const { gate, warnings } = service(never);
		const value = outcome(gate.concurrency("a", { onError: "open", timeoutSeconds: 2 }, (lease) => lease.enforced));
		await pass(2);
		expect(await value).toBe(false);
		expect(isTimeoutError(warnings[0]?.[1])).toBe(true);
	});

	test('onError: "open" does not turn a refusal or a timeout in line into a grant', async () => {
		const { gate } = service((seen) => {
			if (!seen.stream) return problem(429, "denied");
			const { response, write } = stream(seen);
			write({ event: "queued", position: 7 });
			return response;
		});
		expect(isAcquisitionError(await outcome(gate.acquire("a", { onError: "open", maxRetries: 0 })))).toBe(true);
		const waiting = outcome(gate.acquire("a", { onError: "open", timeoutSeconds: 5 }));
		await pass(5);
		expect(String(await waiting)).toBe('TimeoutError: No slots of "a" within 5 s; the last place in line was 7.');
	});

	test('onError: "open" does not run the work of a caller that cancelled', async () => {
		const { gate, warnings } = service(never, never);
		const control = new AbortController();
		const work = vi.fn();
		const running = outcome(gate.concurrency("a", { onError: "open", signal: control.signal }, work));
		await pass(1);
		control.abort();
		await pass(10);
		expect([await running, work.mock.calls, warnings]).toEqual([control.signal.reason, [], []]);
	});

	test("a page that is not Headgate is named as such", async () => {
		const { gate } = service(() => new Response("<h1>Not found</h1>", { status: 404 }));
		const error = await outcome(gate.acquire("a"));
		expect(error).toMatchObject({ name: "ConcurrencySlotAcquisitionError", status: 404, code: "not_found" });
		expect(String(error)).toContain("is the url right?): <h1>Not found</h1>");
	});

	test.each([
		[400, "malformed"],
		[401, "unauthorized"],
		[403, "forbidden"],
		[404, "unknown_limit"],
		[409, "id_in_use"],
		[422, "invalid"],
	] as const)("%i %s is raised at once, without a retry", async (status, code) => {
		for (const options of [{}, { maxRetries: 5 }, { onError: "open" }] satisfies AcquireOptions[]) {
			const { gate, of, seen } = service(() => problem(status, code));
			const error = await outcome(gate.acquire("a", options));
			expect(error).toMatchObject({ name: "ConcurrencySlotAcquisitionError", code, cause: { status, code } });
			expect([of("/v1/acquire").length, seen.length]).toEqual([1, 1]);
		}
	});

	test("a line that stays full is a refusal", async () => {
		const { gate } = service(() => problem(503, "queue_full", { retryAfterSeconds: 10 }));
		const error = outcome(gate.acquire("a", { onError: "open" }));
		await pass(60);
		expect(await error).toMatchObject({ name: "ConcurrencySlotAcquisitionError", code: "queue_full" });
	});

	test("the other calls are tried again as well, and then raise", async () => {
		const { gate, seen } = service(granted, (_, count) => (count < 3 ? refused() : json({ limit: 1 })));
		const configured = gate.configure("a/b c", { limit: 1 });
		await pass(1);
		expect(await configured).toEqual({ limit: 1 });
		expect(seen.map(({ method, path }) => `${method} ${path}`)).toEqual(Array(3).fill("PUT /v1/limits/a%2Fb%20c"));
		const down = service(refused, refused).gate;
		const failed = outcome(down.inspect("a"));
		await pass(5);
		expect(isUnreachableError(await failed)).toBe(true);
	});

	test("limits reads page after page", async () => {
		const { gate, seen } = service(granted, (_, count) => {
			const all = [{ name: "a" }, { name: "b" }, { name: "c" }];
			return count === 1 && seen.length === 1
				? json({ limits: all.slice(0, 2), next: "b" })
				: json({ limits: all.slice(2), next: null });
		});
		const names: string[] = [];
		for await (const { name } of gate.limits({ prefix: "x&y" })) names.push(name);
		expect(names).toEqual(["a", "b", "c"]);
		expect(seen.map(({ path }) => path)).toEqual(["/v1/limits?prefix=x%26y", "/v1/limits?prefix=x%26y&after=b"]);
	});
});

describe("a wait that is interrupted", () => {
	test("resumes after garbage, a torn line, a quiet end and a break, under one id", async () => {
		const { gate, of } = service((seen, count) => {
			if (count === 1) return said(seen, { event: "queued", position: 3 }, "<html>bad gateway</html>\n");
			if (count === 2) return said(seen, { event: "queued", position: 2 }, '{"event":"gran');
			if (count === 3) return said(seen, { event: "queued", position: 1 });
			if (count === 4) return said(seen, "null\n");
			if (count === 5) refused();
			return granted(seen);
		});
		const leasing = gate.acquire("a");
		await pass(5);
		await (await leasing).release();
		const asks = of("/v1/acquire");
		expect(asks.length).toBe(6);
		expect(new Set(asks.map(({ body }) => JSON.stringify(body))).size).toBe(1);
		expect(asks[0]?.body).not.toHaveProperty("waitSeconds");
	});

	test("blank lines and unknown events are passed over, and lines may come in pieces", async () => {
		const { gate, of } = service((seen) => {
			const start = '\n  \n{"event":"news","of":["tomorrow"]}\n{"event":"heartbeat"}\n';
			const bytes = encode(`${start}${JSON.stringify({ event: "granted", lease: leaseFor(seen) })}\n\n`);
			return said(seen, ...Array.from(bytes, (_, index) => bytes.slice(index, index + 1)));
		});
		const lease = await gate.acquire("grün");
		expect(lease.names).toEqual({ grün: 1 });
		expect(of("/v1/acquire").length).toBe(1);
		await lease.release();
	});

	test.each([
		{ position: 17, silenceSeconds: 35 },
		{ position: 16, silenceSeconds: 10 },
	])(
		"at place $position, $silenceSeconds s of silence mean that the connection is dead",
		async ({ position, silenceSeconds }) => {
			const { gate, of } = service((seen, count) => {
				if (count === 2) return granted(seen);
				const { response, write } = stream(seen);
				write({ event: "queued", position });
				setTimeout(() => write({ event: "heartbeat" }), silenceSeconds * 1_000 - 1);
				return response;
			});
			const leasing = gate.acquire("a");
			await pass(2 * silenceSeconds - 0.1);
			expect(of("/v1/acquire").length).toBe(1);
			await pass(0.3);
			expect(of("/v1/acquire").length).toBe(2);
			expect(of("/v1/acquire")[0]?.signal.aborted).toBe(true);
			await (await leasing).release();
		},
	);

	test("the time already waited is subtracted", async () => {
		const { gate, of } = service((seen, count) => {
			const { response, write, crash } = stream(seen);
			write({ event: "queued", position: 20 });
			if (count === 1) setTimeout(crash, 4_000);
			return response;
		});
		const waiting = outcome(gate.acquire("a", { timeoutSeconds: 10 }));
		await pass(10);
		expect(isTimeoutError(await waiting)).toBe(true);
		expect(of("/v1/acquire").map(({ body }) => body.waitSeconds)).toEqual([10, 5.9]);
	});

	test("a service that had answered is tried for 30 s, with pauses that grow to a second", async () => {
		const { gate, of } = service((seen, count) =>
			count === 1 ? said(seen, { event: "queued", position: 1 }) : refused(),
		);
		const failed = outcome(gate.acquire("a"));
		await pass(29);
		const at = of("/v1/acquire").map((seen) => seen.at);
		expect(at.slice(0, 6)).toEqual([0, 100, 300, 700, 1_500, 2_500]);
		await pass(2);
		expect(isUnreachableError(await failed)).toBe(true);
		expect(of("/v1/release").length).toBe(1);
	});

	test("whose lease was granted and ended meanwhile starts again under a new id", async () => {
		const { gate, of } = service((seen, count) => {
			if (count === 1) return said(seen, { event: "queued", position: 1 });
			return count === 2 ? problem(409, "id_in_use") : granted(seen);
		});
		const leasing = gate.acquire("a");
		await pass(1);
		await (await leasing).release();
		const [first, second, third] = of("/v1/acquire").map(({ body }) => body.id);
		expect(second).toBe(first);
		expect(third).not.toBe(first);
	});

	test("a resumed grant may be old, so it is renewed at once", async () => {
		const { gate, of } = service((seen, count) => (count === 1 ? refused() : granted(seen)));
		const leasing = gate.acquire("a");
		await pass(0.2);
		const lease = await leasing;
		expect(of("/v1/renew").length).toBe(1);
		await pass(19.5);
		expect(of("/v1/renew").length).toBe(1);
		await pass(1);
		expect(of("/v1/renew").length).toBe(2);
		await lease.release();
	});

	test("a retry waits for as long as was announced, and keeps the id", async () => {
		const { gate, of } = service((seen, count) =>
			count < 3 ? problem(429, "denied", { retryAfterSeconds: 7.5 }) : granted(seen),
		);
		await (await gate.acquire("a", { maxRetries: 4 })).release();
		const asks = of("/v1/acquire");
		expect(asks.map(({ stream, body }) => [stream, body.waitSeconds])).toEqual([
			[false, 0],
			[true, 7.5],
			[true, 7.5],
		]);
		expect(new Set(asks.map(({ body }) => body.id)).size).toBe(1);
	});
});

describe("the instant of the grant", () => {
	test("the caller proceeds at the grant; the connection is read to its end, and not cancelled", async () => {
		let line!: ReturnType<typeof stream>;
		const { gate } = service((seen) => {
			line = stream(seen);
			line.write({ event: "granted", lease: leaseFor(seen) });
			return line.response;
		});
		const lease = await gate.acquire("a");
		await pass(0.1);
		expect(line.cancelled).toBe(false);
		line.write("\n");
		line.close();
		await lease.release();
		expect(line.cancelled).toBe(false);
		await pass(0);
	});

	test("a connection that nobody closes after the grant is dropped in the end", async () => {
		let line!: ReturnType<typeof stream>;
		const { gate } = service((seen) => {
			line = stream(seen);
			line.write({ event: "granted", lease: leaseFor(seen) });
			return line.response;
		});
		const lease = await gate.acquire("a");
		await lease.release();
		await pass(5);
		expect(line.cancelled).toBe(true);
	});

	test("a connection that breaks right after the grant may have undone it: the lease is checked at once", async () => {
		let line!: ReturnType<typeof stream>;
		const { gate, of } = service(
			(seen) => {
				line = stream(seen);
				line.write({ event: "granted", lease: leaseFor(seen) });
				return line.response;
			},
			(seen) => (seen.path === "/v1/renew" ? problem(410, "lease_gone") : ok(seen)),
		);
		const lease = await gate.acquire("a");
		line.crash();
		await pass(0);
		expect(of("/v1/renew").length).toBe(1);
		expect(isLeaseLostError(lease.signal.reason)).toBe(true);
		await lease.release();
	});

	test("a caller that cancels while a single ask is under way takes it back under the same id", async () => {
		const { gate, of } = service(never);
		const control = new AbortController();
		const asking = outcome(gate.tryAcquire("a", { signal: control.signal }));
		await pass(0.01);
		control.abort(new Error("changed its mind"));
		// The request to take it back is on its way before anything else can happen.
		await pass(0);
		expect(of("/v1/release").map(({ body }) => body.id)).toEqual(of("/v1/acquire").map(({ body }) => body.id));
		expect(await asking).toBe(control.signal.reason);
	});

	test("a caller cancelled at any turn around the grant gives the slots back, or has the lease and knows", async () => {
		let gaveBack = 0;
		for (let turns = 0; turns < 40; turns++) {
			const control = new AbortController();
			const { gate, of } = service((seen) => {
				const abort = async (): Promise<void> => {
					for (let turn = 0; turn < turns; turn++) await null;
					control.abort(new Error(`cancelled after ${turns} turns`));
				};
				void abort();
				return json(leaseFor(seen));
			});
			const lease = await outcome(gate.acquire("a", { signal: control.signal, maxRetries: 0 }));
			if (lease === control.signal.reason) {
				gaveBack++;
				expect(of("/v1/release").map(({ body }) => body.id)).toEqual([of("/v1/acquire")[0]?.body.id]);
			} else {
				for (let turn = 0; turn < turns; turn++) await null;
				expect((lease as Lease).signal.aborted).toBe(true);
				await (lease as Lease).release();
			}
			await pass(0);
		}
		expect(gaveBack).toBeGreaterThan(5);
		expect(gaveBack).toBeLessThan(40);
	});

	test.each(["signal", "timeout"])(
		"a caller that leaves the line by its %s takes its request back under the same id",
		async (how) => {
			const { gate, of } = service((seen) => {
				const { response, write } = stream(seen);
				write({ event: "queued", position: 1 });
				return response;
			});
			const control = new AbortController();
			const leaving = outcome(gate.acquire(["a", "b"], { signal: control.signal, timeoutSeconds: 5 }));
			await pass(1);
			if (how === "signal") control.abort();
			await pass(4);
			expect(await leaving).toMatchObject({ name: how === "signal" ? "AbortError" : "TimeoutError" });
			const id = of("/v1/acquire")[0]?.body.id;
			expect(of("/v1/release").map(({ body }) => body)).toEqual([{ id, names: { a: 1, b: 1 } }]);
		},
	);

	test("a timeout of a year does not end at once", async () => {
		const { gate, of } = service((seen) => {
			const { response, write } = stream(seen);
			setInterval(() => write({ event: "heartbeat" }), 15_000).unref();
			return response;
		});
		const control = new AbortController();
		let settled = false;
		const waiting = outcome(gate.acquire("a", { timeoutSeconds: 31_536_000, signal: control.signal }));
		void waiting.then(() => {
			settled = true;
		});
		await pass(1);
		expect(settled).toBe(false);
		expect(of("/v1/acquire")[0]?.body.waitSeconds).toBe(31_536_000);
		control.abort();
		await waiting;
	});
});

describe("a proxy that holds streams back", () => {
	/** What the service is asked plainly, and what it answers to that. */
	const behind = (plain: (seen: Seen, count: number) => Answer, other: (seen: Seen, count: number) => Answer = ok) => {
		let count = 0;
		const made = service((seen) => (seen.stream ? never() : plain(seen, ++count)), other);
		const asks = () => made.of("/v1/acquire").map(({ at, stream, body }) => [at, stream, body.waitSeconds]);
		return { ...made, asks };
	};

	test("is told from silence by a plain question; the wait goes on in plain answers that overlap, under one id", async () => {
		const { gate, of, seen, asks } = behind((call, count) => (count < 3 ? never() : json(leaseFor(call))));
		const leasing = gate.acquire("a", { timeoutSeconds: 300 });
		await pass(51);
		const lease = await leasing;
		expect(asks()).toEqual([
			[0, true, 300],
			[10_000, false, 25],
			[30_000, false, 25],
			[50_000, false, 25],
		]);
		expect(new Set(of("/v1/acquire").map(({ body }) => body.id)).size).toBe(1);
		// Each is left when the next has stood beside it for a while.
		expect(of("/v1/acquire").map(({ signal }) => signal.aborted)).toEqual([true, true, false, false]);
		expect(seen.filter(({ path }) => path === "/v1/limits/a/leases?count=1").map(({ at }) => at)).toEqual([
			10_000, 30_000, 50_000,
		]);
		await lease.release();
		await pass(60);
	});

	test("is remembered by the gate, for ten minutes", async () => {
		const { gate, asks } = behind((call) => json(leaseFor(call)));
		const first = gate.acquire("a");
		await pass(11);
		await (await first).release();
		await (await gate.acquire("a")).release();
		expect(asks().map(([, stream]) => stream)).toEqual([true, false, false]);
		await pass(600);
		const later = gate.acquire("a");
		await pass(11);
		await (await later).release();
		expect(asks().map(([, stream]) => stream)).toEqual([true, false, false, true, false]);
		await pass(60);
	});

	test("a limit that answers nothing, though its stream is silent too, is out of reach", async () => {
		const { gate, of } = behind(never, (seen) => (seen.method === "GET" ? never() : ok(seen)));
		const failed = outcome(gate.acquire("a"));
		await pass(21);
		expect(isUnreachableError(await failed)).toBe(true);
		expect(of("/v1/acquire").length).toBe(1);
	});

	test("the caller's own time is kept, and then the request is withdrawn", async () => {
		const { gate, asks, of } = behind(never);
		const failed = outcome(gate.acquire("a", { timeoutSeconds: 32 }));
		await pass(32);
		expect(isTimeoutError(await failed)).toBe(true);
		expect(asks().map(([at, , wait]) => [at, wait])).toEqual([
			[0, 32],
			[10_000, 22],
		]);
		expect(of("/v1/release").length).toBe(1);
		expect(of("/v1/acquire").every(({ signal }) => signal.aborted)).toBe(true);
		await pass(60);
	});

	test("a denial that comes before its time, after a long sleep of the program, begins the wait anew", async () => {
		const { gate, asks } = behind((call, count) => (count === 1 ? problem(429, "denied") : json(leaseFor(call))));
		const leasing = gate.acquire("a");
		await pass(15);
		await (await leasing).release();
		expect(asks().map(([, stream]) => stream)).toEqual([true, false, false]);
		await pass(60);
	});
});

describe("a lease", () => {
	test("is renewed at a third of its length", async () => {
		const { gate, of } = service(granted);
		const lease = await gate.acquire("a", { leaseSeconds: 30 });
		await pass(31);
		expect(of("/v1/renew").map(({ at, body }) => [at, body])).toEqual(
			[10_000, 20_000, 30_000].map((at) => [at, { id: lease.id, names: { a: 1 }, leaseSeconds: 30 }]),
		);
		await lease.release();
		await pass(60);
		expect(of("/v1/renew").length).toBe(3);
	});

	test("survives two renewals that hang", async () => {
		const { gate, of } = service(granted, (seen, count) =>
			seen.path === "/v1/renew" && count < 3 ? never() : ok(seen),
		);
		const lease = await gate.acquire("a", { leaseSeconds: 12 });
		await pass(11.9);
		expect(of("/v1/renew").map(({ at }) => at)).toEqual([4_000, 7_100, 10_300]);
		await pass(10);
		expect(lease.signal.aborted).toBe(false);
		expect(
			of("/v1/renew")
				.slice(0, 3)
				.map(({ signal }) => signal.aborted),
		).toEqual([true, true, false]);
		await lease.release();
	});

	test("that was renewed counts from the moment of asking, not of the answer", async () => {
		const { gate } = service(granted, async (seen, count) => {
			if (seen.path !== "/v1/renew") return ok(seen);
			if (count > 1) return refused();
			await new Promise((resolve) => setTimeout(resolve, 2_000));
			return ok(seen);
		});
		const lease = await gate.acquire("a", { leaseSeconds: 30 });
		await pass(39.9);
		expect(lease.signal.aborted).toBe(false);
		await pass(0.2);
		expect(lease.signal.aborted).toBe(true);
		await lease.release();
	});

	test("that is gone is lost at once", async () => {
		const { gate, of } = service(granted, (seen) =>
			seen.path === "/v1/renew" ? problem(410, "lease_gone") : ok(seen),
		);
		const working = outcome(
			gate.concurrency(
				"a",
				{ leaseSeconds: 30 },
				(lease) =>
					new Promise((_, reject) => lease.signal.addEventListener("abort", () => reject(lease.signal.reason))),
			),
		);
		await pass(10);
		const error = await working;
		expect(isLeaseLostError(error) && isHeadgateError(error.cause)).toBe(true);
		expect(of("/v1/renew").length).toBe(1);
		// Of several names another may still be held.
		expect(of("/v1/release").length).toBe(1);
	});

	test("that cannot be renewed is lost when it ends, and not before", async () => {
		const { gate } = service(granted, (seen) => (seen.path === "/v1/renew" ? refused() : ok(seen)));
		const lease = await gate.acquire("a", { leaseSeconds: 30 });
		await pass(29.9);
		expect([lease.signal.aborted, lease.enforced]).toEqual([false, true]);
		await pass(0.2);
		expect(lease.signal.reason).toBeInstanceOf(LeaseLostError);
		expect(String(lease.signal.reason)).toContain("connect ECONNREFUSED");
		expect(lease.enforced).toBe(false);
		await lease.release();
	});

	test("whose token is refused for a while is not lost", async () => {
		const { gate } = service(granted, (seen, count) =>
			seen.path === "/v1/renew" && count < 5 ? problem(401, "unauthorized") : ok(seen),
		);
		const lease = await gate.acquire("a", { leaseSeconds: 30 });
		await pass(40);
		expect(lease.signal.aborted).toBe(false);
		await lease.release();
	});

	test("work that ends well although its lease was lost keeps its value", async () => {
		const { gate } = service(granted, (seen) => (seen.path === "/v1/renew" ? problem(410, "lease_gone") : ok(seen)));
		const working = outcome(
			gate.concurrency("a", async (lease) => {
				await new Promise((resolve) => lease.signal.addEventListener("abort", resolve));
				return "finished";
			}),
		);
		await pass(20);
		expect(await working).toBe("finished");
	});

	test("an error that has nothing to do with the loss is passed on as it is", async () => {
		const { gate } = service(granted, (seen) => (seen.path === "/v1/renew" ? problem(410, "lease_gone") : ok(seen)));
		const own = new Error("disk full");
		const working = outcome(
			gate.concurrency("a", async (lease) => {
				await new Promise((resolve) => lease.signal.addEventListener("abort", resolve));
				throw own;
			}),
		);
		await pass(20);
		expect(await working).toBe(own);
	});

	test("is released again after a failure, and once", async () => {
		const { gate, of } = service(granted, (seen, count) => (count < 3 ? refused() : ok(seen)));
		const working = gate.concurrency("a", () => "done");
		await pass(1);
		expect(await working).toBe("done");
		expect(of("/v1/release").map(({ at }) => at)).toEqual([0, 100, 300]);
	});

	test("that cannot be released hides neither the value nor the error of the work, and is told of", async () => {
		const { gate, warnings } = service(granted, refused);
		const done = gate.concurrency("a", () => "done");
		await pass(5);
		expect(await done).toBe("done");
		const own = new Error("of the work");
		const failed = outcome(gate.concurrency("a", () => Promise.reject(own)));
		await pass(5);
		expect(await failed).toBe(own);
		expect(warnings.map(([, cause]) => isUnreachableError(cause))).toEqual([true, true]);
		await pass(60);
	});

	test("that cannot be released does not hold up the work for long, and says so to whoever asked for it", async () => {
		const { gate } = service(granted, never);
		const lease = await gate.acquire("a");
		const releasing = outcome(lease.release());
		await pass(5);
		expect(isUnreachableError(await releasing)).toBe(true);
		await pass(60);
	});

	test("that could not be released in time is given back in the background, as soon as the service is there", async () => {
		const { gate, of } = service(granted, (seen) => (seen.at < 20_000 ? refused() : ok(seen)));
		const lease = await gate.acquire("a");
		const releasing = outcome(lease.release());
		await pass(6);
		expect(isUnreachableError(await releasing)).toBe(true);
		await pass(16.5);
		const { length } = of("/v1/release");
		expect(of("/v1/release").at(-1)).toMatchObject({ body: { id: lease.id, names: { a: 1 } } });
		expect(of("/v1/release").at(-1)?.at).toBeGreaterThanOrEqual(20_000);
		await pass(60);
		expect(of("/v1/release").length).toBe(length);
		// It slows down: a fleet does not fall upon a service that comes back.
		expect(length).toBeLessThan(30);
	});

	test("is tried no longer than it lives", async () => {
		const { gate, of } = service(granted, refused);
		const lease = await gate.acquire("a", { leaseSeconds: 30 });
		const releasing = outcome(lease.release());
		await pass(6);
		expect(isUnreachableError(await releasing)).toBe(true);
		await pass(300);
		const tries = of("/v1/release").map(({ at }) => at);
		expect(tries.at(-1)).toBeGreaterThan(20_000);
		expect(tries.at(-1)).toBeLessThan(30_000);
	});

	test("release may be tried again after it failed, and then goes on in one place alone", async () => {
		let down = true;
		const { gate, of } = service(granted, (seen) => (down ? refused() : ok(seen)));
		const lease = await gate.acquire("a");
		const first = outcome(lease.release());
		await pass(5);
		expect(isUnreachableError(await first)).toBe(true);
		down = false;
		const { length } = of("/v1/release");
		await lease.release();
		await lease.release();
		await pass(60);
		expect(of("/v1/release").length).toBe(length + 1);
	});

	test("whose release is refused is not asked of again", async () => {
		const { gate, of } = service(granted, () => problem(403, "forbidden"));
		const lease = await gate.acquire("a");
		expect(isHeadgateError(await outcome(lease.release()))).toBe(true);
		await pass(60);
		expect(of("/v1/release").length).toBe(1);
	});

	test("that was withdrawn while the service was away is taken back when it is there again", async () => {
		const { gate, of, warnings } = service(
			(seen) => {
				const { response, write } = stream(seen);
				write({ event: "queued", position: 1 });
				return response;
			},
			(seen) => (seen.at < 20_000 ? refused() : ok(seen)),
		);
		const leaving = outcome(gate.acquire("a", { timeoutSeconds: 2 }));
		await pass(25);
		expect(isTimeoutError(await leaving)).toBe(true);
		expect(of("/v1/release").at(-1)?.at).toBeGreaterThanOrEqual(20_000);
		expect(warnings).toEqual([]);
	});

	test("leaves no listener on a signal that lives longer", async () => {
		const { gate } = service((seen, count) => {
			if (count % 3 === 0) return problem(429, "denied");
			return count % 3 === 1
				? granted(seen)
				: said(seen, { event: "denied", problem: { status: 422, code: "exceeds_limit" } });
		});
		const { signal } = new AbortController();
		let listeners = 0;
		const { addEventListener, removeEventListener } = signal;
		vi.spyOn(signal, "addEventListener").mockImplementation((...args: unknown[]) => {
			listeners++;
			return Reflect.apply(addEventListener, signal, args);
		});
		vi.spyOn(signal, "removeEventListener").mockImplementation((...args: unknown[]) => {
			listeners--;
			return Reflect.apply(removeEventListener, signal, args);
		});
		for (let round = 0; round < 9; round++) {
			await outcome(gate.concurrency("a", { signal }, () => "done"));
			await outcome(gate.rateLimit("a", { signal }));
			await gate.concurrency([], { signal }, () => "done");
			await gate.inspect("a", { signal });
		}
		expect(listeners).toBe(0);
	});
});

describe("around the calls", () => {
	test("numbers that make no sense are named", async () => {
		const { gate, seen } = service(granted);
		for (const options of [{ timeoutSeconds: -1 }, { timeoutSeconds: Number.NaN }, { maxRetries: -1 }]) {
			expect(await outcome(gate.acquire("a", options))).toBeInstanceOf(RangeError);
		}
		expect(seen.length).toBe(0);
	});

	test("a limit may have the name of a property of objects", async () => {
		const { gate, of } = service(granted);
		const names = ["__proto__", "constructor"];
		await (await gate.acquire(names, { occupy: { constructor: 2 } as Record<string, number> })).release();
		expect(Object.entries(of("/v1/acquire")[0]?.body.names)).toEqual([
			["__proto__", 1],
			["constructor", 2],
		]);
	});

	test("timeoutSeconds: 0 leaves no time for retries", async () => {
		const { gate, of } = service(() => problem(429, "denied", { retryAfterSeconds: 1 }));
		const error = await outcome(gate.acquire("a", { timeoutSeconds: 0, maxRetries: 3 }));
		expect([isAcquisitionError(error), of("/v1/acquire").length]).toEqual([true, 1]);
	});

	test("only what was asked for is sent", async () => {
		const { gate, of } = service(granted);
		const options = { leaseSeconds: 5, createIfMissing: false, strict: true, holder: "me", timeoutSeconds: 9 };
		await (await gate.acquire("a", options)).release();
		await gate.rateLimit("a");
		const [{ id, ...full }, { id: other, ...plain }] = of("/v1/acquire").map(({ body }) => body) as [
			Seen["body"],
			Seen["body"],
		];
		expect(full).toEqual({
			...{ names: { a: 1 }, mode: "concurrency", waitSeconds: 9 },
			...{ leaseSeconds: 5, createIfMissing: false, strict: true, holder: "me" },
		});
		expect(plain).toEqual({ names: { a: 1 }, mode: "rate_limit" });
		expect(id).not.toBe(other);
	});

	test("the default gate reads the environment at its first call", async () => {
		vi.resetModules();
		const { concurrency, rateLimit } = await import("../../src/client/index.ts");
		const urls: string[] = [];
		vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
			urls.push(`${(init.headers as Record<string, string>).Authorization} ${url}`);
			return json({ id: "x", names: { a: 1 }, expiresAt: EXPIRES, waitedSeconds: 0, limits: [] });
		});
		vi.stubEnv("HEADGATE_URL", "http://limits.example/base/");
		vi.stubEnv("HEADGATE_TOKEN", "secret");
		expect(await concurrency("a", { maxRetries: 0 }, () => "done")).toBe("done");
		expect(await concurrency([], () => "done")).toBe("done");
		const lease: Lease = await concurrency("a", { maxRetries: 0 });
		await lease.release();
		await rateLimit("a", { maxRetries: 0 });
		const calls = ["acquire", "release", "acquire", "release", "acquire"];
		expect(urls).toEqual(calls.map((call) => `Bearer secret http://limits.example/base/v1/${call}`));

		vi.resetModules();
		vi.unstubAllEnvs();
		vi.stubEnv("HEADGATE_URL", "");
		const fresh = await import("../../src/client/index.ts");
		await fresh.rateLimit("a", { maxRetries: 0 });
		expect(urls.at(-1)).toBe("undefined http://127.0.0.1:8787/v1/acquire");
	});
});

describe("a process", () => {
	const library = fileURLToPath(new URL("../../src/client/index.ts", import.meta.url));
	const prelude = `
		import { Headgate } from ${JSON.stringify(library)};
		const answer = { id: "x", names: { a: 1 }, expiresAt: "", waitedSeconds: 0, limits: [] };
		const send = (url) => {
			if (url.endsWith("/renew")) console.log("renewed");
			return Promise.resolve(Response.json(answer));
		};
		const gate = new Headgate({ url: "http://fake", fetch: send });
		const options = { maxRetries: 0, leaseSeconds: 1 };
	`;
	/** Runs a program, and answers with what it printed. */
	const run = (program: string): Promise<string> =>
		new Promise((resolve, reject) => {
			const args = ["--input-type=module", "--eval", prelude + program];
			execFile(process.execPath, args, { timeout: 60_000 }, (error, stdout, stderr) =>
				error ? reject(new Error(`${error.message}\n${stderr}`)) : resolve(stdout.trim()),
			);
		});

	test("is not kept alive by a lease that it forgot", async () => {
		expect(await run(`await gate.acquire("a", options); console.log("end");`)).toBe("end");
	});

	test("is not kept alive by a lease that it could not give back", async () => {
		const program = `
			const down = new Headgate({
				url: "http://fake",
				fetch: (url) => (url.endsWith("/release") ? Promise.reject(new TypeError("down")) : send(url)),
			});
			const lease = await down.acquire("a", { ...options, leaseSeconds: 3_600 });
			await lease.release().catch((error) => console.log(error.name));
		`;
		expect(await run(program)).toBe("HeadgateUnreachableError");
	});

	test("stays alive while its work runs, even if that waits for nothing else", async () => {
		const program = `
			let renewals = 0;
			const enough = new Promise((resolve) => (globalThis.enough = resolve));
			const log = console.log;
			console.log = (line) => { log(line); if (++renewals === 2) enough_(); };
			const enough_ = () => globalThis.enough();
			await gate.concurrency("a", options, () => enough);
		`;
		expect(await run(program)).toBe("renewed\nrenewed");
	});
});
