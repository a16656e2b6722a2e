/**
 * The shares that tokens have of a line: each token has a part of it, and no token's part is the whole. How many requests
 * of a token are here is known to the object alone, while it is in memory: after a restart those that come back count anew.
 */

import type { Entry, Limit } from "../../core/limit.ts";
import { QUEUE_MAX } from "../../core/line.ts";
import type { LimitRequest, Outcome } from "../contract/outcomes.ts";
import type { Lifecycle } from "./lifecycle.ts";
import * as views from "./views.ts";

/** When a caller whose part is taken is to ask again: as long as a request waits where nothing says more. */
const AGAIN_MS = 1_000;

export class Shares {
	readonly #lifecycle: Lifecycle;
	/** Of each token, ids of requests that waited or held a stream; those that are over are found out when it matters. */
	readonly #ids = new Map<string, Set<string>>();

	constructor(lifecycle: Lifecycle) {
		this.#lifecycle = lifecycle;
	}

	/** Counts the request. Not null: its token has as many here as it may. */
	refusal({ request: { id }, share }: LimitRequest, limit: Limit | null): Outcome | null {
		if (!share || !limit) return null;
		let ids = this.#ids.get(share.token);
		if (!ids) {
			ids = new Set();
			this.#ids.set(share.token, ids);
		}
		if (ids.has(id)) return null;
		if (ids.size >= share.most) {
			for (const one of ids) if (!takesRoom(limit.entries.get(one))) ids.delete(one);
		}
		if (ids.size < share.most) {
			ids.add(id);
			return null;
		}
		// A line that is full is so for every token, and a larger part of it would not help.
		if (limit.sums.waiting >= QUEUE_MAX) return null;
		const position = limit.sums.inTurn + 1;
		return {
			event: { kind: "denied", id, code: "too_many_waiters", retryAfterMs: AGAIN_MS, position },
			status: views.status(this.#lifecycle.identity, limit),
		};
	}
}

const takesRoom = (entry: Entry | undefined): boolean =>
	entry !== undefined && (entry.state === "waiting" || entry.held);
