/** What becomes of a request: how each of its limits is asked, and how the answers are put together. */

import type { Request } from "../../core/limit.ts";
import type { Lease, Problem, Receipt } from "../../protocol.ts";
import { type Answered, denial } from "../contract/answers.ts";
import type { Status } from "../contract/outcomes.ts";
import { type Acquire, modeOf } from "./requests.ts";

export type Verdict =
	/** `shared`: another call was granted the same lease; this one can leave by this name. */
	| { ok: true; lease: Lease | Receipt; statuses: Status[]; shared?: string }
	/** `answered`: how each name was answered, of a request that was denied. */
	| { ok: false; problem: Problem; statuses: Status[]; answered?: Answered[] };

export const deniedVerdict = (id: string, answered: Answered[]): Verdict & { ok: false } => ({
	...{ ok: false, problem: denial(id, answered), statuses: answered.map(({ status }) => status), answered },
});

/** What one limit is asked of a request. */
export function coreRequest(acquire: Acquire, name: string, slots: number): Request {
	const { id, leaseMs, waitMs, holder, idChosen, print } = acquire;
	const mode = modeOf(acquire, name);
	const held = acquire.hold && mode === "concurrency";
	const ifBusy = waitMs > 0 ? "wait" : "deny";
	const { atMost, settleMs, key, priority } = acquire;
	const turn = { ...(key !== null && { key }), ...(priority > 0 && { priority }) };
	const estimate = settleMs !== undefined && mode === "rate_limit" && { settleMs };
	const request = { id, slots, mode, leaseMs, waitMs, ifBusy, holder, held, print, remember: idChosen } as const;
	return { ...request, ...turn, ...(atMost && { atMost }), ...estimate };
}
