/** What another caller notices of a load: how long `/health` takes meanwhile, and how much memory there is. */

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Connection, request } from "./http.ts";
import { ascending } from "./numbers.ts";

/** Between two looks at `/health`. */
export const PROBE_MS = 5;

export function residentKb(pid: number): number {
	return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
}

/** Asks for `/health` again and again, and keeps the times. */
export class Probe {
	readonly #connection: Connection;
	#times: number[] = [];
	#stopped = false;

	private constructor(connection: Connection) {
		this.#connection = connection;
		void this.#run();
	}

	static async start(url: string): Promise<Probe> {
		return new Probe(await Connection.open(url));
	}

	/** The times since the last look, ascending. */
	take(): number[] {
		const taken = ascending(this.#times);
		this.#times = [];
		return taken;
	}

	stop(): void {
		this.#stopped = true;
		this.#connection.close();
	}

	async #run(): Promise<void> {
		const bytes = request("GET", "/health");
		while (!this.#stopped) {
			const startedAt = performance.now();
			try {
				const { status } = await this.#connection.call(bytes);
				// A wrong answer counts as none at all.
				this.#times.push(status === 200 ? performance.now() - startedAt : Number.POSITIVE_INFINITY);
			} catch {
				if (!this.#stopped) this.#times.push(Number.POSITIVE_INFINITY);
				return;
			}
			await sleep(PROBE_MS);
		}
	}
}
