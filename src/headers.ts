/**
 * How much is left, as headers of an answer. Pure: the service writes them on its own answers, and the middleware on
 * those of the program that it stands before.
 */

import { BOUNDS, type LimitStatus } from "./protocol.ts";

/**
 * `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11. With decay, `r` is what is free and
 * `t` the time until one more slot exists: no more than `r` may be used within `t`. Without decay nothing comes back
 * by the clock, so there is no `t`. Limits that are not enforced promise nothing and are left out. So are all of them
 * where the list would be too long for clients to read: a part of it would promise what another limit refuses.
 */
export function rateLimitHeaders(limits: readonly LimitStatus[], retryAfterSeconds?: number): Record<string, string> {
	const enforced = limits.filter((limit) => limit.enforced);
	const headers = retryAfter(retryAfterSeconds);
	if (enforced.length === 0) return headers;
	const policies = enforced.map(policyItem).join(", ");
	const left = enforced.map((limit) => limitItem(limit, retryAfterSeconds)).join(", ");
	if (isTooLong([policies, left])) return headers;
	return { ...headers, "RateLimit-Policy": policies, RateLimit: left };
}

/** Whether these headers are longer, together, than an answer can carry. */
export const isTooLong = (headers: (string | null)[]): boolean =>
	headers.reduce((sum, header) => sum + (header?.length ?? 0), 0) > BOUNDS.rateLimitHeadersLength;

/**
 * `RateLimit-Policy`, `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` of
 * draft-ietf-httpapi-ratelimit-headers-06, for clients that read no newer one. They speak of one limit: the one with
 * the fewest slots left.
 */
export function rateLimitHeaders06(limits: readonly LimitStatus[], retryAfterSeconds?: number): Record<string, string> {
	const headers = retryAfter(retryAfterSeconds);
	const [tightest] = limits.filter((limit) => limit.enforced).sort((a, b) => remainingOf(a) - remainingOf(b));
	if (!tightest) return headers;
	const { limit } = tightest;
	const window = windowOf(tightest);
	headers["RateLimit-Policy"] = window === null ? `${limit}` : `${limit};w=${window}`;
	headers["RateLimit-Limit"] = String(limit);
	headers["RateLimit-Remaining"] = String(remainingOf(tightest));
	const reset = resetOf(tightest, retryAfterSeconds);
	if (reset !== null) headers["RateLimit-Reset"] = String(reset);
	return headers;
}

/** Whole seconds, rounded up. */
const retryAfter = (seconds: number | undefined): Record<string, string> =>
	seconds === undefined ? {} : { "Retry-After": String(Math.ceil(seconds)) };

/** Seconds of its window, or in which a limit that is used up has all of its slots again; null: nothing comes back by the clock. */
function windowOf({ limit, slotDecayPerSecond = 0, windowSeconds }: LimitStatus): number | null {
	if (windowSeconds !== undefined) return Math.min(SF_INTEGER_MAX, Math.max(1, Math.ceil(windowSeconds)));
	if (slotDecayPerSecond === 0) return null;
	return Math.min(SF_INTEGER_MAX, Math.max(1, Math.ceil(limit / slotDecayPerSecond)));
}

/** Seconds until more slots are there; null where no clock tells. */
function resetOf(status: LimitStatus, retryAfterSeconds: number | undefined): number | null {
	const { nextSlotSeconds } = status;
	if (nextSlotSeconds === undefined) return null;
	const seconds = remainingOf(status) === 0 && retryAfterSeconds !== undefined ? retryAfterSeconds : nextSlotSeconds;
	return Math.min(SF_INTEGER_MAX, Math.ceil(seconds));
}

function policyItem(status: LimitStatus): string {
	const window = windowOf(status);
	const unit = window === null ? 'qu="concurrent-requests"' : `w=${window}`;
	return `${sfString(status.name)};q=${status.limit};${unit}`;
}

function limitItem(status: LimitStatus, retryAfterSeconds?: number): string {
	const item = `${sfString(status.name)};r=${remainingOf(status)}`;
	const reset = resetOf(status, retryAfterSeconds);
	return reset === null ? item : `${item};t=${reset}`;
}

/** What may be used now: of a limit that is paused nothing, however much is free. */
const remainingOf = ({ remaining, pausedUntil }: LimitStatus): number => (pausedUntil ? 0 : remaining);

/** Largest integer of a structured field (RFC 9651, section 3.3.1). */
const SF_INTEGER_MAX = 999_999_999_999_999;

/** Names that stand in a structured field as they are, as nearly all do. */
const PLAIN = /^[ !#-[\]-~]*$/;

/** A structured-field string (RFC 9651, section 3.3.3). What is not ASCII is percent-encoded: names have no `%`. */
function sfString(text: string): string {
	if (PLAIN.test(text)) return `"${text}"`;
	const ascii = text.replace(/\p{Cs}/gu, "\ufffd").replace(/[^\x20-\x7e]+/gu, (run) => encodeURIComponent(run));
	return `"${ascii.replace(/[\\"]/g, "\\$&")}"`;
}
