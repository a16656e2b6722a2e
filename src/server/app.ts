/** The routes: who may, what was meant, whom to ask, how it is answered. Nothing is decided here. */

import { type Context, Hono } from "hono";
import { cors } from "hono/cors";
import { BOUNDS, type LimitSummary, type Problem, type Scope } from "../protocol.ts";
import { acquire, acquireStream, type Caller } from "./acquire.ts";
import { outOfReach, problem, rateLimitHeaders, toIso } from "./answers.ts";
import { authenticate, forbidden, type Grant } from "./auth.ts";
import { unknownLimits } from "./coordinator.ts";
import type { Env } from "./env.ts";
import * as requests from "./requests.ts";

type App = { Bindings: Env; Variables: { grant: Grant } };
type C = Context<App>;

/** A refusal on its way to the caller. */
class Refused extends Error {
	override readonly name = "Refused";
	readonly problem: Problem;
	constructor(refusal: Problem) {
		super(refusal.detail);
		this.problem = refusal;
	}
}

const refuse = (...given: Parameters<typeof problem>): never => {
	throw new Refused(problem(...given));
};

export const app = new Hono<App>({ strict: true });

app.use("*", (c, next) => {
	const origins = (c.env.HEADGATE_CORS_ORIGINS ?? "").split(",").map((origin) => origin.trim());
	const allowed = origins.filter((origin) => origin !== "");
	if (allowed.length === 0) return next();
	return cors({
		origin: (origin) => (allowed.includes(origin) || allowed.includes("*") ? origin : null),
		allowMethods: ["GET", "POST", "PUT", "PATCH", "DELETE"],
		allowHeaders: ["Authorization", "Content-Type"],
		exposeHeaders: ["Retry-After", "RateLimit", "RateLimit-Policy"],
		maxAge: 86_400,
	})(c, next);
});

app.use("/v1/*", async (c, next) => {
	const who = await authenticate(c.req.raw, c.env);
	if ("code" in who) throw new Refused(who);
	c.set("grant", who);
	return next();
});

app.onError((error, c) => {
	if (error instanceof Refused) return answerProblem(c, error.problem);
	// An object's errors come over RPC, where a class does not survive but a name does.
	if (error.name === "NewerDataError") return answerProblem(c, problem("newer_data", error.message));
	// Whoever has gone reads no answer, and is no news.
	if (!c.req.raw.signal.aborted) console.error(error);
	if ("durableObjectReset" in error || "overloaded" in error || "retryable" in error || "remote" in error) {
		return answerProblem(c, outOfReach());
	}
	return answerProblem(c, problem("internal", "Something went wrong here. The server's log says what."));
});

app.notFound((c) => answerProblem(c, problem("not_found", `There is no ${c.req.path} here: see /health and /v1/….`)));

/** Registers the methods of one path; any other method of it is answered with 405 and `Allow`. */
function route(
	path: string,
	methods: Partial<Record<"GET" | "POST" | "PUT" | "PATCH" | "DELETE", (c: C) => Promise<Response>>>,
): void {
	for (const [method, handler] of Object.entries(methods)) app.on(method, path, (c) => handler(c));
	const names = Object.keys(methods);
	const allow = (names.includes("GET") ? [...names, "HEAD"] : names).join(", ");
	app.all(path, (c) => {
		const refusal = problem("method_not_allowed", `${c.req.path} takes ${allow}, and not ${c.req.method}.`);
		return answerProblem(c, refusal, { Allow: allow });
	});
}

// ---------------------------------------------------------------------------------------------- health

route("/health", { GET: async (c) => c.json({ status: "ok" }) });
route("/", {
	GET: async (c) => c.text("Headgate: named limits. Acquire with POST /v1/acquire; health at /health.\n"),
});

// -------------------------------------------------------------------------------- acquire, renew, release

