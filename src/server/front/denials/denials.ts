/**
 * Denials that a Worker remembers, so that a flood against an empty bucket is refused without a hop. Pure: moments are
 * passed in.
 *
 * A denial is remembered only where decay alone could undo it: there are no waiters and no leases of the limit, and no
 * reservation lapses meanwhile. It is given again until the announced moment and for a second
 * at most, to requests for as many slots or more, and never after a change that went through this Worker: one that
 * was on its way meanwhile counts too. Changes through other Workers are what the second is for.
 */

import type { At, Ms } from "../../../core/time.ts";
import type { Answered } from "../../contract/answers.ts";
import { DENIAL_MAX_MS, type Status } from "../../contract/outcomes.ts";

/** Names that remembered denials speak of, in all: four megabytes. */
export const DENIALS_MAX = 4_096;
/** Changes of limits that are remembered; an older one counts as a change of every limit. */
export const CHANGES_MAX = 4_096;

/** What is asked: names with their slots, in the fixed order, and those of them that are taken by rate. */
export interface Deniable {
	/** The name, where it is the only one; else everything that is asked. */
	key: string;
	names: [name: string, slots: number][];
	isRated(name: string): boolean;
}

/** The number of changes when a request was sent. */
export type Ticket = number;

interface Remembered {
	/** How each name was answered. */
	answered: Answered[];
	/** How many names were asked for. */
	weight: number;
	/** Which of the names the denial rests on. */
	on: { name: string; slots: number };
	ticket: Ticket;
	/** Before the object decided. */
	askedAt: At;
	/** After it. */
	answeredAt: At;
	until: At;
}

/** A denial that is given again. */
export interface Again {
	answered: Answered[];
	/** The limit that counts it, and is to be told of it with those that follow; null: that is on its way. */
	tell: { name: string; afterMs: Ms } | null;
}

export class Denials {
	/** In the order in which they were noted. */
	readonly #entries = new Map<string, Remembered>();
	#weight = 0;
	/** How many were given again since their limits were last told. */
	readonly #given = new Map<string, number>();
	/** When each limit was last changed through this Worker, as a number that counts changes. */
	readonly #changes = new Map<string, Ticket>();
	#count = 0;
	/** Limits that nothing is known of any more may have been changed as late as this. */
	#floor: Ticket = 0;

	/** To be called before a request is sent. */
	get ticket(): Ticket {
		return this.#count;
	}

	/** Names that are remembered. */
	get size(): number {
		return this.#weight;
	}

	/** How a request is denied from memory; null: its limits have to be asked. */
	find({ key, names }: Deniable, now: At): Again | null {
		const entry = this.#entries.get(key);
		if (!entry) return null;
		const { on, until, askedAt, answeredAt, ticket } = entry;
		// A clock that was set back makes a denial neither younger nor longer.
		if (now >= until || now < askedAt || this.#changedAt(on.name) > ticket) {
			this.#drop(key, entry);
			return null;
		}
		const slots = names.find(([name]) => name === on.name)?.[1] ?? 0;
		const culprit = entry.answered.find(({ status }) => status.name === on.name);
		// More than the limit has is refused in another way.
		if (!culprit || slots < on.slots || slots > culprit.status.limit) return null;
		// When more slots come back than were asked for, decay alone tells.
		if (slots > on.slots && culprit.status.slotDecayPerSecond === 0) return null;
		const first = this.#countGiven(on.name);
		const elapsedMs = now - answeredAt;
		return {
			answered: entry.answered.map((each) => later(each, elapsedMs, each === culprit ? slots - on.slots : 0)),
			tell: first ? { name: on.name, afterMs: until - now } : null,
		};
	}

