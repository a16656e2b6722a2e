/**
 * From the wish for slots to the verdict.
 *
 * A request has one id, made here, from the first ask to the verdict, so that a connection may break at any point: the
 * same id again is the same place in line, or the same lease. A caller that stops waiting withdraws that id.
 */

import type { AcquireRequest, Lease, Mode, Problem, Receipt, Slots, StreamEvent, WaitingFor } from "../protocol.ts";
import { BEAT_MS, FAR_BEAT_MS, NEAR_PLACES } from "../rhythms.ts";
import type { Binding, BindingRequest, Rpc } from "./binding.ts";
import {
	AcquireConcurrencySlotTimeoutError,
	ConcurrencySlotAcquisitionError,
	HeadgateError,
	HeadgateUnreachableError,
} from "./errors.ts";
import { giveBack } from "./giveback.ts";
import { Lines } from "./lines.ts";
import { now, pause, startTimer, upTo, within } from "./timers.ts";
import {
	ANSWER_MS,
	backoffMs,
	failure,
	Interruption,
	parseAnswer,
	REACH_MS,
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
	/** Create limits that were not configured, by policy or inactive. False: names that do not exist are skipped. Default true. */
	createIfMissing?: boolean | undefined;
	/**
	 * What is taken by rate is an estimate, which `settle` of the receipt, or of the lease, corrects within so long: 1 to 3,600. Left out:
	 * it is what it is.
	 */
	settleSeconds?: number | undefined;
	/** Take fewer slots where a limit could never grant so many; the answer says how many. Default false. */
	atMost?: boolean | undefined;
	/**
	 * How often to ask again after a denial. 0: asks once, without waiting. n: up to n times more, each time waiting in
	 * line for as long as the denial announced. Then `ConcurrencySlotAcquisitionError`. Default: waits in line.
	 */
	maxRetries?: number | undefined;
	/** A name that was not configured, neither itself nor by a policy, is an error, and nothing is taken. Default false. */
	strict?: boolean | undefined;
	/** Who asks, for the operator's eyes. */
	holder?: string | undefined;
	/** Of those that wait for slots the higher are served first: 0 to 9. Default 0. */
	priority?: number | undefined;
	/**
	 * Whose turn it takes in the line, up to 128 characters: keys that wait take turns, so that one tenant's thousand requests delay
	 * none of another. Default: one key for all that have none.
	 */
	key?: string | undefined;
	/** Told the place in line, 1 being next, and what is waited for: when the wait begins, and whenever either changes. */
	onQueued?: ((position: number, waitingFor: WaitingFor) => void) | undefined;
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
	tether?: BindingRequest | null;
}

type Verdict = Grant | { problem: Problem };

/** Silence that means the connection is dead: two beats that are missing, and a slow network. */
const SILENCE_MS = 2 * FAR_BEAT_MS + 5_000;
/** The same at the first places in line. */
const NEAR_SILENCE_MS = 20 * BEAT_MS;
/** How long a request that the service has answered before is taken up again, one failure after the other. */
const RESUME_MS = 30_000;
/** How long one that does not wait for slots tries to reach a service that it has not heard of. */
const REACH_AT_ONCE_MS = 1_000;
/** A connection that lasted so long was sound, and its end is no reason to slow down. */
const SOUND_MS = 1_000;
/** Waiting in one plain answer: proxies that cut what is quiet do so after 30 s or more. */
const PLAIN_WAIT_MS = 25_000;
/** After so long the next one is asked for, under the same id, so that the place in line is never given up. */
const PLAIN_STEP_MS = 20_000;
/** How long the one before is kept beside the next, which stands in its place by then. */
const HANDOVER_MS = 2_000;
/** The length of a lease unless it is said: so long a request that was never answered may have been granted unheard. */
export const LEASE_SECONDS = 60;
/** The shortest wait in line of a retry. */
const RETRY_MIN_SECONDS = 0.1;
/** Longest bounded wait the service takes; see `BOUNDS.streamWaitSeconds`. */
export const WAIT_MAX_SECONDS = 31_536_000;

