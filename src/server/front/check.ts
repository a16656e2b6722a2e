/**
 * What an acquire would be answered now. Nothing is taken, counted or created: each limit is asked for its own rule, and
 * one that is not there yet is looked at as its first request would make it.
 */

import { foresee } from "../../core/granting.ts";
import { createLimit } from "../../core/limit.ts";
import { type CheckAnswer, type Policy, PROBLEMS, type Problem } from "../../protocol.ts";
import { type Answered, denial, missingStatus, publicStatus } from "../contract/answers.ts";
import type { Env } from "../contract/env.ts";
import type { Status } from "../contract/outcomes.ts";
import { directoryObject } from "../contract/placement.ts";
import { DEFAULT_SETTINGS, settingsOf } from "../contract/policies.ts";
import { unknownLimits } from "../contract/problems.ts";
import { limitOf } from "./limit-stub.ts";
import { rulingsOf } from "./policy-copy.ts";
import type { Acquire } from "./requests.ts";
import { coreRequest } from "./verdict.ts";

export async function check(env: Env, request: Acquire): Promise<CheckAnswer | Problem> {
	const names = await Promise.all(request.names.map(([name, slots]) => checkOne(env, request, name, slots)));
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
	const { code, detail, retryAfterSeconds, limits = [] } = denial(request.id, answered);
	const again = retryAfterSeconds !== undefined && { retryAfterSeconds };
	return { allowed: false, limits: [...limits, ...rest], code, detail, ...again };
}

export const isProblem = (answer: CheckAnswer | Problem): answer is Problem =>
	"status" in answer && answer.code in PROBLEMS;

/** A text: the name is unknown to a strict request. */
async function checkOne(
	env: Env,
	request: Acquire,
	name: string,
	slots: number,
): Promise<Answered | { skipped: string } | string> {
	const asked = coreRequest(request, name, slots);
	const found = await limitOf(env, name).check(asked);
	if (found && !(request.strict && found.status.configured === false)) return { slots, ...found };
	const policy = found || !request.createIfMissing ? null : await policyOf(env, name);
	if (request.strict && !policy) return name;
	if (!request.createIfMissing) return { skipped: name };
	const settings = settingsOf(policy ?? DEFAULT_SETTINGS);
	const limit = createLimit(settings, Date.now(), () => undefined);
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
	const { denied, wouldDeny } = foresee(limit, asked);
	return { slots, status: { ...status, ...(wouldDeny && { wouldDeny }) }, denied };
}

async function policyOf(env: Env, name: string): Promise<Policy | null> {
	const { policy } = rulingsOf(env).rule(name) ?? (await directoryObject(env).match(name));
	return policy;
}