	/** Remembers how a request was denied, if that stands for a while whatever time does. */
	note({ key, names, isRated }: Deniable, answered: Answered[], ticket: Ticket, askedAt: At, now: At): void {
		let until = askedAt;
		let on: Remembered["on"] | null = null;
		for (const { slots, status, denied } of answered) {
			if (denied?.kind !== "denied") continue;
			if (denied.code !== "denied") return;
			if (!isRated(status.name) || this.#changedAt(status.name) > ticket) continue;
			const stands = askedAt + Math.min(DENIAL_MAX_MS, status.steadyMs, denied.retryAfterMs);
			if (stands <= until) continue;
			until = stands;
			on = { name: status.name, slots };
		}
		if (!on || until <= now) return;
		const known = this.#entries.get(key);
		if (known && known.on.slots < on.slots && known.until > now && this.#changedAt(known.on.name) <= known.ticket)
			return;
		if (known) this.#drop(key, known);
		this.#entries.set(key, {
			answered,
			weight: names.length,
			on,
			ticket,
			askedAt,
			answeredAt: now,
			until,
		});
		this.#weight += names.length;
		for (const [oldest, entry] of this.#entries) {
			if (this.#weight <= DENIALS_MAX) return;
			this.#drop(oldest, entry);
		}
	}

	/** Denials that were given again and that their limit has not been told of; it is told now. */
	take(name: string): number {
		const count = this.#given.get(name) ?? 0;
		this.#given.delete(name);
		return count;
	}

	/** A limit was changed through this Worker, or is about to be. */
	changed(name: string): void {
		this.#count += 1;
		this.#changes.delete(name);
		this.#changes.set(name, this.#count);
		if (this.#changes.size <= CHANGES_MAX) return;
		const [oldest, at] = this.#changes.entries().next().value as [string, Ticket];
		this.#changes.delete(oldest);
		this.#floor = at;
	}

	/** Any of the limits may have been changed through this Worker. */
	changedAll(): void {
		this.#count += 1;
		this.#floor = this.#count;
		this.#changes.clear();
		this.#entries.clear();
		this.#weight = 0;
	}

	/** Whether it is the first that the limit has not been told of, so that it is to be told. */
	#countGiven(name: string): boolean {
		const before = this.#given.get(name) ?? 0;
		this.#given.set(name, before + 1);
		if (this.#given.size > DENIALS_MAX) {
			const [oldest] = this.#given.keys();
			if (oldest !== undefined) this.#given.delete(oldest);
		}
		return before === 0;
	}

	#changedAt(name: string): Ticket {
		return this.#changes.get(name) ?? this.#floor;
	}

	#drop(key: string, { weight }: Remembered): void {
		if (this.#entries.delete(key)) this.#weight -= weight;
	}
}

/** An answer as it would be so much later, had nothing happened but decay; for so many slots more. */
function later({ slots, status, denied }: Answered, elapsedMs: Ms, more: number): Answered {
	const perMs = status.slotDecayPerSecond / 1_000;
	return {
		slots: slots + more,
		status: drained(status, elapsedMs),
		denied: denied && {
			...denied,
			retryAfterMs: Math.max(0, denied.retryAfterMs - elapsedMs) + (more > 0 ? Math.ceil(more / perMs) : 0),
		},
	};
}

function drained(status: Status, elapsedMs: Ms): Status {
	const { nextSlotMs, slotDecayPerSecond, activeSlots, limit } = status;
	if (nextSlotMs === null) return status;
	// What a window gives back ends the denial.
	if (slotDecayPerSecond === 0) return { ...status, nextSlotMs: Math.max(0, nextSlotMs - elapsedMs) };
	if (elapsedMs < nextSlotMs) return { ...status, nextSlotMs: nextSlotMs - elapsedMs };
	const perMs = slotDecayPerSecond / 1_000;
	const back = Math.min(activeSlots, 1 + Math.floor((elapsedMs - nextSlotMs) * perMs));
	const next = nextSlotMs + back / perMs - elapsedMs;
	const active = activeSlots - back;
	return {
		...status,
		activeSlots: active,
		remaining: Math.max(0, limit - active),
		nextSlotMs: active > 0 ? Math.max(0, Math.ceil(next)) : null,
	};
}
