/**
 * That a limit exists: how it came to be, whose settings it has, that the directory knows, and how it ends without
 * leaving storage. The directory is told until it has heard; a dead limit answers its peers for a moment before its
 * storage goes. A key of a policy does not tell it at first: most of them are used once.
 */

import { isIdle, type Limit, wallClock } from "../../core/limit.ts";
import { DOUBT_MS } from "../../core/patience.ts";
import type { At, Ms } from "../../core/time.ts";
import type { Origin, Policy, Region } from "../../protocol.ts";
import type { Placed } from "../contract/limit-calls.ts";
import type { directoryObject } from "../contract/placement.ts";
import { DamagedDataError, type Identity, type LimitStore, lostData } from "./store.ts";

/** An idle limit without settings of its own is deleted after this: a day in which an operator could have seen it. */
export const DEFAULT_IDLE_MS: Ms = 86_400_000;
/** A key of a policy that is used again after this is made known to the directory, and so to lists. */
export const LIST_AFTER_MS: Ms = 10_000;
/** How long a deleted limit still answers peers that doubt a lease: they ask twice at least. Then its storage goes. */
const GRAVE_MS = 3 * DOUBT_MS;
/** How soon the directory, or the sums of a policy, are told again when they did not answer: soon at first, and ever later while nothing else happens. */
const TELL_AGAIN_MS = { first: 2_000, last: 60_000 };

/** Whose settings a limit has. */
export interface Source {
	origin: Origin;
	/** The policy that it follows, or overrides. */
	policy: Policy | null;
	/** The version of the policies that says so. */
	version: number;
	/** The token that configured it by hand. */
	by: string | null;
	/** Where it is to live if it comes to be by this; absent: where the policy says. */
	region?: Region | null | undefined;
}

interface Deps {
	storage: DurableObjectStorage;
	store: LimitStore;
	directory(): ReturnType<typeof directoryObject>;
	/** Where the deployment wants objects to live. */
	region(): Region | null;
	/** The directory has heard, or did not answer: an alarm is needed for another moment. */
	reported(): void;
}

export class Lifecycle {
	/** Null: there is no limit here, and none that the directory still is to hear of. */
	identity: Identity | null = null;
	/** When something of it last changed. */
	usedAt: At = 0;
	/** Until when requests that moved elsewhere are led on from here. */
	leadsUntil: At | null = null;
	readonly #deps: Deps;
	#reporting = false;
	/** Something is to be told, and no call that tells it has set out yet. */
	#untold = false;
	/** When the directory is to be told, if it has not heard by then. */
	#tellAt: At | null = null;
	/** Nothing is stored here because there never was a limit of this name, or because it is gone. */
	#isNew = false;
	/** Its end waits until then. */
	#staysUntil: At = Number.NEGATIVE_INFINITY;

	constructor(deps: Deps) {
		this.#deps = deps;
	}

	begin(name: string, source: Source, limit: Limit, now: At): void {
		const listed = source.origin !== "policy";
		this.identity = {
			...{ name, id: crypto.randomUUID(), ...fieldsOf(source) },
			...{ createdAt: now, updatedAt: now, alive: true, listed, reported: !listed },
			// As the Worker says it to the runtime, which does not tell.
			region: source.region ?? source.policy?.region ?? this.#deps.region(),
		};
		this.usedAt = now;
		this.#untold = listed;
		this.#deps.store.create(this.identity, limit, now);
	}

