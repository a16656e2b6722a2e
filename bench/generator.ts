/** Starts the load generator, and hands it one load at a time. */

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import type { Load, LoadResult } from "./load.ts";

export class Generator implements AsyncDisposable {
	readonly #child: ChildProcess = fork(path.join(import.meta.dirname, "load.ts"));

	get pid(): number {
		if (this.#child.pid === undefined) throw new Error("The load generator could not be started.");
		return this.#child.pid;
	}

	async run(load: Load): Promise<LoadResult> {
		this.#child.send(load);
		const [answer] = (await once(this.#child, "message")) as [{ result?: LoadResult; error?: string }];
		if (!answer.result) throw new Error(`The load on ${load.url} failed: ${answer.error}`);
		return answer.result;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
		const exited = once(this.#child, "exit");
		this.#child.kill();
		await exited;
	}
}