route("/v1/acquire", {
	POST: async (c) => {
		const stream = wantsStream(c);
		const request = accept(requests.parseAcquire(await body(c), stream, crypto.randomUUID()));
		allow(
			c,
			"use",
			request.names.map(([name]) => name),
		);
		if (stream) {
			const lines = await acquireStream(c.env, request, callerOf(c));
			return new Response(lines, { headers: { "Content-Type": "application/x-ndjson", "Cache-Control": "no-store" } });
		}
		const verdict = await acquire(c.env, request, callerOf(c));
		if (verdict.ok) return c.json(verdict.lease, 200, rateLimitHeaders(verdict.statuses));
		return answerProblem(c, verdict.problem, rateLimitHeaders(verdict.statuses, verdict.problem.retryAfterSeconds));
	},
});

route("/v1/renew", {
	POST: async (c) => {
		const { id, names, leaseMs } = accept(requests.parseRenew(await body(c)));
		allow(c, "use", names);
		const answers = await Promise.all(names.map((name) => c.env.LIMITS.getByName(name).renew(id, leaseMs)));
		const gone = names.filter((_, index) => answers[index]?.event.kind !== "renewed");
		if (gone.length > 0) {
			const list = gone.map((name) => `"${name}"`).join(", ");
			refuse("lease_gone", `The lease "${id}" holds nothing of ${list}: it expired, was released, or was taken back.`);
		}
		const ends = answers.flatMap((answer) => (answer?.event.kind === "renewed" ? [answer.event.expiresAt] : []));
		const expiresAt = ends.length > 0 ? Math.min(...ends) : Date.now() + (leaseMs ?? 60_000);
		return c.json({ id, expiresAt: toIso(expiresAt) });
	},
});

route("/v1/release", {
	POST: async (c) => {
		const { id, names } = accept(requests.parseRelease(await body(c)));
		allow(c, "use", names);
		// The first name last: whoever waits there for all of them finds the others free.
		const [first, ...others] = names;
		const release = (name: string) => c.env.LIMITS.getByName(name).release(id, "caller");
		const answers = await Promise.all(others.map(release));
		if (first !== undefined) answers.push(await release(first));
		return c.json({ released: answers.reduce((sum, answer) => sum + slotsOf(answer?.event), 0) });
	},
});

const slotsOf = (event: { kind: string; slots?: number } | undefined): number =>
	event?.kind === "released" ? (event.slots ?? 0) : 0;

// ---------------------------------------------------------------------------------------------- limits

route("/v1/limits", {
	GET: async (c) => {
		const { prefix, after, count } = accept(requests.parseLimitsQuery(c.req.query()));
		allow(c, "read", prefix === "" ? [] : [prefix]);
		const within = prefix === "" ? c.get("grant").prefix : prefix;
		const { names, next } = await directory(c).names(within, after, count);
		const answers = await Promise.allSettled(names.map((name) => c.env.LIMITS.getByName(name).summary()));
		const limits: LimitSummary[] = answers.flatMap((answer) =>
			answer.status === "fulfilled" && answer.value ? [answer.value] : [],
		);
		// One limit that is out of reach does not hide the others, nor itself.
		const unavailable = names.filter((_, index) => answers[index]?.status === "rejected");
		return c.json({ limits, next, ...(unavailable.length > 0 && { unavailable }) });
	},
});

route("/v1/limits/:name", {
	GET: async (c) => {
		const name = named(c, "read");
		return c.json((await c.env.LIMITS.getByName(name).inspect()) ?? unknown(name));
	},
	PUT: async (c) => {
		const name = named(c, "admin");
		const settings = accept(requests.parseSettings(await body(c)));
		const { created, summary } = await c.env.LIMITS.getByName(name).configure(settings);
		return c.json(summary, created ? 201 : 200);
	},
	PATCH: async (c) => {
		const name = named(c, "admin");
		const patch = accept(requests.parsePatch(await body(c)));
		return c.json((await c.env.LIMITS.getByName(name).patch(patch)) ?? unknown(name));
	},
	DELETE: async (c) => {
		const name = named(c, "admin");
		if (!(await c.env.LIMITS.getByName(name).remove())) unknown(name);
		return c.body(null, 204);
	},
});

