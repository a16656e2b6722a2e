/**
 * Those who wait to hear of a request: a held call, or a stream of lines. A stream tells its caller that the
 * server lives, and tells the server, by breaking, that its caller has gone.
 */

import type { Event } from "../../core/commands.ts";
import type { Entry, Limit, Request } from "../../core/limit.ts";
import { positions } from "../../core/line.ts";
import type { StreamEvent } from "../../protocol.ts";
import { denial, leaseOf, type Outcome, problem, type Status } from "../answers.ts";
import { answerTo } from "./views.ts";

/** How often a held lease and the first in line get a line. A caller that has gone is noticed at the second one. */
export const BEAT_MS = 500;
/** Waiters that get a line at every beat, and are told at once when their place changes. */
export const NEAR = 16;
/** Beats between the lines of those further back: 15 s, so that thousands of waiters cost little. */
export const FAR_BEATS = 30;
/** A moved line tells its first waiters their places this much later, however many moves that were. */
const PLACES_MS = 100;
/** How many are told of their grants before other work gets its turn. */
const TELL_AT_ONCE = 100;
/** After a grant a stream ends this much later; if it breaks before, nobody heard of the grant, and it is undone. */
const PROBE_MS = 50;

/** Someone who wants to hear what becomes of a request. */
export interface Hearer {
	readonly id: string;
	hear(event: Event, status: Status): void;
	/** Written to at once: it must not hear of anything before its commit. Calls are held back by the output gate. */
	readonly ungated?: boolean;
	/** Somebody else hears of the same grant: that this one goes means nothing. */
	shared?: boolean;
	/** Names the call that waits, so that it alone can leave. */
	readonly call?: string | undefined;
	/** A beat of the clock, with the place in line; null while holding. */
	beat?(position: number | null): void;
	/** The place in line, as it may have changed. */
	place?(position: number): void;
}

interface Deps {
	limit(): Limit | null;
	detach(id: string): void;
	renew(id: string): void;
	release(id: string): void;
}

export class Waiters {
	readonly deps: Deps;
	readonly #byId = new Map<string, Set<Hearer>>();
	readonly #holding = new Set<Hearer>();
	#streams = 0;
	#beats = 0;
	#timer: ReturnType<typeof setInterval> | null = null;
	#placesTimer: ReturnType<typeof setTimeout> | null = null;

	constructor(deps: Deps) {
		this.deps = deps;
	}

	/** Requests that somebody waits to hear of. */
	get size(): number {
		return this.#byId.size;
	}

	add(hearer: Hearer): void {
		const hearers = this.#byId.get(hearer.id);
		if (hearers) hearers.add(hearer);
		else this.#byId.set(hearer.id, new Set([hearer]));
		if (!hearer.beat) return;
		this.#streams += 1;
		this.#timer ??= setInterval(() => this.#beat(), BEAT_MS);
	}

	/** Asks, and answers with the first outcome that is no place in line. */
	outcome(id: string, call: string | undefined, ask: (hearer: Hearer) => Promise<unknown>): Promise<Outcome> {
		return new Promise((resolve, reject) => {
			const hearer: Hearer = {
				...{ id, call },
				hear: (event, status) => {
					if (event.kind === "queued") return;
					this.remove(hearer);
					resolve({ event, status, ...(hearer.shared && { shared: true }) });
				},
			};
			this.add(hearer);
			ask(hearer).catch((error) => {
				this.remove(hearer);
				reject(error);
			});
		});
	}

	/** Answers whether nobody is left who waits for the same request. */
	remove(hearer: Hearer): boolean {
		const hearers = this.#byId.get(hearer.id);
		if (!hearers?.delete(hearer)) return false;
		this.#holding.delete(hearer);
		if (hearer.beat) this.#streams -= 1;
		if (this.#streams === 0 && this.#timer) {
			clearInterval(this.#timer);
			this.#timer = null;
		}
		if (hearers.size > 0) return false;
		this.#byId.delete(hearer.id);
		return true;
	}

	/** Notes whose grant somebody else hears of too, before the first of them is told and gone. */
	#markShared(events: Event[]): void {
		for (const event of events) {
			const hearers = event.kind === "granted" ? this.#byId.get(event.id) : undefined;
			if (hearers && hearers.size > 1) for (const hearer of hearers) hearer.shared = true;
		}
	}

