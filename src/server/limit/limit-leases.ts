/** What is done with a request, or with a lease, by its id. */

import type { Command } from "../../core/commands.ts";
import type { Ended, Limit } from "../../core/limit.ts";
import type { At } from "../../core/time.ts";
import type { Missing, Outcome } from "../contract/answers.ts";
import type { Env } from "../contract/env.ts";
import type { Answer } from "./committer.ts";
import type { Waiters } from "./hearers.ts";
import { LimitViews, type Look } from "./limit-views.ts";

/** A limit's object, as seen from here. Not methods of it, for these are out of reach of calls from outside. */
export interface Its {
	look: Look;
	limit(): Limit | null;
	/** Throws where the stored data is newer than this code. */
	exists(): boolean;
	/** Whether it exists after all, where its storage is empty; throws where the directory knows that it was not. */
	cameToBe(): Promise<boolean>;
	readonly waiters: Waiters;
	rightClock(sentAt: At | undefined): Promise<void> | undefined;
	submit(command: Command): Promise<Answer>;
	answer(command: Command, id: string): Promise<Outcome>;
	recall(id: string, whose: "last" | "before"): Ended | undefined;
}

export abstract class LimitLeases extends LimitViews {
	readonly #its: Its;

	constructor(ctx: DurableObjectState, env: Env, its: Its) {
		super(ctx, env, its.look);
		this.#its = its;
	}

	async commit(id: string, peers: string[]): Promise<Outcome | Missing> {
		if (!this.#its.limit()) return { missing: true };
		return this.#its.answer({ kind: "commit", id, peers }, id);
	}

	async cancel(id: string, keepPlace: boolean): Promise<Outcome | Missing> {
		if (!this.#its.limit()) return { missing: true };
		return this.#its.answer({ kind: "cancel", id, keepPlace }, id);
	}

	/** Keeps a reservation or a parked place; false when it is gone. */
	async touch(id: string, sentAt?: At): Promise<boolean> {
		await this.#its.rightClock(sentAt);
		if (!this.#its.limit()) return false;
		const { events } = await this.#its.submit({ kind: "touch", id });
		return !events.some((event) => event.kind === "gone" && event.id === id);
	}

	/** Null: this limit does not exist. */
	async renew(id: string, leaseMs: number | null, sentAt?: At): Promise<Outcome | null> {
		await this.#its.rightClock(sentAt);
		if (!this.#its.exists() && !(await this.#its.cameToBe())) return null;
		return this.#its.answer({ kind: "renew", id, leaseMs }, id);
	}

	async release(
		id: string,
		by: "caller" | "operator" | "unheard",
		sentAt?: At,
	): Promise<(Outcome & { found: boolean }) | null> {
		await this.#its.rightClock(sentAt);
		if (!this.#its.exists() && !(await this.#its.cameToBe())) return null;
		const found = this.#its.limit()?.entries.has(id) ?? false;
		return { ...(await this.#its.answer({ kind: "release", id, by }, id)), found };
	}

	/** The caller of a held call has gone: its request leaves the line, or its lease ends, unless it came back. */
	async leave(id: string, call: string): Promise<void> {
		if (this.#its.waiters.leave(id, call) && this.#its.limit())
			await this.#its.submit({ kind: "release", id, by: "unheard" });
	}

	/**
	 * The caller of a coordinator has gone: its place is passed by others, and what was set aside for it is theirs. Not
	 * so if it is back already, by another coordinator.
	 */
	async stepBack(id: string, call: string): Promise<void> {
		if (!this.#its.waiters.speaks(id, call)) return;
		await this.leave(id, call);
	}

	/** So many denials were given in its name from the memory of a Worker. */
	async absorbed(denials: number): Promise<void> {
		if (this.#its.exists()) await this.#its.submit({ kind: "absorbed", denials });
	}

	/** Whether each of these requests committed here. Those that did not never will. */
	async vouch(ids: string[]): Promise<boolean[]> {
		const exists = this.#its.exists() || (await this.#its.cameToBe());
		return Promise.all(
			ids.map(async (id) => {
				// A limit that was deleted still knows whom it had granted, also when its name is used again.
				const past = this.#its.recall(id, exists ? "before" : "last");
				if (past && past.kind !== "cancelled") return true;
				if (!exists) return false;
				const { event } = await this.#its.answer({ kind: "vouch", id }, id);
				return event.kind === "vouched" && event.committed;
			}),
		);
	}
}
