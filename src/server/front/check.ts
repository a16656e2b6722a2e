/** What an acquire would be answered now. Nothing is taken, counted or created: each limit is asked for its own rule. */

import { type CheckAnswer, type Policy, PROBLEMS, type Problem } from "../../protocol.ts";
import type { Env } from "../contract/env.ts";
import { directoryObject } from "../contract/placement.ts";
import { limitOf } from "./limit-stub.ts";
import { rulingsOf } from "./policy-copy.ts";
import type { Acquire } from "./requests.ts";
import { checkAnswer, coreRequest, type Foreseen, foreseeUnmade } from "./verdict.ts";

export async function check(env: Env, request: Acquire): Promise<CheckAnswer | Problem> {
	const names = await Promise.all(request.names.map(([name, slots]) => checkOne(env, request, name, slots)));
	return checkAnswer(request.id, names);
}

export const isProblem = (answer: CheckAnswer | Problem): answer is Problem =>
	"status" in answer && answer.code in PROBLEMS;

async function checkOne(env: Env, request: Acquire, name: string, slots: number): Promise<Foreseen> {
	const found = await limitOf(env, name).check(coreRequest(request, name, slots));
	if (found && !(request.strict && found.status.configured === false)) return { slots, ...found };
	const policy = found || !request.createIfMissing ? null : await policyOf(env, name);
	return foreseeUnmade(request, name, slots, policy, Date.now());
}

async function policyOf(env: Env, name: string): Promise<Policy | null> {
	const { policy } = rulingsOf(env).rule(name) ?? (await directoryObject(env).match(name));
	return policy;
}
