/**
 * What the library throws. Each error says what happened, with the numbers; `cause` holds what was answered.
 */

import type { Code, Problem, Slots } from "../protocol.ts";

/** Marks our errors, so that the guards also know those of another copy of this library. */
const KIND = Symbol.for("headgate.error");
type Kind = "problem" | "acquisition" | "timeout" | "unreachable" | "lost";

const is = (error: unknown, ...kinds: Kind[]): boolean =>
	error instanceof Error && kinds.includes((error as { [KIND]?: Kind })[KIND] as Kind);

/** The service refused a call: an unknown limit, a wrong field, no permission, a lease that is gone. */
export class HeadgateError extends Error {
	override name = "HeadgateError";
	readonly [KIND]: Kind = "problem";
	/** The answer as it came (RFC 9457). */
	readonly problem: Problem;
	/** The HTTP status of the answer. */
	readonly status: number;
	/** Why, from a closed list. */
	readonly code: Code;

	constructor(problem: Problem, message: string = describe(problem)) {
		super(message, { cause: problem });
		this.problem = problem;
		this.status = problem.status;
		this.code = problem.code;
	}
}

/**
 * The slots were refused, and asking again is over or would not help: all retries were denied, more slots were asked
 * for than the limit has, a name does not exist (`strict`), or the caller may not. `cause` is the answer.
 */
export class ConcurrencySlotAcquisitionError extends HeadgateError {
	override name = "ConcurrencySlotAcquisitionError";
	override readonly [KIND]: Kind = "acquisition";
	/** The slots that were asked for. */
	readonly names: Slots;

	constructor(names: Slots, problem: Problem) {
		super(problem, `Unable to acquire slots of ${list(names)}: ${describe(problem)}`);
		this.names = names;
	}
}

/** The slots did not come free within `timeoutSeconds`. Its `name` is `TimeoutError`. */
export class AcquireConcurrencySlotTimeoutError extends Error {
	override name = "TimeoutError";
	readonly [KIND]: Kind = "timeout";
	/** The slots that were asked for. */
	readonly names: Slots;
	readonly timeoutSeconds: number;

	constructor(names: Slots, timeoutSeconds: number, position: number | null, cause?: Problem) {
		const place = position === null ? "" : `; the last place in line was ${position}`;
		super(`No slots of ${list(names)} within ${timeoutSeconds} s${place}.`, cause && { cause });
		this.names = names;
		this.timeoutSeconds = timeoutSeconds;
	}
}

/** The service could not be reached, or did not answer in earnest. `cause` is the last failure. */
export class HeadgateUnreachableError extends Error {
	override name = "HeadgateUnreachableError";
	readonly [KIND]: Kind = "unreachable";
	/** How often it was tried. */
	readonly attempts: number;

	constructor(url: string, attempts: number, cause: unknown) {
		super(
			`Headgate at ${url} could not be reached in ${attempts} ${attempts === 1 ? "attempt" : "attempts"}: ${reason(cause)}`,
			{ cause },
		);
		this.attempts = attempts;
	}
}

/** A lease ended while it was still needed: it was taken back, or could not be renewed in time. */
export class LeaseLostError extends Error {
	override name = "LeaseLostError";
	readonly [KIND]: Kind = "lost";
	readonly id: string;
	readonly names: Slots;

	constructor(id: string, names: Slots, cause: unknown) {
		super(`The lease ${id} of ${list(names)} was lost: ${reason(cause)}`, { cause });
		this.id = id;
		this.names = names;
	}
}

/** Whether the wait for slots took longer than `timeoutSeconds`. Not true for the timeouts of others. */
export const isTimeoutError = (error: unknown): error is AcquireConcurrencySlotTimeoutError => is(error, "timeout");

/** Whether the slots were refused. */
export const isAcquisitionError = (error: unknown): error is ConcurrencySlotAcquisitionError =>
	is(error, "acquisition");

/** Whether the service answered with a problem, a refusal of slots included. */
export const isHeadgateError = (error: unknown): error is HeadgateError => is(error, "problem", "acquisition");

/** Whether the service could not be reached. */
export const isUnreachableError = (error: unknown): error is HeadgateUnreachableError => is(error, "unreachable");

/** Whether a lease was lost while it was needed. */
export const isLeaseLostError = (error: unknown): error is LeaseLostError => is(error, "lost");

function list(names: Slots): string {
	const parts = Object.entries(names).map(([name, slots]) => (slots === 1 ? `"${name}"` : `"${name}" (${slots})`));
	return parts.join(", ");
}

function describe(problem: Problem): string {
	const parts = [`${problem.status} ${problem.code}`, problem.detail || problem.title];
	for (const { field, message } of problem.errors ?? []) parts.push(`${field}: ${message}`);
	for (const { name, remaining, limit, position } of problem.limits ?? []) {
		if (position !== null) parts.push(`"${name}": ${remaining} of ${limit} slots free, place ${position} in line`);
	}
	if (problem.retryAfterSeconds !== undefined) parts.push(`retry after ${problem.retryAfterSeconds} s`);
	return parts.join("; ");
}

/** The innermost message: `fetch failed` says nothing, its cause does. */
function reason(error: unknown): string {
	if (!(error instanceof Error)) return String(error);
	if (error.cause instanceof Error) return reason(error.cause);
	return error.message || (error as { code?: string }).code || error.name;
}