/** Gets the slots, or throws why not. Null: the service cannot be reached, and `onError` says to go on. */
export async function obtain(transport: Transport, wish: Wish): Promise<Grant | null> {
	const { slots, signal, maxRetries, timeoutSeconds = Number.POSITIVE_INFINITY, answerSeconds = 0 } = wish;
	for (const [option, value] of Object.entries({ timeoutSeconds, maxRetries: maxRetries ?? 0 })) {
		if (typeof value !== "number") throw new TypeError(`${option} must be a number, and was of type ${typeof value}.`);
		if (!(value >= 0)) throw new RangeError(`${option} must be 0 or more, and was ${value}.`);
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
		if ("record" in verdict) {
			transport.noteUnconfigured(verdict.record.limits ?? []);
			return verdict;
		}
		if (maxRetries === undefined && timeoutSeconds < Number.POSITIVE_INFINITY && isDenied(verdict))
			throw timedOut(verdict.problem);
		throw new ConcurrencySlotAcquisitionError(slots, verdict.problem);
	} catch (error) {
		const unreached = error instanceof HeadgateUnreachableError || (end.signal.aborted && !ask.heard);
		// Sent before the caller learns of the end, so that it is on its way even if the caller goes at once.
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
	readonly #onQueued: Wish["onQueued"];
	#heardAt = -1;

	constructor(transport: Transport, wish: Wish, signal: AbortSignal) {
		this.#transport = transport;
		this.#signal = signal;
		this.#onQueued = wish.onQueued;
		const { slots, rate, mode, leaseSeconds, createIfMissing, strict, holder, settleSeconds, atMost, priority, key } =
			wish;
		// What is undefined is left out of the JSON.
		const options = {
			rate,
			leaseSeconds,
			createIfMissing,
			strict,
			holder,
			settleSeconds,
			atMost,
			priority,
			key,
		} as Partial<AcquireRequest>;
		this.#request = { id: crypto.randomUUID(), names: slots, mode, ...options };
	}

	/** Asks until there is a verdict, resuming after every interruption. 0: without waiting in line. */
	async verdict(waitSeconds: number): Promise<Verdict> {
		const waitUntil = now() + waitSeconds * 1_000;
		let asks = 0;
		let failingSince = 0;
		for (let failures = 0; ; ) {
			const startedAt = now();
			asks++;
			try {
				const verdict = await this.#ask(waitSeconds > 0 ? Math.max(0, waitUntil - startedAt) : null);
				return "record" in verdict && asks > 1 ? { ...verdict, sound: Promise.resolve(false) } : verdict;
			} catch (error) {
				if (this.#signal.aborted) throw this.#signal.reason;
				if (error instanceof HeadgateError) {
					if (error.code !== "id_in_use" || failures === 0) return { problem: error.problem };
					// It was granted while no connection listened, and has ended since: this is a new request.
					this.#request.id = crypto.randomUUID();
					failures = 0;
					continue;
				}
				if (!(error instanceof Interruption)) throw error;
				this.heard ||= error.problem !== undefined;
				// A service that knows us was there until now; of another even the first silence counts.
				if (failures === 0 || this.#heardAt > startedAt) failingSince = this.heard ? now() : startedAt;
				failures = this.#heardAt > startedAt + SOUND_MS ? 1 : failures + 1;
				const pauseMs = backoffMs(failures, error);
				const failingMs = now() + pauseMs - failingSince;
				const reachMs = waitSeconds > 0 ? REACH_MS : REACH_AT_ONCE_MS;
				if (failingMs > (this.heard ? RESUME_MS : reachMs)) {
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
		const { id, rate, leaseSeconds = LEASE_SECONDS } = this.#request;
		// What was taken by rate goes back too: nothing was made of it.
		const names = { ...(this.#request.names as Slots), ...(rate as Slots | undefined) };
		// A service that never answered most likely never heard of it.
		const forMs = this.heard ? leaseSeconds * 1_000 : REACH_MS;
		const failed = await giveBack(this.#transport, { id, names }, now() + forMs);
		// That a service never answered is told by another error.
		if (failed && this.heard)
			this.#transport.warn("a request could not be withdrawn, and may hold slots until its lease ends", failed);
	}

	/** Asks once, in the way that this transport has. Null: without waiting in line. */
	async #ask(waitMs: number | null): Promise<Verdict> {
		const { binding } = this.#transport;
		const request = waitMs === null ? this.#here() : this.#waiting(waitMs);
		// Places in line are told by a stream alone.
		const byRpc = binding?.rpc && !this.#onQueued ? await this.#askByRpc(binding, binding.rpc, request) : null;
		if (byRpc) return byRpc;
		if (waitMs === null) return this.#askPlainly(request);
		const waitUntil = now() + waitMs;
		return this.#transport.holdsBack ? this.#waitPlainly(waitUntil, null) : this.#wait(request, waitUntil);
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
			this.#heardAt = now();
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
	async #askPlainly(request: AcquireRequest, signal = this.#signal, answerMs = ANSWER_MS): Promise<Grant> {
		const options = { signal, answerMs };
		const record = await this.#transport.once<Lease | Receipt>("POST", "/v1/acquire", request, options);
		this.heard = true;
		return { record, sound: Promise.resolve(true) };
	}

	/** Asks once for a stream, and follows it to the verdict. One that says nothing at all may be held back on its way. */
	async #wait(request: AcquireRequest, waitUntil: number): Promise<Verdict> {
		const attempt = new AbortController();
		const askedAt = now();
		const mute = silence(ANSWER_MS)();
		try {
			const opening = this.#transport.open("POST", "/v1/acquire", request, "application/x-ndjson", attempt.signal);
			const response = await within(opening, ANSWER_MS, this.#signal, () => mute);
			const lines = new Lines(response);
			for (let late = () => mute, patienceMs = ANSWER_MS; ; late = silence(patienceMs)) {
				const line = await within(lines.next(), patienceMs, this.#signal, late);
				if (line.trim() === "") continue;
				const event = parseAnswer(line) as StreamEvent;
				this.heard = true;
				this.#heardAt = now();
				if (event.event === "queued") {
					this.position = event.position;
					this.#onQueued?.(event.position, event.waitingFor);
				}
				patienceMs = this.position !== null && this.position <= NEAR_PLACES ? NEAR_SILENCE_MS : SILENCE_MS;
				if (event.event !== "granted" && event.event !== "denied") continue;
				const sound = lines.drain(attempt);
				if (event.event === "granted") return { record: event.lease, sound };
				throw failure(event.problem);
			}
		} catch (error) {
			if (error === mute && this.#heardAt < askedAt && (await this.#isThere())) {
				this.#transport.noteHoldingBack();
				return this.#waitPlainly(waitUntil, attempt);
			}
			if (!(error instanceof HeadgateError)) attempt.abort();
			throw error;
		}
	}

	/** Whether the first of the limits answers a plain question, whatever it says. */
	async #isThere(): Promise<boolean> {
		const [name = ""] = Object.keys(this.#request.names);
		const path = `/v1/limits/${encodeURIComponent(name)}/leases?count=1`;
		try {
			await this.#transport.once("GET", path, undefined, { signal: this.#signal });
		} catch (error) {
			if (!(error instanceof HeadgateError)) return false;
		}
		this.heard = true;
		this.#heardAt = now();
		return true;
	}

	/**
	 * Waits by plain answers, each asked for before the one before ends, under one id. `stream` is what stands in line
	 * already.
	 */
	async #waitPlainly(waitUntil: number, stream: AbortController | null): Promise<Verdict> {
		const nothing = new Promise<Verdict>(() => {});
		for (let before: Call = { end: stream, verdict: nothing }; ; ) {
			const leftMs = Math.max(0, waitUntil - now());
			const next = this.#standInLine(Math.min(leftMs, PLAIN_WAIT_MS));
			try {
				// A denial of the one before is none: the next stands on in its place.
				const either = Promise.race([next.verdict, before.verdict.catch(() => nothing)]);
				const early = await upTo(either, HANDOVER_MS, this.#signal);
				if (early) return early;
				before.end?.abort();
				const stepMs = leftMs <= PLAIN_WAIT_MS ? Number.POSITIVE_INFINITY : PLAIN_STEP_MS - HANDOVER_MS;
				const verdict = await upTo(next.verdict, stepMs, this.#signal);
				if (verdict) return verdict;
				if (!(await this.#isThere())) throw silence(PLAIN_STEP_MS)();
				before = next;
			} catch (error) {
				before.end?.abort();
				next.end?.abort();
				const denied = error instanceof HeadgateError && error.code === "denied";
				if (!denied || now() >= waitUntil) throw error;
				// This program slept for longer than it said that it would wait: it stands in line anew.
				before = { end: null, verdict: nothing };
			}
		}
	}

	#standInLine(waitMs: number): Call {
		const end = new AbortController();
		const answered = this.#askPlainly(this.#waiting(waitMs), end.signal, waitMs + ANSWER_MS);
		// More than one call may hear of the grant.
		const verdict = answered.then((grant) => ({ ...grant, sound: Promise.resolve(false) }));
		verdict.catch(() => undefined);
		return { end, verdict };
	}
}

/** A request that stands in line, and what ends it; null: nothing does. */
interface Call {
	end: AbortController | null;
	verdict: Promise<Verdict>;
}
