/**
 * A hearer that is a stream: what a waiter, or the holder of a held lease, is told. It tells its caller that the server
 * lives, and tells the server, by breaking, that its caller has gone.
 */

import type { Event } from "../../core/commands.ts";
import type { Entry, Request } from "../../core/limit.ts";
import type { Problem, StreamEvent, WaitingFor } from "../../protocol.ts";
import { BEAT_MS, RENEW_AT } from "../../rhythms.ts";
import { denial, leaseOf, waitingFor } from "../contract/answers.ts";
import type { StreamFor } from "../contract/limit-calls.ts";
import type { LimitRequest, Status } from "../contract/outcomes.ts";
import { probe } from "../contract/probe.ts";
import { withdrawn } from "../contract/problems.ts";
import type { Hearer, Hearers, Shared } from "./hearers.ts";

/** A reader that takes nothing more is told its grant after this, whether or not it is found out that it is there. */
const UNREAD_MS = 100;
/** Unread writes after which a stream gets no more heartbeats. */
const BACKLOG = 128;
const encoder = new TextEncoder();
const NOTHING = encoder.encode("\n");

/** What a stream must know of its request. */
type Heard = Pick<Request, "id" | "slots" | "held" | "leaseMs">;

export class HearerStream implements Hearer {
	readonly ungated = true;
	answered = false;
	shared?: Shared;
	readonly id: string;
	readonly call: string | undefined;
	/** Done when its caller is told how its request ended, or has gone. */
	readonly told: Promise<void>;
	readonly readable: ReadableStream;
	readonly #hearers: Hearers;
	readonly #as: StreamFor;
	readonly #slots: number;
	readonly #held: boolean;
	readonly #renewBeats: number;
	readonly #traceId: string | undefined;
	#controller!: ReadableStreamDefaultController<Uint8Array>;
	/** `probing`: there is a grant, and it is found out whether its caller is there to be told. */
	#state: "waiting" | "holding" | "probing" | "ended" = "waiting";
	#position: number | null = null;
	#reason: WaitingFor["reason"] | null = null;
	#beats = 0;
	#elsewhere: ReadableStreamDefaultReader<Uint8Array> | null = null;
	/** The reader asks for more, so what it was given before has been written to the connection. */
	#taken: () => void = () => undefined;
	readonly #over: () => void;

	constructor(
		hearers: Hearers,
		request: Heard,
		as: StreamFor,
		{ call, traceId }: Pick<LimitRequest, "call" | "traceId"> = {},
	) {
		const { promise, resolve } = Promise.withResolvers<void>();
		this.told = promise;
		this.#over = resolve;
		this.id = request.id;
		this.call = call;
		this.#traceId = traceId;
		this.#hearers = hearers;
		this.#as = as;
		this.#slots = request.slots;
		this.#held = request.held;
		this.#renewBeats = Math.max(1, Math.floor((request.leaseMs * RENEW_AT) / BEAT_MS));
		// A byte stream would cost a waiter 23 kB more, and its chunks are bytes as it is.
		this.readable = new ReadableStream<Uint8Array>(
			{
				start: (controller) => {
					this.#controller = controller;
				},
				pull: () => this.#taken(),
				cancel: () => this.#broken(),
			},
			{ highWaterMark: 0 },
		);
		hearers.add(this);
	}

	/** A stream that only keeps a held lease alive, for a coordinator that was granted it. */
	static holding(hearers: Hearers, entry: Entry): HearerStream {
		const stream = new HearerStream(hearers, entry, "outcomes");
		stream.answered = true;
		stream.#hold(null);
		return stream;
	}

