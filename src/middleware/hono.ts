/**
 * Headgate before the routes of a Hono app.
 *
 * @example
 * import { Headgate } from "headgate";
 * import { clientAddress, rateLimit } from "headgate/hono";
 *
 * app.use(rateLimit({
 * 	gate: (c) => new Headgate({ binding: c.env.LIMITS }),
 * 	name: (c) => `ip:${clientAddress(c.req.raw)}`,
 * }));
 */

import type { Context, Env, MiddlewareHandler } from "hono";
import type { Lease } from "../client/index.ts";
import { BOUNDS } from "../protocol.ts";
import { holdUntilSent, type WaitUntil } from "./body.ts";
import { ask, type ConcurrencyOptions, checkOptions, type GuardOptions, withHeaders } from "./guard.ts";

export { type AddressOptions, clientAddress, namePart } from "./address.ts";
export type { ConcurrencyOptions, GuardOptions } from "./guard.ts";

/** What `concurrency` puts into the context: `c.get("lease")`. */
export interface LeaseVariables {
	/** The slots of this request; `lease.signal` aborts when they are lost. Absent when it was let through uncounted. */
	lease?: Lease;
}

/**
 * Takes slots that come back by themselves for every request; denied ones are answered with 429 and a problem.
 * @throws TypeError and RangeError for options that cannot work; from a request when `name` or `occupy` gives none.
 */
// biome-ignore lint/suspicious/noExplicitAny: As in Hono's own middleware, which fits every app.
export function rateLimit<E extends Env = any>(options: GuardOptions<Context<E>>): MiddlewareHandler<E> {
	checkOptions(options);
	return async (c, next) => {
		const verdict = await ask(c, "rate_limit", options, c.req.raw.signal);
		if (!verdict.goOn) return verdict.response;
		await next();
		replace(c, withHeaders(c.res, verdict.headers));
		return undefined;
	};
}

/**
 * Holds slots from the request until the body of its answer has been sent, or the caller has gone.
 * @throws as `rateLimit` does.
 */
// biome-ignore lint/suspicious/noExplicitAny: As in Hono's own middleware, which fits every app.
export function concurrency<E extends Env = any>(options: ConcurrencyOptions<Context<E>>): MiddlewareHandler<E> {
	checkOptions(options);
	return async (c, next) => {
		const gone = c.req.raw.signal;
		const verdict = await ask(c, "concurrency", options, gone);
		if (!verdict.goOn) return verdict.response;
		const { lease, headers } = verdict;
		if (!lease) return next();
		try {
			(c as unknown as Context<{ Variables: LeaseVariables }>).set("lease", lease);
			await next();
		} catch (error) {
			await lease[Symbol.asyncDispose]();
			throw error;
		}
		const { maxBodySeconds = BOUNDS.bodySeconds } = options;
		const sending = { lease, maxBodySeconds, gone, waitUntil: waitUntilOf(c) };
		replace(c, withHeaders(await holdUntilSent(c.res, sending), headers));
		return undefined;
	};
}

/** Hono would copy the headers of the answer before into the new one. */
function replace<E extends Env>(c: Context<E>, response: Response): void {
	if (response === c.res) return;
	c.res = undefined;
	c.res = response;
}

/** Only Workers have one; elsewhere the process lives on by itself. */
function waitUntilOf<E extends Env>(c: Context<E>): WaitUntil | undefined {
	try {
		const ctx = c.executionCtx;
		return (work) => ctx.waitUntil(work);
	} catch {
		return undefined;
	}
}
