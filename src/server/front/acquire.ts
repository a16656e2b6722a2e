/** Acquire: one name in one hop, several by the coordinator; answered once, or as a stream of lines. */

import type { Lease, Receipt, StreamEvent } from "../../protocol.ts";
import { BEAT_MS } from "../../rhythms.ts";
import { lease, leaseOf, missingStatus } from "../contract/answers.ts";
import type { Env } from "../contract/env.ts";
import type { LimitRequest, Missing, Outcome } from "../contract/outcomes.ts";
import { probe } from "../contract/probe.ts";
import { failure, outOfReach, unknownLimits, withdrawn } from "../contract/problems.ts";
import type { Caller } from "./caller.ts";
import { Coordinator } from "./coordinator.ts";
import { remembering } from "./denials/remembering.ts";
import { traced } from "./http/trace.ts";
import { release } from "./leases.ts";
import { borrowing, fromAwaited, fromLoan } from "./lending/lending.ts";
import { type AskLimit, limitOf } from "./limit-stub.ts";
import type { Acquire } from "./requests.ts";
import { coreRequest, deniedVerdict, type Verdict } from "./verdict.ts";

/** After one part of a held lease has ended, the others end this much later. */
const RELEASE_GRACE_MS = 250;

/**
 * Asks, waits if it is to, and answers once. What was borrowed is granted, and a denial that stands is given again, without
 * asking.
 */
export function acquire(env: Env, request: Acquire, caller: Caller, askLimit?: AskLimit): Promise<Verdict> {
	const given = fromLoan(env, request);
	if (given) return Promise.resolve(given);
	const asked = () => remembering(env, request, () => ask(env, request, caller, askLimit));
	return fromAwaited(env, request)?.then((lent) => lent ?? asked()) ?? asked();
}

/** The same for a request that has asked, if it is to, by when this returns. */
export function acquireNow(env: Env, request: Acquire, caller: Caller, askLimit: AskLimit): Promise<Verdict> {
	const given = fromLoan(env, request);
	if (given) return Promise.resolve(given);
	return remembering(env, request, () => ask(env, request, caller, askLimit));
}

async function ask(env: Env, request: Acquire, caller: Caller, askLimit?: AskLimit): Promise<Verdict> {
	const [only, ...others] = request.names;
	if (only && others.length === 0) return acquireOne(env, request, only, caller, askLimit);
	const verdict = new Coordinator(env, request, caller.signal()).run();
	// What is taken without a lease is given back by those who took it.
	if (request.waitMs > 0 && request.mode !== "unleased")
		caller.waitUntil(
			verdict.then(
				(given) => undoUnheard(env, given, caller.signal()),
				() => undefined,
			),
		);
	return verdict;
}

/** A lease that was granted to a caller who had gone is given back; a failure has been answered already. */
async function undoUnheard(env: Env, verdict: Verdict, gone: AbortSignal): Promise<void> {
	if (verdict.ok && gone.aborted) await undo(env, verdict);
}

/** The caller went unheard: what the verdict grants is given back, unless another call was told of the same grant. */
export async function undo(env: Env, { lease, shared }: Verdict & { ok: true }): Promise<void> {
	const [name = ""] = Object.keys(lease.names);
	await (shared ? limitOf(env, name).leave(lease.id, shared) : endAll(env, lease, "unheard"));
}

async function acquireOne(
	env: Env,
	request: Acquire,
	[name, slots]: [string, number],
	caller: Caller,
	askLimit?: AskLimit,
): Promise<Verdict> {
	const limit = limitOf(env, name);
	const { createIfMissing, strict } = request;
	const wanted: LimitRequest = { request: coreRequest(request, name, slots), createIfMissing, strict };
	const verdict = (answer: Outcome | Missing): Verdict =>
		"missing" in answer ? missing(request, name) : verdictOf(request.id, slots, answer);
	if (askLimit || request.waitMs === 0) {
		return verdict(await borrowing(limit, env, request, wanted, askLimit ?? ((plain, asked) => plain.acquire(asked))));
	}
	// A signal is dear, and only a caller that waits has the time to go.
	const call = crypto.randomUUID();
	const left = (): void => caller.waitUntil(limit.leave(request.id, call));
	caller.signal().addEventListener("abort", left);
	const answer = await limit.acquire({ ...wanted, call });
	// Whether a caller that has waited is still there is found out as it is answered.
	if ("event" in answer && answer.event.kind === "granted" && answer.event.waitedMs > 0) {
		caller.signal().removeEventListener("abort", left);
	}
	return verdict(answer);
}

function verdictOf(id: string, slots: number, { event, status, shared }: Outcome): Verdict {
	const statuses = [status];
	switch (event.kind) {
		case "granted":
			return { ok: true, lease: leaseOf(event, status), statuses, ...(shared && { shared }) };
		case "denied":
			return deniedVerdict(id, [{ slots, status, denied: event }]);
		case "left":
			return { ok: false, problem: withdrawn(id), statuses };
		default:
			throw new Error(`A limit answered "${event.kind}" to an acquire.`);
	}
}

/** The answer for a single name that does not exist and was not to be created. */
function missing(request: Acquire, name: string): Verdict {
	if (request.strict) return { ok: false, problem: unknownLimits([name]), statuses: [] };
	const endsAt = request.mode === "concurrency" ? Date.now() + request.leaseMs : null;
	return { ok: true, lease: lease(request.id, [], [missingStatus(name)], 0, endsAt), statuses: [] };
}

