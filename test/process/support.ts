/** A caller's side of a real server: one socket for each stream, bounded waits for conditions, and figures. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { Agent, type ClientRequest, type IncomingMessage, request } from "node:http";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll } from "vitest";
import type {
	AcquireRequest,
	Lease,
	LeaseInfo,
	LeasesPage,
	LimitInfo,
	Problem,
	Slots,
	StreamEvent,
} from "../../src/protocol.ts";
import { type FreshServer, freshServer } from "../support/server.ts";

export interface Answer<T> {
	status: number;
	body: T;
}

/** The body of a POST, or of a PUT or PATCH. */
type Body = object | undefined;

const STEP_MS = 5;

/** Asks again and again until the answer is neither undefined nor false; says what it waited for when it gives up. */
export async function until<T>(
	what: string,
	withinMs: number,
	condition: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
	const giveUpAt = performance.now() + withinMs;
	for (;;) {
		const met = await condition();
		if (met !== undefined && met !== false) return met;
		if (performance.now() > giveUpAt) throw new Error(`Not within ${withinMs} ms: ${what}`);
		await sleep(STEP_MS);
	}
}

/** The promise's value, or an error that says what did not come in time. */
export async function within<T>(what: string, withinMs: number, promise: Promise<T>): Promise<T> {
	const cancel = new AbortController();
	const late = sleep(withinMs, undefined, { signal: cancel.signal }).then(() => {
		throw new Error(`Not within ${withinMs} ms: ${what}`);
	});
	late.catch(() => undefined);
	try {
		return await Promise.race([promise, late]);
	} finally {
		cancel.abort();
	}
}

/** Calls one server. `close` cuts every connection that it has. */
export class Caller {
	readonly url: string;
	/** The server closes a connection that is idle for five seconds; one that is about to be closed is not used again. */
	readonly #agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY, timeout: 1_000 });
	readonly #sockets = new Set<Socket>();
	#limits = 0;

	constructor(url: string) {
		this.url = url;
	}

	/** Rejects when the connection breaks before the answer is complete. */
	async call<T = unknown>(method: string, route: string, body?: Body): Promise<Answer<T>> {
		const sent = this.send(method, route, body);
		const answer = await sent.response;
		let text = "";
		for await (const chunk of answer.setEncoding("utf8")) text += chunk;
		return { status: answer.statusCode ?? 0, body: (text === "" ? null : JSON.parse(text)) as T };
	}

