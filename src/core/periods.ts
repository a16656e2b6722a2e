/**
 * What is in use of a limit whose slots come back by the calendar: what was granted in the period that it is in. At the
 * end of the period all of it comes back, and not before. So in no period more than the limit is granted:
 *
 *     used(now) = granted in [startsAt, endsAt)          where startsAt <= now < endsAt
 *
 * The end of a period is a moment of the caller's clock. Where that clock is set back the period goes on until it shows its
 * end, and where it was set past it no period is entered twice: `startsAt` never falls.
 */

import { type Period, periodAt, type Window } from "./calendar.ts";
import type { At, Clock, Ms } from "./time.ts";
import { type Band, type SavedUsage, SLOT, type Usage } from "./usage.ts";

/** So many periods are looked ahead by the calendar, and what lies beyond as if all were as long as the last. */
const LOOK_AHEAD = 400;

export class Periods implements Usage {
	at: At;
	readonly #window: Window;
	readonly #clock: Clock;
	#period: Period;
	#granted = 0;
	/** Of what was granted in this period, what leases own. */
	readonly #bands = new Map<string, number>();
	/** The ends of the periods after this one, as far as they were asked for; shared with every forecast. */
	#ends: At[] = [];
	/** How many of them lie behind. */
	#ahead = 0;
	#isForecast = false;

	constructor(window: Window, clock: Clock, at: At) {
		this.#window = window;
		this.#clock = clock;
		this.at = at;
		this.#period = periodAt(window, at - clock.offsetMs);
	}

	get total(): bigint {
		return BigInt(this.#granted) * SLOT;
	}

	get resetsAt(): At {
		return this.#period.endsAt;
	}

	get windowMs(): Ms {
		return this.#period.endsAt - this.#period.startsAt;
	}

	drain(now: At): void {
		if (now > this.at) this.at = now;
		const wall = this.at - this.#clock.offsetMs;
		if (wall < this.#period.endsAt) return;
		this.#period = this.#isForecast ? this.#periodAhead(wall) : periodAt(this.#window, wall);
		this.#granted = 0;
		this.#bands.clear();
		if (!this.#isForecast) this.#ends = [];
	}

	pour(slots: number): void {
		this.#granted += slots;
	}

	lay(id: string, slots: number): void {
		this.#bands.set(id, slots);
		this.#granted += slots;
	}

	take(id: string): null {
		this.#granted -= this.#bands.get(id) ?? 0;
		return this.disown(id);
	}

	shrink(id: string, slots: number): void {
		const own = this.#bands.get(id) ?? 0;
		const taken = Math.min(own, slots);
		this.#granted -= taken;
		if (own > taken) this.#bands.set(id, own - taken);
		else this.#bands.delete(id);
	}

	disown(id: string): null {
		this.#bands.delete(id);
		return null;
	}

	owned(id: string): bigint {
		return BigInt(this.#bands.get(id) ?? 0) * SLOT;
	}

	reset(slots: number): void {
		this.#bands.clear();
		this.#granted = slots;
	}

	reaches(units: bigint): At {
		return this.total <= units ? this.at : this.#period.endsAt + this.#clock.offsetMs;
	}

	forecast(): Usage {
		const forecast = new Periods(this.#window, this.#clock, this.at);
		forecast.#period = this.#period;
		forecast.#granted = this.#granted;
		forecast.#ends = this.#ends;
		forecast.#isForecast = true;
		return forecast;
	}

	/** Its place is the beginning of its period. */
	band(id: string): Band | null {
		const own = this.owned(id);
		return own > 0n ? { id, own, below: 0n, order: this.#period.startsAt } : null;
	}

	save(): SavedUsage {
		const { startsAt, endsAt } = this.#period;
		return { at: this.at, total: String(this.total), top: String(this.total), period: { startsAt, endsAt } };
	}

	restore(bands: Band[], { at, total, period }: SavedUsage): void {
		this.at = at;
		this.#granted = Number(BigInt(total) / SLOT);
		if (period) this.#period = { ...period };
		// A row that was written in a period before this one says what has come back since.
		for (const { id, own, order } of bands) {
			if (order === this.#period.startsAt) this.#bands.set(id, Number(own / SLOT));
		}
	}

	#periodAhead(wall: At): Period {
		let period = this.#period;
		while (period.endsAt <= wall) {
			const known = this.#ends[this.#ahead];
			const length = period.endsAt - period.startsAt;
			const endsAt =
				known ?? (this.#ahead < LOOK_AHEAD ? periodAt(this.#window, period.endsAt).endsAt : period.endsAt + length);
			if (known === undefined && this.#ahead < LOOK_AHEAD) this.#ends.push(endsAt);
			this.#ahead += 1;
			period = { startsAt: period.endsAt, endsAt };
		}
		return period;
	}
}
