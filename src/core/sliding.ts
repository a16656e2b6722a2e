/**
 * What is in use of a limit whose slots come back each so long after it was taken: what was granted within the last W.
 *
 *     used(now) = granted in (now - W, now]
 *
 * A grant is kept with its moment, so this is exact. Of more than 256 moments those that follow each other within W / 256
 * are made one, the last of them: its slots come back at most so much late, and never early, so no window of W ever has more
 * than the limit. Moments are of the limit's own time, which no clock that is set back turns back.
 */

import type { At, Ms } from "./time.ts";
import { type Band, type SavedUsage, SLOT, type Usage } from "./usage.ts";

/** Moments that are kept exactly: of a limit of a few hundred slots all, in a row of a few kilobytes. */
export const MOMENTS = 256;
/** So many more come together before moments are made one, so that it is not done with every grant. */
const MORE_MOMENTS = 64;

interface Taken {
	at: At;
	slots: number;
}

export class Sliding implements Usage {
	at: At;
	readonly windowMs: Ms;
	readonly resetsAt = null;
	/** Moments are rounded up to whole multiples of it, where there are too many. */
	readonly #grainMs: Ms;
	/** Oldest first, each moment once. */
	#taken: Taken[] = [];
	#used = 0;
	/** What leases own, and the moment it was taken at, or an earlier one. */
	readonly #bands = new Map<string, Taken>();

	constructor(windowMs: Ms, at: At) {
		this.windowMs = windowMs;
		this.#grainMs = Math.ceil(windowMs / MOMENTS);
		this.at = at;
	}

	get total(): bigint {
		return BigInt(this.#used) * SLOT;
	}

	drain(now: At): void {
		if (now > this.at) this.at = now;
		let over = 0;
		for (const { at, slots } of this.#taken) {
			if (at + this.windowMs > this.at) break;
			this.#used -= slots;
			over += 1;
		}
		if (over > 0) this.#taken.splice(0, over);
	}

	pour(slots: number): void {
		if (slots === 0) return;
		this.#used += slots;
		// After moments were rounded up, the newest may lie ahead.
		const last = this.#taken.at(-1);
		if (last && last.at >= this.at) last.slots += slots;
		else this.#taken.push({ at: this.at, slots });
		if (this.#taken.length > MOMENTS + MORE_MOMENTS) this.#round();
	}

	lay(id: string, slots: number): void {
		this.pour(slots);
		this.#bands.set(id, { at: this.at, slots });
	}

	take(id: string): null {
		this.shrink(id, Number.POSITIVE_INFINITY);
		return this.disown(id);
	}

	shrink(id: string, slots: number): void {
		const band = this.#bands.get(id);
		// Its moment may have been rounded up meanwhile; the first that is not before it has its slots.
		const taken = band && this.#taken.find(({ at }) => at >= band.at);
		if (!band || !taken || !this.#lives(band)) return;
		const out = Math.min(band.slots, taken.slots, slots);
		band.slots -= out;
		taken.slots -= out;
		this.#used -= out;
		if (taken.slots === 0) this.#taken.splice(this.#taken.indexOf(taken), 1);
	}

	disown(id: string): null {
		this.#bands.delete(id);
		return null;
	}

	owned(id: string): bigint {
		const band = this.#bands.get(id);
		return band && this.#lives(band) ? BigInt(band.slots) * SLOT : 0n;
	}

	reset(slots: number): void {
		this.#bands.clear();
		this.#taken = [];
		this.#used = 0;
		this.pour(slots);
	}

	reaches(units: bigint): At {
		let left = this.#used;
		if (BigInt(left) * SLOT <= units) return this.at;
		for (const { at, slots } of this.#taken) {
			left -= slots;
			if (BigInt(left) * SLOT <= units) return at + this.windowMs;
		}
		return this.at + this.windowMs;
	}

	forecast(): Usage {
		const forecast = new Sliding(this.windowMs, this.at);
		forecast.#taken = this.#taken.map((each) => ({ ...each }));
		forecast.#used = this.#used;
		return forecast;
	}

	/** Its place is the moment at which it was taken. */
	band(id: string): Band | null {
		const band = this.#bands.get(id);
		return band ? { id, own: BigInt(band.slots) * SLOT, below: 0n, order: band.at } : null;
	}

	save(): SavedUsage {
		let before = this.at;
		const taken = this.#taken.map(({ at, slots }): [number, number] => {
			const since = at - before;
			before = at;
			return [since, slots];
		});
		return { at: this.at, total: String(this.total), top: String(this.total), taken };
	}

	restore(bands: Band[], { at, taken = [] }: SavedUsage): void {
		this.at = at;
		let moment = at;
		for (const [since, slots] of taken) {
			moment += since;
			this.#taken.push({ at: moment, slots });
			this.#used += slots;
		}
		for (const { id, own, order } of bands) this.#bands.set(id, { at: order, slots: Number(own / SLOT) });
	}

	/** Whether the slots of a band have not come back yet, by the moment of its own. */
	#lives({ at }: Taken): boolean {
		return at + this.windowMs > this.at;
	}

	#round(): void {
		const rounded: Taken[] = [];
		for (const { at, slots } of this.#taken) {
			const up = Math.ceil(at / this.#grainMs) * this.#grainMs;
			const last = rounded.at(-1);
			if (last && last.at >= up) last.slots += slots;
			else rounded.push({ at: up, slots });
		}
		this.#taken = rounded;
	}
}
