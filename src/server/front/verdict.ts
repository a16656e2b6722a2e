/** What becomes of a request: how each of its limits is asked, and how the answers are put together. */

import { foresee } from "../../core/granting.ts";
import { createLimit, type Request } from "../../core/limit.ts";
import type { CheckAnswer, Lease, LimitStatus, Policy, Problem, Receipt, Settled } from "../../protocol.ts";
import { type Answered, denial, missingStatus, publicStatus } from "../contract/answers.ts";
import type { Outcome, Status } from "../contract/outcomes.ts";
import { DEFAULT_SETTINGS, settingsOf } from "../contract/policies.ts";
import { problem, unknownLimits } from "../contract/problems.ts";
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

/** How one name would answer a request. A text: it is unknown to a strict one. */
export type Foreseen = Answered | { skipped: string } | string;

/** How a limit would answer that is not there yet, as its first request would make it. */
export function foreseeUnmade(
	request: Acquire,
	name: string,
	slots: number,
	policy: Policy | null,
	now: number,
): Foreseen {
	if (request.strict && !policy) return name;
	if (!request.createIfMissing) return { skipped: name };
	const settings = settingsOf(policy ?? DEFAULT_SETTINGS);
	const status: Status = {
		...{ name, limitId: "", deniedSlots: 0, averageHeldMs: 0, nextSlotMs: null, steadyMs: 0, follows: true },
		...{
			limit: settings.limit,
			activeSlots: 0,
			remaining: settings.limit,
			enforced: settings.active && settings.enforce,
		},
		slotDecayPerSecond: settings.slotDecayPerSecond,
		...(!policy && { configured: false as const }),
	};
	const limit = createLimit(settings, now, () => undefined);
	const { denied, wouldDeny } = foresee(limit, coreRequest(request, name, slots));
	return { slots, status: { ...status, ...(wouldDeny && { wouldDeny }) }, denied };
}

/** What a request would be answered, of what each of its names would. */
export function checkAnswer(id: string, names: Foreseen[]): CheckAnswer | Problem {
	const unknown = names.flatMap((each) => (typeof each === "string" ? [each] : []));
	if (unknown.length > 0) return unknownLimits(unknown);
	const answered = names.flatMap((each) => (typeof each === "object" && "status" in each ? [each] : []));
	const skipped = names.flatMap((each) => (typeof each === "object" && "skipped" in each ? [each.skipped] : []));
	const nothing = { position: null, retryAfterSeconds: null };
	const rest = skipped.map((name) => ({ ...missingStatus(name), ...nothing }));
	if (answered.every(({ denied }) => denied === null)) {
		const limits = [...answered.map(({ status }) => ({ ...publicStatus(status), ...nothing })), ...rest];
		return { allowed: true, limits: limits.sort((a, b) => (a.name < b.name ? -1 : 1)) };
	}
	const { code, detail, retryAfterSeconds, limits = [] } = denial(id, answered);
	const again = retryAfterSeconds !== undefined && { retryAfterSeconds };
	return { allowed: false, limits: [...limits, ...rest], code, detail, ...again };
}

/** What came of settling each part; a problem says which part could not be, and the others are settled. */
export function settleAnswer(
	id: string,
	answers: { name: string; slots: number; answer: Outcome | null }[],
): Settled | Problem {
	const gone: string[] = [];
	const otherwise: string[] = [];
	const settled: [string, number][] = [];
	const limits: LimitStatus[] = [];
	for (const { name, slots, answer } of answers) {
		const { event, status } = answer ?? {};
		if (!status || event?.kind !== "settled") gone.push(`"${name}"`);
		else if (event.outcome === "otherwise") otherwise.push(`"${name}" with ${event.slots} and not ${slots}`);
		else {
			settled.push([name, event.slots]);
			limits.push(publicStatus(status));
		}
	}
	const rest = settled.length > 0 ? " The other names are settled." : "";
	if (gone.length > 0) {
		const why = "none was granted with `settleSeconds`, or they are over and it stands";
		return problem("receipt_gone", `There is no estimate "${id}" of ${gone.join(", ")}: ${why}.${rest}`);
	}
	if (otherwise.length > 0) {
		return problem("already_settled", `The estimate "${id}" was settled before: ${otherwise.join(", ")}.${rest}`);
	}
	return { id, actual: Object.fromEntries(settled), limits };
}
