/**
 * HTTP over bare sockets: a connection for each call, so that each can be closed, reset or left unread at any moment. Nothing here
 * is shared with Headgate or its library.
 */

import { connect, type Socket } from "node:net";

/** The connection ended before the answer did. */
export class Broken extends Error {}

/** What was asked for did not come in a time in which anything comes. */
export class Hung extends Error {}

// biome-ignore lint/suspicious/noExplicitAny: what a server answers is of no type until it was looked at.
export type Json = any;

export interface Answer {
	status: number;
	body: Json;
}

/** Nothing that works takes as long. */
const HANGS_MS = 90_000;

/** One request, and its answer as it comes. */
export class Exchange {
	readonly socket: Socket;
	status = 0;
	/** The whole answer came. */
	complete = false;
	/** Resolves when nothing more will come, in whatever way. */
	readonly over: Promise<void>;
	onBody: (text: string) => void = () => undefined;
	readonly #over = Promise.withResolvers<void>();
	#rest = Buffer.alloc(0);
	#headers: Map<string, string> | undefined;
	/** Bytes of the chunk that is being read; null: a line with its size comes first. */
	#chunk: number | null = null;
	#got = 0;

	constructor(port: number, method: string, route: string, body?: unknown, accept = "application/json") {
		this.over = this.#over.promise;
		const text = body === undefined ? "" : typeof body === "string" ? body : JSON.stringify(body);
		const head = [
			`${method} ${route} HTTP/1.1`,
			`Host: 127.0.0.1:${port}`,
			"Connection: close",
			`Accept: ${accept}`,
			...(body === undefined ? [] : ["Content-Type: application/json", `Content-Length: ${Buffer.byteLength(text)}`]),
		];
		this.socket = connect(port, "127.0.0.1", () => this.socket.write(`${head.join("\r\n")}\r\n\r\n${text}`));
		this.socket.setNoDelay(true);
		this.socket.on("data", (bytes) => this.#take(bytes));
		this.socket.on("error", () => undefined);
		this.socket.on("close", () => {
			if (this.#headers && !this.#headers.has("content-length") && !this.#isChunked) this.complete = true;
			this.#over.resolve();
		});
	}

	/** The orderly end of a caller that goes: FIN. */
	close(): void {
		this.socket.destroy();
	}

	/** The end of one whose machine forgot it: RST. */
	reset(): void {
		this.socket.resetAndDestroy();
	}

	/** Reads nothing more, and keeps the connection. */
	stall(): void {
		this.socket.pause();
	}

	resume(): void {
		this.socket.resume();
	}

	/** Not JSON, and not meant to be. */
	get isText(): boolean {
		return !/json/.test(this.#headers?.get("content-type") ?? "json");
	}

	get #isChunked(): boolean {
		return this.#headers?.get("transfer-encoding") === "chunked";
	}

	#take(bytes: Buffer): void {
		this.#rest = Buffer.concat([this.#rest, bytes]);
		if (!this.#headers && !this.#takeHead()) return;
		if (this.#isChunked) {
			this.#takeChunks();
			return;
		}
		const length = Number(this.#headers?.get("content-length") ?? Number.POSITIVE_INFINITY);
		this.#got += this.#rest.length;
		this.#tell(this.#rest);
		this.#rest = Buffer.alloc(0);
		if (this.#got >= length) this.#end();
	}

	#takeHead(): boolean {
		const at = this.#rest.indexOf("\r\n\r\n");
		if (at < 0) return false;
		const [first = "", ...lines] = this.#rest.subarray(0, at).toString("latin1").split("\r\n");
		this.#rest = this.#rest.subarray(at + 4);
		this.status = Number(first.split(" ")[1]);
		this.#headers = new Map(
			lines.map((line) => {
				const colon = line.indexOf(":");
				return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
			}),
		);
		if (this.status === 204) this.#end();
		return this.status !== 204;
	}

	#takeChunks(): void {
		for (;;) {
			if (this.#chunk === null) {
				const at = this.#rest.indexOf("\r\n");
				if (at < 0) return;
				this.#chunk = Number.parseInt(this.#rest.subarray(0, at).toString("latin1"), 16);
				this.#rest = this.#rest.subarray(at + 2);
				if (this.#chunk === 0) return this.#end();
			}
			if (this.#rest.length < this.#chunk + 2) return;
			this.#tell(this.#rest.subarray(0, this.#chunk));
			this.#rest = this.#rest.subarray(this.#chunk + 2);
			this.#chunk = null;
		}
	}

	#tell(bytes: Buffer): void {
		if (bytes.length > 0) this.onBody(bytes.toString("utf8"));
	}

	#end(): void {
		this.complete = true;
		this.socket.destroy();
	}
}

/** Asks, and waits for the whole answer. */
export async function call(port: number, method: string, route: string, body?: unknown): Promise<Answer> {
	const exchange = new Exchange(port, method, route, body);
	let text = "";
	exchange.onBody = (more) => {
		text += more;
	};
	await notForEver(exchange.over, `${method} ${route} ${JSON.stringify(body)}`, () => exchange.reset());
	if (!exchange.complete) throw new Broken(`${method} ${route}`);
	const isText = exchange.isText || text.trim() === "";
	return { status: exchange.status, body: isText ? null : parsed(text) };
}

function parsed(text: string): Json {
	try {
		return JSON.parse(text);
	} catch {
		return { unreadable: text };
	}
}

/** A stream of lines of JSON. */
export class Lines {
	readonly exchange: Exchange;
	readonly heard: { at: number; line: Json }[] = [];
	onLine: (line: Json) => void = () => undefined;
	#rest = "";

