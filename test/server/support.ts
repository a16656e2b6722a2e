/** What the server's tests share: callers of the Worker, a look into its objects, and waiting for a condition. */

import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { expect, onTestFinished, vi } from "vitest";
import type { Ended, Limit } from "../../src/core/limit.ts";
import { type SavedEntry, type SavedLimit, saveEntry, saveLimit } from "../../src/core/saved.ts";
import type {
	Lease,
	LimitInfo,
	LimitSummary,
	PoliciesPage,
	Policy,
	Problem,
	Released,
	Renewed,
	StreamEvent,
} from "../../src/protocol.ts";
import type { Env } from "../../src/server/contract/env.ts";
import type { DirectoryObject } from "../../src/server/directory/directory-object.ts";
import type { LimitObject } from "../../src/server/limit/limit-object.ts";
import { type Identity, LimitStore } from "../../src/server/limit/store.ts";

export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
export const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

declare global {
	namespace Cloudflare {
		interface Env {
			LIMITS: DurableObjectNamespace<LimitObject>;
			DIRECTORY: DurableObjectNamespace<DirectoryObject>;
			HEADGATE_OPEN?: string;
		}
		interface GlobalProps {
			mainModule: typeof import("../../src/server/worker.ts");
		}
	}
}

export const bindings: Env = env;

/** A name that no other test uses. */
export const newName = (prefix = ""): string => `${prefix}${crypto.randomUUID()}`;

export const newId = (): string => crypto.randomUUID();

/** `count` names of one test, in the order in which every request takes them. */
export function newNames(count: number): string[] {
	const family = crypto.randomUUID();
	return Array.from({ length: count }, (_, index) => `${family}-${String(index).padStart(3, "0")}`);
}

// ------------------------------------------------------------------------------------------------ calling

/** An answer, read to its end. */
export interface Answer<Body> {
	status: number;
	headers: Headers;
	body: Body;
}

/** One call of the Worker. A body that is not text is sent as JSON. */
export async function call<Body = unknown>(
	method: string,
	path: string,
	body?: unknown,
	headers: Record<string, string> = {},
): Promise<Answer<Body>> {
	const init: RequestInit = { method, headers };
	if (body !== undefined) {
		init.body = typeof body === "string" ? body : JSON.stringify(body);
		init.headers = { "Content-Type": "application/json", ...headers };
	}
	return read<Body>(await exports.default.fetch(new Request(`http://headgate.test${path}`, init)));
}

export async function read<Body = unknown>(response: Response): Promise<Answer<Body>> {
	const text = await response.text();
	const isJson = text !== "" && (response.headers.get("Content-Type")?.includes("json") ?? false);
	return { status: response.status, headers: response.headers, body: (isJson ? JSON.parse(text) : text) as Body };
}

export const path = (name: string): string => `/v1/limits/${encodeURIComponent(name)}`;

/** Sets a limit up. */
export async function configure(name: string, settings: Record<string, unknown>): Promise<LimitSummary> {
	const { status, body } = await call<LimitSummary>("PUT", path(name), settings);
	expect([200, 201]).toContain(status);
	return body;
}

export const patch = (name: string, change: Record<string, unknown>) => call<LimitSummary>("PATCH", path(name), change);

/** Sets several limits up, each with its capacity. */
export async function newLimits(...limits: number[]): Promise<string[]> {
	const names = newNames(limits.length);
	await Promise.all(names.map((name, index) => configure(name, { limit: limits[index] })));
	return names;
}

/** Sets one limit up and answers its name. */
export async function newLimit(settings: Record<string, unknown> = { limit: 1 }): Promise<string> {
	const name = newName();
	await configure(name, { limit: 1, ...settings });
	return name;
}

export const acquire = (request: Record<string, unknown>) => call<Lease & Problem>("POST", "/v1/acquire", request);

/** Acquires, and fails unless it is granted. */
export async function granted(request: Record<string, unknown>): Promise<Lease> {
	const { status, body } = await acquire(request);
	expect(status, JSON.stringify(body)).toBe(200);
	return body;
}

export const renew = (lease: object) => call<Renewed & Problem>("POST", "/v1/renew", lease);