	/**
	 * Nothing is stored here: the name is new, unless the directory knows it. Then the data is lost, which is thrown and not
	 * made good by a limit that holds nothing. `id`: the limit that is about to move in.
	 */
	async checkNew(name: string, id: string | null = null): Promise<void> {
		if (this.identity || this.#isNew) return;
		const known = await this.#deps.directory().idOf(name);
		if (this.identity) return;
		if (known !== null && known !== id) throw lostData(name);
		this.#isNew = true;
	}

	/** The same for calls that grant nothing: who asks for slots has to know for sure. */
	async checkNewIfPossible(name: string): Promise<void> {
		try {
			await this.checkNew(name);
		} catch (error) {
			if (error instanceof DamagedDataError) throw error;
			console.warn("The directory did not answer whether there was a limit here:", error);
		}
	}

	/** The data of this limit is lost, and an operator lets it go. Answers whether the directory knew it. */
	async forget(name: string): Promise<boolean> {
		if (this.identity || this.#isNew || (await this.#deps.directory().idOf(name)) === null) return false;
		await this.#deps.directory().unregister(name);
		this.#isNew = true;
		return true;
	}

	/** A call brings when the directory began: one that began anew has to be told again. */
	heardOf(since: At | undefined): void {
		if (since === undefined || !this.identity?.alive || !this.identity.listed || !this.identity.reported) return;
		if (since <= (this.identity.since ?? 0)) return;
		this.#change({ reported: false });
		this.#untold = true;
	}

	/** Its settings have another source from now on: by hand they are its own, and else those of a policy, or the defaults. */
	change(source: Source, now: At): void {
		if (!this.identity) return;
		// What no longer blocks a caller, or is there to stay, is for an operator to see.
		// The directory also knows which names follow a policy: there may be too many of them to be asked one by one.
		const { listed } = this.identity;
		const crosses = (this.identity.origin === "policy") !== (source.origin === "policy");
		const listing = (listed ? crosses : source.origin !== "policy") && { listed: true, reported: false };
		this.#change({ ...fieldsOf(source), ...listing, updatedAt: now });
		if (listing) this.#untold = true;
	}

	/** Where it was asked to live, if `region` is another place; null: it is not, or there is no limit. */
	placedElsewhere(region: Region | null | undefined): Placed | null {
		if (!region || !this.identity?.alive || this.identity.region === region) return null;
		return { placed: this.identity.region };
	}

	/**
	 * `endedAt`: when there was last anything that a caller could miss. What the directory never knew may go without its end
	 * being written, where its storage is deleted right after: a crash between the two leaves a limit that is idle.
	 */
	end(endedAt: At, vanishing = false): void {
		const listed = this.identity?.listed ?? true;
		this.#change({ alive: false, reported: !listed, updatedAt: endedAt }, vanishing && !listed ? "not" : "now");
	}

	/**
	 * After every decision: the directory is told of what is new, and of a key of a policy that is here to stay, for it
	 * is used again or kept beyond its idle time. `used`: by a caller, and not by time alone.
	 */
	after(now: At, used: boolean): void {
		const { identity } = this;
		if (used && identity?.alive && !identity.listed && now - identity.createdAt >= LIST_AFTER_MS) this.list();
		if (!this.#untold) return;
		this.#untold = false;
		void this.report();
	}

	/** Of its totals, this much was told to those who add them up. */
	told(told: NonNullable<Identity["told"]>): void {
		this.#change({ told }, "soon");
	}

	/** Lists are to have this key of a policy. */
	list(): void {
		if (!this.identity?.alive || this.identity.listed) return;
		this.#change({ listed: true, reported: false });
		this.#untold = true;
	}

	/** Time alone came to pass, and the limit is still there: it is listed when it holds something. */
	outlasted(limit: Limit | null, now: At): void {
		const idleMs = this.identity?.idleMs ?? Number.POSITIVE_INFINITY;
		if (limit && !isIdle(limit) && now >= this.usedAt + idleMs) this.list();
	}

	/**
	 * When something can be done about this: never before, for an alarm costs a write and a call, whether anything comes of
	 * it or not.
	 */
	dueAt(limit: Limit | null, now: At): At {
		if (!this.identity) return Number.POSITIVE_INFINITY;
		const { alive, reported, updatedAt } = this.identity;
		if (!reported) {
			this.#tellAt ??= now + this.#againMs(now);
			return this.#tellAt;
		}
		if (!alive || !limit) return this.#goneAt(updatedAt, now);
		return Math.min(this.leadsUntil ?? Number.POSITIVE_INFINITY, this.#endsAt(limit, now));
	}

	/** When it may end, or is to be listed because it cannot. What ends a request looks here again. */
	#endsAt(limit: Limit, now: At): At {
		const { idleMs, listed } = this.identity as Identity;
		if (idleMs === null) return Number.POSITIVE_INFINITY;
		const idleAt = this.usedAt + idleMs;
		if (limit.entries.size > 0 || limit.unleased > 0) return listed ? Number.POSITIVE_INFINITY : idleAt;
		const emptyAt = wallClock(limit, limit.level.reaches(0n));
		return Math.max(idleAt, emptyAt, this.#deps.store.idsUntil(now) ?? 0, this.#staysUntil);
	}

	/**
	 * Whether the limit would not be missed: it has no settings of its own, was not used for long, holds nothing, and no id is
	 * remembered.
	 */
	isUnused(limit: Limit | null, now: At): boolean {
		const idleMs = this.identity?.idleMs ?? null;
		if (limit === null || idleMs === null || !isIdle(limit)) return false;
		return now >= this.usedAt + idleMs && this.#deps.store.idsUntil(now) === null;
	}

	/** It was to end, and something could not be told that would be lost with it. */
	stays(now: At): void {
		this.#staysUntil = now + this.#againMs(now);
	}

	/** Where no id is remembered there is nothing that a peer could be told. */
	#goneAt(endedAt: At, now: At): At {
		const isAsked = this.#deps.store.idsUntil(now) !== null;
		return Math.max(isAsked ? endedAt + GRAVE_MS : 0, this.leadsUntil ?? 0);
	}

	#againMs(now: At): Ms {
		return Math.min(TELL_AGAIN_MS.last, Math.max(TELL_AGAIN_MS.first, now - this.usedAt));
	}

	/** Tells the directory whether this limit exists, until it has heard. */
	async report(): Promise<void> {
		if (this.#reporting || !this.identity || this.identity.reported) return;
		this.#reporting = true;
		try {
			while (this.identity && !this.identity.reported) {
				const told: Identity = this.identity;
				const { name, id, alive, origin } = told;
				const directory = this.#deps.directory();
				const since = alive
					? await directory.register({ name, id, own: origin !== "policy" })
					: await directory.unregister(name);
				// It may have changed while the directory was being told; then it is told again.
				if (this.identity !== told) continue;
				this.#change({ reported: true, since });
				this.#tellAt = null;
			}
		} catch (error) {
			console.warn("The directory did not answer, and is told again soon:", error);
			this.#tellAt = null;
		} finally {
			this.#reporting = false;
		}
		this.#deps.reported();
	}

	/** Deletes the storage of a dead limit, once no peer needs it. Answers whether it did. */
	async vanish(now: At): Promise<boolean> {
		if (!this.identity || this.identity.alive || !this.identity.reported) return false;
		if (now < this.#goneAt(this.identity.updatedAt, now)) return false;
		// All of it happens before the first await, for the name may be used again right after.
		this.identity = null;
		this.#isNew = true;
		this.#deps.store.forget();
		await Promise.all([this.#deps.storage.deleteAlarm(), this.#deps.storage.deleteAll()]);
		return true;
	}

	#change(change: Partial<Identity>, written: "now" | "soon" | "not" = "now"): void {
		if (!this.identity) return;
		this.identity = { ...this.identity, ...change };
		if (written !== "not") this.#deps.store.writeIdentity(this.identity, written);
	}
}

function fieldsOf({ origin, policy, version, by }: Source) {
	const idle = { configured: null, policy: (policy?.idleSeconds ?? 0) * 1_000, default: DEFAULT_IDLE_MS };
	const updatedBy = origin === "configured" ? by : (policy?.updatedBy ?? null);
	return { origin, policy: policy?.pattern ?? null, version, idleMs: idle[origin], updatedBy };
}
