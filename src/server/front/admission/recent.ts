/** A map that forgets what it learned first. */
export class Recent<T> extends Map<string, T> {
	readonly #most: number;

	constructor(most: number) {
		super();
		this.#most = most;
	}

	override set(key: string, value: T): this {
		if (this.size >= this.#most && !this.has(key)) this.delete(this.keys().next().value as string);
		return super.set(key, value);
	}
}
