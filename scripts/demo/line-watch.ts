/** Looks at a limit again and again: who stands in line, in which order, and how many slots are taken. */

import { setTimeout as sleep } from "node:timers/promises";
import { Headgate } from "../../src/client/index.ts";

/** A look shows the first hundred of the line, and a place among them lasts far longer than this. */
const LOOK_MS = 50;

export class LineWatch {
	/** Request ids in the order in which they stood in line. */
	readonly order: string[] = [];
	/** The most slots that were taken at any look. */
	mostSlots = 0;
	readonly #seen = new Set<string>();
	readonly #gate: Headgate;
	readonly #name: string;
	#stopped = false;
	readonly #running: Promise<void>;

	constructor(url: string, name: string) {
		this.#gate = new Headgate({ url });
		this.#name = name;
		this.#running = this.#run();
	}

	async stop(): Promise<void> {
		this.#stopped = true;
		await this.#running;
	}

	async #run(): Promise<void> {
		while (!this.#stopped) {
			const { activeSlots, waiting } = await this.#gate.inspect(this.#name);
			this.mostSlots = Math.max(this.mostSlots, activeSlots);
			// A line only grows at its end, so whoever is new stands behind all the others.
			for (const { id } of waiting) {
				if (this.#seen.has(id)) continue;
				this.#seen.add(id);
				this.order.push(id);
			}
			await sleep(LOOK_MS);
		}
	}
}
