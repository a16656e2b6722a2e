/**
 * Many requests in one call, each with its own outcome. Those for one name cross to its object together and share a
 * commit, which is where the price of a grant is; those for several names are collected side by side, as alone.
 */

import { type BatchOutcome, BOUNDS, type Problem } from "../../protocol.ts";
import type { Env } from "../contract/env.ts";
import type { LimitRequest, Missing, Outcome } from "../contract/outcomes.ts";
import { problem } from "../contract/problems.ts";
import { acquireNow } from "./acquire.ts";
import type { Grant } from "./auth.ts";
import type { Caller } from "./caller.ts";
import { problemOf } from "./http/refused.ts";
import { traced } from "./http/trace.ts";
import type { AskLimit, LimitStub } from "./limit-stub.ts";
import type { Acquire, Parsed } from "./requests.ts";
import type { Verdict } from "./verdict.ts";
import { asGranted } from "./whose.ts";
import { AT_ONCE, inParts, yieldToOthers } from "./yielding.ts";

export async function acquireBatch(
	env: Env,
	requests: Parsed<Acquire>[],
	grant: Grant,
	caller: Caller,
): Promise<BatchOutcome[]> {
	const crossings = new Crossings();
	const traceId = caller.traceId();
	const answer = async (request: Parsed<Acquire>): Promise<BatchOutcome> => {
		const verdict = await outcome(env, request, grant, caller, crossings.askLimit);
		if (verdict.ok) return { status: 200, lease: verdict.lease };
		return { status: verdict.problem.status, problem: traced(verdict.problem, traceId) };
	};
	const answers = requests.map((request) => (namesOf(request) > 1 ? null : answer(request)));
	// Every request for one name has asked by now, for none of them waits before it asks.
	await crossings.depart();
	let names = 0;
	for (const [index, request] of requests.entries()) {
		if (answers[index]) continue;
		// They have asked for these names by now, or wait for the answers.
		if (names > 0 && names + namesOf(request) > AT_ONCE) {
			await yieldToOthers();
			names = 0;
		}
		names += namesOf(request);
		answers[index] = answer(request);
	}
	return brief(await Promise.all(answers as Promise<BatchOutcome>[]));
}

/** Problems are told in words, which a person reads a few of: after the first ones each says the beginning of what it has to say. */
function brief(answers: BatchOutcome[]): BatchOutcome[] {
	let left: number = BOUNDS.batchWords;
	const cut = (text: string): string => {
		const told = text.slice(0, Math.max(left, BOUNDS.batchWordsEach));
		left -= told.length;
		return told;
	};
	return answers.map((answer) => {
		if (!("problem" in answer)) return answer;
		const { detail, errors } = answer.problem;
		const problem = { ...answer.problem, detail: cut(detail) };
		if (errors) problem.errors = errors.map(({ field, message }) => ({ field: cut(field), message }));
		return { ...answer, problem };
	});
}

const namesOf = (request: Parsed<Acquire>): number => (request.ok ? request.value.names.length : 0);

async function outcome(
	env: Env,
	parsed: Parsed<Acquire>,
	grant: Grant,
	caller: Caller,
	askLimit: AskLimit,
): Promise<Told> {
	if (!parsed.ok) {
		const { code, detail, errors } = parsed.fault;
		return refused(problem(code, detail, errors && { errors }));
	}
	const request = asGranted(grant, "use", parsed.value);
	if ("code" in request) return refused(request);
	try {
		return await acquireNow(env, request, caller, askLimit);
	} catch (error) {
		// The others have their own outcomes, and their slots.
		return refused(problemOf(error as Error));
	}
}

type Told = Pick<Verdict & { ok: true }, "ok" | "lease"> | Pick<Verdict & { ok: false }, "ok" | "problem">;

const refused = (refusal: Problem): Told => ({ ok: false, problem: refusal });

/** Requests of one name on their way to it, and who waits for the answers. */
interface Crossing {
	limit: LimitStub;
	wanted: LimitRequest[];
	answered: ((answer: Outcome | Missing) => void)[];
	failed: ((error: unknown) => void)[];
}

class Crossings {
	readonly #byName = new Map<string, Crossing>();

	readonly askLimit: AskLimit = (limit, wanted) =>
		new Promise((answered, failed) => {
			const crossing = this.#byName.get(limit.name) ?? { limit, wanted: [], answered: [], failed: [] };
			this.#byName.set(limit.name, crossing);
			crossing.wanted.push(wanted);
			crossing.answered.push(answered);
			crossing.failed.push(failed);
		});

	/** Some at a time. None of them is waited for. */
	async depart(): Promise<void> {
		await inParts([...this.#byName.values()], async (crossing) => void cross(crossing));
	}
}

async function cross({ limit, wanted, answered, failed }: Crossing): Promise<void> {
	try {
		const answers = await limit.acquireMany(wanted);
		for (const [index, answer] of answers.entries()) answered[index]?.(answer);
	} catch (error) {
		for (const fail of failed) fail(error);
	}
}
