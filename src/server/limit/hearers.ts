/**
 * The hearers of requests: calls that wait, and streams (`hearer-stream.ts`). Which of them is told what, and in which order;
 * which one speaks for a request, and which are left of those that heard of one grant.
 */

import type { Event } from "../../core/commands.ts";
import type { Limit } from "../../core/limit.ts";
import { positions } from "../../core/line.ts";
import type { WaitingFor } from "../../protocol.ts";
import { BEAT_MS, FAR_BEAT_MS, NEAR_PLACES } from "../../rhythms.ts";
import type { Outcome, Status } from "../contract/outcomes.ts";
import { answerTo } from "./views.ts";

/** Waiters further back are written to every so many beats. */
const FAR_BEATS = FAR_BEAT_MS / BEAT_MS;
/** When the line went on, its first waiters are told their places this much later, however often it did meanwhile. */
const PLACES_MS = 100;
/** Requests that something is known of, from which on it is looked whether they are over. */
const TIDY_FROM = 64;
/** Hearers that are told of their grants before other work gets its turn. */
const TELL_AT_ONCE = 100;

/** Hears what becomes of a request: one call, or one stream. */
export interface Hearer {
	readonly id: string;
	hear(event: Event, status: Status): void;
	/** Written to at once: it must not hear of anything before its commit. Calls wait at the output gate. */
	readonly ungated?: boolean;
	/** Its own request was answered. What is told before is of an earlier request of this id, which has ended. */
	answered?: boolean;
	/** The hearers of the same grant that are not known to have gone, where there is more than one. */
	shared?: Shared;
	/** Names the call that waits, so that it alone can leave. */
	readonly call?: string | undefined;
	/** A beat of the clock, with the place in line; null while holding. */
	beat?(position: number | null, waitingFor: WaitingFor | null): void;
	/** The place in line, and what is waited for, as they may have changed. */
	place?(position: number, waitingFor: WaitingFor): void;
}

/** The hearers of one grant: it is given back when the last of them has gone. */
export type Shared = Set<Hearer>;

interface Deps {
	limit(): Limit | null;
	/** What every waiter waits for. */
	waitingFor(limit: Limit): WaitingFor;
	/** The connection that a held lease lived by is gone. */
	detach(id: string): void;
	renew(id: string): void;
	/** No hearer of this request is left: it leaves the line, or gives back what it was granted. */
	unheard(id: string): void;
}

export class Hearers {
	readonly deps: Deps;
	readonly #byId = new Map<string, Set<Hearer>>();
	readonly #holding = new Set<Hearer>();
	/** Grants that more than one hearer was told of. */
	readonly #shared = new Map<string, Shared>();
	/** The call that last asked for a request of several names, by its id: others of the same id speak for it no more. */
	readonly #calls = new Map<string, string>();
	#streams = 0;
	#beats = 0;
	#timer: ReturnType<typeof setInterval> | null = null;
	#placesTimer: ReturnType<typeof setTimeout> | null = null;

	constructor(deps: Deps) {
		this.deps = deps;
	}

	/** Requests that have a hearer. */
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
					resolve({ event, status, ...(hearer.shared && call && { shared: call }) });
				},
			};
			this.add(hearer);
			ask(hearer).catch((error) => {
				this.remove(hearer);
				reject(error);
			});
		});
	}

	/** Answers whether this was the last hearer of its request. */
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

	/** Notes which grants have several hearers, before the first of them is told and gone. */
	#markShared(events: Event[]): void {
		for (const event of events) {
			const hearers = event.kind === "granted" ? this.#byId.get(event.id) : undefined;
			if (event.kind !== "granted" || !hearers || hearers.size < 2) continue;
			const shared: Shared = new Set(hearers);
			for (const hearer of hearers) hearer.shared = shared;
			this.#shared.set(event.id, shared);
			this.#tidy(this.#shared);
		}
	}

	/** A call that asks for one of several names; it speaks for the request until another one does. */
	asks(id: string, call: string): void {
		this.#calls.set(id, call);
		this.#tidy(this.#calls);
	}

	/** Whether this call still speaks for the request, and not one that came after it. */
	speaks(id: string, call: string | undefined): boolean {
		const last = this.#calls.get(id);
		return last === undefined || last === call;
	}

	/** Forgets what is known of requests that are over, once they may be half of all. */
	#tidy(known: Map<string, unknown>): void {
		const entries = this.deps.limit()?.entries;
		if (known.size <= TIDY_FROM || known.size <= 2 * (entries?.size ?? 0)) return;
		for (const id of known.keys()) if (!entries?.has(id)) known.delete(id);
	}

	/** All hearers, which from now on hear from elsewhere. */
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
	 * Tells the asker its answer, and every other hearer what became of its request: first those that the output gate
	 * holds back until the commit, and, called again after it, the `ungated`.
	 */
	tell(events: Event[], status: Status, asker: Hearer | null, ungated: boolean): Promise<void> | undefined {
		if (!ungated && this.#byId.size > 0) this.#markShared(events);
		if (asker && (asker.ungated ?? false) === ungated) {
			asker.answered = true;
			const answer = answerTo(events, asker.id);
			if (answer) asker.hear(answer, status);
		}
		if (ungated && this.#streams > 0) this.#placesTimer ??= setTimeout(() => this.#tellPlaces(), PLACES_MS);
		// Most often the asker is the only hearer.
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
			if (hearer !== asker && hearer.answered && (hearer.ungated ?? false) === ungated) hearer.hear(event, status);
		}
	}

	/** A caller has gone; answers whether no other hearer of its request, or of its grant, is left. */
	leave(id: string, call: string): boolean {
		const hearers = this.#byId.get(id);
		for (const hearer of hearers ?? []) if (hearer.call === call) return this.remove(hearer);
		for (const hearer of this.#shared.get(id) ?? []) if (hearer.call === call) return this.part(hearer);
		return hearers === undefined && !this.#shared.get(id)?.size;
	}

	/** One of the hearers of a grant has gone; answers whether it was the last. */
	part(hearer: Hearer): boolean {
		hearer.shared?.delete(hearer);
		return (hearer.shared?.size ?? 0) === 0;
	}

	#beat(): void {
		this.#beats += 1;
		for (const hearer of this.#holding) hearer.beat?.(null, null);
		const limit = this.deps.limit();
		if (!limit || limit.sums.waiting === 0) return;
		const waitingFor = this.deps.waitingFor(limit);
		for (const [entry, position] of positions(limit)) {
			// Waiters further back take turns, so that no beat is for thousands.
			if (position > NEAR_PLACES && entry.seq % FAR_BEATS !== this.#beats % FAR_BEATS) continue;
			for (const hearer of this.#byId.get(entry.id) ?? []) hearer.beat?.(position, waitingFor);
		}
	}

	/** Tells the first in line their places, where they changed. */
	#tellPlaces(): void {
		this.#placesTimer = null;
		const limit = this.deps.limit();
		if (!limit || limit.sums.waiting === 0) return;
		const waitingFor = this.deps.waitingFor(limit);
		for (const [entry, position] of positions(limit)) {
			if (position > NEAR_PLACES) return;
			for (const hearer of this.#byId.get(entry.id) ?? []) hearer.place?.(position, waitingFor);
		}
	}
}

/** Whether an event is for all hearers of its request, and not for the asker alone. */
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