	hear(event: Event, status: Status): void {
		if (this.#state === "holding") {
			if (event.kind === "released") this.#end();
			return;
		}
		if (this.#state !== "waiting") return;
		if (event.kind === "queued") {
			this.#position = event.position;
			const reason = waitingFor(status);
			this.#reason = reason.reason;
			const { position } = event;
			this.#write(this.#as === "wire" ? { event: "queued", position, waitingFor: reason } : { event, status });
		} else if (this.#as === "outcomes") {
			this.#write({ event, status });
			this.#end();
		} else if (event.kind === "granted") {
			const said: StreamEvent = { event: "granted", lease: leaseOf(event, status) };
			if (this.#held) this.#hold(said);
			else void this.#tell(said);
		} else if (event.kind === "denied") {
			this.#refuse(denial(this.id, [{ slots: this.#slots, status, denied: event }]));
		} else if (event.kind === "left") {
			this.#refuse(withdrawn(this.id));
		}
	}

	/** Tells a changed place, or that something else is waited for, at once. */
	place(position: number, waitingFor: WaitingFor): void {
		if (this.#state !== "waiting" || this.#position === null) return;
		if (position === this.#position && waitingFor.reason === this.#reason) return;
		this.#position = position;
		this.#reason = waitingFor.reason;
		const said: StreamEvent = { event: "queued", position, waitingFor };
		this.#write(this.#as === "wire" ? said : { place: position, waitingFor });
	}

	beat(position: number | null, waitingFor: WaitingFor | null): void {
		this.#beats += 1;
		if (position !== null && waitingFor) this.place(position, waitingFor);
		// What a reader does not read is kept in memory.
		if ((this.#controller.desiredSize ?? 0) > -BACKLOG) this.#write({ event: "heartbeat" });
		if (this.#state === "holding" && this.#beats % this.#renewBeats === 0) this.#hearers.deps.renew(this.id);
	}

	/** Its request goes on elsewhere, and what it is told comes from there. */
	async follow(open: (as: StreamFor) => Promise<ReadableStream | null>): Promise<void> {
		if (this.#state === "probing" || this.#state === "ended") return;
		try {
			const reader = ((await open(this.#as)) as ReadableStream<Uint8Array> | null)?.getReader();
			this.#elsewhere = reader ?? null;
			for (let read = await reader?.read(); read && !read.done; read = await reader?.read()) {
				this.#controller.enqueue(read.value);
			}
			this.#end();
		} catch (error) {
			this.fail(error);
		}
	}

	/** The object could not answer. */
	fail(error: unknown): void {
		if (this.#state === "ended") return;
		this.#hearers.remove(this);
		this.#state = "ended";
		this.#over();
		this.#controller.error(error);
	}

	#refuse(refusal: Problem): void {
		const traceId = this.#traceId;
		this.#write({ event: "denied", problem: traceId === undefined ? refusal : { ...refusal, traceId } });
		this.#end();
	}

	#hold(said: StreamEvent | null): void {
		if (said) this.#write(said);
		this.#state = "holding";
		this.#over();
		this.#hearers.keep(this);
	}

	/**
	 * Tells a caller of its grant, and ends. One that has waited may have gone, which is told only to those who write:
	 * so what says nothing is written first. Where that fails the grant is taken back; a caller that read of it holds the lease.
	 */
	async #tell(said: StreamEvent): Promise<void> {
		this.#hearers.remove(this);
		this.#state = "probing";
		// A caller that did not wait was here a moment ago.
		if (this.#position !== null)
			await probe(
				() => this.#probe(),
				() => this.#state === "probing",
			);
		if (this.#state !== "probing") return;
		this.#write(said);
		this.#end();
	}

	/** Writes what says nothing; done when it was taken. */
	#probe(): Promise<void> {
		return new Promise((resolve) => {
			const unread = setTimeout(resolve, UNREAD_MS);
			this.#taken = () => {
				clearTimeout(unread);
				resolve();
			};
			this.#controller.enqueue(NOTHING);
		});
	}

	#end(): void {
		if (this.#state === "ended") return;
		this.#state = "ended";
		this.#hearers.remove(this);
		this.#over();
		this.#controller.close();
	}

	/** The caller has gone, before all that it was told was taken. */
	#broken(): void {
		const state = this.#state;
		this.#state = "ended";
		this.#over();
		this.#taken();
		if (this.#elsewhere) return void this.#elsewhere.cancel();
		const last = state === "probing" || state === "ended" ? this.#hearers.part(this) : this.#hearers.remove(this);
		if (!last) return;
		if (state === "holding") this.#hearers.deps.detach(this.id);
		else if (this.#hearers.speaks(this.id, this.call)) this.#hearers.deps.unheard(this.id);
	}

	#write(said: object): void {
		this.#controller.enqueue(encoder.encode(`${JSON.stringify(said)}\n`));
	}
}