	/** Everybody, who from now on hears from elsewhere. */
	moveOut(): Hearer[] {
		const all = [...this.#byId.values()].flatMap((hearers) => [...hearers]);
		for (const hearer of all) this.remove(hearer);
		return all;
	}

	/** From its grant on, a held lease lives by this hearer. */
	keep(hearer: Hearer): void {
		this.#holding.add(hearer);
	}

	/**
	 * Tells the one who asked its answer, and everyone else what became of their requests: first those whom the output
	 * gate holds back until the commit, and, called again after it, the `ungated`.
	 */
	tell(events: Event[], status: Status, asker: Hearer | null, ungated: boolean): Promise<void> | undefined {
		if (!ungated && this.#byId.size > 0) this.#markShared(events);
		const answer = asker && (asker.ungated ?? false) === ungated ? answerTo(events, asker.id) : undefined;
		if (asker && answer) asker.hear(answer, status);
		if (ungated && this.#streams > 0) this.#placesTimer ??= setTimeout(() => this.#tellPlaces(), PLACES_MS);
		// Most often nobody waits but the one who asked.
		const alone = asker !== null && !asker.shared && this.#byId.has(asker.id) ? 1 : 0;
		if (this.#byId.size <= alone) return undefined;
		if (events.length > TELL_AT_ONCE) return this.#tellInSlices(events, status, asker, ungated);
		for (const event of events) this.#tellOthers(event, status, asker, ungated);
		return undefined;
	}

	/** Thousands may be granted at once: other work gets its turn in between. */
	async #tellInSlices(events: Event[], status: Status, asker: Hearer | null, ungated: boolean): Promise<void> {
		for (const [index, event] of events.entries()) {
			if (index % TELL_AT_ONCE === 0) await scheduler.wait(0);
			this.#tellOthers(event, status, asker, ungated);
		}
	}

	#tellOthers(event: Event, status: Status, asker: Hearer | null, ungated: boolean): void {
		if (event.kind === "configured" || !isNews(event)) return;
		for (const hearer of [...(this.#byId.get(event.id) ?? [])]) {
			if (hearer !== asker && (hearer.ungated ?? false) === ungated) hearer.hear(event, status);
		}
	}

	/** A call that waited is no longer heard; answers whether nobody else waits for its request. */
	leave(id: string, call: string): boolean {
		const hearers = this.#byId.get(id);
		for (const hearer of hearers ?? []) if (hearer.call === call) return this.remove(hearer);
		return hearers === undefined;
	}

	#beat(): void {
		this.#beats += 1;
		for (const hearer of this.#holding) hearer.beat?.(null);
		const limit = this.deps.limit();
		if (!limit) return;
		for (const [entry, position] of positions(limit)) {
			// Those further back take turns, so that no beat is for thousands.
			if (position > NEAR && entry.seq % FAR_BEATS !== this.#beats % FAR_BEATS) continue;
			for (const hearer of this.#byId.get(entry.id) ?? []) hearer.beat?.(position);
		}
	}

	/** Tells the first in line their places, where they changed. */
	#tellPlaces(): void {
		this.#placesTimer = null;
		const limit = this.deps.limit();
		if (!limit) return;
		for (const [entry, position] of positions(limit)) {
			if (position > NEAR) return;
			for (const hearer of this.#byId.get(entry.id) ?? []) hearer.place?.(position);
		}
	}
}

/** Whether an event is for everyone who waits for its request, and not for the one who asked alone. */
function isNews(event: Exclude<Event, { kind: "configured" }>): boolean {
	switch (event.kind) {
		case "granted":
			return !event.repeat;
		case "denied":
			return event.code !== "id_in_use";
		case "released":
			return event.by !== "unheard" || event.slots > 0;
		case "reserved":
		case "left":
			return true;
		default:
			return false;
	}
}

const encoder = new TextEncoder();

/** What a line must know of its request. */
type Held = Pick<Request, "id" | "slots" | "held" | "leaseMs">;

export class Line implements Hearer {
	readonly ungated = true;
	shared = false;
	readonly id: string;
	readonly call: string | undefined;
	readonly readable: ReadableStream;
	readonly #waiters: Waiters;
	readonly #as: "wire" | "outcomes";
	readonly #slots: number;
	readonly #held: boolean;
	readonly #renewBeats: number;
	#controller!: ReadableStreamDefaultController<Uint8Array>;
	/** `told`: the verdict was written, and the stream is about to end. */
	#state: "waiting" | "holding" | "told" | "ended" = "waiting";
	#position: number | null = null;
	#beats = 0;
	#elsewhere: ReadableStreamDefaultReader<Uint8Array> | null = null;

	constructor(waiters: Waiters, request: Held, as: "wire" | "outcomes", call?: string) {
		this.id = request.id;
		this.call = call;
		this.#waiters = waiters;
		this.#as = as;
		this.#slots = request.slots;
		this.#held = request.held;
		this.#renewBeats = Math.max(1, Math.floor(request.leaseMs / 3 / BEAT_MS));
		// A byte stream would cost a waiter 23 kB more, and its chunks are bytes as it is.
		this.readable = new ReadableStream<Uint8Array>({
			start: (controller) => {
				this.#controller = controller;
			},
			cancel: () => this.#broken(),
		});
		waiters.add(this);
	}

	/** A line that only keeps a held lease alive, for a coordinator that was granted it. */
	static holding(waiters: Waiters, entry: Entry): Line {
		const line = new Line(waiters, entry, "outcomes");
		line.#hold();
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
			this.#write({ event: "granted", lease: leaseOf(event, status) });
			if (this.#held) this.#hold();
			else this.#probe();
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
		if (this.#state === "told" || this.#state === "ended") return;
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

	#hold(): void {
		this.#state = "holding";
		this.#waiters.keep(this);
	}

	/** Ends the stream a moment after the grant: a caller that went before it could hear of it takes nothing. */
	#probe(): void {
		this.#waiters.remove(this);
		// Whoever did not wait was here a moment ago.
		if (this.shared || this.#position === null) return this.#end();
		this.#state = "told";
		setTimeout(() => {
			if (this.#state !== "told") return;
			this.#controller.enqueue(encoder.encode("\n"));
			setTimeout(() => this.#end(), PROBE_MS);
		}, PROBE_MS);
	}

	#end(): void {
		if (this.#state === "ended") return;
		this.#state = "ended";
		this.#waiters.remove(this);
		this.#controller.close();
	}

	/** The caller has gone. */
	#broken(): void {
		const state = this.#state;
		this.#state = "ended";
		if (this.#elsewhere) return void this.#elsewhere.cancel();
		const last = this.#waiters.remove(this);
		if (state === "told") this.#waiters.deps.release(this.id);
		else if (last) this.#waiters.deps.detach(this.id);
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
