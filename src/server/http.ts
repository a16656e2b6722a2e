/** What every route needs of HTTP: who may, a checked body, a checked name, a problem as an answer. */

import type { Context, Hono } from "hono";
import { BOUNDS, type Problem, type Scope } from "../protocol.ts";
import type { Caller } from "./acquire.ts";
import { failure, problem } from "./answers.ts";
import { authenticate, forbidden, type Grant } from "./auth.ts";
import { unknownLimits } from "./coordinator.ts";
import { denialsOf } from "./denials/memory.ts";
import type { Env } from "./env.ts";
import { prefixOf } from "./policies/policies.ts";
import { rulingsOf } from "./policies/rulings.ts";
import * as requests from "./requests.ts";

export type App = { Bindings: Env; Variables: { grant: Grant } };
export type C = Context<App>;

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

/** What an exception is to the caller. The log is told of it, unless it was foreseen. */
export function problemOf(error: Error, log = true): Problem {
	const known = failure(error);
	if (log && !isRefusedData(known)) console.error(error);
	return known ?? problem("internal", "Something went wrong here. The server's log says what.");
}

const isRefusedData = (known: Problem | null): boolean =>
	known?.code === "newer_data" || known?.code === "damaged_data";

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"] as const;

/** Whether a route asks for a token; every one does that does not say otherwise. */
export type Access = "token" | "anyone";

/**
 * Registers the methods of one path; any other method of it is answered with 405 and `Allow`. One handler matches each
 * request and nothing stands before it, for Hono then calls it directly.
 */
export function route(
	app: Hono<App>,
	path: string,
	methods: Partial<Record<(typeof METHODS)[number], (c: C) => Promise<Response>>>,
	access: Access = "token",
): void {
	const names = Object.keys(methods);
	const allowed = (names.includes("GET") ? [...names, "HEAD"] : names).join(", ");
	const wrong = (c: C): Response => {
		const refusal = problem("method_not_allowed", `${c.req.path} takes ${allowed}, and not ${c.req.method}.`);
		return answerProblem(refusal, { Allow: allowed });
	};
	for (const method of METHODS) {
		const handler = methods[method];
		app.on(method, path, async (c) => {
			if (access === "token") await authorize(c);
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
}

export const directory = (c: C) => c.env.DIRECTORY.getByName("directory");

export const unknown = (name: string): never => {
	throw new Refused(unknownLimits([name]));
};

export const unknownPolicy = (pattern: string): never =>
	refuse("unknown_policy", `No policy has the pattern "${pattern}".`);

export function tooManyPolicies(): never {
	const message = `there are ${BOUNDS.policies} policies already: delete one, or choose a shorter prefix for several`;
	return refuse("invalid", `pattern: ${message}.`, { errors: [{ field: "pattern", message }] });
}

/** What this Worker knew of the policies, and every denial that it remembers, is of no use any more. */
export async function policiesChanged(c: C, version: number): Promise<void> {
	const denials = denialsOf(c.env);
	denials.changedAll();
	await rulingsOf(c.env).changed(c.env, version);
	denials.changedAll();
}

/** Who calls, for the record. */
export const by = (c: C): string | null => c.get("grant").name || null;

export function allow(c: C, scope: Scope, names: string[]): void {
	const refusal = forbidden(c.get("grant"), scope, names);
	if (refusal) throw new Refused(refusal);
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

export async function body(c: C): Promise<unknown> {
	const type = c.req.header("Content-Type")?.split(";")[0]?.trim().toLowerCase();
	if (type !== undefined && type !== "application/json") {
		refuse("unsupported_media_type", `Send JSON, with "Content-Type: application/json", and not "${type}".`);
	}
	const text = await boundedText(c.req.raw);
	try {
		return JSON.parse(text) as unknown;
	} catch (error) {
		const why = text === "" ? "it is empty" : error instanceof Error ? error.message : String(error);
		return refuse("malformed", `The body is not JSON: ${why}.`);
	}
}

/** The body as text, read no further than its bound. With a declared length nothing is read at all that is too long. */
export async function boundedText(request: Request): Promise<string> {
	const declared = request.headers.get("Content-Length");
	if (declared !== null) return Number(declared) > BOUNDS.bodyBytes ? tooLarge() : request.text();
	const chunks: Uint8Array[] = [];
	let bytes = 0;
	for await (const chunk of request.body ?? []) {
		bytes += chunk.byteLength;
		if (bytes > BOUNDS.bodyBytes) tooLarge();
		chunks.push(chunk);
	}
	return new Blob(chunks).text();
}

const tooLarge = (): never => refuse("too_large", `A body has at most ${BOUNDS.bodyBytes} bytes.`);

export const callerOf = (c: C): Caller => ({
	signal: () => c.req.raw.signal,
	waitUntil: (work) => c.executionCtx.waitUntil(work),
});

export const wantsStream = (c: C): boolean =>
	(c.req.header("Accept") ?? "").toLowerCase().includes("application/x-ndjson");

export function answerProblem(refusal: Problem, headers: Record<string, string> = {}): Response {
	const retry = refusal.retryAfterSeconds;
	return new Response(JSON.stringify(refusal), {
		status: refusal.status,
		headers: {
			"Content-Type": "application/problem+json",
			...(retry !== undefined && { "Retry-After": String(Math.ceil(retry)) }),
			...(refusal.code === "unauthorized" && { "WWW-Authenticate": 'Bearer realm="headgate"' }),
			...headers,
		},
	});
}
