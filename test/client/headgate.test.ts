/**
 * The library against the real server. This file runs unchanged in Node, workerd and Chromium, so it knows no
 * platform; a browser opens six connections to a host, so no test waits with more than four callers.
 */

import { describe, expect, inject, test } from "vitest";
import {
	AcquireConcurrencySlotTimeoutError,
	type AcquireOptions,
	ConcurrencySlotAcquisitionError,
	concurrency,
	Headgate,
	HeadgateError,
	type HeadgateOptions,
	HeadgateUnreachableError,
	isAcquisitionError,
	isHeadgateError,
	isLeaseLostError,
	isTimeoutError,
	isUnreachableError,
	type Lease,
	type Problem,
	rateLimit,
	type Settings,
} from "../../src/client/index.ts";

const url = inject("url");
const gate = new Headgate({ url });

const newName = (): string => `test-${crypto.randomUUID()}`;

async function newLimit(settings: Partial<Settings> = {}): Promise<string> {
	const name = newName();
	await gate.configure(name, { limit: 1, ...settings });
	return name;
}

/** Waits until something is so; what the tests do instead of sleeping. */
async function until(condition: () => boolean | Promise<boolean>, boundMs = 45_000): Promise<void> {
	const endsAt = performance.now() + boundMs;
	while (!(await condition())) {
		if (performance.now() > endsAt) throw new Error(`not so within ${boundMs} ms: ${condition}`);
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
}

const waiting = async (name: string): Promise<number> => (await gate.inspect(name)).waitingCount;
const held = async (name: string): Promise<number> => (await gate.inspect(name)).activeSlots;

/** What a promise rejects with. */
const failure = (promise: Promise<unknown>): Promise<unknown> =>
	promise.then(
		() => Promise.reject(new Error("it did not reject")),
		(error: unknown) => error,
	);

type Send = NonNullable<HeadgateOptions["fetch"]>;

/** A gate that notes its requests, as `POST /v1/acquire`. */
function countingGate(options: HeadgateOptions = {}): {
	counted: Headgate;
	requests: string[];
	count(what: string): number;
} {
	const requests: string[] = [];
	const send: Send = (target, init) => {
		requests.push(`${init.method} ${new URL(target).pathname}`);
		return (options.fetch ?? fetch)(target, init);
	};
	const count = (what: string): number => requests.filter((request) => request.endsWith(what)).length;
	return { counted: new Headgate({ url, ...options, fetch: send }), requests, count };
}

const isStream = (init: RequestInit): boolean => new Headers(init.headers).get("Accept") === "application/x-ndjson";

/** A network that is down. */
const unplugged: Send = () => Promise.reject(new TypeError("the network is down"));

/** Takes a lease back, as an operator would. */
async function takeBack(name: string, id: string): Promise<void> {
	const response = await fetch(`${url}/v1/limits/${name}/leases/${id}`, { method: "DELETE" });
	expect(response.ok).toBe(true);
	await response.text();
}

const untilAborted = (signal: AbortSignal): Promise<never> =>
	new Promise((_, reject) => {
		if (signal.aborted) reject(signal.reason);
		signal.addEventListener("abort", () => reject(signal.reason));
	});

describe("holding slots", () => {
	test("runs the work with its lease and answers with its value", async () => {
		const name = await newLimit({ limit: 3 });
		const value = await gate.concurrency(name, async (lease) => {
			expect(lease.names).toEqual({ [name]: 1 });
			expect(lease.enforced).toBe(true);
			expect(lease.limits).toMatchObject([{ name, limit: 3, activeSlots: 1, remaining: 2, enforced: true }]);
			expect(lease.waitedSeconds).toBe(0);
			expect(lease.signal.aborted).toBe(false);
			const { leases } = await gate.inspect(name);
			expect(leases).toMatchObject([{ id: lease.id, slots: 1, expiresAt: lease.expiresAt }]);
			return 42;
		});
		expect(value).toBe(42);
		expect(await held(name)).toBe(0);
	});

	test("takes work that is not asynchronous", async () => {
		expect(await gate.concurrency(await newLimit(), () => "done")).toBe("done");
	});

	test("gives the slots back when the work throws, and passes its error on", async () => {
		const name = await newLimit();
		const error = new Error("of the work");
		expect(await failure(gate.concurrency(name, () => Promise.reject(error)))).toBe(error);
		expect(await held(name)).toBe(0);
	});

	test("`await using` gives the slots back at the end of the block", async () => {
		const name = await newLimit();
		{
			await using lease = await gate.concurrency(name);
			expect(lease.names).toEqual({ [name]: 1 });
			expect(await held(name)).toBe(1);
		}
		expect(await held(name)).toBe(0);
	});

	test("promise 7: releasing again, or after the slots went to another, gives back nothing more", async () => {
		const name = await newLimit();
		const { counted, count } = countingGate();
		const lease = await counted.acquire(name);
		await Promise.all([lease.release(), lease.release()]);
		const other = await gate.acquire(name);
		await lease.release();
		await lease[Symbol.asyncDispose]();
		expect(await gate.release(lease)).toEqual({ released: 0 });
		expect(await held(name)).toBe(1);
		expect(count("/release")).toBe(1);
		await other.release();
	});

	test("promise 1: never more at once than the limit has slots", async () => {
		const name = await newLimit({ limit: 2 });
		let running = 0;
		let most = 0;
		const worker = async (): Promise<void> => {
			for (let round = 0; round < 5; round++) {
				await gate.concurrency(name, async () => {
					most = Math.max(most, ++running);
					await gate.inspect(name);
					running--;
				});
			}
		};
		await Promise.all([worker(), worker(), worker(), worker()]);
		expect(most).toBe(2);
		expect(await held(name)).toBe(0);
	});

	test("promise 2: a request for several names that one of them denies takes nothing of the others", async () => {
		const [full, free] = [await newLimit(), await newLimit()];
		await using _holder = await gate.acquire(full);
		const { denied } = await gate.tryAcquire([free, full]);
		expect(denied?.["violated-policies"]).toEqual([full]);
		expect(await held(free)).toBe(0);
	});

	test("two requests for the same names in opposite order are both served", async () => {
		const [a, b] = [await newLimit(), await newLimit()];
		const both = (names: string[]): Promise<number> => gate.concurrency(names, () => held(a));
		expect(await Promise.all([both([a, b]), both([b, a]), both([a, b])])).toEqual([1, 1, 1]);
		expect([await held(a), await held(b)]).toEqual([0, 0]);
	});
});

describe("waiting", () => {
	test("promise 3: waiting callers are served in the order in which they came", async () => {
		const name = await newLimit();
		const holder = await gate.acquire(name);
		const order: number[] = [];
		const callers: Promise<unknown>[] = [];
		for (const caller of [1, 2, 3, 4]) {
			callers.push(gate.concurrency(name, () => order.push(caller)));
			await until(async () => (await waiting(name)) === caller);
		}
		await holder.release();
		await Promise.all(callers);
		expect(order).toEqual([1, 2, 3, 4]);
	});

	test("promise 4: a waiting caller asks once, and is handed the slots without polling", async () => {
		const name = await newLimit();
		const holder = await gate.acquire(name);
		const { counted, requests } = countingGate();
		const waiter = counted.acquire(name);
		await until(async () => (await waiting(name)) === 1);
		await holder.release();
		const lease = await waiter;
		expect(lease.waitedSeconds).toBeGreaterThan(0);
		expect(requests).toEqual(["POST /v1/acquire"]);
		await lease.release();
	});

	test("promise 10: a caller that cancels leaves the line, and the next one moves up", async () => {
		const name = await newLimit();
		const holder = await gate.acquire(name);
		const control = new AbortController();
		const cancelled = failure(gate.acquire(name, { signal: control.signal }));
		await until(async () => (await waiting(name)) === 1);
		const next = gate.acquire(name);
		await until(async () => (await waiting(name)) === 2);
		const reason = new Error("changed its mind");
		control.abort(reason);
		expect(await cancelled).toBe(reason);
		await until(async () => (await waiting(name)) === 1);
		await holder.release();
		await (await next).release();
		expect(await held(name)).toBe(0);
	});

	test("a caller cancelled at the instant of the grant leaves no slots behind", async () => {
		const name = await newLimit();
		// From before the grant is read to well after the call has returned, one turn of the event loop at a time.
		for (let turns = 0; turns < 16; turns++) {
			const control = new AbortController();
			const abort = async (): Promise<void> => {
				for (let turn = 0; turn < turns; turn++) await null;
				control.abort(new Error(`cancelled after ${turns} turns`));
			};
			const cutIn: Send = async (target, init) => {
				const response = await fetch(target, init);
				if (!isStream(init) || !response.body) return response;
				const decoder = new TextDecoder();
				const watched = new TransformStream<Uint8Array, Uint8Array>({
					transform(chunk, controller) {
						const granted = decoder.decode(chunk, { stream: true }).includes('"granted"');
						if (granted && turns === 0) control.abort(new Error("cancelled before it was read"));
						controller.enqueue(chunk);
						if (granted && turns > 0) void abort();
					},
				});
				return new Response(response.body.pipeThrough(watched), response);
			};
			const { counted } = countingGate({ fetch: cutIn });
			const outcome = await counted.acquire(name, { signal: control.signal }).catch((error: unknown) => error);
			if (outcome instanceof Error) {
				expect(outcome).toBe(control.signal.reason);
			} else {
				// The lease had been returned before: the caller holds it, and learns of the end by its signal.
				const lease = outcome as Lease;
				await until(() => lease.signal.aborted);
				await lease.release();
			}
			await until(async () => (await held(name)) === 0);
			expect(await waiting(name)).toBe(0);
		}
	});

	test("promise 11: a wait whose connection breaks is taken up again under the same id and keeps its place", async () => {
		const name = await newLimit();
		const holder = await gate.acquire(name);
		const ids: string[] = [];
		const breakFirst: Send = async (target, init) => {
			if (!isStream(init)) return fetch(target, init);
			ids.push(JSON.parse(String(init.body)).id);
			const connection = new AbortController();
			const response = await fetch(target, { ...init, signal: connection.signal });
			if (ids.length > 1) return response;
			const reader = response.body?.getReader();
			const first = await reader?.read();
			const body = new ReadableStream<Uint8Array>(
				{
					start: (controller) => controller.enqueue(first?.value ?? new Uint8Array()),
					async pull(controller) {
						// Only when somebody waits behind it does the connection break.
						await until(async () => (await waiting(name)) === 2);
						connection.abort();
						controller.error(new TypeError("the connection broke"));
					},
				},
				{ highWaterMark: 0 },
			);
			return new Response(body, response);
		};
		const order: string[] = [];
		const broken = new Headgate({ url, fetch: breakFirst }).concurrency(name, () => order.push("first"));
		await until(async () => (await waiting(name)) === 1);
		const behind = gate.concurrency(name, () => order.push("second"));
		await until(() => ids.length === 2);
		await until(async () => (await gate.inspect(name)).waiting[0]?.id === ids[1]);
		await holder.release();
		await Promise.all([broken, behind]);
		expect(order).toEqual(["first", "second"]);
		expect(new Set(ids).size).toBe(1);
	});
});

describe("options", () => {
	test("timeoutSeconds: then a TimeoutError, and the place in line is given up", async () => {
		const name = await newLimit();
		await using _holder = await gate.acquire(name);
		const error = await failure(gate.concurrency(name, { timeoutSeconds: 0.3 }, () => "never"));
		expect(error).toBeInstanceOf(AcquireConcurrencySlotTimeoutError);
		expect(error).toMatchObject({ name: "TimeoutError", timeoutSeconds: 0.3, names: { [name]: 1 } });
		expect(String(error)).toContain("within 0.3 s; the last place in line was 1");
		expect([isTimeoutError(error), isAcquisitionError(error), isUnreachableError(error)]).toEqual([true, false, false]);
		await until(async () => (await waiting(name)) === 0);
	});

	test("timeoutSeconds: 0 asks once, without waiting", async () => {
		const name = await newLimit();
		const lease = await gate.acquire(name, { timeoutSeconds: 0 });
		const { counted, requests } = countingGate();
		expect(isTimeoutError(await failure(counted.acquire(name, { timeoutSeconds: 0 })))).toBe(true);
		expect(requests).toEqual(["POST /v1/acquire"]);
		await lease.release();
	});

	test("maxRetries: 0 asks once; the error has the reason, the numbers and the answer", async () => {
		const name = await newLimit({ limit: 2 });
		await using _holder = await gate.acquire(name, { occupy: 2 });
		const { counted, requests } = countingGate();
		const error = await failure(counted.acquire(name, { maxRetries: 0 }));
		expect(error).toBeInstanceOf(ConcurrencySlotAcquisitionError);
		expect([isAcquisitionError(error), isHeadgateError(error), isTimeoutError(error)]).toEqual([true, true, false]);
		expect(error).toMatchObject({ name: "ConcurrencySlotAcquisitionError", status: 429, code: "denied" });
		const problem = (error as Error).cause as Problem;
		expect(problem.limits).toMatchObject([{ name, limit: 2, remaining: 0, position: 1 }]);
		expect(String(error)).toContain("0 of 2 slots free");
		expect(requests).toEqual(["POST /v1/acquire"]);
	});

	test("maxRetries: n asks n times more, in line, and then gives up", async () => {
		const name = await newLimit();
		// A short lease that is renewed: a denial announces its end, which does not come.
		await using _holder = await gate.acquire(name, { leaseSeconds: 1 });
		const { counted, requests } = countingGate();
		const error = await failure(counted.acquire(name, { maxRetries: 2 }));
		expect(isAcquisitionError(error)).toBe(true);
		expect(requests).toEqual(Array(3).fill("POST /v1/acquire"));
		await until(async () => (await waiting(name)) === 0);
	});

	test("maxRetries: slots that come free during a retry are taken", async () => {
		const name = await newLimit();
		const holder = await gate.acquire(name);
		const waiter = gate.acquire(name, { maxRetries: 1 });
		await until(async () => (await waiting(name)) === 1);
		await holder.release();
		await (await waiter).release();
	});

	test("promise 8: a retry that waits for as long as the denial announced is granted", async () => {
		const name = await newLimit({ slotDecayPerSecond: 0.5 });
		await gate.rateLimit(name);
		const { counted, requests } = countingGate();
		await counted.rateLimit(name, { maxRetries: 1 });
		expect(requests).toEqual(Array(2).fill("POST /v1/acquire"));
	});

	test("occupy: one number for all names, or one for each", async () => {
		const [a, b] = [await newLimit({ limit: 5 }), await newLimit({ limit: 5 })];
		const taken = async (names: Parameters<Headgate["acquire"]>[0], options: AcquireOptions): Promise<object> => {
			await using lease = await gate.acquire(names, options);
			expect([await held(a), await held(b)]).toEqual([lease.names[a], lease.names[b]]);
			return lease.names;
		};
		expect(await taken([a, b, a], { occupy: 2 })).toEqual({ [a]: 2, [b]: 2 });
		expect(await taken([a, b], { occupy: { [a]: 3 } })).toEqual({ [a]: 3, [b]: 1 });
		expect(await taken({ [a]: 4, [b]: 5 }, {})).toEqual({ [a]: 4, [b]: 5 });
		await expect(gate.acquire(a, { occupy: { [b]: 1 } })).rejects.toThrow(TypeError);
	});

	test("createIfMissing: a name that nobody configured is created, and holds nobody back", async () => {
		const name = newName();
		await using lease = await gate.acquire(name);
		expect(lease.enforced).toBe(false);
		expect(await gate.inspect(name)).toMatchObject({ active: false, origin: "default" });
	});

	test("createIfMissing: false skips names that do not exist, and says so", async () => {
		const [known, missing] = [await newLimit(), newName()];
		await using lease = await gate.acquire([known, missing], { createIfMissing: false });
		expect(lease.names).toEqual({ [known]: 1 });
		expect(lease.enforced).toBe(false);
		expect(lease.limits.find(({ name }) => name === missing)).toMatchObject({ missing: true, enforced: false });
		expect(await failure(gate.inspect(missing))).toMatchObject({ code: "unknown_limit", status: 404 });
	});

	test("a lease of skipped names alone holds nothing, and is neither renewed nor released", async () => {
		const { counted, requests } = countingGate();
		await counted.concurrency(newName(), { createIfMissing: false, leaseSeconds: 1 }, (lease) => {
			expect(lease.names).toEqual({});
			expect(lease.expiresAt).toBe(null);
		});
		expect(requests).toEqual(["POST /v1/acquire"]);
	});

	test("strict: a name that does not exist is an error, at once, and nothing is taken", async () => {
		const [known, missing] = [await newLimit(), newName()];
		for (const options of [{ strict: true }, { strict: true, maxRetries: 3 }]) {
			const { counted, requests } = countingGate();
			const error = await failure(counted.acquire([known, missing], options));
			expect(error).toBeInstanceOf(ConcurrencySlotAcquisitionError);
			expect(error).toMatchObject({ code: "unknown_limit", status: 404 });
			expect(String(error)).toContain(missing);
			expect(requests).toEqual(["POST /v1/acquire"]);
		}
		expect(await held(known)).toBe(0);
		expect(await failure(gate.inspect(missing))).toMatchObject({ code: "unknown_limit" });
	});

	test("more slots than the limit has are refused at once, waiting or not", async () => {
		const name = await newLimit({ limit: 2 });
		for (const options of [{ occupy: 3 }, { occupy: 3, maxRetries: 5 }]) {
			expect(await failure(gate.acquire(name, options))).toMatchObject({ code: "exceeds_limit", status: 422 });
		}
	});

	test("a waiting caller is refused when the limit is lowered below what it asks for", async () => {
		const name = await newLimit({ limit: 2 });
		await using _holder = await gate.acquire(name);
		const waiter = failure(gate.acquire(name, { occupy: 2 }));
		await until(async () => (await waiting(name)) === 1);
		await gate.configure(name, { limit: 1 });
		expect(await waiter).toMatchObject({ name: "ConcurrencySlotAcquisitionError", code: "exceeds_limit" });
	});

	test("holder: shows who holds and who waits", async () => {
		const name = await newLimit();
		const holder = await gate.acquire(name, { holder: "the first" });
		const waiter = gate.acquire(name, { holder: "the second" });
		await until(async () => (await waiting(name)) === 1);
		const info = await gate.inspect(name);
		expect([info.leases[0]?.holder, info.waiting[0]?.holder]).toEqual(["the first", "the second"]);
		await holder.release();
		await (await waiter).release();
	});

	test("leaseSeconds: a lease is renewed past its end for as long as it is held", async () => {
		const name = await newLimit();
		await gate.concurrency(name, { leaseSeconds: 1 }, async (lease) => {
			const first = Date.parse(lease.expiresAt ?? "");
			await until(() => Date.parse(lease.expiresAt ?? "") > first + 1_500);
			expect(lease.signal.aborted).toBe(false);
			expect((await gate.inspect(name)).leases).toMatchObject([{ id: lease.id, expiresAt: lease.expiresAt }]);
			expect((await gate.tryAcquire(name)).lease).toBe(null);
		});
		expect(await held(name)).toBe(0);
	});

	test("signal: aborted before the call, nothing is asked", async () => {
		const { counted, requests } = countingGate();
		const reason = new Error("too late");
		const signal = AbortSignal.abort(reason);
		expect(await failure(counted.concurrency(newName(), { signal }, () => "never"))).toBe(reason);
		expect(await failure(counted.rateLimit(newName(), { signal }))).toBe(reason);
		expect(requests).toEqual([]);
	});

	test("signal: aborts the work, which is waited for before the slots are given back", async () => {
		const name = await newLimit();
		const control = new AbortController();
		let heldAtTheEnd = 0;
		const running = gate.concurrency(name, { signal: control.signal }, async (lease) => {
			control.abort(new Error("enough"));
			expect(lease.signal.reason).toBe(control.signal.reason);
			heldAtTheEnd = await held(name);
			return "finished";
		});
		expect(await running).toBe("finished");
		expect(heldAtTheEnd).toBe(1);
		expect(await held(name)).toBe(0);
	});

	test('onLeaseLost: "abort" aborts the work when its lease is taken back', async () => {
		const name = await newLimit();
		const error = await failure(
			gate.concurrency(name, { leaseSeconds: 1 }, async (lease) => {
				await takeBack(name, lease.id);
				await untilAborted(lease.signal);
			}),
		);
		expect(isLeaseLostError(error)).toBe(true);
		expect(error).toMatchObject({ name: "LeaseLostError", names: { [name]: 1 }, cause: { code: "lease_gone" } });
	});

	test("onLeaseLost: an AbortError of the work becomes the LeaseLostError that caused it", async () => {
		const name = await newLimit();
		const error = await failure(
			gate.concurrency(name, { leaseSeconds: 1 }, async (lease) => {
				await takeBack(name, lease.id);
				await untilAborted(lease.signal).catch(() => {
					throw new DOMException("stopped", "AbortError");
				});
			}),
		);
		expect(isLeaseLostError(error)).toBe(true);
	});

	test('onLeaseLost: "continue" lets the work go on, and tells', async () => {
		const name = await newLimit();
		const warnings: unknown[] = [];
		const warned = new Headgate({ url, onWarning: (_, cause) => warnings.push(cause) });
		const value = await warned.concurrency(name, { leaseSeconds: 1, onLeaseLost: "continue" }, async (lease) => {
			await takeBack(name, lease.id);
			await until(() => warnings.length === 1);
			expect(isLeaseLostError(warnings[0])).toBe(true);
			expect([lease.signal.aborted, lease.enforced]).toEqual([false, false]);
			return "finished";
		});
		expect(value).toBe("finished");
		expect(warnings.length).toBe(1);
	});

	test("promise 13: a service that cannot be reached is an error", async () => {
		const error = await failure(new Headgate({ url, fetch: unplugged }).concurrency("any", () => "never"));
		expect(error).toBeInstanceOf(HeadgateUnreachableError);
		expect(isUnreachableError(error)).toBe(true);
		const { attempts } = error as HeadgateUnreachableError;
		expect(error).toMatchObject({ name: "HeadgateUnreachableError" });
		expect(attempts).toBeGreaterThan(1);
		expect(String((error as Error).cause)).toBe("TypeError: the network is down");
		expect(String(error)).toContain(
			`Headgate at ${url} could not be reached in ${attempts} attempts: the network is down`,
		);
	});

	test('promise 13: onError: "open" is the caller\'s choice to go on without a limit', async () => {
		const warnings: unknown[] = [];
		const lost = new Headgate({ url, fetch: unplugged, onWarning: (_, cause) => warnings.push(cause) });
		const value = await lost.concurrency("any", { onError: "open" }, (lease) => {
			expect(lease).toMatchObject({ enforced: false, names: {}, expiresAt: null });
			return "done";
		});
		expect(value).toBe("done");
		expect(await lost.rateLimit("any", { onError: "open" })).toMatchObject({ enforced: false, names: {} });
		expect(warnings.map(isUnreachableError)).toEqual([true, true]);
	});

	const NO_NAMES: [what: string, names: unknown, said: string][] = [
		["undefined", undefined, "not undefined"],
		["null", null, "not null"],
		["a number", 7, "not 7"],
		["true", true, "not true"],
		["a Set", new Set(["a"]), "not an instance of Set"],
		["a Map", new Map([["a", 1]]), "not an instance of Map"],
		["a Date", new Date(0), "not an instance of Date"],
		["a function", () => "a", "not a function"],
		["a promise", Promise.resolve("a"), "not an instance of Promise"],
		["[undefined]", [undefined], "not undefined"],
		["a list with a hole", new Array(1), "not undefined"],
		["[1]", [1], "not 1"],
		["a list in a list", [["a"]], "not an instance of Array"],
		["slots that are a text", { a: "2" }, 'not "2"'],
		["slots that are NaN", { a: Number.NaN }, "not NaN"],
		["slots that are null", { a: null }, "not null"],
		["half of a surrogate pair", "a\ud800", "half of a surrogate pair"],
	];

	test.each(NO_NAMES)("names that are %s are a TypeError, and no work runs", async (_, names, said) => {
		const { counted, requests } = countingGate();
		let ran = false;
		const work = (): void => {
			ran = true;
		};
		const given = names as string;
		for (const call of [
			() => counted.concurrency(given, work),
			() => counted.concurrency(given, { onError: "open" }, work),
			() => counted.concurrency("a", { rate: given ?? null }, work),
			() => counted.concurrency(given),
			() => counted.acquire(given),
			() => counted.tryAcquire(given),
			() => counted.rateLimit(given),
			() => concurrency(given, work),
			() => rateLimit(given),
		]) {
			const error = await failure(call());
			expect(error).toBeInstanceOf(TypeError);
			if (given !== undefined || !String(error).includes("rate")) expect(String(error)).toContain(said);
		}
		expect([ran, requests]).toEqual([false, []]);
	});

	test.each([
		["NaN", Number.NaN],
		["a text", "2"],
		["null", null],
		["0", 0],
		["a fraction", 1.5],
		["a list", [1]],
		["a Map", new Map([["a", 1]])],
		["another name", { b: 1 }],
		["a text for one name", { a: "1" }],
	])("`occupy` that is %s is a TypeError, and no work runs", async (_, occupy) => {
		const { counted, requests } = countingGate();
		const options = { occupy } as AcquireOptions;
		for (const call of [() => counted.concurrency("a", options, () => "ran"), () => counted.rateLimit("a", options)]) {
			expect(await failure(call())).toBeInstanceOf(TypeError);
		}
		expect(requests).toEqual([]);
	});

	test("options and work that are none are a TypeError, and nothing is taken", async () => {
		const { counted, requests } = countingGate();
		const untyped = counted as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
		for (const [verb, ...args] of [
			["concurrency", "a", {}, undefined],
			["concurrency", "a", {}, "work"],
			["concurrency", "a", null, () => "ran"],
			["concurrency", "a", 5],
			["acquire", "a", null],
			["tryAcquire", "a", "fast"],
			["rateLimit", "a", 2],
			["acquire", "a", { timeoutSeconds: "5" }],
			["acquire", "a", { maxRetries: "5" }],
		] as const) {
			const error = await failure((untyped[verb] as (...args: unknown[]) => Promise<unknown>).call(counted, ...args));
			expect(error, `${verb}(${args.map(String).join(", ")})`).toBeInstanceOf(TypeError);
		}
		expect(requests).toEqual([]);
	});

	test.each([undefined, null, 7, {}, [], "", ".", "..", "a\udc00"])(
		"%j is no name of a limit, a policy or a lease for the other calls",
		async (name) => {
			const { counted, requests } = countingGate();
			const none = name as unknown as string;
			const leases = async (): Promise<void> => {
				for await (const _ of counted.leases(none));
			};
			const calls = [
				async () => counted.configure(none, { limit: 1 }),
				async () => counted.update(none, { limit: 1 }),
				async () => counted.inspect(none),
				async () => counted.delete(none),
				async () => counted.forceRelease(none, "id"),
				async () => counted.forceRelease("a", none),
				async () => counted.configurePolicy(none, { limit: 1 }),
				async () => counted.deletePolicy(none),
				leases,
			];
			for (const call of calls) expect(await failure(call())).toBeInstanceOf(TypeError);
			expect(requests).toEqual([]);
		},
	);

	test("settings and leases that are none are a TypeError", async () => {
		const { counted, requests } = countingGate();
		const none = undefined as unknown as { limit: number } & { id: string; names: string };
		const calls = [
			async () => counted.configure("a", none),
			async () => counted.update("a", none),
			async () => counted.configurePolicy("a", none),
			async () => counted.renew(none),
			async () => counted.release(none),
			async () => counted.release({ id: "x", names: new Set(["a"]) as unknown as string }),
			async () => counted.release({ id: 7 as unknown as string, names: "a" }),
		];
		for (const call of calls) expect(await failure(call())).toBeInstanceOf(TypeError);
		expect(requests).toEqual([]);
	});

	test("a name that nobody configured is told once, and one that an operator switched off is not", async () => {
		const told: string[] = [];
		const warnings: string[] = [];
		const listening = new Headgate({ url, onUnconfigured: (name) => told.push(name) });
		const warning = new Headgate({ url, onWarning: (message) => warnings.push(message) });
		const [unknown, off, known] = [newName(), await newLimit({ active: false }), await newLimit()];
		for (const _ of [1, 2]) {
			for (const each of [listening, warning]) {
				await each.concurrency([unknown, off, known], (lease) => {
					expect(lease.limits.filter(({ configured }) => configured === false).map(({ name }) => name)).toEqual([
						unknown,
					]);
				});
			}
		}
		expect(told).toEqual([unknown]);
		expect(warnings).toEqual([`nobody configured "${unknown}", so it holds nobody back: give it a limit, or a policy`]);
		await listening.configurePolicy(`${unknown}:*`, { limit: 1 });
		await listening.concurrency(`${unknown}:a`, () => "done");
		await listening.rateLimit(unknown).catch(() => undefined);
		expect(told).toEqual([unknown]);
		await listening.deletePolicy(`${unknown}:*`);
	});

	test("of names that nobody configured no more than a thousand are told, and a listener that throws costs no slot", async () => {
		const warnings: string[] = [];
		let told = 0;
		const answer: Send = async (_, init) => {
			const { id, names } = JSON.parse(String(init.body));
			const limits = Object.keys(names).map((name) => ({ name, enforced: false, configured: false }));
			return Response.json({ id, names, waitedSeconds: 0, limits });
		};
		const onUnconfigured = (): void => {
			told++;
			if (told === 1) throw new Error("of the listener");
		};
		const fake = new Headgate({ url, fetch: answer, onUnconfigured, onWarning: (message) => warnings.push(message) });
		for (let index = 0; index < 1_100; index++) await fake.rateLimit(`name-${index}`, { maxRetries: 0 });
		expect(told).toBe(1_000);
		expect(warnings).toEqual(["`onUnconfigured` threw"]);
	});

	test("no names: returns at once, without a request", async () => {
		const { counted, requests } = countingGate();
		expect(await counted.concurrency([], () => "done")).toBe("done");
		await using lease = await counted.concurrency({});
		expect(lease).toMatchObject({ names: {}, enforced: false, limits: [], expiresAt: null });
		expect(await counted.rateLimit([])).toMatchObject({ names: {}, enforced: false });
		expect(requests).toEqual([]);
	});
});

describe("rate limits", () => {
	test("takes slots and holds nothing", async () => {
		const name = await newLimit({ limit: 5, slotDecayPerSecond: 0.001 });
		const { counted, requests } = countingGate();
		const receipt = await counted.rateLimit(name, { occupy: 3 });
		expect(receipt).toMatchObject({ names: { [name]: 3 }, enforced: true, limits: [{ name, remaining: 2 }] });
		expect(requests).toEqual(["POST /v1/acquire"]);
		expect(await gate.inspect(name)).toMatchObject({ activeSlots: 3, leaseCount: 0 });
	});

	test("waits until the slots have come back", async () => {
		const name = await newLimit({ limit: 1, slotDecayPerSecond: 4 });
		const askedAt = performance.now();
		expect((await gate.rateLimit(name)).waitedSeconds).toBe(0);
		await gate.rateLimit(name);
		// To a whole millisecond of either clock.
		expect(performance.now() - askedAt).toBeGreaterThanOrEqual(249);
	});

	test("a denial and a timeout are the same errors as for held slots", async () => {
		const name = await newLimit({ limit: 1, slotDecayPerSecond: 0.01 });
		await gate.rateLimit(name);
		const denied = await failure(gate.rateLimit(name, { maxRetries: 0 }));
		expect(isAcquisitionError(denied) && denied.problem.retryAfterSeconds).toBeGreaterThan(90);
		expect(isTimeoutError(await failure(gate.rateLimit(name, { timeoutSeconds: 0.2 })))).toBe(true);
		await until(async () => (await waiting(name)) === 0);
	});

	test("a limit whose slots do not come back by themselves is refused", async () => {
		const error = await failure(gate.rateLimit(await newLimit()));
		expect(error).toMatchObject({ name: "ConcurrencySlotAcquisitionError", code: "no_decay", status: 422 });
	});
});

describe("the other calls", () => {
	test("acquireMany answers each request in its place: a lease, a receipt, or the problem", async () => {
		const name = await newLimit({ limit: 3 });
		const rated = await newLimit({ limit: 1, slotDecayPerSecond: 0.001 });
		const full = await newLimit();
		const held = await gate.acquire(full);
		const outcomes = await gate.acquireMany([
			{ names: name, holder: "one" },
			{ names: rated, mode: "rate_limit" },
			{ names: { [name]: 3 } },
			{ names: [name, full], leaseSeconds: 5 },
			{ names: rated, mode: "rate_limit" },
			{ names: name },
		]);
		const codes = outcomes.map(
			({ lease, receipt, denied }) => denied?.code ?? (lease ? "lease" : receipt && "receipt"),
		);
		expect(codes).toEqual(["lease", "receipt", "denied", "denied", "denied", "lease"]);
		expect(outcomes[0]?.lease?.names).toEqual({ [name]: 1 });
		expect(outcomes[1]?.receipt).toMatchObject({ names: { [rated]: 1 }, enforced: true });
		for (const { lease } of outcomes) await lease?.release();
		await held.release();
		expect((await gate.inspect(name)).activeSlots).toBe(0);
	});

	test("acquireMany sends more than a hundred in several calls, and nothing where one names no limit", async () => {
		const name = await newLimit({ limit: 205, slotDecayPerSecond: 0.001 });
		const many = Array.from({ length: 210 }, () => ({ names: name, mode: "rate_limit" as const }));
		const outcomes = await gate.acquireMany(many);
		expect(outcomes.map(({ receipt }) => receipt !== null)).toEqual(many.map((_, n) => n < 205));
		const wrong = [{ names: name }, { names: undefined as unknown as string }];
		const untouched = await newLimit();
		await expect(gate.acquireMany([{ names: untouched }, ...wrong])).rejects.toBeInstanceOf(TypeError);
		expect((await gate.inspect(untouched)).activeSlots).toBe(0);
		expect(await gate.acquireMany([])).toEqual([]);
	});

	test("tryAcquire answers with the lease, or with the denial and its details", async () => {
		const name = await newLimit();
		const first = await gate.tryAcquire(name);
		expect(first).toMatchObject({ denied: null, lease: { names: { [name]: 1 } } });
		const second = await gate.tryAcquire(name);
		expect(second).toMatchObject({ lease: null, denied: { code: "denied", limits: [{ name, remaining: 0 }] } });
		expect(second.denied?.retryAfterSeconds).toBeGreaterThanOrEqual(0);
		await first.lease?.release();
		await expect(gate.tryAcquire(newName(), { strict: true })).rejects.toBeInstanceOf(ConcurrencySlotAcquisitionError);
	});

	test("a lease that went through JSON can be renewed and released elsewhere", async () => {
		const name = await newLimit();
		const lease = await gate.acquire(name);
		const reference = JSON.parse(JSON.stringify(lease));
		expect(reference).toEqual({ id: lease.id, names: { [name]: 1 }, expiresAt: lease.expiresAt });
		const renewed = await gate.renew(reference, { leaseSeconds: 600 });
		expect(Date.parse(renewed.expiresAt)).toBeGreaterThan(Date.parse(reference.expiresAt) + 60_000);
		expect(await gate.release(reference)).toEqual({ released: 1 });
		const error = await failure(gate.renew(reference));
		expect(error).toBeInstanceOf(HeadgateError);
		expect(error).toMatchObject({ code: "lease_gone", status: 410 });
		await lease.release();
	});

	test("configure creates a limit and replaces its settings; inspect shows it", async () => {
		const name = newName();
		expect(await gate.configure(name, { limit: 4, slotDecayPerSecond: 0.5 })).toMatchObject({ name, limit: 4 });
		await gate.configure(name, { limit: 5 });
		expect(await gate.inspect(name)).toMatchObject({ name, limit: 5, slotDecayPerSecond: 0, active: true });
		expect(await failure(gate.configure(name, { limit: -1 }))).toMatchObject({ code: "invalid", status: 422 });
		expect(await failure(gate.inspect(newName()))).toMatchObject({ code: "unknown_limit", status: 404 });
	});

	test("update changes what it is given and leaves the rest", async () => {
		const name = await newLimit({ limit: 4, slotDecayPerSecond: 0.5 });
		expect(await gate.update(name, { active: false })).toMatchObject({
			limit: 4,
			slotDecayPerSecond: 0.5,
			active: false,
		});
		expect(await failure(gate.update(newName(), { limit: 1 }))).toMatchObject({ code: "unknown_limit" });
	});

	test("delete answers whether there was such a limit", async () => {
		const name = await newLimit();
		expect(await gate.delete(name)).toBe(true);
		expect(await gate.delete(name)).toBe(false);
		expect(await failure(gate.inspect(name))).toMatchObject({ code: "unknown_limit" });
	});

	test("leases yields who holds; forceRelease takes a lease away, once", async () => {
		const name = await newLimit({ limit: 3 });
		await using first = await gate.acquire(name, { holder: "one", onLeaseLost: "continue" });
		await using second = await gate.acquire(name, { occupy: 2 });
		const leases = [];
		for await (const lease of gate.leases(name)) leases.push(lease);
		expect(leases).toMatchObject([
			{ id: first.id, slots: 1, holder: "one" },
			{ id: second.id, slots: 2, holder: null },
		]);
		expect(await gate.forceRelease(name, second.id)).toEqual({ released: 2 });
		expect(await gate.forceRelease(name, second.id)).toEqual({ released: 0 });
		expect(await held(name)).toBe(1);
	});

	test("a policy gives its settings to the names of its pattern", async () => {
		const prefix = newName();
		const pattern = `${prefix}:*`;
		expect(await gate.configurePolicy(pattern, { limit: 7 })).toMatchObject({ pattern, limit: 7 });
		const found = (await gate.policies()).filter((policy) => policy.pattern === pattern);
		expect(found).toMatchObject([{ pattern, limit: 7, slotDecayPerSecond: 0, active: true }]);
		await using lease = await gate.acquire(`${prefix}:key`);
		expect(lease.limits).toMatchObject([{ limit: 7 }]);
		expect(await gate.deletePolicy(pattern)).toBe(true);
		expect(await gate.deletePolicy(pattern)).toBe(false);
	});

	test("onQueued is told the place in line", async () => {
		const name = await newLimit();
		const places: number[] = [];
		const lease = await gate.acquire(name);
		const next = gate.acquire(name, { onQueued: (position) => places.push(position) });
		await until(() => places.length > 0);
		await lease.release();
		await (await next).release();
		expect(places).toEqual([1]);
	});

	test("names are taken literally, whatever they mean in a URL", async () => {
		const name = `${newName()} ?a=1#b "ü" __proto__`;
		await gate.configure(name, { limit: 1 });
		await using lease = await gate.acquire(name);
		expect(lease.names).toEqual({ [name]: 1 });
		expect(await gate.inspect(name)).toMatchObject({ name, leaseCount: 1 });
		expect(() => gate.inspect("..")).toThrow(TypeError);
	});

	test("limits yields the limits of a prefix, by name", async () => {
		const prefix = newName();
		const names = ["a", "b", "c"].map((each) => `${prefix}:${each}`);
		for (const name of names) await gate.configure(name, { limit: 1 });
		const found: string[] = [];
		await until(async () => {
			found.length = 0;
			for await (const limit of gate.limits({ prefix })) found.push(limit.name);
			return found.length >= names.length;
		});
		expect(found).toEqual(names);
	});

	test("a binding is used instead of the network", async () => {
		const requests: Request[] = [];
		const binding = {
			async fetch(request: Request): Promise<Response> {
				requests.push(request);
				const { method, headers } = request;
				return fetch(url + new URL(request.url).pathname, { method, headers, body: await request.text() });
			},
		};
		const name = await newLimit();
		expect(await new Headgate({ binding, token: "secret" }).concurrency(name, { maxRetries: 0 }, () => "done")).toBe(
			"done",
		);
		expect(requests.map((request) => request.url)).toEqual([
			"https://headgate/v1/acquire",
			"https://headgate/v1/release",
		]);
		expect(requests[0]?.headers.get("Authorization")).toBe("Bearer secret");
	});

	test("the url may end with a slash, and must be one", async () => {
		const name = await newLimit();
		expect(await new Headgate({ url: `${url}/` }).inspect(name)).toMatchObject({ name });
		for (const wrong of [undefined, "", "limits.example", "ftp://limits.example", "https://user:pass@limits.example"]) {
			expect(() => new Headgate({ url: wrong })).toThrow(TypeError);
		}
	});

	test("the functions of the default gate do without one until they ask for something", async () => {
		expect(await concurrency([], () => "done")).toBe("done");
		expect(await rateLimit([])).toMatchObject({ enforced: false });
	});
});

describe("other kinds of limits", () => {
	test("check tells whether slots would be granted, and takes none", async () => {
		const name = await newLimit({ limit: 2 });
		expect(await gate.check(name, { occupy: 2 })).toMatchObject({ allowed: true, limits: [{ name, remaining: 2 }] });
		await using _ = await gate.acquire(name);
		expect(await gate.check({ [name]: 2 })).toMatchObject({ allowed: false, code: "denied" });
		expect(await held(name)).toBe(1);
		expect(await failure(gate.check(newName(), { strict: true }))).toMatchObject({ code: "unknown_limit" });
	});

	test("pause lets nobody through until it ends, and 0 ends it", async () => {
		const name = await newLimit();
		expect((await gate.pause(name, 60)).pausedUntil).not.toBeNull();
		const { denied } = await gate.tryAcquire(name);
		expect(denied?.retryAfterSeconds).toBeGreaterThan(30);
		const waiter = gate.acquire(name);
		await until(async () => (await waiting(name)) === 1);
		await gate.pause(name, 0);
		await (await waiter).release();
		expect(await failure(gate.pause(newName(), 5))).toMatchObject({ code: "unknown_limit" });
	});

	test("a lease has a fence for each limit, above that of the lease before it", async () => {
		const [a, b] = [await newLimit(), await newLimit()];
		const fences: number[] = [];
		for (let time = 0; time < 3; time += 1) {
			await gate.concurrency([a, b], async ({ fence }) => {
				expect(Object.keys(fence).sort()).toEqual([a, b].sort());
				fences.push(fence[a] as number);
			});
		}
		expect(fences).toEqual([...new Set(fences)].sort((one, other) => one - other));
	});

	test("an estimate is settled by its receipt, twice the same, and not otherwise", async () => {
		const name = await newLimit({ limit: 100, slotDecayPerSecond: 0.001 });
		const receipt = await gate.rateLimit(name, { occupy: 500, settleSeconds: 60, atMost: true });
		expect(receipt.names).toEqual({ [name]: 100 });
		expect(JSON.parse(JSON.stringify(receipt))).not.toHaveProperty("settle");
		expect((await receipt.settle(30)).actual).toEqual({ [name]: 30 });
		await receipt.settle({ [name]: 30 });
		expect(await failure(receipt.settle(31))).toMatchObject({ code: "already_settled" });
		expect(await held(name)).toBe(30);
		const plain = await gate.rateLimit(name);
		expect(await failure(plain.settle(1))).toMatchObject({ code: "receipt_gone" });
	});

	test("an estimate beside a lease is settled by the lease, before its release or after", async () => {
		const [model, tokens] = [await newLimit(), await newLimit({ limit: 100, slotDecayPerSecond: 0.001 })];
		const lease = await gate.acquire(model, { rate: { [tokens]: 60 }, settleSeconds: 60 });
		await lease.release();
		await lease.settle(10);
		expect(await held(tokens)).toBe(10);
		await gate.settle(lease.id, { [tokens]: 10 });
		const [outcome] = await gate.acquireMany([{ names: tokens, mode: "rate_limit", occupy: 50, settleSeconds: 60 }]);
		await outcome?.receipt?.settle(0);
		expect(await held(tokens)).toBe(10);
	});

	test("where no service was asked there is nothing to settle", async () => {
		const lost = new Headgate({ url, fetch: unplugged });
		const receipt = await lost.rateLimit("any", { onError: "open", settleSeconds: 60 });
		expect(await receipt.settle(5)).toMatchObject({ actual: {} });
	});

	test("a limit that is not enforced lets through what it would deny, and says so", async () => {
		const name = await newLimit({ enforce: false });
		await using first = await gate.acquire(name);
		await using second = await gate.acquire(name);
		expect(first.limits[0]).not.toHaveProperty("wouldDeny");
		expect(second.limits[0]).toMatchObject({ wouldDeny: true, enforced: false });
		expect(second.enforced).toBe(false);
	});
});
