/**
 * A Worker's copy of all policies, so that a name that is first seen costs one hop and not two. It is kept while it is
 * younger than `RULING_MAX_MS`, and asked for anew in the background, by one request at a time, while callers use
 * names of policies. Without a fresh copy a limit asks the directory itself.
 */

import { waitUntil } from "cloudflare:workers";
import type { At, Ms } from "../../core/time.ts";
import type { Region } from "../../protocol.ts";
import type { Env } from "../contract/env.ts";
import { directoryObject } from "../contract/placement.ts";
import { PolicyTable, RULING_MAX_MS, type Ruling } from "../contract/policies.ts";

/** Age from which a copy is asked for anew. */
const REFRESH_MS: Ms = 2_000;
/** The same, where no limit follows any: a directory that began anew is noticed by it. */
const LOOK_MS: Ms = 60_000;
/** A question that was not answered for so long is given up, for the request that asked it may be over. */
const UNANSWERED_MS: Ms = 2_000;
/** How long a directory that did not answer holds back no request. */
const FIRST_AGAIN_MS: Ms = 10_000;

class Rulings {
	#table: PolicyTable | null = null;
	/** When the copy was asked for: it is at least as new as that. */
	#askedAt: At = Number.NEGATIVE_INFINITY;
	#askingSince: At = Number.NEGATIVE_INFINITY;
	/** The directory did not answer requests that waited for the first copy: until then none waits for it. */
	#firstAgainAt: At = Number.NEGATIVE_INFINITY;
	/** When the directory began. */
	#since: number | undefined;
	/** The version that a change through this very Worker made: older ones are of no use. */
	#least = 0;

	/** What the policies say of a name; undefined: the copy is too old, or there is none. */
	rule(name: string): Ruling | undefined {
		const ageMs = Date.now() - this.#askedAt;
		if (!this.#table || ageMs > RULING_MAX_MS) return undefined;
		return { version: this.#table.version, since: this.#since ?? 0, policy: this.#table.match(name), ageMs };
	}

	/** Where the policies want a name to live. However old the copy is, it says more than none. */
	regionOf(name: string): Region | null {
		return this.#table?.regionOf(name) ?? null;
	}

	/**
	 * To be awaited before a name is called that this Worker has not heard of: it may be the first call of its object, which
	 * decides for ever where that lives. So a Worker without any copy waits for its first one, each of its first requests by a
	 * call of its own, for none may wait for what another one has asked. Undefined: there is nothing to wait for.
	 */
	first(env: Env): Promise<unknown> | undefined {
		const now = Date.now();
		if (this.#table || now < this.#firstAgainAt) return undefined;
		return Promise.race([this.#refresh(env, now), scheduler.wait(UNANSWERED_MS)]).then(() => {
			if (!this.#table) this.#firstAgainAt = Date.now() + FIRST_AGAIN_MS;
		});
	}

	/** Whether there are policies, as far as this Worker knows. */
	get known(): boolean {
		return this.#table !== null && !this.#table.isEmpty;
	}

	/** When the directory began, as far as this Worker knows. */
	get since(): number | undefined {
		return this.#since;
	}

	/** Asks for a new copy in the background, if it is time. `followed`: by limits that follow policies, and need it fresh. */
	refreshSoon(env: Env, followed: boolean): void {
		const now = Date.now();
		if (now - this.#askedAt < (followed ? REFRESH_MS : LOOK_MS) || now - this.#askingSince < UNANSWERED_MS) return;
		this.#askingSince = now;
		waitUntil(this.#refresh(env, now));
	}

	/**
	 * The policies were changed through this Worker: what it knew is of no use, and neither is what is on its way. From
	 * here on its calls bring the new version.
	 */
	async changed(env: Env, version: number): Promise<void> {
		this.#least = Math.max(this.#least, version);
		this.#askedAt = Number.NEGATIVE_INFINITY;
		await this.#refresh(env, Date.now());
	}

	async #refresh(env: Env, now: At): Promise<void> {
		try {
			const newer = await directoryObject(env).policiesAfter(this.#table?.version ?? null);
			// A slower question may be answered after a later one.
			if (newer && newer.version > (this.#table?.version ?? -1))
				this.#table = new PolicyTable(newer.version, newer.policies);
			if (newer) this.#since = newer.since;
			if (this.#table && this.#table.version >= this.#least) this.#askedAt = Math.max(this.#askedAt, now);
		} catch (error) {
			console.warn("The directory did not answer which policies there are, and is asked again soon:", error);
		} finally {
			this.#askingSince = Number.NEGATIVE_INFINITY;
		}
	}
}

/** One for each directory: a program may be bound to more than one. */
const ofDirectory = new WeakMap<Env["DIRECTORY"], Rulings>();

export function rulingsOf(env: Env): Rulings {
	let rulings = ofDirectory.get(env.DIRECTORY);
	if (!rulings) {
		rulings = new Rulings();
		ofDirectory.set(env.DIRECTORY, rulings);
	}
	return rulings;
}
