/** So many a minute, all of them at once if need be: a bucket that fills again steadily. */
export class Rate {
	#used = 0;
	#at = 0;

	/** Takes one; false: `perMinute` were taken and have not come back yet. */
	take(perMinute: number, now: number): boolean {
		const back = (Math.max(0, now - this.#at) / 60_000) * perMinute;
		this.#used = Math.max(0, this.#used - back);
		this.#at = now;
		if (this.#used + 1 > perMinute) return false;
		this.#used += 1;
		return true;
	}

	putBack(): void {
		this.#used = Math.max(0, this.#used - 1);
	}
}