	send(
		method: string,
		route: string,
		body?: Body,
		headers: Record<string, string> = {},
		agent: Agent | false = this.#agent,
	): { request: ClientRequest; response: Promise<IncomingMessage> } {
		const text = body === undefined ? undefined : JSON.stringify(body);
		const sent = request(`${this.url}${route}`, {
			method,
			agent,
			headers: {
				...(text !== undefined && {
					"content-type": "application/json",
					"content-length": String(Buffer.byteLength(text)),
				}),
				...headers,
			},
		});
		sent.on("socket", (socket) => this.#sockets.add(socket));
		const response = new Promise<IncomingMessage>((resolve, reject) => {
			sent.once("response", resolve);
			// It stays, for a connection may fail more than once.
			sent.on("error", reject);
		});
		sent.end(text);
		return { request: sent, response };
	}

	/** Configures a limit. */
	async limit(name: string, limit: number, slotDecayPerSecond = 0): Promise<void> {
		const { status, body } = await this.call("PUT", `/v1/limits/${name}`, { limit, slotDecayPerSecond });
		if (status !== 200 && status !== 201) throw new Error(`${status} ${JSON.stringify(body)}`);
	}

	/** New limits of one slot each. */
	async fresh(count: number): Promise<string[]> {
		const names = Array.from({ length: count }, () => `fresh-${++this.#limits}`);
		for (const name of names) await this.limit(name, 1);
		return names;
	}

	acquire(body: AcquireRequest): Promise<Answer<Lease | Problem>> {
		return this.call("POST", "/v1/acquire", body);
	}

	/** A lease that has to be granted at once. */
	async take(body: AcquireRequest): Promise<Lease> {
		const { status, body: lease } = await this.acquire(body);
		if (status !== 200) throw new Error(`${status} ${JSON.stringify(lease)}`);
		return lease as Lease;
	}

	/** Slots given back. */
	async release({ id, names }: { id: string; names: Slots | string[] }): Promise<number> {
		const { status, body } = await this.call<{ released: number }>("POST", "/v1/release", { id, names });
		if (status !== 200) throw new Error(`${status} ${JSON.stringify(body)}`);
		return body.released;
	}

	async inspect(name: string): Promise<LimitInfo> {
		const { status, body } = await this.call<LimitInfo>("GET", `/v1/limits/${name}`);
		if (status !== 200) throw new Error(`${status} ${JSON.stringify(body)}`);
		return body;
	}

	/** Every lease of a limit, however many pages they fill. */
	async leases(name: string): Promise<LeaseInfo[]> {
		const all: LeaseInfo[] = [];
		for (let after: string | null = ""; after !== null; ) {
			const query: string = after === "" ? "?count=1000" : `?count=1000&after=${after}`;
			const { body }: Answer<LeasesPage> = await this.call("GET", `/v1/limits/${name}/leases${query}`);
			all.push(...body.leases);
			after = body.next;
		}
		return all;
	}

	/** Asks for slots over a connection of its own. */
	stream(body: AcquireRequest): Stream {
		return new Stream(this, body);
	}

	close(): void {
		this.#agent.destroy();
		for (const socket of this.#sockets) socket.destroy();
		this.#sockets.clear();
	}
}

/** What is heard of a streamed request, and when. */
export class Heard {
	readonly body: AcquireRequest;
	readonly events: StreamEvent[] = [];
	/** When the grant was heard, by `performance.now()`. */
	grantedAt = Number.NaN;
	/** Why the request was denied, if it was. */
	denied: Problem | undefined;
	/** The places in line that were told first and last. */
	firstPosition: number | undefined;
	position: number | undefined;
	/** Resolves with the lease; rejects when the request is denied or the connection breaks before. */
	readonly granted: Promise<Lease>;
	/** Resolves with the first place in line that is told. */
	readonly queued: Promise<number>;
	/** Resolves when nothing more will come, in whatever way. */
	readonly ended: Promise<void>;
	readonly #granted = Promise.withResolvers<Lease>();
	readonly #queued = Promise.withResolvers<number>();
	readonly #ended = Promise.withResolvers<void>();
	#rest = "";

	constructor(body: AcquireRequest) {
		this.body = body;
		this.granted = this.#granted.promise;
		this.queued = this.#queued.promise;
		this.ended = this.#ended.promise;
		// Not every test looks at each of them.
		this.granted.catch(() => undefined);
		this.queued.catch(() => undefined);
	}

	/** Whether a verdict was heard. */
	get decided(): boolean {
		return this.events.some(({ event }) => event === "granted" || event === "denied");
	}

	protected feed(chunk: string): void {
		const lines = (this.#rest + chunk).split("\n");
		this.#rest = lines.pop() ?? "";
		for (const line of lines) if (line !== "") this.#hear(JSON.parse(line) as StreamEvent);
	}

	protected end(why: string): void {
		const error = new Error(`${why} ${JSON.stringify(this.body)} ${this.#rest}`);
		this.#granted.reject(error);
		this.#queued.reject(error);
		this.#ended.resolve();
	}

	#hear(event: StreamEvent): void {
		this.events.push(event);
		if (event.event === "queued") {
			this.position = event.position;
			this.firstPosition ??= event.position;
			this.#queued.resolve(event.position);
		} else if (event.event === "granted") {
			this.grantedAt = performance.now();
			this.#granted.resolve(event.lease as Lease);
		} else if (event.event === "denied") {
			this.denied = event.problem;
			this.#granted.reject(new Error(`Denied: ${JSON.stringify(event.problem)}`));
		}
	}
}

/** A streamed request of this process, over a connection of its own. */
export class Stream extends Heard {
	readonly #request: ClientRequest;

	constructor(caller: Caller, body: AcquireRequest) {
		super(body);
		const { request: sent, response } = caller.send("POST", "/v1/acquire", body, { accept: NDJSON }, false);
		this.#request = sent;
		response.then(
			(answer) => {
				answer.setEncoding("utf8").on("data", (chunk: string) => this.feed(chunk));
				answer.on("error", () => undefined);
				answer.once("close", () => this.end("The stream ended:"));
			},
			(error) => this.end(String(error)),
		);
	}

	/** Closes the connection in the orderly way (FIN). */
	close(): void {
		this.#request.destroy();
	}

	/** Resets the connection (RST). */
	reset(): void {
		this.#request.socket?.resetAndDestroy();
	}
}

const NDJSON = "application/x-ndjson";
const NODE_CLIENT = `
	const [url, body] = process.argv.slice(1);
	const headers = { "content-type": "application/json", accept: "${NDJSON}" };
	const answer = await fetch(url, { method: "POST", headers, body });
	for await (const chunk of answer.body) process.stdout.write(chunk);
`;

/** Whether this machine has curl. */
export const hasCurl = !spawnSync("curl", ["--version"]).error;

/** A streamed request of a process of its own, which can be killed. */
export class ClientProcess extends Heard {
	readonly #process: ChildProcess;

	constructor(program: "curl" | "node", url: string, body: AcquireRequest) {
		super(body);
		const json = JSON.stringify(body);
		const route = `${url}/v1/acquire`;
		const [command, args] =
			program === "curl"
				? ["curl", ["-sN", route, "-H", "content-type: application/json", "-H", `accept: ${NDJSON}`, "-d", json]]
				: [process.execPath, ["--input-type=module", "-e", NODE_CLIENT, route, json]];
		this.#process = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
		this.#process.stdout?.setEncoding("utf8").on("data", (chunk: string) => this.feed(chunk));
		this.#process.once("error", (error) => this.end(String(error)));
		this.#process.once("close", (code, signal) => this.end(`The process ended with ${code ?? signal}:`));
	}

	kill(signal: "SIGKILL" | "SIGINT"): void {
		this.#process.kill(signal);
	}
}

/** A seed of this run; `HEADGATE_TEST_SEED` runs an earlier one again. */
export function newSeed(): number {
	const given = Number(process.env.HEADGATE_TEST_SEED);
	return Number.isSafeInteger(given) && given > 0 ? given : randomInt(1, 2 ** 31);
}

export interface Figures {
	count: number;
	min: number;
	p50: number;
	p99: number;
	max: number;
}

export function figures(values: number[]): Figures {
	const sorted = values.toSorted((a, b) => a - b);
	const at = (share: number): number =>
		sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
	return { count: sorted.length, min: at(0), p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? Number.NaN };
}

/** Prints measured milliseconds beside the result of a test. */
export function report(what: string, values: number[], unit = "ms"): Figures {
	const all = figures(values);
	const { count, p50, p99, max } = all;
	const shown = [p50, p99, max].map((value) => value.toFixed(1));
	console.log(`${what}: p50 ${shown[0]} ${unit}, p99 ${shown[1]} ${unit}, max ${shown[2]} ${unit} (${count})`);
	return all;
}

/** The server of a test file, and its only caller; there from `startOne` on. */
export let server: FreshServer;
export let caller: Caller;

/** Starts a server for the tests of a file, and ends it after them. */
export function startOne(): void {
	beforeAll(async () => {
		server = await freshServer();
		caller = new Caller(server.url);
	});
	afterAll(async () => {
		caller?.close();
		await server?.[Symbol.asyncDispose]();
	});
}