// ---------------------------------------------------------------------------------------------- streams

/** Asks, and answers with a line for everything that happens. */
export async function acquireStream(env: Env, request: Acquire, caller: Caller): Promise<ReadableStream> {
	const [only, ...others] = request.names;
	if (!only || others.length > 0) return streamOfSeveral(env, request, caller);
	// The object of the only name makes the stream itself, and so notices its end itself.
	const [name, slots] = only;
	const traceId = caller.traceId();
	const opened = await limitOf(env, name).open(
		{
			request: coreRequest(request, name, slots),
			createIfMissing: request.createIfMissing,
			strict: request.strict,
			...(traceId !== undefined && { traceId }),
		},
		"acquire",
		"wire",
	);
	if (!("missing" in opened)) return opened;
	const verdict = missing(request, name);
	return new Blob([text(verdictLine(verdict, traceId))]).stream();
}

/** A stream that the Worker writes, while the coordinator collects the names. */
function streamOfSeveral(env: Env, request: Acquire, caller: Caller): ReadableStream {
	const { readable, writable } = new IdentityTransformStream();
	const out = new LineWriter(writable);
	const beat = setInterval(() => out.beat(), BEAT_MS);
	const work = async (): Promise<void> => {
		try {
			let waited = false;
			const coordinator = new Coordinator(env, request, out.gone, (position, waitingFor) => {
				waited = true;
				void out.write({ event: "queued", position, waitingFor });
			});
			const verdict = await coordinator.run();
			if (verdict.ok && waited && !request.hold) await out.probe();
			await out.write(verdictLine(verdict, caller.traceId()));
			if (!verdict.ok) return;
			if (request.hold) await holdAll(env, verdict.lease, out.gone);
			else if (out.gone.aborted) await endAll(env, verdict.lease, "unheard");
		} catch (error) {
			if (out.gone.aborted) return; // The caller has gone; what was set aside lapses.
			console.error(error);
			const refusal = failure(error as Error) ?? outOfReach();
			await out.write({ event: "denied", problem: traced(refusal, caller.traceId()) });
		} finally {
			clearInterval(beat);
			await out.close();
		}
	};
	caller.waitUntil(work());
	return readable;
}

/**
 * Keeps the parts of a held lease until the caller has gone, or until one of them has ended: then the others end too.
 * Each limit gives its part back when the last stream that held it is gone, for the caller may have come back already.
 */
async function holdAll(env: Env, lease: Lease | Receipt, gone: AbortSignal): Promise<void> {
	const parts = await Promise.all(Object.keys(lease.names).map((name) => limitOf(env, name).hold(lease.id)));
	const readers = parts.flatMap((part) => (part ? [part.getReader()] : []));
	const untilEnd = async (reader: ReadableStreamDefaultReader): Promise<void> => {
		// A part whose object died has ended like any other.
		const broken = (): { done: true } => ({ done: true });
		while (!(await reader.read().catch(broken)).done);
	};
	const left = new Promise<void>((resolve) => {
		gone.addEventListener("abort", () => resolve());
		if (gone.aborted) resolve();
	});
	try {
		if (parts.every((part) => part !== null)) await Promise.race([left, ...readers.map(untilEnd)]);
		// Its caller may be releasing the parts one by one, and is to be told how much it gave back.
		if (!gone.aborted) await scheduler.wait(RELEASE_GRACE_MS);
		if (!gone.aborted) await endAll(env, lease, "caller");
	} finally {
		await Promise.allSettled(readers.map((reader) => reader.cancel()));
	}
}

/** Ends the lease. One that was never heard of is undone as a whole; what was taken by rate is otherwise spent. */
async function endAll(env: Env, lease: Lease | Receipt, by: "caller" | "unheard"): Promise<void> {
	const rated = by === "unheard" && "rate" in lease ? lease.rate : {};
	await release(env, lease.id, Object.keys({ ...lease.names, ...rated }).sort(), by);
}

/** Writes lines until the reader is gone; then `gone` aborts. */
class LineWriter {
	readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
	readonly #gone = new AbortController();
	#pending = 0;

	constructor(writable: WritableStream<Uint8Array>) {
		this.#writer = writable.getWriter();
	}

	get gone(): AbortSignal {
		return this.#gone.signal;
	}

	async write(line: StreamEvent): Promise<void> {
		await this.#send(text(line));
	}

	/** A line that says nothing but that both ends are there; left out while the reader does not read. */
	beat(): void {
		if (this.#pending === 0) void this.write({ event: "heartbeat" });
	}

	/** Aborts `gone` if the caller has gone before it is told of a grant. */
	probe(): Promise<void> {
		return probe(
			() => this.#send("\n"),
			() => !this.gone.aborted,
		);
	}

	async close(): Promise<void> {
		if (!this.gone.aborted) await this.#writer.close().catch((error) => this.#gone.abort(error));
	}

	async #send(line: string): Promise<void> {
		this.#pending += 1;
		try {
			await this.#writer.write(new TextEncoder().encode(line));
		} catch (error) {
			this.#gone.abort(error);
		} finally {
			this.#pending -= 1;
		}
	}
}

const text = (line: StreamEvent): string => `${JSON.stringify(line)}\n`;

const verdictLine = (verdict: Verdict, traceId: string | undefined): StreamEvent =>
	verdict.ok
		? { event: "granted", lease: verdict.lease }
		: { event: "denied", problem: traced(verdict.problem, traceId) };
