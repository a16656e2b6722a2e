/** Acquire: one name in one hop, several by the coordinator; answered once, or as a stream of lines. */

import type { Lease, Receipt, StreamEvent } from "../protocol.ts";
import { type Asked, denial, lease, leaseOf, type Outcome, problem } from "./answers.ts";
import { Coordinator, coreRequest, missingStatus, unknownLimits, type Verdict } from "./coordinator.ts";
import type { Env } from "./env.ts";
import { BEAT_MS, withdrawn } from "./line.ts";
import type { Acquire } from "./requests.ts";

/** After a grant a stream ends this much later; if it breaks before, the grant is undone. */
const PROBE_MS = 50;

/** Asks, waits if it is to, and answers once. `signal` says that the caller has gone. */
export async function acquire(env: Env, request: Acquire, signal: AbortSignal): Promise<Verdict> {
	const [only, ...others] = request.names;
	if (only && others.length === 0) return acquireOne(env, request, only, signal);
	return new Coordinator(env, request, signal).run();
}

async function acquireOne(
	env: Env,
	request: Acquire,
	[name, slots]: [string, number],
	signal: AbortSignal,
): Promise<Verdict> {
	const limit = env.LIMITS.getByName(name);
	const leave = (): void => void limit.release(request.id, "unheard");
	if (request.waitMs > 0) signal.addEventListener("abort", leave);
	try {
		const answer = await limit.acquire({ request: coreRequest(request, slots), createIfMissing: creates(request) });
		return "missing" in answer ? missing(request, name) : verdictOf(request.id, slots, answer);
	} finally {
		signal.removeEventListener("abort", leave);
	}
}

const creates = ({ createIfMissing, strict }: Acquire): boolean => createIfMissing && !strict;

function verdictOf(id: string, slots: number, { event, status }: Outcome): Verdict {
	const statuses = [status];
	switch (event.kind) {
		case "granted":
			return { ok: true, lease: leaseOf(event, status), statuses };
		case "denied": {
			const asked: Asked[] = [{ slots, status, denied: event }];
			return { ok: false, problem: denial(id, asked), statuses };
		}
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
export async function acquireStream(env: Env, request: Acquire, waitUntil: (work: Promise<unknown>) => void): Promise<ReadableStream> {
	const [only, ...others] = request.names;
	if (!only || others.length > 0) return streamOfSeveral(env, request, waitUntil);
	// The object of the only name makes the stream itself, and so notices its end itself.
	const [name, slots] = only;
	const opened = await env.LIMITS.getByName(name).open(
		{ request: coreRequest(request, slots), createIfMissing: creates(request) },
		"acquire",
		"wire",
	);
	if (!("missing" in opened)) return opened;
	const verdict = missing(request, name);
	return new Blob([text(verdictLine(verdict))]).stream();
}

/** A stream that the Worker writes, while the coordinator collects the names. */
function streamOfSeveral(env: Env, request: Acquire, waitUntil: (work: Promise<unknown>) => void): ReadableStream {
	const { readable, writable } = new IdentityTransformStream();
	const out = new LineWriter(writable);
	const beat = setInterval(() => out.beat(), BEAT_MS);
	const work = async (): Promise<void> => {
		try {
			const coordinator = new Coordinator(env, request, out.gone, (position) => out.write({ event: "queued", position }));
			const verdict = await coordinator.run();
			await out.write(verdictLine(verdict));
			if (!verdict.ok) return;
			if (request.hold) await holdAll(env, verdict.lease, out.gone);
			else if (await out.isHeard()) return;
			await releaseAll(env, verdict.lease, request.hold ? "caller" : "unheard");
		} catch (error) {
			if (out.gone.aborted) return; // Nobody is there to be told; what was set aside lapses.
			console.error(error);
			await out.write({ event: "denied", problem: outOfReach() });
		} finally {
			clearInterval(beat);
			await out.close();
		}
	};
	waitUntil(work());
	return readable;
}

/** Resolves when the caller has gone, or when one of the limits no longer holds its part of the lease. */
async function holdAll(env: Env, { id, names }: Lease | Receipt, gone: AbortSignal): Promise<void> {
	const parts = await Promise.all(Object.keys(names).map((name) => env.LIMITS.getByName(name).hold(id)));
	const readers = parts.flatMap((part) => (part ? [part.getReader()] : []));
	const untilEnd = async (reader: ReadableStreamDefaultReader): Promise<void> => {
		while (!(await reader.read()).done) continue;
	};
	const left = new Promise<void>((resolve) => {
		gone.addEventListener("abort", () => resolve());
		if (gone.aborted) resolve();
	});
	try {
		if (parts.every((part) => part !== null)) await Promise.race([left, ...readers.map(untilEnd)]);
	} finally {
		await Promise.allSettled(readers.map((reader) => reader.cancel()));
	}
}

async function releaseAll(env: Env, { id, names }: Lease | Receipt, by: "caller" | "unheard"): Promise<void> {
	await Promise.all(Object.keys(names).map((name) => env.LIMITS.getByName(name).release(id, by)));
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

	/** Whether the connection outlived the last line for a moment. */
	async isHeard(): Promise<boolean> {
		for (let probe = 0; probe < 2; probe += 1) {
			await scheduler.wait(PROBE_MS);
			await this.#send("\n");
		}
		return !this.gone.aborted;
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

const verdictLine = (verdict: Verdict): StreamEvent =>
	verdict.ok ? { event: "granted", lease: verdict.lease } : { event: "denied", problem: verdict.problem };

/** A part of the service failed in the middle. What was set aside lapses; ask again. */
export const outOfReach = () =>
	problem("overloaded", "A limit did not answer. Nothing was taken; try again in a second.", { retryAfterSeconds: 1 });