	constructor(port: number, body: unknown) {
		this.exchange = new Exchange(port, "POST", "/v1/acquire", body, "application/x-ndjson");
		this.exchange.onBody = (text) => {
			const lines = (this.#rest + text).split("\n");
			this.#rest = lines.pop() ?? "";
			for (const each of lines) {
				if (each.trim() === "") continue;
				const line = parsed(each);
				this.heard.push({ at: performance.now(), line });
				this.onLine(line);
			}
		};
	}

	/** The problem of an answer that is no stream. */
	get refusal(): Json {
		return this.exchange.status !== 200 && this.#rest !== "" ? parsed(this.#rest) : undefined;
	}

	/** The first line of one of these kinds, or undefined when the stream ends without one. */
	async first(...events: string[]): Promise<Json> {
		const found = (): Json => this.heard.find(({ line }) => events.includes(line.event))?.line;
		if (found()) return found();
		const heard = Promise.withResolvers<void>();
		const before = this.onLine;
		this.onLine = (line) => {
			before(line);
			if (events.includes(line.event)) heard.resolve();
		};
		await notForEver(Promise.race([heard.promise, this.exchange.over]), `a line of ${events.join(", ")}`, () =>
			this.exchange.reset(),
		);
		return found();
	}
}

/** The value of a promise, or the error that says what did not come. */
export async function notForEver<T>(promise: Promise<T>, what: string, giveUp = () => {}, ms = HANGS_MS): Promise<T> {
	const late = Promise.withResolvers<never>();
	const timer = setTimeout(() => {
		late.reject(new Hung(`Not within ${ms / 1000} s: ${what}`));
		giveUp();
	}, ms);
	try {
		return await Promise.race([promise, late.promise]);
	} finally {
		clearTimeout(timer);
	}
}

/** Looks again and again until what is looked for is there. */
export async function until<T>(what: string, look: () => Promise<T | undefined | false>, ms = HANGS_MS): Promise<T> {
	const giveUpAt = performance.now() + ms;
	for (;;) {
		const seen = await look();
		if (seen !== undefined && seen !== false) return seen;
		if (performance.now() > giveUpAt) throw new Hung(`Not within ${ms / 1000} s: ${what}`);
		await pause(20);
	}
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
