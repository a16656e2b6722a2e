/** The routes: who may, what was meant, whom to ask, how it is answered. Nothing is decided here. */

import { Hono } from "hono";
import { rateLimitHeaders } from "../../headers.ts";
import { type LimitSummary, type ServerHealth, type TokenInfo, VERSION } from "../../protocol.ts";
import { problem, publicStatus, toIso } from "../contract/answers.ts";
import { acquire, acquireStream, undo } from "./acquire.ts";
import { veiled } from "./digests.ts";
import { answerHeard } from "./heard.ts";
import {
	type App,
	accept,
	allow,
	answerJson,
	answerProblem,
	authorize,
	body,
	by,
	type C,
	callerOf,
	directory,
	named,
	patterned,
	policiesChanged,
	problemOf,
	Refused,
	refuse,
	route,
	STREAM_HEADERS,
	tooManyPolicies,
	unknown,
	unknownPolicy,
	wantsStream,
} from "./http.ts";
import { limitOf } from "./limit-stub.ts";
import { audit } from "./log.ts";
import { OPENMETRICS } from "./metrics/exposition.ts";
import { sharedMetrics } from "./metrics/sharing.ts";
import { acrossOrigins } from "./origins.ts";
import { pageRoutes } from "./page.ts";
import { prefect } from "./prefect/routes.ts";
import { openApiDocument } from "./reference/openapi.ts";
import { referencePage } from "./reference/page.ts";
import * as requests from "./requests.ts";
import { guarded } from "./service.ts";
import { watchRoutes } from "./watch/routes.ts";

export const app = new Hono<App>({ strict: true });

app.onError((error, c) => {
	if (error instanceof Refused) return answerProblem(error.problem);
	// Whoever has gone reads no answer, and is no news.
	return answerProblem(problemOf(error, !c.req.raw.signal.aborted));
});

// Prefect's wire, over the same limits.
app.all("/api/*", (c) => prefect.fetch(c.req.raw, c.env, c.executionCtx));

app.notFound(async (c) => {
	if (/^\/v1(\/|$)/.test(c.req.path)) await authorize(c);
	// An empty pattern: what is wrong with it is said like of any other.
	if (c.req.path === "/v1/policies/") patterned(c as C, "read");
	return answerProblem(problem("not_found", `There is no ${c.req.path} here: see /health and /v1/….`));
});

// ---------------------------------------------------------------------------------------------- health

const health = (): ServerHealth => ({ status: "ok", version: VERSION, time: new Date().toISOString() });
route(app, { GET: "anyone" }, "/health", { GET: async (c) => c.json(health()) });
pageRoutes(app);
route(app, { GET: "anyone" }, "/openapi.json", { GET: async (c) => c.json(openApiDocument()) });

route(app, { GET: "anyone" }, "/docs", {
	GET: async (c) => {
		const { body: page, policy } = await referencePage(openApiDocument());
		return c.html(page, 200, { "Content-Security-Policy": policy });
	},
});
route(app, { GET: "read" }, "/metrics", {
	GET: async (c) => {
		const text = await sharedMetrics(c.env, c.get("grant").prefix, callerOf(c));
		return c.body(text, 200, { "Content-Type": OPENMETRICS });
	},
});

// -------------------------------------------------------------------------------- acquire, renew, release

route(app, { POST: "use" }, "/v1/acquire", {
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
			return new Response(lines, { headers: STREAM_HEADERS });
		}
		const caller = callerOf(c);
		const verdict = await acquire(c.env, request, caller);
		const limits = verdict.statuses.map(publicStatus);
		if (!verdict.ok) return answerProblem(verdict.problem, rateLimitHeaders(limits, verdict.problem.retryAfterSeconds));
		const { lease } = verdict;
		const headers = rateLimitHeaders(limits);
		if (lease.waitedSeconds === 0) return answerJson(lease, headers);
		const type = { "Content-Type": "application/json", ...headers };
		return answerHeard(JSON.stringify(lease), type, caller, () => undo(c.env, verdict));
	},
});

