/**
 * From the wish for slots to the verdict.
 *
 * A request has one id, made here, from the first ask to the verdict, so that a connection may break at any point: the
 * same id again is the same place in line, or the same lease. Whoever stops waiting withdraws that id.
 */

import type { AcquireRequest, Lease, Mode, Problem, Receipt, Slots, StreamEvent } from "../protocol.ts";
import type { Asking, Binding, Rpc } from "./binding.ts";
import {
	AcquireConcurrencySlotTimeoutError,
	ConcurrencySlotAcquisitionError,
	HeadgateError,
	HeadgateUnreachableError,
} from "./errors.ts";
import { pause, startTimer, within } from "./timers.ts";
import {
	ANSWER_MS,
	ATTEMPTS,
	backoffMs,
	failure,
	Interruption,
	PAUSE_MAX_MS,
	parseAnswer,
	silence,
	type Transport,
} from "./transport.ts";

/** What `concurrency` and `rateLimit` have in common. */
export interface WaitOptions {
	/** Slots to take of each limit, or one number per name (names left out: 1). `names` as an object counts first. Default 1. */
	occupy?: number | Slots | undefined;
	/**
	 * How long to wait for the slots, counted from the call, connecting included; then
	 * `AcquireConcurrencySlotTimeoutError`. 0: asks once, without waiting in line. Default: for ever.
	 */
	timeoutSeconds?: number | undefined;
	/**
	 * How much longer the service may take to say that the time is over, and what stood in the way. It counts from when
	 * it was asked, so without this the caller's own clock ends first.
	 * @internal
	 */
	answerSeconds?: number | undefined;
	/** Create limits that nobody configured, by policy or inactive. False: names that do not exist are skipped. Default true. */
	createIfMissing?: boolean | undefined;
	/**
	 * How often to ask again after a denial. 0: asks once, without waiting. n: up to n times more, each time waiting in
	 * line for as long as the denial announced. Then `ConcurrencySlotAcquisitionError`. Default: waits in line.
	 */
	maxRetries?: number | undefined;
	/** A name that nobody has configured, neither itself nor by a policy, is an error, and nothing is taken. Default false. */
	strict?: boolean | undefined;
	/** Who asks, for the operator's eyes. */
	holder?: string | undefined;
	/** Told the place in line, 1 being next: when the wait begins, and whenever it changes. */
	onQueued?: ((position: number) => void) | undefined;
	/** Ends the waiting: the request is withdrawn and the promise rejects with the signal's reason. */
	signal?: AbortSignal | undefined;
	/**
	 * When the service cannot be reached. `"throw"`: `HeadgateUnreachableError`. `"open"`: goes on without a limit,
	 * with `enforced: false`. Default `"throw"`.
	 */
	onError?: "throw" | "open" | undefined;
}

export interface Wish extends WaitOptions {
	slots: Slots;
	/** Taken in the same request, by rate. */
	rate?: Slots | undefined;
	mode: Mode;
	leaseSeconds?: number | undefined;
}

export interface Grant {
	record: Lease | Receipt;
	/**
	 * Whether the grant stands as it was heard. False when it may be older than it seems, because it answers a second
	 * ask, or undone already, because its connection broke so soon that the service took its caller for gone.
	 */
	sound: Promise<boolean>;
	/** The lease lives as long as this stub; null: until it expires. */
	tether?: Asking | null;
}

type Verdict = Grant | { problem: Problem };

/** Silence that means the connection is dead; far back in line a heartbeat comes every 15 s. */
const SILENCE_MS = 35_000;
/** The first places in line, where a heartbeat comes every second: slots must not be offered to the dead for long. */
const NEAR = 16;
const NEAR_SILENCE_MS = 10_000;
/** How long a request that the service has answered before is taken up again, one failure after the other. */
const RESUME_MS = 30_000;
/** A connection that lasted so long was sound, and its end is no reason to slow down. */
const SOUND_MS = 1_000;
/** How long the end of an answer may take after the verdict. */
const DRAIN_MS = 5_000;
/** The shortest wait in line of a retry. */
const RETRY_MIN_SECONDS = 0.1;
/** Longest line of an answer; a lease of sixteen long names has a tenth of it. */
const LINE_MAX = 262_144;
/** Longest bounded wait the service takes; see `BOUNDS.streamWaitSeconds`. */
const WAIT_MAX_SECONDS = 31_536_000;

