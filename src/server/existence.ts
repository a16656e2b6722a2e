/**
 * That a limit exists: how it came to be, that the directory knows, and how it ends without leaving storage. The
 * directory is told until it has heard; a dead limit answers its peers for a moment before its storage goes.
 */

import { DOUBT_MS } from "../core/commands.ts";
import type { At } from "../core/level.ts";
import type { Limit } from "../core/limit.ts";
import { isIdle } from "../core/limit.ts";
import type { Origin } from "../protocol.ts";
import type { Env } from "./env.ts";
import type { Identity, LimitStore } from "./store.ts";

/** An idle limit that a policy made is deleted after this: as long as its last ids are remembered. */
export const POLICY_IDLE_MS = 300_000;
/** An idle limit that nobody configured is deleted after this: a day in which an operator could have seen it. */
export const DEFAULT_IDLE_MS = 86_400_000;
/** How long a deleted limit still answers peers that doubt a lease: they ask twice at least. Then its storage goes. */
const GRAVE_MS = 3 * DOUBT_MS;
/** How often the directory is told again after it did not answer. */
const REPORT_AGAIN_MS = 2_000;

const IDLE_MS: Record<Origin, number> = {
	configured: Number.POSITIVE_INFINITY,
	policy: POLICY_IDLE_MS,
	default: DEFAULT_IDLE_MS,
};

interface Deps {
	storage: DurableObjectStorage;
	store: LimitStore;
	directory(): ReturnType<Env["DIRECTORY"]["getByName"]>;
	/** The directory did not answer: an alarm is needed. */
	failed(): void;
}

export class Existence {
	/** Null: nobody has ever heard of this limit. */
	identity: Identity | null = null;
	/** When something of it last changed. */
	usedAt: At = 0;
	readonly #deps: Deps;
	#reporting = false;

	constructor(deps: Deps) {
		this.#deps = deps;
	}

	begin(name: string, origin: Origin, limit: Limit, now: At): void {
		this.identity = {
			...{ name, id: crypto.randomUUID(), origin },
			...{ createdAt: now, updatedAt: now, alive: true, reported: false },
		};
		this.usedAt = now;
		this.#deps.store.create(this.identity, limit, now);
		void this.report();
	}

	/** Settings were given by hand: from now on they are the limit's own. */
	own(now: At): void {
		this.#change({ origin: "configured", updatedAt: now });
	}

	end(now: At): void {
		this.#change({ alive: false, reported: false, updatedAt: now });
	}

	/** When something of this must be looked at. */
	dueAt(now: At): At {
		if (!this.identity) return Number.POSITIVE_INFINITY;
		const { alive, reported, updatedAt, origin } = this.identity;
		if (!reported) return now + REPORT_AGAIN_MS;
		return alive ? this.usedAt + IDLE_MS[origin] : updatedAt + GRAVE_MS;
	}

	/** Whether nobody would miss the limit: nobody configured it, nobody used it for long, and it holds nothing. */
	isUnused(limit: Limit, now: At): boolean {
		return this.identity !== null && isIdle(limit) && now >= this.usedAt + IDLE_MS[this.identity.origin];
	}

	/** Tells the directory whether this limit exists, until it has heard. */
	async report(): Promise<void> {
		if (this.#reporting) return;
		this.#reporting = true;
		try {
			while (this.identity && !this.identity.reported) {
				const told = this.identity;
				const { name, id, alive } = told;
				if (alive) await this.#deps.directory().register({ name, id });
				else await this.#deps.directory().unregister(name);
				// It may have changed while the directory was being told; then it is told again.
				if (this.identity === told) this.#change({ reported: true });
			}
		} catch (error) {
			console.warn("The directory did not answer, and is told again soon:", error);
			this.#deps.failed();
		} finally {
			this.#reporting = false;
		}
	}

	/** Deletes the storage of a dead limit, once nobody needs it. Answers whether it did. */
	async vanish(now: At): Promise<boolean> {
		if (!this.identity || this.identity.alive || !this.identity.reported) return false;
		if (now < this.identity.updatedAt + GRAVE_MS) return false;
		// All of it happens before the first await, for the name may be used again right after.
		this.identity = null;
		this.#deps.store.forget();
		await Promise.all([this.#deps.storage.deleteAlarm(), this.#deps.storage.deleteAll()]);
		return true;
	}

	#change(change: Partial<Identity>): void {
		if (!this.identity) return;
		this.identity = { ...this.identity, ...change };
		this.#deps.store.writeIdentity(this.identity);
	}
}
