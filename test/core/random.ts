/** Numbers that look random and come again with the same seed: sfc32, seeded through splitmix32. */
export class Random {
	#a: number;
	#b: number;
	#c: number;
	#counter = 1;

	constructor(seed: number) {
		let state = seed | 0;
		const mix = (): number => {
			state = (state + 0x9e3779b9) | 0;
			let mixed = state ^ (state >>> 16);
			mixed = Math.imul(mixed, 0x21f0aaad);
			mixed ^= mixed >>> 15;
			mixed = Math.imul(mixed, 0x735a2d97);
			return mixed ^ (mixed >>> 15);
		};
		this.#a = mix();
		this.#b = mix();
		this.#c = mix();
		for (let round = 0; round < 12; round += 1) this.#next();
	}

	#next(): number {
		const sum = (this.#a + this.#b + this.#counter) | 0;
		this.#counter = (this.#counter + 1) | 0;
		this.#a = this.#b ^ (this.#b >>> 9);
		this.#b = (this.#c + (this.#c << 3)) | 0;
		this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
		return sum >>> 0;
	}

	/** A whole number of `least` to `most`, both included. */
	int(least: number, most: number): number {
		return least + Math.floor((this.#next() / 2 ** 32) * (most - least + 1));
	}

	chance(probability: number): boolean {
		return this.#next() / 2 ** 32 < probability;
	}

	pick<T>(items: readonly T[]): T {
		if (items.length === 0) throw new RangeError("Nothing to pick from.");
		return items[this.int(0, items.length - 1)] as T;
	}

	/** One of the keys, each as often as its weight says. */
	weighted<K extends string>(weights: Record<K, number>): K {
		const entries = Object.entries(weights) as [K, number][];
		let left = (this.#next() / 2 ** 32) * entries.reduce((sum, [, weight]) => sum + weight, 0);
		for (const [key, weight] of entries) {
			left -= weight;
			if (left < 0) return key;
		}
		return (entries.at(-1) as [K, number])[0];
	}
}
