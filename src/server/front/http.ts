/** What every route needs of HTTP: who may, a checked body, a checked name, a problem as an answer. */

import type { Context, Hono } from "hono";
import { BOUNDS, type Problem, type Scope } from "../../protocol.ts";
import { failure, problem, unknownLimits } from "../contract/answers.ts";
import type { Env } from "../contract/env.ts";
import { prefixOf } from "../contract/policies.ts";
import type { Caller } from "./acquire.ts";
import { admitted, TooMany } from "./admission/admission.ts";
import { authenticate, forbidden, type Grant } from "./auth.ts";
import { denialsOf } from "./denials/memory.ts";
import { rulingsOf } from "./policy-copy.ts";
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
	if (error instanceof TooMany) return error.problem;
	const known = failure(error);
	if (log && !isRefusedData(known)) console.error(error);
	return known ?? problem("internal", "Something went wrong here. The server's log says what.");
}

const isRefusedData = (known: Problem | null): boolean =>
	known?.code === "newer_data" || known?.code === "damaged_data";

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
		const refusal = problem("method_not_allowed", `${c.req.path} takes ${allowed}, and not ${c.req.method}.`);
		return answerProblem(refusal, { Allow: allowed });
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

export const directory = (c: C) => c.env.DIRECTORY.getByName("directory");

export const unknown = (name: string): never => {
	throw new Refused(unknownLimits([name]));
};

export const unknownPolicy = (pattern: string): never =>
	refuse("unknown_policy", `No policy has the pattern "${pattern}".`);

/** `prefix`: those within it are as many as may be; empty: all are. */
export const tooManyPolicies = ({ prefix, most }: { prefix: string; most: number }): never =>
	refuse(
		"too_many_policies",
		prefix === ""
			? `There are ${most} policies already: delete one, or choose a shorter prefix for several.`
			: `There are ${most} policies already that start with "${prefix}", as many as your token may have: delete one, choose a shorter prefix for several, or raise \`policies\` in the token's bounds.`,
	);

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
	const type = mediaType(c.req.raw);
	if (type !== "application/json") unsupported(type);
	const text = await boundedText(c.req.raw);
	try {
		return JSON.parse(text) as unknown;
	} catch (error) {
		const why = text === "" ? "it is empty" : error instanceof Error ? error.message : String(error);
		return refuse("malformed", `The body is not JSON: ${why}.`);
	}
}

/** What a body is said to be; null: nothing is said. */
export const mediaType = (request: Request): string | null =>
	request.headers.get("Content-Type")?.slice(0, BOUNDS.headerLength).split(";")[0]?.trim().toLowerCase() || null;

/** A page of any site can send a body as a form or as plain text, or as nothing in particular. So JSON has to say so. */
export const unsupported = (type: string | null): never =>
	refuse(
		"unsupported_media_type",
		`Send JSON, with "Content-Type: application/json" (curl --json), and not ${type ? `"${type.slice(0, BOUNDS.nameLength)}"` : "without a type"}.`,
	);

const strictly = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });

/** The body as text, read no further than its bound. With a declared length nothing is read at all that is too long. */
export async function boundedText(request: Request): Promise<string> {
	const bytes = await boundedBytes(request);
	try {
		return strictly.decode(bytes);
	} catch {
		// Read leniently, different texts would become one name.
		return refuse("malformed", "The body is not UTF-8.");
	}
}

async function boundedBytes(request: Request): Promise<Uint8Array | ArrayBuffer> {
	const declared = Number(request.headers.get("Content-Length") ?? Number.NaN);
	if (declared > BOUNDS.bodyBytes) tooLarge();
	const chunks: Uint8Array[] = [];
	let bytes = 0;
	try {
		if (declared <= BOUNDS.bodyBytes) {
			const all = await request.arrayBuffer();
			return all.byteLength > BOUNDS.bodyBytes ? tooLarge() : all;
		}
		for await (const chunk of request.body ?? []) {
			bytes += chunk.byteLength;
			if (bytes > BOUNDS.bodyBytes) tooLarge();
			chunks.push(chunk);
		}
	} catch (error) {
		if (error instanceof Refused) throw error;
		// Its caller broke it off, and is no fault of ours.
		return refuse("malformed", "The body was cut off before its end.");
	}
	return new Blob(chunks).arrayBuffer();
}

const tooLarge = (): never => refuse("too_large", `A body has at most ${BOUNDS.bodyBytes} bytes.`);

/** What every stream says to those between it and its reader: pass each line on as it comes, as it is. */
export const STREAM_HEADERS = {
	"Content-Type": "application/x-ndjson",
	"Cache-Control": "no-store, no-transform",
	"X-Accel-Buffering": "no",
};

export const callerOf = (c: C): Caller => ({
	signal: () => c.req.raw.signal,
	waitUntil: (work) => c.executionCtx.waitUntil(work),
});

export const wantsStream = (c: C): boolean =>
	(c.req.header("Accept") ?? "").toLowerCase().includes("application/x-ndjson");

/** What every answer has that is not a page: it is true for a moment and for its caller. See `service.ts`. */
const UNKEPT = { "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff" };

/** An answer of JSON, made in one step: Hono's own copies the headers twice. */
export const answerJson = (body: unknown, headers: Record<string, string>): Response =>
	new Response(JSON.stringify(body), { headers: { "Content-Type": "application/json", ...UNKEPT, ...headers } });

export function answerProblem(refusal: Problem, headers: Record<string, string> = {}): Response {
	const retry = refusal.retryAfterSeconds;
	return new Response(JSON.stringify(refusal), {
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
