/**
 * How a limit without settings of its own keeps to the policies. Each request brings what its Worker knows of them; where
 * that is nothing, or not fresh, the directory is asked. While a caller waits in line the limit looks by itself, for a
 * changed policy may be what it waits for.
 */

import type { Limit } from "../../core/limit.ts";
import type { At } from "../../core/time.ts";
import type { Settings } from "../../protocol.ts";
import type { By } from "../contract/limit-calls.ts";
import type { LimitRequest } from "../contract/outcomes.ts";
import { DEFAULT_SETTINGS, RULING_MAX_MS, type Ruling, sameSettings, settingsOf } from "../contract/policies.ts";
import type { Lifecycle, Source } from "./lifecycle.ts";

/** How soon the directory is asked again after it did not answer. */
const AGAIN_MS = 1_000;

/** What is done in the transaction of a request, before it is decided. */
export type First = () => void;
const NOTHING: First = () => undefined;

interface Deps {
	lifecycle: Lifecycle;
	limit(): Limit | null;
	/** Rejects where the data of this limit is lost, and where the directory cannot be asked. */
	checkNew(): Promise<void>;
	/** Asks the directory. */
	match(): Promise<Omit<Ruling, "ageMs">>;
	/** Makes the limit, unless it is there by now. */
	begin(settings: Settings, source: Source): void;
	/** Gives the limit these settings, and in the same transaction their source. */
	configure(settings: Settings, source: () => void): void;
}

export class PolicyFollower {
	readonly #deps: Deps;
	/** The moment that what was last seen of the policies was true for. */
	#lookedAt: At = Number.NEGATIVE_INFINITY;
	/** The newest version seen. */
	#version = -1;
	#asking: Promise<void> | null = null;
	#timer: ReturnType<typeof setTimeout> | null = null;

	constructor(deps: Deps) {
		this.#deps = deps;
	}

	/**
	 * Sees that the limit exists, if it is to, and that its settings are as the policies say. Answers what is to be done
	 * first, in the same transaction, to decide the request; null: the limit does not exist, or it has no settings, its own or a policy's,
	 * and the request is strict.
	 */
	ready(exists: boolean, wanted: LimitRequest, now: At): First | null | Promise<First | null> {
		const { createIfMissing, strict = false, ruling, since } = wanted;
		if (exists) {
			this.#deps.lifecycle.heardOf(since);
			const counts = () => (strict && this.#isByDefault(ruling) ? null : NOTHING);
			return this.look(ruling, now)?.then(counts) ?? counts();
		}
		// Keys of a policy are many, and hold what the policy says: they are not worth a second hop.
		if (createIfMissing && ruling?.policy) return () => this.#make(ruling, now);
		return this.#readyAnew(wanted, now);
	}

	async #readyAnew({ createIfMissing, strict = false, ruling }: LimitRequest, now: At): Promise<First | null> {
		const [asked] = await Promise.all([createIfMissing ? (ruling ?? this.#match()) : null, this.#deps.checkNew()]);
		if (this.#deps.limit()) return strict && this.#isByDefault(ruling) ? null : NOTHING;
		if (!asked || (strict && !asked.policy)) return null;
		return () => this.#make(asked, now);
	}

	/** Whether the limit has no settings, its own or a policy's. What has just been seen of the policies may still be on its way there. */
	#isByDefault(ruling: Ruling | undefined): boolean {
		const { identity } = this.#deps.lifecycle;
		if (!identity || identity.origin === "configured") return false;
		return ruling && ruling.version > identity.version ? ruling.policy === null : identity.origin === "default";
	}

	/** The source of settings that are given by hand. */
	async byHand({ token, ruling, region }: By): Promise<Source> {
		// That it overrides a policy is said for the operator's eyes: the settings do not depend on it.
		const known = ruling ?? (await this.#match().catch(() => ({ policy: null, version: 0 })));
		this.#deps.lifecycle.heardOf(ruling?.since);
		return { origin: "configured", policy: known.policy, version: known.version, by: token, region };
	}

	/** Sees that the limit has the settings that the policies say. Undefined: there is nothing to wait for. */
	look(ruling: Ruling | undefined, now: At): Promise<void> | undefined {
		const { identity } = this.#deps.lifecycle;
		if (!identity?.alive || identity.origin === "configured") return undefined;
		if (ruling) return this.#keepTo(ruling, now);
		if (now - this.#lookedAt <= RULING_MAX_MS) return undefined;
		this.#asking ??= this.#ask().finally(() => {
			this.#asking = null;
		});
		return this.#asking;
	}

	/** After every decision: while a caller waits in line, the policies are looked at in time. */
	watch(): void {
		const waits = (): boolean => (this.#deps.limit()?.sums.waiting ?? 0) > 0;
		if (this.#timer || !waits() || this.#deps.lifecycle.identity?.origin === "configured") return;
		this.#timer = setTimeout(() => {
			this.#timer = null;
			if (!waits()) return;
			void this.look(undefined, Date.now());
			this.watch();
		}, RULING_MAX_MS);
	}

	/** A limit comes to be by its first use. */
	#make(ruling: Ruling, now: At): void {
		this.#deps.begin(ruling.policy ?? DEFAULT_SETTINGS, sourceOf(ruling));
		this.#version = Math.max(this.#version, ruling.version);
		this.#lookedAt = now - ruling.ageMs;
	}

	async #match(): Promise<Ruling> {
		const asked = { ...(await this.#deps.match()), ageMs: 0 };
		this.#deps.lifecycle.heardOf(asked.since);
		return asked;
	}

	async #ask(): Promise<void> {
		const now = Date.now();
		try {
			this.#keepTo(await this.#match(), now);
		} catch (error) {
			// The limit goes on as it is: it is known how it was set, and not that this has changed.
			console.warn("The directory did not answer what the policies say, and is asked again soon:", error);
			this.#lookedAt = now - RULING_MAX_MS + AGAIN_MS;
		}
	}

	#keepTo(ruling: Ruling, now: At): undefined {
		const { lifecycle } = this.#deps;
		const { identity } = lifecycle;
		const limit = this.#deps.limit();
		if (!identity || !limit) return;
		this.#lookedAt = Math.max(this.#lookedAt, now - ruling.ageMs);
		// Another Worker may know of less.
		if (ruling.version <= Math.max(this.#version, identity.version)) return;
		const { policy } = ruling;
		// The directory began anew and has lost its policies. The one that this limit follows was not deleted.
		if (policy === null && identity.origin === "policy" && identity.version < ruling.since) return;
		this.#version = ruling.version;
		const settings = settingsOf(policy ?? DEFAULT_SETTINGS);
		const source = sourceOf(ruling);
		const same =
			identity.origin === source.origin &&
			identity.policy === (policy?.pattern ?? null) &&
			(policy === null || identity.idleMs === policy.idleSeconds * 1_000) &&
			sameSettings(settings, limit.settings);
		if (!same) this.#deps.configure(settings, () => lifecycle.change(source, now));
	}
}

/** Of a name that has no settings, its own or a policy's. */
const sourceOf = ({ policy, version }: Ruling): Source => ({
	...{ origin: policy ? "policy" : "default", policy, version, by: null },
});