export const release = (lease: object) => call<Released & Problem>("POST", "/v1/release", lease);

export async function inspect(name: string): Promise<LimitInfo> {
	const { status, body } = await call<LimitInfo>("GET", path(name));
	expect(status, JSON.stringify(body)).toBe(200);
	return body;
}

export const remove = (name: string) => call("DELETE", path(name));

export const setPolicy = (pattern: string, settings: Record<string, unknown>) =>
	call<Policy>("PUT", `/v1/policies/${encodeURIComponent(pattern)}`, settings);

export const removePolicy = (pattern: string) => call("DELETE", `/v1/policies/${encodeURIComponent(pattern)}`);

export const policies = async (): Promise<Policy[]> => (await call<PoliciesPage>("GET", "/v1/policies")).body.policies;

/** Fails unless an answer is the problem that is expected, in the form that every problem has. */
export function expectProblem(answer: Answer<unknown>, status: number, code: Problem["code"]): Problem {
	const problem = answer.body as Problem;
	expect({ status: answer.status, code: problem.code }, JSON.stringify(problem)).toEqual({ status, code });
	expect(answer.headers.get("Content-Type")).toBe("application/problem+json");
	expect(problem.status).toBe(status);
	expect(problem.type).toMatch(/^(about:blank|https:\/\/iana\.org\/assignments\/http-problem-types#[a-z-]+)$/);
	expect(problem.title).not.toBe("");
	expect(problem.detail).not.toBe("");
	expect(JSON.stringify(problem)).not.toMatch(/\bat [^"]+:\d+:\d+|\.ts\b|node_modules/);
	return problem;
}

/** What an answer's moment is from now, in milliseconds. */
export const fromNow = (moment: string): number => Date.parse(moment) - Date.now();

// ------------------------------------------------------------------------------------------------ waiting

/** Ends what hangs, and says nothing of how fast anything is; shorter than a test may take, so that it says what hung. */
const HANGS_MS = 90_000;

/** Waits until something is so. */
export async function until(condition: () => boolean | Promise<boolean>, what = ""): Promise<void> {
	const endsAt = performance.now() + HANGS_MS;
	while (!(await condition())) {
		if (performance.now() > endsAt) throw new Error(`Not so within ${HANGS_MS} ms: ${what || condition}`);
		await scheduler.wait(10);
	}
}

/** Waits until so many wait in a limit's line. */
export const untilWaiting = (name: string, count: number): Promise<void> =>
	until(async () => (await inspect(name)).waitingCount === count, `${count} waiting`);

export const untilActive = (name: string, slots: number): Promise<void> =>
	until(async () => (await inspect(name)).activeSlots === slots, `${slots} active slots`);

/**
 * Stops the clock of the test, of the Worker and of the objects; `pass` sets it on. Timers and alarms run by the machine's,
 * so nothing that falls due rings by itself meanwhile. Not among
 * tests that run side by side, for they share the clock.
 */
export function stopClock(): { pass: (ms: number) => void } {
	vi.useFakeTimers({ toFake: ["Date"], now: Date.now() });
	onTestFinished(() => void vi.useRealTimers());
	return { pass: (ms) => void vi.setSystemTime(Date.now() + ms) };
}

/** Whether a promise has settled by now, once everything that is due has had its turn. */
export async function isSettled(promise: Promise<unknown>): Promise<boolean> {
	const pending = Symbol("pending");
	return (await Promise.race([promise.catch(() => null), scheduler.wait(0).then(() => pending)])) !== pending;
}

// ------------------------------------------------------------------------------------------------ streams

/** The lines of an acquire over a stream, and what came of it. */
export class Stream {
	readonly events: StreamEvent[] = [];
	readonly response: Response;
	/** Resolves when the stream has ended, however it did. */
	readonly ended: Promise<void>;
	/** `broken`: the server went away in the middle. */
	#state: "open" | "ended" | "left" | "broken" = "open";
	readonly #reader: ReadableStreamDefaultReader<Uint8Array>;

	constructor(response: Response) {
		this.response = response;
		const body = response.body;
		if (!body) throw new Error("The answer has no body.");
		this.#reader = body.getReader();
		this.ended = this.#read();
	}

	get state(): "open" | "ended" | "left" | "broken" {
		return this.#state;
	}

	/** Goes away, as a caller does whose connection ends. */
	async leave(): Promise<void> {
		if (this.#state === "open") this.#state = "left";
		await this.#reader.cancel().catch(() => undefined);
	}

	/** The places that were told, in their order. */
	get positions(): number[] {
		return this.events.flatMap((event) => (event.event === "queued" ? [event.position] : []));
	}

	get beats(): number {
		return this.events.filter(({ event }) => event === "heartbeat").length;
	}

	get lease(): Lease | null {
		const event = this.events.find((each) => each.event === "granted");
		return event?.event === "granted" ? (event.lease as Lease) : null;
	}

	get problem(): Problem | null {
		const event = this.events.find((each) => each.event === "denied");
		return event?.event === "denied" ? event.problem : null;
	}

	async queued(): Promise<void> {
		await until(() => this.positions.length > 0, "a place in line");
	}

	async granted(): Promise<Lease> {
		await until(() => this.lease !== null || this.problem !== null, "a grant");
		if (!this.lease) throw new Error(`Not granted: ${JSON.stringify(this.problem)}`);
		return this.lease;
	}

	async denied(): Promise<Problem> {
		await until(() => this.lease !== null || this.problem !== null, "a denial");
		if (!this.problem) throw new Error(`Not denied: ${JSON.stringify(this.lease)}`);
		return this.problem;
	}

	async #read(): Promise<void> {
		const decoder = new TextDecoder();
		let text = "";
		try {
			for (;;) {
				const { done, value } = await this.#reader.read();
				if (done) break;
				text += decoder.decode(value, { stream: true });
				const lines = text.split("\n");
				text = lines.pop() ?? "";
				for (const line of lines) if (line.trim() !== "") this.events.push(JSON.parse(line) as StreamEvent);
			}
			if (this.#state === "open") this.#state = "ended";
		} catch {
			if (this.#state === "open") this.#state = "broken";
		}
	}
}

/** Asks over a stream. */
export async function open(request: Record<string, unknown>, headers: HeadersInit = {}): Promise<Stream> {
	const response = await exports.default.fetch(
		new Request("http://headgate.test/v1/acquire", {
			method: "POST",
			headers: { ...headers, "Content-Type": "application/json", Accept: "application/x-ndjson" },
			body: JSON.stringify(request),
		}),
	);
	expect(response.status).toBe(200);
	expect(response.headers.get("Content-Type")).toBe("application/x-ndjson");
	return new Stream(response);
}

/** Asks over a stream, and waits until it stands in line. */
export async function openQueued(request: Record<string, unknown>): Promise<Stream> {
	const stream = await open(request);
	await stream.queued();
	return stream;
}

// ------------------------------------------------------------------------------------------------ objects

export const limitObject = (name: string): DurableObjectStub<LimitObject> => env.LIMITS.getByName(name);

/** Runs a statement in a limit's storage, and throws its memory away. */
export async function rewrite(name: string, statement: string, ...values: (string | number)[]): Promise<void> {
	await runInDurableObject(limitObject(name), (_, state) => {
		state.storage.sql.exec(statement, ...values);
	});
	await evictDurableObject(limitObject(name));
}

/** How often some methods of an object are called, while `work` runs. */
export async function callsOf<T extends LimitObject | DirectoryObject>(
	stub: DurableObjectStub<T>,
	methods: (keyof T & string)[],
	work: () => Promise<unknown>,
): Promise<number> {
	let calls = 0;
	// A property of an object itself is out of reach of callers: it is its class that counts, for this object alone.
	const restore = await runInDurableObject(stub, (counted: T) => {
		const methodsOf = Object.getPrototypeOf(counted) as Record<string, (...args: unknown[]) => unknown>;
		const plain = methods.map((method) => [method, methodsOf[method] as (...args: unknown[]) => unknown] as const);
		for (const [method, run] of plain) {
			methodsOf[method] = function (this: T, ...args: unknown[]) {
				if (this === counted) calls += 1;
				return run.apply(this, args);
			};
		}
		return () => Object.assign(methodsOf, Object.fromEntries(plain));
	});
	try {
		await work();
	} finally {
		restore();
	}
	return calls;
}

/**
 * Holds a method of an object back once, when it has done its work and before it answers: `reached` tells that it has, and
 * `resume` lets it answer.
 */
export async function holdBack<T extends LimitObject>(stub: DurableObjectStub<T>, method: keyof T & string) {
	const state = { reached: false, resumed: false };
	await runInDurableObject(stub, (held: T) => {
		const methodsOf = Object.getPrototypeOf(held) as Record<string, (...args: unknown[]) => Promise<unknown>>;
		const run = methodsOf[method] as (...args: unknown[]) => Promise<unknown>;
		methodsOf[method] = async function (this: T, ...args: unknown[]) {
			const answer = await run.apply(this, args);
			if (this !== held || state.reached) return answer;
			methodsOf[method] = run;
			state.reached = true;
			// It may not wait for a promise of another request.
			while (!state.resumed) await scheduler.wait(1);
			return answer;
		};
	});
	return {
		reached: () => until(() => state.reached),
		resume: () => {
			state.resumed = true;
		},
	};
}

export const directory = (): DurableObjectStub<DirectoryObject> => env.DIRECTORY.getByName("directory");

/** Stops an object in the middle of whatever it does, as a crash would; its storage stays. */
export async function crash(name: string): Promise<void> {
	const stopped = runInDurableObject(limitObject(name), (_, state) => state.abort("crashed by a test"));
	await stopped.catch(() => undefined);
}

/** Everything that an object has stored: its tables with their rows, and its alarm. */
export function stored(name: string): Promise<{ tables: Record<string, unknown[]>; alarm: number | null }> {
	return runInDurableObject(limitObject(name), (_, state) => dump(state));
}

/** What the next object of a name would find. */
export interface Found {
	identity: Identity;
	limit: Limit;
	usedAt: number;
	entries: SavedEntry[];
	ended: Ended[];
	level: SavedLimit["level"];
}

export function found(storage: DurableObjectStorage): Found {
	const store = new LimitStore(storage);
	const stored = store.load(Date.now());
	if (stored === null || stored instanceof Error) throw stored ?? new Error("Nothing is stored.");
	const { identity, limit, usedAt } = stored;
	return {
		...{ identity, limit, usedAt, ended: store.remembered(), level: saveLimit(limit).level },
		entries: [...limit.entries.values()].map((entry) => saveEntry(limit, entry)),
	};
}

export const storedLimit = (name: string): Promise<Found> =>
	runInDurableObject(limitObject(name), (_, { storage }) => found(storage));

/** The directory has heard what this limit had to tell, and the limit has stored that. */
export const reported = (name: string): Promise<void> =>
	until(async () => (await storedLimit(name)).identity.reported, "the directory has heard");

/** Changes what a limit has stored, and throws its memory away. */
export async function alter(name: string, change: (stored: Found) => Partial<Found> | undefined): Promise<void> {
	await runInDurableObject(limitObject(name), (_, { storage }) => {
		const was = found(storage);
		const { identity, limit, usedAt, ended } = { ...was, ...change(was) };
		storage.sql.exec("DROP TABLE schema");
		const store = new LimitStore(storage);
		store.together(() => {
			store.create(identity, limit, usedAt);
			store.remember(ended.map((record) => ({ kind: "ended", id: record.id, record })));
			const all = [...limit.entries.keys()].map((id) => ({ kind: "rewritten" as const, id }));
			store.write(limit, [...all, { kind: "configured" }], usedAt);
		});
	});
	await evictDurableObject(limitObject(name));
}

export async function dump(
	state: DurableObjectState,
): Promise<{ tables: Record<string, unknown[]>; alarm: number | null }> {
	const names = state.storage.sql
		.exec<{ name: string }>(
			"SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\'",
		)
		.toArray();
	const tables = Object.fromEntries(
		names.map(({ name }) => [name, state.storage.sql.exec(`SELECT * FROM "${name}"`).toArray()]),
	);
	return { tables, alarm: await state.storage.getAlarm() };
}
