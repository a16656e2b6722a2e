/**
 * A stream of lines: what a waiter or the holder of a held lease is told. It tells its caller that the server lives, and
 * tells the server, by breaking, that its caller has gone.
 */

import type { Event } from "../../core/commands.ts";
import type { Entry, Request } from "../../core/limit.ts";
import type { StreamEvent } from "../../protocol.ts";
import { denial, leaseOf, problem, type Status } from "../contract/answers.ts";
import { probe } from "../contract/probe.ts";
import { BEAT_MS, type Hearer, type Shared, type Waiters } from "./hearers.ts";

/** A reader that takes no more lines is told its grant after this, whether or not it is found out that it is there. */
const UNREAD_MS = 100;
const encoder = new TextEncoder();
const NOTHING = encoder.encode("\n");

/** What a line must know of its request. */
type Held = Pick<Request, "id" | "slots" | "held" | "leaseMs">;

export class Line implements Hearer {
	readonly ungated = true;
	shared?: Shared;
	readonly id: string;
	readonly call: string | undefined;
	readonly readable: ReadableStream;
	readonly #waiters: Waiters;
	readonly #as: "wire" | "outcomes";
	readonly #slots: number;
	readonly #held: boolean;
	readonly #renewBeats: number;
	#controller!: ReadableStreamDefaultController<Uint8Array>;
	/** `probing`: there is a grant, and it is found out whether anybody is there to be told. */
	#state: "waiting" | "holding" | "probing" | "ended" = "waiting";
	#position: number | null = null;
	#beats = 0;
	#elsewhere: ReadableStreamDefaultReader<Uint8Array> | null = null;
	/** The reader asks for more, so what it was given before has been written to the connection. */
	#taken: () => void = () => undefined;

	constructor(waiters: Waiters, request: Held, as: "wire" | "outcomes", call?: string) {
		this.id = request.id;
		this.call = call;
		this.#waiters = waiters;
		this.#as = as;
		this.#slots = request.slots;
		this.#held = request.held;
		this.#renewBeats = Math.max(1, Math.floor(request.leaseMs / 3 / BEAT_MS));
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
		waiters.add(this);
	}

	/** A line that only keeps a held lease alive, for a coordinator that was granted it. */
	static holding(waiters: Waiters, entry: Entry): Line {
		const line = new Line(waiters, entry, "outcomes");
		line.#hold(null);
		return line;
	}

	hear(event: Event, status: Status): void {
		if (this.#state === "holding") {
			if (event.kind === "released") this.#end();
			return;
		}
		if (this.#state !== "waiting") return;
		if (event.kind === "queued") {
			this.#position = event.position;
			this.#write(this.#as === "wire" ? { event: "queued", position: event.position } : { event, status });
		} else if (this.#as === "outcomes") {
			this.#write({ event, status });
			this.#end();
		} else if (event.kind === "granted") {
			const line: StreamEvent = { event: "granted", lease: leaseOf(event, status) };
			if (this.#held) this.#hold(line);
			else void this.#tell(line);
		} else if (event.kind === "denied") {
			this.#write({ event: "denied", problem: denial(this.id, [{ slots: this.#slots, status, denied: event }]) });
			this.#end();
		} else if (event.kind === "left") {
			this.#write({ event: "denied", problem: withdrawn(this.id) });
			this.#end();
		}
	}

	/** Tells a changed place at once. */
	place(position: number): void {
		if (this.#state !== "waiting" || this.#position === null || position === this.#position) return;
		this.#position = position;
		const line: StreamEvent = { event: "queued", position };
		this.#write(this.#as === "wire" ? line : { place: position });
	}

	beat(position: number | null): void {
		this.#beats += 1;
		if (position !== null) this.place(position);
		// A reader that does not read gets no more lines to keep in memory.
		if ((this.#controller.desiredSize ?? 0) > -BACKLOG_LINES) this.#write({ event: "heartbeat" });
		if (this.#state === "holding" && this.#beats % this.#renewBeats === 0) this.#waiters.deps.renew(this.id);
	}

	/** Its request goes on elsewhere, and so do its lines. */
	async follow(open: (as: "wire" | "outcomes") => Promise<ReadableStream | null>): Promise<void> {
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
		this.#waiters.remove(this);
		this.#state = "ended";
		this.#controller.error(error);
	}

	#hold(line: StreamEvent | null): void {
		if (line) this.#write(line);
		this.#state = "holding";
		this.#waiters.keep(this);
	}

	/**
	 * Tells a caller of its grant, and ends. One that has waited may have gone, which is told only to those who write:
	 * so empty lines are written first. Where that fails the grant is taken back; whoever read of it holds the lease.
	 */
	async #tell(line: StreamEvent): Promise<void> {
		this.#waiters.remove(this);
		this.#state = "probing";
		// Whoever did not wait was here a moment ago.
		if (this.#position !== null)
			await probe(
				() => this.#probe(),
				() => this.#state === "probing",
			);
		if (this.#state !== "probing") return;
		this.#write(line);
		this.#end();
	}

	/** Writes an empty line; done when it was taken. */
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
		this.#waiters.remove(this);
		this.#controller.close();
	}

	/** The caller has gone, before all that it was told was taken. */
	#broken(): void {
		const state = this.#state;
		this.#state = "ended";
		this.#taken();
		if (this.#elsewhere) return void this.#elsewhere.cancel();
		const last = state === "probing" || state === "ended" ? this.#waiters.part(this) : this.#waiters.remove(this);
		if (!last) return;
		if (state === "holding") this.#waiters.deps.detach(this.id);
		else if (this.#waiters.speaks(this.id, this.call)) this.#waiters.deps.unheard(this.id);
	}

	#write(line: object): void {
		this.#controller.enqueue(encoder.encode(`${JSON.stringify(line)}\n`));
	}
}

/** Unread lines after which a stream gets no more heartbeats. */
const BACKLOG_LINES = 128;

/** The problem of a waiter whose place was given back by a release of the same id. */
export const withdrawn = (id: string) =>
	problem("id_in_use", `The request "${id}" was withdrawn by a release while it waited.`);
