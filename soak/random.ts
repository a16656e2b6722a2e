/** Choices of a run, all of them from its seed. */

export class Random {
	#state: number;

	constructor(seed: number) {
		this.#state = seed >>> 0;
	}

	/** From 0 to below 1 (mulberry32). */
	next(): number {
		this.#state = (this.#state + 0x6d2b79f5) >>> 0;
		let mixed = this.#state;
		mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
		mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
		return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
	}

	/** Both ends are included. */
	int(least: number, most: number): number {
		return least + Math.floor(this.next() * (most - least + 1));
	}

	chance(share: number): boolean {
		return this.next() < share;
	}

	pick<T>(of: readonly T[]): T {
		return of[this.int(0, of.length - 1)] as T;
	}

	/** One of the keys, each as often as its weight says. */
	weighted<K extends string>(weights: Record<K, number>): K {
		const all = Object.entries(weights) as [K, number][];
		let left = this.next() * all.reduce((sum, [, weight]) => sum + weight, 0);
		for (const [key, weight] of all) {
			left -= weight;
			if (left < 0) return key;
		}
		return (all.at(-1) as [K, number])[0];
	}

	shuffled<T>(of: readonly T[]): T[] {
		const all = [...of];
		for (let at = all.length - 1; at > 0; at -= 1) {
			const other = this.int(0, at);
			[all[at], all[other]] = [all[other] as T, all[at] as T];
		}
		return all;
	}

	/** Choices of its own for each part of a run, so that one that makes more of them does not shift the others. */
	fork(): Random {
		return new Random(Math.floor(this.next() * 2 ** 32));
	}
}
