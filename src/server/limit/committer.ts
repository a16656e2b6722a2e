/**
 * Shared commits. Calls that arrive while a commit is being written share the next one: each is decided in its
 * order, all is written once, and nobody is answered before the write is durable.
 */

import type { Command, Event } from "../../core/commands.ts";
import type { Status } from "../contract/answers.ts";
import type { Hearer } from "./hearers.ts";

/** What a command came to. */
export interface Answer {
	events: Event[];
	status: Status;
}

export interface Job {
	/** What is done before the command is decided, in the same transaction: the limit is made, or its settings' source noted. */
	first?: (() => void) | undefined;
	command: Command;
	/** Who hears the answer; events of other requests go to those who wait for them. */
	hearer: Hearer | null;
	answered: (answer: Answer) => void;
	failed: (error: unknown) => void;
}

/** Whether somebody asks for something, and time does not merely pass. */
export const isAsked = ({ command }: Job): boolean => command.kind !== "tick" && command.kind !== "inspect";

/** Tells what was decided: first to calls, which the output gate holds back, and after the commit to the `ungated`. */
export type Tell = (ungated: boolean) => Promise<void> | undefined;

interface Deps {
	/** Decides all of these and writes what changed, in one transaction; answers whether there is a commit to wait for. */
	decide(jobs: Job[]): { tell: Tell[]; written: boolean };
	/** Resolves when everything written so far is durable. */
	sync(): Promise<void>;
	/** A write failed: memory is ahead of storage, and must be thrown away. */
	abort(reason: string): void;
}

export class Commits {
	readonly #deps: Deps;
	#jobs: Job[] = [];
	#writing = false;

	constructor(deps: Deps) {
		this.#deps = deps;
	}

	submit(command: Command, hearer: Hearer | null = null, first?: () => void): Promise<Answer> {
		return new Promise((answered, failed) => {
			this.#jobs.push({ first, command, hearer, answered, failed });
			if (!this.#writing) void this.#write();
		});
	}

	/** Done when everything decided so far is written, and told. */
	async idle(): Promise<void> {
		while (this.#writing) await this.#deps.sync();
	}

	/** A command that nobody waits for. */
	run(command: Command, first?: () => void): void {
		// A failure has thrown the object away already; there is nobody to tell.
		this.submit(command, null, first).catch(() => undefined);
	}

	/** Decides and writes all that waits, then what arrived meanwhile, until nothing is left. */
	async #write(): Promise<void> {
		this.#writing = true;
		while (this.#jobs.length > 0) {
			const jobs = this.#jobs;
			this.#jobs = [];
			try {
				const { tell, written } = this.#deps.decide(jobs);
				const committed = written ? this.#deps.sync() : null;
				// Calls may be answered now: the output gate lets no answer out before the commit.
				for (const each of tell) {
					const telling = each(false);
					if (telling) await telling;
				}
				if (committed) await committed;
				for (const each of tell) {
					const telling = each(true);
					if (telling) await telling;
				}
			} catch (error) {
				for (const job of [...jobs, ...this.#jobs]) job.failed(error);
				return this.#deps.abort(`A write failed: ${error instanceof Error ? error.message : String(error)}`);
			}
		}
		this.#writing = false;
	}
}
