/**
 * The level of a limit whose slots come back by themselves: a leaky bucket, kept exactly.
 *
 * The level is a stack of bands. A grant lays its band on top; time drains the stack from the bottom, oldest
 * first. A band that a lease owns can be taken out again: what is left of it leaves the level, and the bands
 * above sink by as much. What no lease owns (rate-limit grants, slots set by hand) lies between the owned bands.
 *
 * Counting is in whole units of 10^-18 slot, so that a rate of d slots a second is a whole number of units a
 * millisecond, d * 10^15, for every d of up to 15 decimals. Nothing is rounded, whatever the order of calls.
 */

import type { At } from "./time.ts";
import { type Band, type SavedUsage, SLOT, type Usage } from "./usage.ts";

const RATE_DECIMALS = 15;

/** Units a millisecond of a rate in slots a second, from its shortest decimal text; decimals past the 15th are dropped. */
export function unitsPerMs(slotDecayPerSecond: number): bigint {
	const [mantissa = "0", exponent = "0"] = slotDecayPerSecond.toString().split("e");
	const [whole = "0", fraction = ""] = mantissa.split(".");
	const shift = RATE_DECIMALS + Number(exponent) - fraction.length;
	const digits = BigInt(whole + fraction);
	return shift >= 0 ? digits * 10n ** BigInt(shift) : digits / 10n ** BigInt(-shift);
}

interface Node extends Band {
	older: Node | null;
	newer: Node | null;
}

export class Level implements Usage {
	/** Units a millisecond. */
	rate: bigint;
	/** The moment that `total` is true for. */
	at: At;
	/** Everything in the stack, in units. */
	total = 0n;
	/** What no lease owns above the newest band. */
	top = 0n;

	#oldest: Node | null = null;
	#newest: Node | null = null;
	#laid = 0;
	readonly #bands = new Map<string, Node>();

	/** Changes the rate from `at` on. */
	setRate(slotDecayPerSecond: number): void {
		this.rate = unitsPerMs(slotDecayPerSecond);
	}

	constructor(slotDecayPerSecond: number, at: At) {
		this.rate = unitsPerMs(slotDecayPerSecond);
		this.at = at;
	}

	/** Lets time run to `now`. Amortised constant: each band drains away once. */
	drain(now: At): void {
		if (now > this.at) this.#sink(this.rate * BigInt(now - this.at));
		this.at = now;
	}

	/** Lays slots on top that no lease owns. */
	pour(slots: number): void {
		const units = BigInt(slots) * SLOT;
		this.top += units;
		this.total += units;
	}

	/** Lays a band on top that `id` owns. */
	lay(id: string, slots: number): void {
		this.#link({ id, own: BigInt(slots) * SLOT, below: this.top, order: this.#laid + 1 });
		this.top = 0n;
		this.total += BigInt(slots) * SLOT;
	}

	/** Takes out what is left of a band. Answers the id of the band above it when that one changed. */
	take(id: string): string | null {
		return this.#unlink(id, (node) => {
			this.total -= node.own;
			return node.below;
		});
	}

	/** Takes out so many slots of what is left of a band, or all of it. */
	shrink(id: string, slots: number): void {
		const node = this.#bands.get(id);
		if (!node) return;
		const units = BigInt(slots) * SLOT;
		const taken = units < node.own ? units : node.own;
		node.own -= taken;
		this.total -= taken;
	}

	/** Leaves a band in place but without an owner. Answers the id of the band above it when that one changed. */
	disown(id: string): string | null {
		return this.#unlink(id, (node) => node.below + node.own);
	}

	/** Units that `id` still owns. */
	owned(id: string): bigint {
		return this.#bands.get(id)?.own ?? 0n;
	}

	/** Makes the level `slots` by hand; the leases of this moment own nothing of it. */
	reset(slots: number): void {
		this.#bands.clear();
		this.#oldest = this.#newest = null;
		this.top = this.total = BigInt(slots) * SLOT;
	}

	/** What a lease's row must remember of its band. */
	band(id: string): Band | null {
		const node = this.#bands.get(id);
		return node ? { id, own: node.own, below: node.below, order: node.order } : null;
	}

	/**
	 * Rebuilds the stack from rows. Rows are written when a band is laid or changed, not as it drains;
	 * draining always eats from the bottom, so the difference between the rows and `total` is what the oldest lost.
	 */
	restore(bands: Band[], saved: SavedUsage): void {
		this.reset(0);
		this.at = saved.at;
		const [top, total] = [BigInt(saved.top), BigInt(saved.total)];
		let sum = top;
		for (const band of bands.sort((a, b) => a.order - b.order)) {
			this.#link(band);
			sum += band.own + band.below;
		}
		this.top = top;
		this.total = sum;
		this.#sink(sum - total);
	}

	save(): SavedUsage {
		return { at: this.at, total: String(this.total), top: String(this.top) };
	}

	/** Of bands it knows nothing. */
	forecast(): Level {
		const forecast = new Level(0, this.at);
		forecast.rate = this.rate;
		forecast.total = forecast.top = this.total;
		return forecast;
	}

	readonly resetsAt = null;
	readonly windowMs = null;

	/** The first moment from `at` on when the level is `units` or less. */
	reaches(units: bigint): At {
		const excess = this.total - units;
		return excess <= 0n ? this.at : this.at + Number((excess + this.rate - 1n) / this.rate);
	}

	#sink(units: bigint): void {
		let left = units < this.total ? units : this.total;
		this.total -= left;
		while (left > 0n && this.#oldest) {
			const node = this.#oldest;
			const gap = left < node.below ? left : node.below;
			node.below -= gap;
			left -= gap;
			const own = left < node.own ? left : node.own;
			node.own -= own;
			left -= own;
			if (node.own > 0n) return;
			this.#remove(node);
		}
		this.top -= left;
	}

	#link(band: Band): void {
		this.#laid = band.order;
		const node: Node = { ...band, older: this.#newest, newer: null };
		if (this.#newest) this.#newest.newer = node;
		else this.#oldest = node;
		this.#newest = node;
		this.#bands.set(node.id, node);
	}

	#unlink(id: string, leave: (node: Node) => bigint): string | null {
		const node = this.#bands.get(id);
		if (!node) return null;
		const left = leave(node);
		this.#remove(node);
		if (!node.newer) {
			this.top += left;
			return null;
		}
		node.newer.below += left;
		return left > 0n ? node.newer.id : null;
	}

	#remove(node: Node): void {
		if (node.older) node.older.newer = node.newer;
		else this.#oldest = node.newer;
		if (node.newer) node.newer.older = node.older;
		else this.#newest = node.older;
		this.#bands.delete(node.id);
	}
}