/** Gets the slots, or throws why not. Null: the service cannot be reached, and `onError` says to go on. */
export async function obtain(transport: Transport, wish: Wish): Promise<Grant | null> {
	const { slots, signal, maxRetries, timeoutSeconds = Number.POSITIVE_INFINITY, answerSeconds = 0 } = wish;
	if (!(timeoutSeconds >= 0)) throw new RangeError(`timeoutSeconds must be 0 or more, and was ${timeoutSeconds}.`);
	if (maxRetries !== undefined && !(maxRetries >= 0)) {
		throw new RangeError(`maxRetries must be 0 or more, and was ${maxRetries}.`);
	}
	const end = new AbortController();
	const ask = new Ask(transport, wish, end.signal);
	const timedOut = (cause?: Problem): Error =>
		new AcquireConcurrencySlotTimeoutError(slots, timeoutSeconds, ask.position, cause);
	const onAbort = (): void => end.abort(signal?.reason);
	signal?.addEventListener("abort", onAbort);
	const bounded = timeoutSeconds > 0 && timeoutSeconds < Number.POSITIVE_INFINITY;
	const endMs = (timeoutSeconds + answerSeconds) * 1_000;
	const stopTimer = bounded ? startTimer(endMs, () => end.abort(timedOut())) : () => {};
	try {
		let verdict = await ask.verdict(maxRetries === undefined ? timeoutSeconds : 0);
		for (let left = timeoutSeconds > 0 ? (maxRetries ?? 0) : 0; left > 0 && isDenied(verdict); left--) {
			verdict = await ask.verdict(Math.max(RETRY_MIN_SECONDS, verdict.problem.retryAfterSeconds ?? 0));
		}
		if ("record" in verdict) return verdict;
		if (maxRetries === undefined && timeoutSeconds < Number.POSITIVE_INFINITY && isDenied(verdict))
			throw timedOut(verdict.problem);
		throw new ConcurrencySlotAcquisitionError(slots, verdict.problem);
	} catch (error) {
		const unreached = error instanceof HeadgateUnreachableError || (end.signal.aborted && !ask.heard);
		// Sent before anybody learns of the end, so that it is on its way even if the caller goes at once.
		if (end.signal.aborted || unreached) void ask.withdraw();
		if (wish.onError === "open" && unreached && !signal?.aborted) {
			transport.warn(`work goes on without a limit on ${Object.keys(slots).join(", ")}`, error);
			return null;
		}
		throw error;
	} finally {
		stopTimer();
		signal?.removeEventListener("abort", onAbort);
	}
}

const isDenied = (verdict: Verdict): verdict is { problem: Problem } =>
	"problem" in verdict && verdict.problem.code === "denied";

/** One request, asked as often as it takes. */
class Ask {
	/** The service has answered this request. */
	heard = false;
	/** The last known place in line. */
	position: number | null = null;
	readonly #transport: Transport;
	readonly #request: AcquireRequest & { id: string };
	/** The request was sent, so it may have been granted, whether or not an answer came. */
	#sent = false;
	/** Ends it: the caller or the clock has had enough. */
	readonly #signal: AbortSignal;
	readonly #onQueued: ((position: number) => void) | undefined;
	#heardAt = -1;

	constructor(transport: Transport, wish: Wish, signal: AbortSignal) {
		this.#transport = transport;
		this.#signal = signal;
		this.#onQueued = wish.onQueued;
		const { slots, rate, mode, leaseSeconds, createIfMissing, strict, holder } = wish;
		// What is undefined is left out of the JSON.
		const options = { rate, leaseSeconds, createIfMissing, strict, holder } as Partial<AcquireRequest>;
		this.#request = { id: crypto.randomUUID(), names: slots, mode, ...options };
	}

