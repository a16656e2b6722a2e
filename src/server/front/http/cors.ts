/** Browsers of other origins (CORS): only as configured, and without a cost to other callers. */

import { Hono } from "hono";
import { cors } from "hono/cors";
import { allowedOrigins } from "./origins.ts";
import type { App } from "./route.ts";
import type { Service } from "./service.ts";

/** How long a browser may remember what it was allowed. */
const MAX_AGE_SECONDS = 86_400;

/** These routes, and the same ones with CORS for deployments that allow any: nothing stands before a plain route. */
export function acrossOrigins(routes: Hono<App>): Service {
	const withCors = new Hono<App>({ strict: true });
	withCors.use("*", (c, next) => {
		const allowed = allowedOrigins(c.env);
		return cors({
			origin: (origin) => (allowed.includes(origin) || allowed.includes("*") ? origin : null),
			allowMethods: ["GET", "POST", "PUT", "PATCH", "DELETE"],
			allowHeaders: ["Authorization", "Content-Type"],
			exposeHeaders: ["Retry-After", "RateLimit", "RateLimit-Policy"],
			maxAge: MAX_AGE_SECONDS,
		})(c, next);
	});
	// Mounted rather than merged: an answer of theirs, a refusal included, gets its headers like any other.
	withCors.all("*", (c) => routes.fetch(c.req.raw, c.env, c.executionCtx));
	return {
		fetch: (request, env, ctx) => (allowedOrigins(env).length > 0 ? withCors : routes).fetch(request, env, ctx),
	};
}
