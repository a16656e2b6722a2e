/** What every route needs: who may, a checked name in its path, a checked request, its caller. */

import type { Context, Hono } from "hono";
import type { Problem, Scope } from "../../../protocol.ts";
import type { Env } from "../../contract/env.ts";
import { directoryObject } from "../../contract/placement.ts";
import { prefixOf } from "../../contract/policies.ts";
import { problem, unknownLimits } from "../../contract/problems.ts";
import { admitted } from "../admission/admission.ts";
import { authenticate, forbidden, type Grant } from "../auth.ts";
import type { Caller } from "../caller.ts";
import * as requests from "../requests.ts";
import { answerProblem, Refused, refuse, shown } from "./refused.ts";
import { traceIdOf } from "./trace.ts";

export type App = { Bindings: Env; Variables: { grant: Grant } };
export type C = Context<App>;

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"] as const;

type Method = (typeof METHODS)[number];

/** What a token has to allow, or that none is needed. */
export type Needs = Scope | "anyone";
type Handler = (c: C) => Promise<Response>;

/** Every route, with what it needs. */
export const ROUTES: { method: string; path: string; needs: Needs }[] = [];

/**
 * Registers the methods of one path; any other method of it is answered with 405 and `Allow`. Before a handler runs the
 * token is known to allow what the route needs, and nothing that the caller sent has been looked at. One handler matches
 * each request and nothing stands before it, for Hono then calls it directly.
 */
export function route<M extends Method>(
	app: Hono<App>,
	needs: Record<M, Needs>,
	path: string,
	methods: Record<M, Handler>,
): void {
	const names = Object.keys(methods);
	const needed: Partial<Record<Method, Needs>> = needs;
	const handlers: Partial<Record<Method, Handler>> = methods;
	const isOpen = Object.values(needs).every((each) => each === "anyone");
	const allowed = (names.includes("GET") ? [...names, "HEAD"] : names).join(", ");
	const wrong = (c: C): Response => {
		const refusal = problem("method_not_allowed", `${shown(c.req.path)} takes ${allowed}, and not ${c.req.method}.`);
		return answerProblem(c.req.raw, refusal, { Allow: allowed });
	};
	for (const method of METHODS) {
		const handler = handlers[method];
		// Who may do nothing here is not told what there is to do.
		const least = needed[method] ?? (isOpen ? "anyone" : "read");
		if (handler) ROUTES.push({ method, path, needs: least });
		app.on(method, path, async (c) => {
			if (least !== "anyone") {
				await authorize(c);
				allow(c, least, []);
			}
			return handler ? handler(c) : wrong(c);
		});
	}
	app.on(["OPTIONS", "TRACE", "QUERY"], path, wrong);
}

/** Who asks; a caller without a token is refused. */
export async function authorize(c: C): Promise<void> {
	const who = await authenticate(c.req.raw, c.env);
	if ("code" in who) throw new Refused(who);
	c.set("grant", who);
	c.env = admitted(c.env, who);
}

export const directory = (c: C) => directoryObject(c.env);

export const unknown = (name: string): never => {
	throw new Refused(unknownLimits([name]));
};

/** Who calls, for the record. */
export const by = (c: C): string | null => c.get("grant").name || null;

export function allow(c: C, scope: Scope, names: string[]): void {
	const refusal = forbidden(c.get("grant"), scope, names);
	if (refusal) throw new Refused(refusal);
}

/** What was found to be allowed, or the refusal. */
export function allowed<T extends object>(found: T | Problem): T {
	if ("code" in found) throw new Refused(found);
	return found;
}

/** The name in the path, checked. */
export function named(c: C, scope: Scope): string {
	return inPath(c, "name", requests.nameFault, scope);
}

/** The pattern in the path, checked. */
export function patterned(c: C, scope: Scope): string {
	// What a token may speak of begins with its prefix: so must the names of the policy, without its `*`.
	return inPath(c, "pattern", requests.patternFault, scope, (pattern) => prefixOf(pattern) ?? pattern);
}

function inPath(
	c: C,
	field: "name" | "pattern",
	fault: (text: string) => string | null,
	scope: Scope,
	named = (text: string): string => text,
): string {
	const text = c.req.param(field) ?? "";
	const message = fault(text);
	if (message) refuse("invalid", `${field}: ${message}.`, { errors: [{ field, message }] });
	allow(c, scope, [named(text)]);
	return text;
}

export function accept<T>(parsed: requests.Parsed<T>): T {
	if (parsed.ok) return parsed.value;
	const { code, detail, errors } = parsed.fault;
	return refuse(code, detail, errors && { errors });
}

/** What every stream says to those between it and its reader: pass each line on as it comes, as it is. */
export const STREAM_HEADERS = {
	"Content-Type": "application/x-ndjson",
	"Cache-Control": "no-store, no-transform",
	"X-Accel-Buffering": "no",
};

export const callerOf = (c: C): Caller => ({
	signal: () => c.req.raw.signal,
	waitUntil: (work) => c.executionCtx.waitUntil(work),
	traceId: () => traceIdOf(c.req.raw),
});

export const wantsStream = (c: C): boolean =>
	(c.req.header("Accept") ?? "").toLowerCase().includes("application/x-ndjson");
