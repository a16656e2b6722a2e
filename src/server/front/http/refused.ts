/** A refusal on its way to the caller, and as an answer. */

import { BOUNDS, type Code, type Problem } from "../../../protocol.ts";
import { failure, problem } from "../../contract/problems.ts";
import { TooMany } from "../admission/admission.ts";
import { UNKEPT } from "./answer.ts";
import { traced, traceIdOf } from "./trace.ts";

/** A refusal on its way to the caller. */
export class Refused extends Error {
	override readonly name = "Refused";
	readonly problem: Problem;
	constructor(refusal: Problem) {
		super(refusal.detail);
		this.problem = refusal;
	}
}

export const refuse = (...given: Parameters<typeof problem>): never => {
	throw new Refused(problem(...given));
};

/** What a refusal shows of a text that was sent and that nothing else has bounded. */
export const shown = (text: string): string => text.slice(0, BOUNDS.faultLength);

/** What an exception is to the caller. The log is told of it, unless it was foreseen. */
export function problemOf(error: Error, log = true): Problem {
	if (error instanceof TooMany) return error.problem;
	const known = failure(error);
	if (log && !isForeseen(known)) console.error(error);
	return known ?? problem("internal", "Something went wrong here. The server's log says what.");
}

const FORESEEN: (Code | undefined)[] = ["newer_data", "damaged_data", "misconfigured"];
const isForeseen = (known: Problem | null): boolean => FORESEEN.includes(known?.code);

export function answerProblem(request: Request, refusal: Problem, headers: Record<string, string> = {}): Response {
	const retry = refusal.retryAfterSeconds;
	return new Response(JSON.stringify(traced(refusal, traceIdOf(request))), {
		status: refusal.status,
		headers: {
			"Content-Type": "application/problem+json",
			...UNKEPT,
			...(retry !== undefined && { "Retry-After": String(Math.ceil(retry)) }),
			...(refusal.code === "unauthorized" && { "WWW-Authenticate": 'Bearer realm="headgate"' }),
			...headers,
		},
	});
}
