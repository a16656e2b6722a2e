/**
 * Requests and their answers: where the service is, what a failure means, and when it is worth another try.
 */

import type { Code, LimitStatus, Problem } from "../protocol.ts";
import { Binding, type HeadgateBinding, HOW_TO_BIND } from "./binding.ts";
import { HeadgateError, HeadgateUnreachableError } from "./errors.ts";
import { Interruption } from "./interruption.ts";
import { now, pause, within } from "./timers.ts";
import { tellUnconfigured } from "./unconfigured.ts";

export { Interruption } from "./interruption.ts";

/** How to reach the service. */
export interface HeadgateOptions {
	/**
	 * Where the service is, such as `https://limits.example.workers.dev`; a path is kept, a closing slash does not
	 * matter. With `binding` it is only a name, and may be left out.
	 */
	url?: string | URL | undefined;
	/** Sent as a bearer token. A binding of the entrypoint `HeadgateService` needs none: it is a permission itself. */
	token?: string | undefined;
	/**
	 * A Workers service binding to the service, used instead of the network. With `entrypoint = "HeadgateService"` every
	 * call is RPC, and a lease ends with the request that took it, however that ends. Any other is called by `fetch`.
	 */
	binding?: HeadgateBinding | undefined;
	/** Used instead of the global `fetch`. */
	fetch?: ((url: string, init: RequestInit) => Promise<Response>) | undefined;
	/** Sent with every request. */
	headers?: Record<string, string> | undefined;
	/**
	 * Told what happened when no caller is there to catch it: a release that failed (its slots come back when the lease
	 * ends), a lease lost with `onLeaseLost: "continue"`, work that runs without its limit (`onError: "open"`).
	 * Default: `console.warn`.
	 */
	onWarning?: ((message: string, cause: unknown) => void) | undefined;
	/**
	 * Told of each name that slots were asked of and that was not configured, once: it holds no caller back. Of the first 1,000
	 * such names. Default: a warning, as above.
	 */
	onUnconfigured?: ((name: string) => void) | undefined;
}

/** Longest wait for the beginning of an answer; the service answers at once, also when the caller is to wait. */
export const ANSWER_MS = 10_000;
/** How long a call is tried again before the service counts as unreachable: a restart takes less. */
export const REACH_MS = 5_000;
/** How long a gate asks plainly after it has met a proxy that holds streams back; then it sees whether that is still so. */
const HELD_BACK_MS = 600_000;

/** The pause before another try: 100 ms, doubling to 1 s, less a random part; at least what the service asked for. */
export function backoffMs(failures: number, interruption: Interruption | undefined): number {
	const ms = Math.min(1_000, 100 * 2 ** (failures - 1)) * (1 - Math.random() / 2);
	return interruption?.retryAfterMs ? interruption.retryAfterMs + ms : ms;
}

export interface CallOptions {
	/** Ends the call. */
	signal?: AbortSignal | undefined;
	/** Longest time for each try. Default 10 s. */
	answerMs?: number;
}

const warnOnConsole = (message: string, ...cause: unknown[]): void => console.warn(`headgate: ${message}`, ...cause);

export class Transport {
	readonly url: string;
	readonly warn: (message: string, cause?: unknown) => void;
	readonly #onUnconfigured: HeadgateOptions["onUnconfigured"];
	readonly binding: Binding | null;
	readonly #send: (url: string, init: RequestInit) => Promise<Response>;
	/** Something on the way holds streams back until then, on the clock of `performance`. */
	#heldBackUntil = Number.NEGATIVE_INFINITY;
	readonly #headers: Record<string, string>;

	constructor(options: HeadgateOptions) {
		const { fetch: send, token } = options;
		// A binding that is not there is told as such, and not as a missing url.
		const bound = options.binding !== undefined || ("binding" in options && options.url === undefined);
		const binding = bound ? new Binding(options.binding as HeadgateBinding) : null;
		this.binding = binding;
		this.url = parseUrl(options.url ?? (binding ? "https://headgate" : undefined));
		if (binding) this.#send = (url, init) => binding.fetch(url, init);
		else this.#send = send ?? ((url, init) => fetch(url, init));
		this.#headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
		this.warn = options.onWarning ?? warnOnConsole;
		this.#onUnconfigured = options.onUnconfigured;
	}

