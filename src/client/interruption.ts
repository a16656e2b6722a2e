/** A failure that may pass. */

import type { Problem } from "../protocol.ts";

/** No answer, or none in earnest: worth another try. */
export class Interruption extends Error {
	/** Of the service's own making, if it answered at all. */
	readonly problem: Problem | undefined;
	/** When to try again, if it said so. */
	readonly retryAfterMs: number;

	constructor(message: string, cause?: unknown, problem?: Problem, retryAfterMs = 0) {
		super(message, { cause });
		this.problem = problem;
		this.retryAfterMs = retryAfterMs;
	}
}