route("/v1/limits/:name/leases", {
	GET: async (c) => {
		const name = named(c, "read");
		const { after, count } = accept(requests.parseLeasesQuery(c.req.query()));
		return c.json((await c.env.LIMITS.getByName(name).leases(after, count)) ?? unknown(name));
	},
});

route("/v1/limits/:name/leases/:id", {
	DELETE: async (c) => {
		const name = named(c, "admin");
		const id = c.req.param("id") ?? "";
		const answer = (await c.env.LIMITS.getByName(name).release(id, "operator")) ?? unknown(name);
		if (!answer.found) refuse("lease_gone", `"${name}" has no lease "${id}": it has ended, or never was.`);
		return c.json({ released: slotsOf(answer.event) });
	},
});

// -------------------------------------------------------------------------------------------- policies

route("/v1/policies", {
	GET: async (c) => {
		allow(c, "read", []);
		const { prefix } = c.get("grant");
		const policies = await directory(c).policies();
		return c.json({ policies: policies.filter(({ pattern }) => pattern.startsWith(prefix)) });
	},
});

route("/v1/policies/:pattern", {
	GET: async (c) => {
		const pattern = patterned(c, "read");
		return c.json((await directory(c).policy(pattern)) ?? unknownPolicy(pattern));
	},
	PUT: async (c) => {
		const pattern = patterned(c, "admin");
		const settings = accept(requests.parseSettings(await body(c)));
		const { created, policy } = await directory(c).setPolicy(pattern, settings);
		return c.json(policy, created ? 201 : 200);
	},
	DELETE: async (c) => {
		const pattern = patterned(c, "admin");
		if (!(await directory(c).deletePolicy(pattern))) unknownPolicy(pattern);
		return c.body(null, 204);
	},
});

// --------------------------------------------------------------------------------------------- helpers

const directory = (c: C) => c.env.DIRECTORY.getByName("directory");

const unknown = (name: string): never => {
	throw new Refused(unknownLimits([name]));
};

const unknownPolicy = (pattern: string): never => refuse("unknown_policy", `No policy has the pattern "${pattern}".`);

function allow(c: C, scope: Scope, names: string[]): void {
	const refusal = forbidden(c.get("grant"), scope, names);
	if (refusal) throw new Refused(refusal);
}

/** The name in the path, checked. */
function named(c: C, scope: Scope): string {
	return inPath(c, "name", requests.nameFault, scope);
}

/** The pattern in the path, checked. */
function patterned(c: C, scope: Scope): string {
	return inPath(c, "pattern", requests.patternFault, scope);
}

function inPath(c: C, field: "name" | "pattern", fault: (text: string) => string | null, scope: Scope): string {
	const text = c.req.param(field) ?? "";
	const message = fault(text);
	if (message) refuse("invalid", `${field}: ${message}.`, { errors: [{ field, message }] });
	allow(c, scope, [text]);
	return text;
}

function accept<T>(parsed: requests.Parsed<T>): T {
	if (parsed.ok) return parsed.value;
	const { code, detail, errors } = parsed.fault;
	return refuse(code, detail, errors && { errors });
}

async function body(c: C): Promise<unknown> {
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
async function boundedText(request: Request): Promise<string> {
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

const callerOf = (c: C): Caller => ({
	signal: () => c.req.raw.signal,
	waitUntil: (work) => c.executionCtx.waitUntil(work),
});

const wantsStream = (c: C): boolean => (c.req.header("Accept") ?? "").toLowerCase().includes("application/x-ndjson");

function answerProblem(c: Context, refusal: Problem, headers: Record<string, string> = {}): Response {
	const retry = refusal.retryAfterSeconds;
	return new Response(JSON.stringify(refusal), {
		status: refusal.status,
		headers: {
			"Content-Type": "application/problem+json",
			...(retry !== undefined && { "Retry-After": String(Math.ceil(retry)) }),
			...(refusal.code === "unauthorized" && { "WWW-Authenticate": 'Bearer realm="headgate"' }),
			...headers,
			// A page of another origin must be able to read why.
			...Object.fromEntries([...c.res.headers].filter(([name]) => name.startsWith("access-control-"))),
		},
	});
}
