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
import { holdUntilSent, sendable, type WaitUntil } from "./body.ts";
import { ask, type ConcurrencyOptions, checkOptions, type GuardOptions, passOn, withHeaders } from "./guard.ts";

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
		const verdict = await ask(c, "rate_limit", options, c.req.raw);
		if (!verdict.goOn) return verdict.response;
		await next();
		// Hono says itself that no handler answered.
		if (!c.finalized) return undefined;
		const answer = sendable(c.res);
		await passOn(c, options, c.req.raw, answer);
		replace(c, withHeaders(answer, verdict.headers));
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
		const verdict = await ask(c, "concurrency", options, c.req.raw);
		if (!verdict.goOn) return verdict.response;
		const { lease, headers } = verdict;
		if (!lease) return next();
		const { maxBodySeconds, unreadSeconds, stalledSeconds } = options;
		const bounds = { maxBodySeconds, unreadSeconds, stalledSeconds };
		const sending = { lease, method: c.req.method, ...bounds, gone, waitUntil: waitUntilOf(c) };
		let held = false;
		try {
			(c as unknown as Context<{ Variables: LeaseVariables }>).set("lease", lease);
			await next();
			// Hono says itself that no handler answered.
			if (!c.finalized) return undefined;
			const response = sendable(c.res);
			await passOn(c, options, c.req.raw, response);
			const { answer, drop } = await holdUntilSent(withHeaders(response, headers), sending);
			held = true;
			replace(c, answer);
			if (answer.body && drop) onReplaced(c, answer.body, drop);
			return undefined;
		} finally {
			if (!held) await lease[Symbol.asyncDispose]();
		}
	};
}

/** Hono would copy the headers of the answer before into the new one. */
function replace<E extends Env>(c: Context<E>, response: Response): void {
	if (response === c.res) return;
	c.res = undefined;
	c.res = response;
}

/** Calls back when another answer takes the place of this one, as middleware outside of this one may have it. */
function onReplaced<E extends Env>(c: Context<E>, body: ReadableStream, replaced: () => void): void {
	const own = Object.getOwnPropertyDescriptor(c, "res");
	const { get, set } = own ?? Object.getOwnPropertyDescriptor(Object.getPrototypeOf(c), "res") ?? {};
	Object.defineProperty(c, "res", {
		configurable: true,
		get: () => get?.call(c),
		set(response: Response | undefined) {
			set?.call(c, response);
			// What is made of this body reads it, or is still to be sent.
			if (response && response.body !== body) replaced();
		},
	});
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
