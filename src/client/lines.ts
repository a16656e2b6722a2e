/** The lines of a stream, as they come. */

import { Interruption } from "./interruption.ts";
import { startTimer } from "./timers.ts";

/** Longest line of an answer; a lease of sixteen long names has a tenth of it. */
const LINE_MAX = 262_144;
/** How long the end of an answer may take after the verdict. */
const DRAIN_MS = 5_000;

export class Lines {
	readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
	readonly #decoder = new TextDecoder();
	#rest = "";

	constructor(response: Response) {
		if (!response.body) throw new Interruption("an answer without a body");
		this.#reader = response.body.getReader();
	}

	async next(): Promise<string> {
		for (;;) {
			const end = this.#rest.indexOf("\n");
			if (end >= 0) {
				const line = this.#rest.slice(0, end);
				this.#rest = this.#rest.slice(end + 1);
				return line;
			}
			if (this.#rest.length > LINE_MAX) throw new Interruption(`a line of more than ${LINE_MAX} characters`);
			const chunk = await this.#read();
			if (!chunk) throw new Interruption("the answer ended without a verdict");
			this.#rest += this.#decoder.decode(chunk, { stream: true });
		}
	}

	/**
	 * Reads to the end, and answers whether it came as it should. To cancel instead would tell the service that its
	 * caller has gone, at the very moment when it has granted the slots.
	 */
	async drain(attempt: AbortController): Promise<boolean> {
		const stop = startTimer(DRAIN_MS, () => attempt.abort(), true);
		try {
			while (await this.#read());
			return true;
		} catch {
			return false;
		} finally {
			stop();
		}
	}

	async #read(): Promise<Uint8Array | undefined> {
		try {
			return (await this.#reader.read()).value;
		} catch (error) {
			throw new Interruption("the connection broke", error);
		}
	}
}
