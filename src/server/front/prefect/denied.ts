/** A request that was not granted, in the words of Prefect's wire, and how long its caller is to stay away. */

import { HELD_MAX_MS } from "../../../core/polling.ts";
import type { Problem } from "../../../protocol.ts";
import type { Status } from "../../contract/outcomes.ts";
import { fromProblem, Wrong } from "./http.ts";
import type { Take } from "./take.ts";

/** Longest estimate for limits of task tags, as Prefect sets it. */
const TAG_WAIT_MAX_SECONDS = 10;
/** The longest other estimate: no mean time of holding is taken for longer. */
const HELD_MAX_SECONDS = HELD_MAX_MS / 1_000;
/** Others that were denied before put a caller off by no more than this. */
const CROWD_MAX_SECONDS = 60;
/** Estimates are spread by this, up and down, so that those who were denied together do not come back together. */
const SPREAD = 0.25;
export function denied(problem: Problem, statuses: Status[], { slots, waitMs }: Take): Wrong {
	const enforced = statuses.filter((status) => status.enforced);
	switch (problem.code) {
		case "exceeds_limit":
			return new Wrong(422, { detail: "Slots requested is greater than the limit" });
		case "no_decay": {
			const list = enforced
				.filter(({ slotDecayPerSecond, windowSeconds }) => !slotDecayPerSecond && windowSeconds === undefined)
				.map(({ name }) => name);
			const detail =
				"Only concurrency limits with slot decay can be used for rate limiting. " +
				`The following limits do not have a decay configured: ${quoted(list.join(","))}`;
			return new Wrong(422, { detail });
		}
		case "denied":
			// Its whole wait is over: it is to stand in line again, and not to sleep outside of it.
			if (waitMs > 0) return locked(0);
			// An operator who sets a limit to 0 does not say for how long.
			if (enforced.some(({ limit }) => limit === 0)) return locked(shutSeconds());
			return locked(retryAfterSeconds(problem, statuses, slots));
		case "queue_full":
		case "too_many_waiters":
			return locked(retryAfterSeconds(problem, statuses, slots));
		default:
			return fromProblem(problem);
	}
}

const locked = (seconds: number): Wrong => new Wrong(423, { detail: "Locked" }, { "Retry-After": String(seconds) });

/** A text as Python prints it. */
const quoted = (text: string): string =>
	text.includes("'") && !text.includes('"') ? `"${text}"` : `'${text.replaceAll("'", "\\'")}'`;

/** How long a caller that was denied is to stay away: until the slowest of those that stood in its way has room. */
function retryAfterSeconds({ limits = [] }: Problem, statuses: Status[], slots: number): number {
	const waits = statuses.map((status) => {
		const { position = null, retryAfterSeconds: decayed = null } =
			limits.find(({ name }) => name === status.name) ?? {};
		return decayed === null ? 0 : awaySeconds(status, slots, decayed, position ?? 1);
	});
	return Math.max(0, ...waits);
}

function awaySeconds(status: Status, slots: number, decayed: number, position: number): number {
	const { name, limit, remaining, slotDecayPerSecond, averageHeldMs, deniedSlots } = status;
	// This denial is counted already, and is no reason to stay away for longer.
	const crowd = Math.max(0, deniedSlots - slots);
	// By decay the moment is known, and every caller that was denied before has an earlier one.
	if (slotDecayPerSecond > 0) return decayed + Math.min(CROWD_MAX_SECONDS, crowd / slotDecayPerSecond);
	const most = name.startsWith("tag:") ? TAG_WAIT_MAX_SECONDS : HELD_MAX_SECONDS;
	const missing = Math.max(1, slots - remaining) + crowd + Math.max(0, position - 1);
	const estimate = Math.min(most, (Math.min(averageHeldMs / 1_000, most) * missing) / Math.max(1, limit));
	// The end of a pause is known, and part of what was announced.
	return status.pausedUntil ? Math.max(decayed, estimate) : spread(estimate);
}

/** For a limit of 0, which an operator has shut without saying for how long. */
const shutSeconds = (): number => spread(HELD_MAX_SECONDS);

const spread = (seconds: number): number => seconds * (1 + SPREAD * (2 * Math.random() - 1));