route(app, { POST: "use" }, "/v1/renew", {
	POST: async (c) => {
		const { id, names, leaseMs } = accept(requests.parseRenew(await body(c)));
		allow(c, "use", names);
		const answers = await Promise.all(names.map((name) => limitOf(c.env, name).renew(id, leaseMs)));
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

route(app, { POST: "use" }, "/v1/release", {
	POST: async (c) => {
		const { id, names } = accept(requests.parseRelease(await body(c)));
		allow(c, "use", names);
		// The first name last: whoever waits there for all of them finds the others free.
		const [first, ...others] = names;
		const release = (name: string) => limitOf(c.env, name).release(id, "caller");
		const answers = await Promise.all(others.map(release));
		if (first !== undefined) answers.push(await release(first));
		return c.json({ released: answers.reduce((sum, answer) => sum + slotsOf(answer?.event), 0) });
	},
});

const slotsOf = (event: { kind: string; slots?: number } | undefined): number =>
	event?.kind === "released" ? (event.slots ?? 0) : 0;

// ----------------------------------------------------------------------------------------------- token

route(app, { GET: "read" }, "/v1/token", {
	GET: async (c) => {
		const { name, scope, prefix } = c.get("grant");
		return c.json({ name, scope, prefix } satisfies TokenInfo);
	},
});

// ---------------------------------------------------------------------------------------------- limits

route(app, { GET: "read" }, "/v1/limits", {
	GET: async (c) => {
		const { prefix, after, count } = accept(requests.parseLimitsQuery(c.req.query()));
		allow(c, "read", prefix === "" ? [] : [prefix]);
		const within = prefix === "" ? c.get("grant").prefix : prefix;
		const { names, next } = await directory(c).names(within, after, count);
		const answers = await Promise.allSettled(names.map((name) => limitOf(c.env, name).summary()));
		const limits: LimitSummary[] = answers.flatMap((answer) =>
			answer.status === "fulfilled" && answer.value ? [answer.value] : [],
		);
		// One limit that is out of reach does not hide the others, nor itself.
		const unavailable = names.filter((_, index) => answers[index]?.status === "rejected");
		return c.json({ limits, next, ...(unavailable.length > 0 && { unavailable }) });
	},
});

route(app, { GET: "read", PUT: "admin", PATCH: "admin", DELETE: "admin" }, "/v1/limits/:name", {
	GET: async (c) => {
		const name = named(c, "read");
		return c.json(await veiled(c.get("grant"), (await limitOf(c.env, name).inspect()) ?? unknown(name)));
	},
	PUT: async (c) => {
		const name = named(c, "admin");
		const settings = accept(requests.parseSettings(await body(c)));
		const { created, summary } = await limitOf(c.env, name).configure(settings, by(c));
		return c.json(summary, created ? 201 : 200);
	},
	PATCH: async (c) => {
		const name = named(c, "admin");
		const patch = accept(requests.parsePatch(await body(c)));
		return c.json((await limitOf(c.env, name).patch(patch, by(c))) ?? unknown(name));
	},
	DELETE: async (c) => {
		const name = named(c, "admin");
		if (!(await limitOf(c.env, name).remove(by(c)))) unknown(name);
		return c.body(null, 204);
	},
});

watchRoutes(app);

route(app, { GET: "read" }, "/v1/limits/:name/leases", {
	GET: async (c) => {
		const name = named(c, "read");
		const { after, count } = accept(requests.parseLeasesQuery(c.req.query()));
		return c.json(await veiled(c.get("grant"), (await limitOf(c.env, name).leases(after, count)) ?? unknown(name)));
	},
});

route(app, { DELETE: "admin" }, "/v1/limits/:name/leases/:id", {
	DELETE: async (c) => {
		const name = named(c, "admin");
		const id = c.req.param("id") ?? "";
		const answer = (await limitOf(c.env, name).force(id, by(c))) ?? unknown(name);
		if (!answer.found) refuse("lease_gone", `"${name}" has no lease "${id}": it has ended, or never was.`);
		return c.json({ released: slotsOf(answer.event) });
	},
});

// -------------------------------------------------------------------------------------------- policies

route(app, { GET: "read" }, "/v1/policies", {
	GET: async (c) => {
		const { prefix } = c.get("grant");
		const policies = await directory(c).policies();
		return c.json({ policies: policies.filter(({ pattern }) => pattern.startsWith(prefix)) });
	},
});

route(app, { GET: "read", PUT: "admin", DELETE: "admin" }, "/v1/policies/:pattern", {
	GET: async (c) => {
		const pattern = patterned(c, "read");
		return c.json((await directory(c).policy(pattern)) ?? unknownPolicy(pattern));
	},
	PUT: async (c) => {
		const pattern = patterned(c, "admin");
		const settings = accept(requests.parsePolicy(await body(c)));
		const from = await directory(c).policy(pattern);
		const set = await directory(c).setPolicy(pattern, settings, by(c), c.env.caller?.policies);
		if ("full" in set) return tooManyPolicies(set.full);
		audit({ action: "configure", policy: pattern, by: by(c), from, to: settings });
		await policiesChanged(c, set.version);
		return c.json(set.policy, set.created ? 201 : 200);
	},
	DELETE: async (c) => {
		const pattern = patterned(c, "admin");
		const from = await directory(c).policy(pattern);
		const version = (await directory(c).deletePolicy(pattern)) ?? unknownPolicy(pattern);
		audit({ action: "delete", policy: pattern, by: by(c), from, to: null });
		await policiesChanged(c, version);
		return c.body(null, 204);
	},
});

/** The Worker's fetch: the routes behind the gate, also for the pages of other origins where some are allowed. */
export const service = guarded(acrossOrigins(app));
