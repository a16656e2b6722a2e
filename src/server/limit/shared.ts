/**
 * A limit whose line its callers share: each token has a part of it, and nobody's part is the whole. Who has how many
 * requests here is known to the object alone, while it is in memory: after a restart those who come back count anew.
 */

import type { Entry } from "../../core/limit.ts";
import type { Ask, Missing, Outcome } from "../contract/answers.ts";
import { digestOf } from "../front/digests.ts";
import { Line } from "./hearer-stream.ts";
import { LimitObject } from "./limit-object.ts";
import * as views from "./views.ts";

/** When a caller whose part is taken is to ask again: as long as a request waits where nothing says more. */
const AGAIN_MS = 1_000;
/** Ids that are digested at once: a page of them takes a millisecond or two. */
const DIGESTS_AT_ONCE = 500;

export class SharedLimit extends LimitObject {
	/** Of each token, ids of requests that waited or held a stream; those that are over are found out when it matters. */
	readonly #ids = new Map<string, Set<string>>();

	override async acquire(ask: Ask): Promise<Outcome | Missing> {
		const refusal = this.#refusal(ask);
		if (refusal) return refusal;
		const existed = this.limit !== null;
		const answer = await super.acquire(ask);
		return existed || "missing" in answer ? answer : { ...answer, made: true };
	}

	override async reserve(ask: Ask): Promise<Outcome | Missing> {
		const refusal = this.#refusal(ask);
		if (refusal) return refusal;
		const existed = this.limit !== null;
		const answer = await super.reserve(ask);
		return existed || "missing" in answer ? answer : { ...answer, made: true };
	}

	override async open(
		ask: Ask,
		kind: "acquire" | "reserve",
		as: "wire" | "outcomes",
	): Promise<ReadableStream | Missing> {
		const refusal = this.#refusal(ask);
		if (!refusal) return super.open(ask, kind, as);
		const line = new Line(this.waiters, ask.request, as, ask.call);
		line.hear(refusal.event, refusal.status);
		return line.readable;
	}

	/** The id that has this digest, of a lease or of a waiter. */
	async idOf(digest: string): Promise<string | null> {
		const ids = [...(this.limit?.entries.keys() ?? [])];
		for (let from = 0; from < ids.length; from += DIGESTS_AT_ONCE) {
			const some = ids.slice(from, from + DIGESTS_AT_ONCE);
			const found = (await Promise.all(some.map(digestOf))).indexOf(digest);
			if (found >= 0) return some[found] as string;
		}
		return null;
	}

	/** Null: the token has room here for one more request. */
	#refusal({ request: { id }, share }: Ask): Outcome | null {
		if (!share || !this.limit) return null;
		let ids = this.#ids.get(share.token);
		if (!ids) {
			ids = new Set();
			this.#ids.set(share.token, ids);
		}
		if (ids.has(id)) return null;
		if (ids.size >= share.most) {
			for (const one of ids) if (!takesRoom(this.limit.entries.get(one))) ids.delete(one);
		}
		if (ids.size < share.most) {
			ids.add(id);
			return null;
		}
		const position = this.limit.sums.inTurn + 1;
		return {
			event: { kind: "denied", id, code: "too_many_waiters", retryAfterMs: AGAIN_MS, position },
			status: views.status(this.existence.identity, this.limit),
		};
	}
}

const takesRoom = (entry: Entry | undefined): boolean =>
	entry !== undefined && (entry.state === "waiting" || entry.held);
