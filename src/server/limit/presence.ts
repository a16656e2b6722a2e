/** What every call makes sure of before anything is decided: that the object can be asked, and that the limit is here. */

import type { History } from "../../core/history.ts";
import type { Limit } from "../../core/limit.ts";
import type { At } from "../../core/time.ts";
import { checkClock, clockFault } from "../contract/clock.ts";
import type { Ruling } from "../contract/policies.ts";
import type { Committer } from "./committer.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { PolicyFollower } from "./policy-follower.ts";
import type { Identity, LimitStore } from "./store.ts";

/** A limit that exists, apart from its state. */
export interface Present {
	identity: Identity;
	history: History;
	now: At;
}

interface Deps {
	storage: DurableObjectStorage;
	store: LimitStore;
	lifecycle: Lifecycle;
	committer: Committer;
	follower: PolicyFollower;
	/** The stored data is newer than this code, or torn: then nothing is touched and nothing answered. */
	unread: Error | null;
	name(): string;
	abort(reason: string): void;
}

export class Presence {
	readonly #deps: Deps;

	constructor(deps: Deps) {
		this.#deps = deps;
	}

	/** Throws where the limit's clock is not the one of the Worker that calls; see `clock.ts`. */
	rightClock(sentAt: At | undefined): void {
		if (this.#deps.committer.limit) checkClock(sentAt, Date.now());
	}

	/** Throws the object away if its clock stands still, once no caller is owed an answer to what was decided. */
	async clockWasSet(workerAt: At): Promise<void> {
		const { storage, committer, abort } = this.#deps;
		const reason = committer.limit && clockFault(storage.kv, workerAt, Date.now());
		if (reason === null) return;
		console.warn(reason);
		await committer.idle();
		await storage.sync();
		abort(reason);
		throw new Error(reason);
	}

	/** Throws where the stored data is newer than this code, or torn. */
	exists(): boolean {
		if (this.#deps.unread) throw this.#deps.unread;
		return this.#deps.committer.limit !== null;
	}

	/** Whether a limit that was not here is by now; thrown, where it has been and its data is lost. */
	async cameToBe(): Promise<boolean> {
		const { lifecycle, committer, name } = this.#deps;
		await lifecycle.checkNewIfPossible(name());
		return committer.limit !== null;
	}

	/** All three; no promise where the limit is here. */
	isHere(sentAt?: At): boolean | Promise<boolean> {
		this.rightClock(sentAt);
		return this.exists() || this.cameToBe();
	}

	/** Reads something off the limit as it is now: time is let run first. Null: it does not exist. */
	async look<T>(read: (limit: Limit, present: Present) => T, ruling?: Ruling, sentAt?: At): Promise<Awaited<T> | null> {
		const { store, lifecycle, committer, follower } = this.#deps;
		if (!(await this.isHere(sentAt))) return null;
		await follower.look(ruling, Date.now());
		await committer.submit({ kind: "inspect" });
		const { limit } = committer;
		const { identity } = lifecycle;
		return limit && identity && (await read(limit, { identity, history: store.history, now: Date.now() }));
	}
}
