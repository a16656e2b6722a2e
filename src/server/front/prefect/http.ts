/** What every route of Prefect's wire needs: its errors in their three shapes, who may, a checked body. */

import { type Context, Hono } from "hono";
import { BOUNDS, type Problem, type Scope } from "../../../protocol.ts";
import type { Env } from "../../contract/env.ts";
import { failure } from "../../contract/problems.ts";
import { admitted, TooMany } from "../admission/admission.ts";
import { authenticate, forbidden, type Grant } from "../auth.ts";
import { boundedText, mediaType, unsupported } from "../http/body.ts";
import { Refused } from "../http/refused.ts";
import type { Needs } from "../http/route.ts";
import * as bodies from "./bodies.ts";

type App = { Bindings: Env; Variables: { grant: Grant } };
export type C = Context<App>;

/** Clients older than this speak another wire. */
const API_VERSION_MIN: [number, number, number] = [0, 8, 0];

/** An answer that is an error. */
export class Wrong extends Error {
	override readonly name = "Wrong";
	readonly response: Response;
	constructor(status: number, body: unknown, headers: Record<string, string> = {}) {
		super(`Answered ${status}.`);
		this.response = Response.json(body, { status, headers });
	}
}

export const wrong = (status: number, detail: string, headers?: Record<string, string>): never => {
	throw new Wrong(status, { detail }, headers);
};
export const invalid = (errors: bodies.Complaint[], body: unknown): never => {
	const told = errors.slice(0, BOUNDS.faults).map((error) => ({
		...error,
		loc: error.loc.map((part) => (typeof part === "string" ? part.slice(0, BOUNDS.faultLength) : part)),
		input: shown(error.input),
	}));
	throw new Wrong(422, {
		exception_message: "Invalid request received.",
		exception_detail: told,
		request_body: shown(body),
	});
};

/** What was sent, as a refusal shows it: a long text cut, and null where there is more in it than a reader would read. */
function shown(sent: unknown): unknown {
	if (typeof sent === "string") return sent.slice(0, BOUNDS.faultLength);
	let left = BOUNDS.faultLength;
	// Not by recursion: it may nest deeper than any stack.
	for (const todo = [sent]; todo.length > 0; ) {
		const each = todo.pop();
		left -= typeof each === "string" ? each.length : 1;
		for (const [key, value] of typeof each === "object" && each !== null ? Object.entries(each) : []) {
			left -= key.length + 1;
			if (left < 0) return null;
			todo.push(value);
		}
		if (left < 0) return null;
	}
	return sent ?? null;
}
export const unavailable = (why?: string): Wrong =>
	new Wrong(
		503,
		{ exception_message: "Service Unavailable", ...(why !== undefined && { exception_detail: why }) },
		{ "Retry-After": "1" },
	);
export const notFound = (): never => wrong(404, "Concurrency Limit not found");

export const prefect = new Hono<App>({ strict: true });

prefect.onError((error, c) => {
	if (error instanceof Wrong) return error.response;
	if (error instanceof Refused || error instanceof TooMany) return fromProblem(error.problem).response;
	if (!c.req.raw.signal.aborted) console.error(error);
	const known = failure(error);
	if (known) return unavailable(known.detail).response;
	return new Wrong(500, { exception_message: "Internal Server Error" }).response;
});

/** A refusal of the native wire in the words of this one. */
export function fromProblem({ status, code, detail, retryAfterSeconds }: Problem): Wrong {
	if (code === "unauthorized") {
		return new Wrong(401, { exception_message: "Unauthorized" }, { "WWW-Authenticate": 'Basic realm="headgate"' });
	}
	if (status === 503) return unavailable(detail);
	return new Wrong(status, { detail }, retryAfterSeconds ? { "Retry-After": String(retryAfterSeconds) } : {});
}

prefect.notFound(() => new Wrong(404, { detail: "Not Found" }).response);

export type Handler = (c: C) => Promise<Response>;
const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"] as const;

type Method = (typeof METHODS)[number];

/** Every route, with what it needs. */
export const ROUTES: { method: string; path: string; needs: Needs }[] = [];

/**
 * Registers the methods of one path. Before a handler runs the token is known to allow what the route needs, and nothing
 * that the caller sent has been looked at.
 */
export function route<M extends Method>(needs: Record<M, Needs>, path: string, methods: Record<M, Handler>): void {
	const allowed = Object.keys(methods).join(", ");
	const needed: Partial<Record<Method, Needs>> = needs;
	const handlers: Partial<Record<Method, Handler>> = methods;
	const isOpen = Object.values(needs).every((each) => each === "anyone");
	for (const method of METHODS) {
		const handler = handlers[method];
		const least = needed[method] ?? (isOpen ? "anyone" : "read");
		if (handler) ROUTES.push({ method, path: `/api${path}`, needs: least });
		prefect.on(method, `/api${path}`, async (c) => {
			if (least !== "anyone") {
				await authorize(c);
				allow(c, least, []);
			}
			return handler ? handler(c) : wrong(405, "Method Not Allowed", { Allow: allowed });
		});
	}
}

async function authorize(c: C): Promise<void> {
	const who = await authenticate(c.req.raw, c.env);
	if ("code" in who) throw fromProblem(who);
	c.set("grant", who);
	c.env = admitted(c.env, who);
	const version = c.req.header("X-PREFECT-API-VERSION")?.slice(0, BOUNDS.spelledLength);
	if (version === undefined || version === "") return;
	const parts = version.split(".").map((part) => (/^\s*[+-]?\d+\s*$/.test(part) ? Number(part) : Number.NaN));
	if (parts.length !== 3 || parts.some(Number.isNaN)) {
		const expected = "Invalid X-PREFECT-API-VERSION header format.Expected header in format 'x.y.z'";
		wrong(400, `${expected} but received ${version}`);
	}
	const isOlder = parts.reduce((sum, part, index) => sum || part - (API_VERSION_MIN[index] ?? 0), 0) < 0;
	const least = API_VERSION_MIN.join(".");
	if (isOlder) {
		wrong(400, `The request specified API version ${version} but this server requires version ${least} or higher.`);
	}
}

export function allow(c: C, scope: Scope, names: string[]): void {
	const refusal = forbidden(c.get("grant"), scope, names);
	if (refusal) throw fromProblem(refusal);
}

export async function read<S extends Parameters<typeof bodies.readBody>[0]["shape"]>(
	c: C,
	body: bodies.Body<S>,
	/** What is wrong with the path. */
	errors: bodies.Complaint[] = [],
) {
	const text = await boundedText(c.req.raw);
	const type = mediaType(c.req.raw);
	let parsed: unknown;
	if (text !== "") {
		if (!/^application\/(?:[\w.-]{1,64}\+)?json$/.test(type ?? "")) unsupported(type);
		try {
			parsed = JSON.parse(text);
		} catch (error) {
			const at = Number(/position (\d+)/.exec(String(error))?.[1] ?? 0);
			const ctx = { error: error instanceof Error ? error.message : String(error) };
			return invalid([{ type: "json_invalid", loc: ["body", at], msg: "JSON decode error", input: {}, ctx }], text);
		}
	}
	const result = bodies.readBody(body, parsed);
	if ("errors" in result) return invalid([...errors, ...result.errors], parsed);
	return errors.length > 0 ? invalid(errors, parsed) : { ...result.value, raw: parsed };
}
