/**
 * The ids that a limit remembers after their requests ended, in memory: they are asked for in the middle of a decision. Ids
 * that ended alike in one commit share a record, so that one costs about a hundred bytes.
 */

import { Deadlines, type Due } from "../../core/deadlines.ts";
import type { Ended } from "../../core/limit.ts";
import type { At } from "../../core/time.ts";

/** Ids of one record, which is said again as a whole. */
const ALIKE_MAX = 100;
/** Ids that a call takes out of memory, a microsecond or so each; those that are over before that are recalled no more. */
const FORGOTTEN_AT_ONCE = 1_000;
/** Characters of a record beside its ids and its print, about. */
const RECORD_SIZE = 40;

/** Ids that ended alike. */
export interface Alike extends Omit<Ended, "id">, Due {
	ids: string[];
	/** They are of a limit of this name that was deleted before this one was made. */
	before: boolean;
	/** The number of the row that says so. */
	row: number;
	size: number;
}

/** As it is stored. */
export type SavedAlike = [
	until: At,
	kind: Ended["kind"],
	print: string,
	slots: number,
	/** 2: not enforced, and it would have been denied. */
	enforced: 0 | 1 | 2,
	before: 0 | 1,
	ids: string[],
	settled?: number,
];

export class Remembered {
	readonly #byId = new Map<string, Alike>();
	readonly #due = new Deadlines<Alike>();
	/** Those that no row says yet, by what is alike. */
	#unsaved = new Map<string, Alike>();
	#lastAt: At = Number.NEGATIVE_INFINITY;
	/** What ended by then is over, though it may still be here. */
	#overAt: At = Number.NEGATIVE_INFINITY;
	#size = 0;

	/** How many ids are here. */
	get count(): number {
		return this.#byId.size;
	}

	/** Characters that it takes to say them all. */
	get size(): number {
		return this.#size;
	}

	/** When the last of them is forgotten; null: none is remembered. */
	get lastAt(): At | null {
		return this.#lastAt > this.#overAt ? this.#lastAt : null;
	}

	add({ id, ...record }: Ended): void {
		const { until, kind, slots, enforced, wouldDeny, settled, print } = record;
		const key = `${until} ${kind} ${slots} ${enforced} ${wouldDeny} ${settled} ${print}`;
		let alike = this.#unsaved.get(key);
		if (!alike || alike.ids.length >= ALIKE_MAX) {
			alike = this.#new({ ...record, before: false, ids: [], row: 0 });
			// One that is full stays under a key of its own until it is saved.
			const full = this.#unsaved.get(key);
			if (full) this.#unsaved.set(`${key} ${this.#unsaved.size}`, full);
			this.#unsaved.set(key, alike);
		}
		alike.ids.push(id);
		this.#put(id, alike);
	}

	/** What a row says. */
	load([until, kind, print, slots, enforced, before, ids, settled]: SavedAlike, row: number): Alike {
		const more = { ...(enforced === 2 && { wouldDeny: true as const }), ...(settled !== undefined && { settled }) };
		const common = { kind, print, slots, enforced: enforced === 1, until, ...more };
		const alike = this.#new({ ...common, before: before === 1, ids, row });
		for (const id of ids) this.#put(id, alike);
		return alike;
	}

	/** What is remembered of an id: by this limit, or by one that was deleted `before` it. */
	recall(id: string, before: boolean): Ended | undefined {
		const alike = this.#byId.get(id);
		return alike?.before === before && alike.until > this.#overAt ? endedOf(id, alike) : undefined;
	}

	/** Every id that this limit remembers. */
	*all(): Generator<Ended> {
		for (const [id, alike] of this.#byId) {
			if (!alike.before && alike.until > this.#overAt) yield endedOf(id, alike);
		}
	}

	/** Another limit of this name begins. */
	begin(): void {
		for (const alike of this.#byId.values()) alike.before = true;
	}

	/** Forgets the ids whose time is over; where they are many, some of them now and the rest in later turns. */
	forget(now: At, most = FORGOTTEN_AT_ONCE): void {
		this.#overAt = Math.max(this.#overAt, now);
		let left = most;
		for (let alike = this.#due.first; alike && alike.until <= now && left > 0; alike = this.#due.first) {
			this.#due.remove(alike);
			this.#size -= alike.size;
			left -= alike.ids.length;
			for (const id of alike.ids) if (this.#byId.get(id) === alike) this.#byId.delete(id);
		}
	}

	clear(): void {
		this.forget(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY);
		this.#lastAt = this.#overAt = Number.NEGATIVE_INFINITY;
		this.#unsaved.clear();
	}

	/** Those that no row says yet; from now on one does. */
	takeUnsaved(): Iterable<Alike> {
		if (this.#unsaved.size === 0) return [];
		const unsaved = this.#unsaved;
		this.#unsaved = new Map();
		return unsaved.values();
	}

	/** What a row is to say of these, where any of them is still remembered. */
	save(alike: Alike): SavedAlike | null {
		if (alike.heapIndex < 0 || alike.until <= this.#overAt) return null;
		alike.ids = alike.ids.filter((id) => this.#byId.get(id) === alike);
		const { until, kind, print, slots, enforced, wouldDeny, settled, before, ids } = alike;
		if (ids.length === 0) return null;
		const how = wouldDeny ? 2 : enforced ? 1 : 0;
		const saved: SavedAlike = [until, kind, print, slots, how, before ? 1 : 0, ids];
		if (settled !== undefined) saved.push(settled);
		return saved;
	}

	#new(fields: Omit<Alike, "heapIndex" | "size">): Alike {
		const alike: Alike = { ...fields, heapIndex: -1, size: RECORD_SIZE + fields.print.length };
		this.#due.set(alike, alike.until);
		this.#lastAt = Math.max(this.#lastAt, alike.until);
		this.#size += alike.size;
		return alike;
	}

	#put(id: string, alike: Alike): void {
		this.#byId.set(id, alike);
		alike.size += id.length + 3;
		this.#size += id.length + 3;
	}
}

const endedOf = (id: string, { kind, print, slots, enforced, wouldDeny, settled, until }: Alike): Ended => ({
	...{ id, kind, print, slots, enforced, until },
	...(wouldDeny && { wouldDeny }),
	...(settled !== undefined && { settled }),
});
