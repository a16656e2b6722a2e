/** What every route of Prefect's wire needs: its errors in their three shapes, who may, a checked body. */

import { type Context, Hono } from "hono";
import type { Problem, Scope } from "../../protocol.ts";
import { failure } from "../answers.ts";
import { authenticate, forbidden, type Grant } from "../auth.ts";
import type { Env } from "../env.ts";
import { boundedText, Refused } from "../http.ts";
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
	throw new Wrong(422, {
		exception_message: "Invalid request received.",
		exception_detail: errors,
		request_body: body ?? null,
	});
};
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
	if (error instanceof Refused) return fromProblem(error.problem).response;
	if (!c.req.raw.signal.aborted) console.error(error);
	const known = failure(error);
	if (known) return unavailable(known.detail).response;
	return new Wrong(500, { exception_message: "Internal Server Error" }).response;
});

/** A refusal of the native wire in the words of this one. */
export function fromProblem({ status, code, detail }: Problem): Wrong {
	if (code === "unauthorized") {
		return new Wrong(401, { exception_message: "Unauthorized" }, { "WWW-Authenticate": 'Basic realm="headgate"' });
	}
	return status === 503 ? unavailable(detail) : new Wrong(status, { detail });
}

prefect.notFound(() => new Wrong(404, { detail: "Not Found" }).response);

export type Handler = (c: C) => Promise<Response>;
const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"] as const;

/** Registers the methods of one path. Whoever calls is known before a handler runs, unless `anyone` may. */
export function route(path: string, methods: Partial<Record<(typeof METHODS)[number], Handler>>, anyone = false): void {
	const allowed = Object.keys(methods).join(", ");
	for (const method of METHODS) {
		const handler = methods[method];
		prefect.on(method, `/api${path}`, async (c) => {
			if (!anyone) await authorize(c);
			return handler ? handler(c) : wrong(405, "Method Not Allowed", { Allow: allowed });
		});
	}
}

async function authorize(c: C): Promise<void> {
	const who = await authenticate(c.req.raw, c.env);
	if ("code" in who) throw fromProblem(who);
	c.set("grant", who);
	const version = c.req.header("X-PREFECT-API-VERSION");
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
	const type = c.req.header("Content-Type")?.split(";")[0]?.trim().toLowerCase() ?? "application/json";
	let parsed: unknown = text === "" ? undefined : text;
	if (text !== "" && /^application\/([\w.-]+\+)?json$/.test(type)) {
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