	/** Asks until there is a verdict, resuming after every interruption. 0: without waiting in line. */
	async verdict(waitSeconds: number): Promise<Verdict> {
		const waitUntil = performance.now() + waitSeconds * 1_000;
		let asks = 0;
		let failingSince = 0;
		for (let failures = 0; ; ) {
			const startedAt = performance.now();
			asks++;
			try {
				const verdict = await this.#ask(waitSeconds > 0 ? Math.max(0, waitUntil - startedAt) : null);
				return "record" in verdict && asks > 1 ? { ...verdict, sound: Promise.resolve(false) } : verdict;
			} catch (error) {
				if (this.#signal.aborted) throw this.#signal.reason;
				if (error instanceof HeadgateError) {
					if (error.code !== "id_in_use" || failures === 0) return { problem: error.problem };
					// It was granted while nobody listened, and has ended since: this is a new request.
					this.#request.id = crypto.randomUUID();
					failures = 0;
					continue;
				}
				if (!(error instanceof Interruption)) throw error;
				this.heard ||= error.problem !== undefined;
				if (failures === 0 || this.#heardAt > startedAt) failingSince = performance.now();
				failures = this.#heardAt > startedAt + SOUND_MS ? 1 : failures + 1;
				const pauseMs = backoffMs(failures, error);
				const failingMs = performance.now() + pauseMs - failingSince;
				if (this.heard ? failingMs > RESUME_MS : failures >= ATTEMPTS || pauseMs > PAUSE_MAX_MS) {
					// The limit's own line is full: that is a refusal, not a failure of the service.
					if (error.problem?.code === "queue_full") return { problem: error.problem };
					throw this.#transport.unreachable(asks, error);
				}
				await pause(pauseMs, this.#signal);
			}
		}
	}

	/** Takes the request back: it leaves the line, or gives back what it was granted, whichever is true by then. */
	async withdraw(): Promise<void> {
		const { id, rate } = this.#request;
		// What was taken by rate goes back too: nothing was made of it.
		const names = { ...(this.#request.names as Slots), ...(rate as Slots | undefined) };
		try {
			await this.#transport.call("POST", "/v1/release", { id, names }, { attempts: this.heard ? ATTEMPTS : 1 });
		} catch (error) {
			// That a service never answered is told by another error.
			if (this.heard)
				this.#transport.warn("a request could not be withdrawn, and may hold slots until its lease ends", error);
		}
	}

	/** Asks once, in the way that this transport has. Null: without waiting in line. */
	async #ask(waitMs: number | null): Promise<Verdict> {
		const { binding } = this.#transport;
		const request = waitMs === null ? this.#here() : this.#waiting(waitMs);
		// Places in line are told by a stream alone.
		const byRpc = binding?.rpc && !this.#onQueued ? await this.#askByRpc(binding, binding.rpc, request) : null;
		return byRpc ?? (waitMs === null ? this.#askPlainly(request) : this.#wait(request));
	}

	/** The request for an answer here and now. One that was never sent may be denied without asking the limit. */
	#here(): AcquireRequest {
		const request = { ...this.#request, waitSeconds: 0, ...(!this.#sent && { firstAttempt: true }) };
		this.#sent = true;
		return request;
	}

	#waiting(waitMs: number): AcquireRequest {
		this.#sent = true;
		const waitSeconds = Math.ceil(waitMs) / 1_000;
		return waitSeconds <= WAIT_MAX_SECONDS ? { ...this.#request, waitSeconds } : this.#request;
	}

	/** Asks once by RPC, under a stub whose end takes the request back. Null: the binding has no RPC. */
	async #askByRpc(binding: Binding, rpc: Rpc, request: AcquireRequest): Promise<Verdict | null> {
		const opening = rpc.ask(request);
		const over = (): void => opening[Symbol.dispose]?.();
		const answerMs = (request.waitSeconds ?? Number.POSITIVE_INFINITY) * 1_000 + ANSWER_MS;
		try {
			const both = Promise.all([opening, opening.verdict()]);
			const [tether, { lease, problem }] = await within(both, answerMs, this.#signal, silence(answerMs));
			this.heard = true;
			this.#heardAt = performance.now();
			if (problem) throw failure(problem);
			const record = lease as Lease | Receipt;
			if (this.#request.mode === "concurrency") return { record, sound: Promise.resolve(true), tether };
			over();
			return { record, sound: Promise.resolve(true) };
		} catch (error) {
			over();
			if (this.#signal.aborted || error instanceof HeadgateError || error instanceof Interruption) throw error;
			return binding.withoutRpc(error);
		}
	}

	/** Asks once for an answer here and now. */
	async #askPlainly(request: AcquireRequest): Promise<Verdict> {
		const options = { signal: this.#signal };
		const record = await this.#transport.once<Lease | Receipt>("POST", "/v1/acquire", request, options);
		this.heard = true;
		return { record, sound: Promise.resolve(true) };
	}

	/** Asks once for a stream, and follows it to the verdict. */
	async #wait(request: AcquireRequest): Promise<Verdict> {
		const attempt = new AbortController();
		try {
			const opening = this.#transport.open("POST", "/v1/acquire", request, "application/x-ndjson", attempt.signal);
			const response = await within(opening, ANSWER_MS, this.#signal, silence(ANSWER_MS));
			const lines = new Lines(response);
			for (let patienceMs = ANSWER_MS; ; ) {
				const line = await within(lines.next(), patienceMs, this.#signal, silence(patienceMs));
				if (line.trim() === "") continue;
				const event = parseAnswer(line) as StreamEvent;
				this.heard = true;
				this.#heardAt = performance.now();
				if (event.event === "queued") {
					this.position = event.position;
					this.#onQueued?.(event.position);
				}
				patienceMs = this.position !== null && this.position <= NEAR ? NEAR_SILENCE_MS : SILENCE_MS;
				if (event.event !== "granted" && event.event !== "denied") continue;
				const sound = lines.drain(attempt);
				if (event.event === "granted") return { record: event.lease, sound };
				throw failure(event.problem);
			}
		} catch (error) {
			if (!(error instanceof HeadgateError)) attempt.abort();
			throw error;
		}
	}
}

/** The lines of an answer as they come. */
class Lines {
	readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
	readonly #decoder = new TextDecoder();
	#rest = "";

	constructor(response: Response) {
		if (!response.body) throw new Interruption("an answer without a body");
		this.#reader = response.body.getReader();
	}

	async next(): Promise<string> {
		for (;;) {
			const end = this.#rest.indexOf("\n");
			if (end >= 0) {
				const line = this.#rest.slice(0, end);
				this.#rest = this.#rest.slice(end + 1);
				return line;
			}
			if (this.#rest.length > LINE_MAX) throw new Interruption(`a line of more than ${LINE_MAX} characters`);
			const chunk = await this.#read();
			if (!chunk) throw new Interruption("the answer ended without a verdict");
			this.#rest += this.#decoder.decode(chunk, { stream: true });
		}
	}

	/**
	 * Reads to the end, and answers whether it came as it should. To cancel instead would tell the service that its
	 * caller has gone, at the very moment when it has granted the slots.
	 */
	async drain(attempt: AbortController): Promise<boolean> {
		const stop = startTimer(DRAIN_MS, () => attempt.abort(), true);
		try {
			while (await this.#read());
			return true;
		} catch {
			return false;
		} finally {
			stop();
		}
	}

	async #read(): Promise<Uint8Array | undefined> {
		try {
			return (await this.#reader.read()).value;
		} catch (error) {
			throw new Interruption("the connection broke", error);
		}
	}
}