	/** Tells of those of the limits that were not configured. A listener that throws does not cost its caller the slots just granted. */
	noteUnconfigured(limits: readonly LimitStatus[]): void {
		const tell = (name: string): void =>
			this.warn(`nobody configured "${name}", so it holds nobody back: give it a limit, or a policy`);
		const listener = this.#onUnconfigured ?? tell;
		try {
			tellUnconfigured(limits, this.url, this.#onUnconfigured ?? this.warn, listener);
		} catch (error) {
			this.warn("`onUnconfigured` threw", error);
		}
	}

	/** Whether a proxy on the way is known to hold streams back. */
	get holdsBack(): boolean {
		return now() < this.#heldBackUntil;
	}

	/** A stream was silent, and the service answers all the same. */
	noteHoldingBack(): void {
		this.#heldBackUntil = now() + HELD_BACK_MS;
	}

	/** One try, without a time limit. Throws `Interruption` if another makes sense, and `HeadgateError` if not. */
	async open(method: string, path: string, body: unknown, accept: string, signal: AbortSignal): Promise<Response> {
		const headers = { ...this.#headers, Accept: accept };
		const init: RequestInit = { method, headers, signal };
		if (body !== undefined) {
			init.body = JSON.stringify(body);
			init.headers = { ...headers, "Content-Type": "application/json" };
		}
		let response: Response;
		try {
			response = await this.#send(this.url + path, init);
		} catch (error) {
			throw new Interruption("the connection failed", error);
		}
		if (response.ok) return response;
		const { problem, ours } = await readProblem(response);
		// The wrong Worker, or the right one by its public door.
		if (this.binding && (!ours || problem.status === 401)) problem.detail += ` Of a service binding: ${HOW_TO_BIND}.`;
		throw failure(problem, ours, Number(response.headers.get("Retry-After") ?? 0));
	}

	/** One try of a call. Answers with the body. */
	async once<T>(method: string, path: string, body: unknown, options: CallOptions = {}): Promise<T> {
		const { signal, answerMs = ANSWER_MS } = options;
		const attempt = new AbortController();
		const read = async (): Promise<T> => {
			const reply = await this.binding?.invoke(method, path, body);
			if (reply && reply.status >= 400) throw failure(reply.body as Problem);
			if (reply) return reply.body as T;
			const response = await this.open(method, path, body, "application/json", attempt.signal);
			// What was deleted is answered without a body.
			return (response.status === 204 ? undefined : parseAnswer(await readText(response))) as T;
		};
		try {
			return await within(read(), answerMs, signal, silence(answerMs));
		} catch (error) {
			attempt.abort();
			throw error;
		}
	}

	/** A call that may be repeated, as every call of this service may, for `REACH_MS`. Answers with the body. */
	async call<T>(method: string, path: string, body?: unknown, options: CallOptions = {}): Promise<T> {
		const { signal } = options;
		const startedAt = now();
		for (let failures = 1; ; failures++) {
			signal?.throwIfAborted();
			try {
				return await this.once<T>(method, path, body, options);
			} catch (error) {
				if (signal?.aborted || !(error instanceof Interruption)) throw error;
				const pauseMs = backoffMs(failures, error);
				if (now() + pauseMs - startedAt > REACH_MS) throw this.unreachable(failures, error);
				await pause(pauseMs, signal);
			}
		}
	}

	unreachable(attempts: number, last: Interruption): HeadgateUnreachableError {
		const where = this.binding ? `a service binding (if it is not of Headgate, ${HOW_TO_BIND})` : this.url;
		return new HeadgateUnreachableError(where, attempts, last.cause ?? last);
	}
}

/** What a problem is to its caller: worth another try, or final. `headerSeconds` is what `Retry-After` says. */
export function failure(problem: Problem, ours = true, headerSeconds = 0): Interruption | HeadgateError {
	const error = new HeadgateError(problem);
	const passing = problem.status >= 500 || problem.status === 408 || (problem.status === 429 && !ours);
	if (!passing) return error;
	const seconds = problem.retryAfterSeconds ?? headerSeconds;
	// Retry-After may be a date, which is no number here: it would need a clock that we do not trust.
	return new Interruption("it answered", error, ours ? problem : undefined, seconds > 0 ? seconds * 1_000 : 0);
}

export const silence = (ms: number) => (): Interruption => new Interruption(`silence for ${ms / 1_000} s`);

/** Reads a JSON object. What is none comes from something between us and the service. */
export function parseAnswer(text: string): object {
	let value: unknown;
	try {
		value = JSON.parse(text);
	} catch (error) {
		throw new Interruption(`not an answer of Headgate: ${text.slice(0, 100)}`, error);
	}
	if (typeof value === "object" && value !== null) return value;
	throw new Interruption(`not an answer of Headgate: ${text.slice(0, 100)}`);
}

async function readText(response: Response): Promise<string> {
	try {
		return await response.text();
	} catch (error) {
		throw new Interruption("the connection broke", error);
	}
}

/** The problem in an answer; `ours` is false when something else answered, such as a proxy. */
async function readProblem(response: Response): Promise<{ problem: Problem; ours: boolean }> {
	const text = await readText(response);
	if (response.headers.get("Content-Type")?.includes("json")) {
		const problem = parseAnswer(text) as Partial<Problem>;
		if (problem.code && problem.status) return { problem: problem as Problem, ours: true };
	}
	const { status, statusText } = response;
	const codes: Record<number, Code> = {
		401: "unauthorized",
		403: "forbidden",
		404: "not_found",
		405: "method_not_allowed",
	};
	const code = codes[status] ?? (status < 500 ? "malformed" : "internal");
	const detail = `Not an answer of Headgate (is the url right?): ${text.slice(0, 200)}`;
	return { problem: { type: "about:blank", title: statusText, status, code, detail }, ours: false };
}

function parseUrl(url: string | URL | undefined): string {
	const parsed = URL.canParse(String(url ?? "")) ? new URL(url ?? "") : null;
	if (!parsed || !/^https?:$/.test(parsed.protocol)) {
		throw new TypeError(`Headgate needs a url such as "https://limits.example.workers.dev", and was given "${url}".`);
	}
	if (parsed.username || parsed.password) {
		throw new TypeError("Headgate takes no user or password in its url; pass the token as `token`.");
	}
	let path = parsed.pathname;
	while (path.endsWith("/")) path = path.slice(0, -1);
	return parsed.origin + path;
}
