/**
 * Headgate before a plain `fetch` handler, of a Worker or of anything else that turns a `Request` into a `Response`.
 *
 * @example
 * import { Headgate } from "headgate";
 * import { clientAddress, withRateLimit } from "headgate/fetch";
 *
 * const limited = withRateLimit({
 * 	gate: ({ env }) => new Headgate({ binding: env.LIMITS }),
 * 	name: ({ request }) => `ip:${clientAddress(request)}`,
 * }, async (request, env) => new Response("hello"));
 *
 * export default { fetch: limited };
 */

import type { Lease, LimitStatus } from "../client/index.ts";
import { rateLimitHeaders as headersOf } from "../headers.ts";
import { holdUntilSent, sendable } from "./body.ts";
import { ask, type ConcurrencyOptions, checkOptions, type GuardOptions, passOn, withHeaders } from "./guard.ts";

export { type AddressOptions, clientAddress, namePart } from "./address.ts";
export type { ConcurrencyOptions, GuardOptions } from "./guard.ts";

/**
 * `RateLimit-Policy`, `RateLimit` and `Retry-After`, for answers that are not made here: of a receipt, a lease, or the
 * problem of a denial.
 */
export const rateLimitHeaders = (of: {
	limits?: readonly LimitStatus[];
	retryAfterSeconds?: number;
}): Record<string, string> => headersOf(of.limits ?? [], of.retryAfterSeconds);

/** The part of a Worker's context that is needed; other runtimes have none. */
export interface Background {
	waitUntil(work: Promise<unknown>): void;
}

/** A request, and what it came with. */
export interface Incoming<E> {
	request: Request;
	env: E;
	ctx: Background | undefined;
}

export type Handler<E> = (request: Request, env: E, ctx: Background | undefined) => Response | Promise<Response>;
/** A handler that is told what its request holds; null: it was let through uncounted. */
export type HoldingHandler<E> = (
	request: Request,
	env: E,
	ctx: Background | undefined,
	lease: Lease | null,
) => Response | Promise<Response>;
type Guarded<E> = (request: Request, env: E, ctx?: Background) => Promise<Response>;

/** As `rateLimit` of `headgate/hono`. */
export function withRateLimit<E = unknown>(options: GuardOptions<Incoming<E>>, handler: Handler<E>): Guarded<E> {
	checkOptions(options);
	return async (request, env, ctx) => {
		const incoming = { request, env, ctx };
		const verdict = await ask(incoming, "rate_limit", options, request);
		if (!verdict.goOn) return verdict.response;
		const answer = sendable(await handler(request, env, ctx));
		await passOn(incoming, options, request, answer);
		return withHeaders(answer, verdict.headers);
	};
}

/** As `concurrency` of `headgate/hono`. */
export function withConcurrency<E = unknown>(
	options: ConcurrencyOptions<Incoming<E>>,
	handler: HoldingHandler<E>,
): Guarded<E> {
	checkOptions(options);
	return async (request, env, ctx) => {
		const gone = request.signal;
		const incoming = { request, env, ctx };
		const verdict = await ask(incoming, "concurrency", options, request);
		if (!verdict.goOn) return verdict.response;
		const { lease, headers } = verdict;
		if (!lease) return handler(request, env, ctx, null);
		const { maxBodySeconds, unreadSeconds, stalledSeconds } = options;
		const waitUntil = ctx && ((work: Promise<unknown>) => ctx.waitUntil(work));
		const bounds = { maxBodySeconds, unreadSeconds, stalledSeconds };
		const sending = { lease, method: request.method, ...bounds, gone, waitUntil };
		try {
			const response = sendable(await handler(request, env, ctx, lease));
			await passOn(incoming, options, request, response);
			return (await holdUntilSent(withHeaders(response, headers), sending)).answer;
		} catch (error) {
			await lease[Symbol.asyncDispose]();
			throw error;
		}
	};
}
