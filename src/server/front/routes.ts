/** The routes: who may, what was meant, whom to ask, how it is answered. Nothing is decided here. */

import { Hono } from "hono";
import { rateLimitHeaders } from "../../headers.ts";
import {
	DEFAULTS,
	type LimitSummary,
	type LimitsPage,
	type ServerHealth,
	type TokenInfo,
	VERSION,
} from "../../protocol.ts";
import { publicStatus, toIso } from "../contract/answers.ts";
import type { Placed } from "../contract/limit-calls.ts";
import { problem } from "../contract/problems.ts";
import { acquire, acquireStream, undo } from "./acquire.ts";
import { acquireBatch } from "./batch.ts";
import { check, isProblem } from "./check.ts";
import { veiled } from "./digests.ts";
import { answerJson } from "./http/answer.ts";
import { body } from "./http/body.ts";
import { acrossOrigins } from "./http/cors.ts";
import { answerHeard } from "./http/heard.ts";
import { pageRoutes } from "./http/page.ts";
import { answerProblem, problemOf, Refused, refuse, shown } from "./http/refused.ts";
import {
	type App,
	accept,
	allow,
	allowed,
	authorize,
	by,
	type C,
	callerOf,
	directory,
	named,
	patterned,
	route,
	STREAM_HEADERS,
	unknown,
	wantsStream,
} from "./http/route.ts";
import { guarded } from "./http/service.ts";
import * as leases from "./leases.ts";
import { limitOf } from "./limit-stub.ts";
import { OPENMETRICS } from "./metrics/exposition.ts";
import { sharedMetrics } from "./metrics/sharing.ts";
import { policyRoutes } from "./policies.ts";
import { prefect } from "./prefect/routes.ts";
import { openApiDocument } from "./reference/openapi.ts";
import { referencePage } from "./reference/page.ts";
import * as requests from "./requests.ts";
import { LENDS_NOTHING } from "./schemas.ts";
import { settle } from "./settle.ts";
import { watchRoutes } from "./watch/routes.ts";
import { asGranted } from "./whose.ts";
import { inParts } from "./yielding.ts";

export const app = new Hono<App>({ strict: true });

app.onError((error, c) => {
	if (error instanceof Refused) return answerProblem(c.req.raw, error.problem);
	// A caller that has gone reads no answer, and is no news.
	return answerProblem(c.req.raw, problemOf(error, !c.req.raw.signal.aborted));
});

// Prefect's wire, over the same limits.
app.all("/api/*", (c) => prefect.fetch(c.req.raw, c.env, c.executionCtx));

app.notFound(async (c) => {
	if (/^\/v1(\/|$)/.test(c.req.path)) await authorize(c);
	// An empty pattern: what is wrong with it is said like of any other.
	if (c.req.path === "/v1/policies/") patterned(c as C, "read");
	return answerProblem(
		c.req.raw,
		problem("not_found", `There is no ${shown(c.req.path)} here: see /health and /v1/….`),
	);
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
		const parsed = accept(requests.parseAcquire(await body(c.req.raw), stream, crypto.randomUUID()));
		const request = allowed(asGranted(c.get("grant"), "use", parsed));
		if (stream) {
			const lines = await acquireStream(c.env, request, callerOf(c));
			return new Response(lines, { headers: STREAM_HEADERS });
		}
		const caller = callerOf(c);
		const verdict = await acquire(c.env, request, caller);
		const limits = verdict.statuses.map(publicStatus);
		if (!verdict.ok)
			return answerProblem(c.req.raw, verdict.problem, rateLimitHeaders(limits, verdict.problem.retryAfterSeconds));
		const { lease } = verdict;
		const headers = rateLimitHeaders(limits);
		if (lease.waitedSeconds === 0) return answerJson(lease, headers);
		const type = { "Content-Type": "application/json", ...headers };
		return answerHeard(JSON.stringify(lease), type, caller, () => undo(c.env, verdict));
	},
});

route(app, { POST: "use" }, "/v1/acquire/batch", {
	POST: async (c) => {
		const wanted = accept(requests.parseBatch(await body(c.req.raw), () => crypto.randomUUID()));
		return answerJson({ answers: await acquireBatch(c.env, wanted, c.get("grant"), callerOf(c)) }, {});
	},
});

route(app, { POST: "read" }, "/v1/check", {
	POST: async (c) => {
		const request = allowed(asGranted(c.get("grant"), "read", accept(requests.parseCheck(await body(c.req.raw)))));
		const answer = await check(c.env, request);
		if (isProblem(answer)) return answerProblem(c.req.raw, answer);
		return answerJson(answer, rateLimitHeaders(answer.limits));
	},
});

route(app, { POST: "use" }, "/v1/renew", {
	POST: async (c) => {
		const { id, names, leaseMs } = accept(requests.parseRenew(await body(c.req.raw)));
		allow(c, "use", names);
		const { endsAt, gone } = await leases.renew(names, (name) => limitOf(c.env, name).renew(id, leaseMs));
		if (gone.length > 0) {
			const list = gone.map((name) => `"${name}"`).join(", ");
			refuse("lease_gone", `The lease "${id}" holds nothing of ${list}: it expired, was released, or was taken back.`);
		}
		// A lease of nothing, for its names did not exist, can be kept for ever.
		const asked = Date.now() + (leaseMs ?? DEFAULTS.leaseSeconds * 1_000);
		const expiresAt = names.length > 0 ? endsAt : asked;
		return c.json({ id, expiresAt: toIso(expiresAt) });
	},
});

route(app, { POST: "use" }, "/v1/release", {
	POST: async (c) => {
		const { id, names, actual } = accept(requests.parseRelease(await body(c.req.raw)));
		allow(c, "use", [...names, ...actual.map(([name]) => name)]);
		const settling = actual.length > 0 ? settle(c.env, id, actual) : null;
		const released = await leases.release(c.env, id, names, "caller");
		const settled = await settling;
		if (settled && "code" in settled) return answerProblem(c.req.raw, settled);
		return c.json({ released });
	},
});

route(app, { POST: "use" }, "/v1/settle", {
	POST: async (c) => {
		const { id, actual } = accept(requests.parseSettle(await body(c.req.raw)));
		allow(
			c,
			"use",
			actual.map(([name]) => name),
		);
		const settled = await settle(c.env, id, actual);
		if ("code" in settled) return answerProblem(c.req.raw, settled);
		return answerJson(settled, rateLimitHeaders(settled.limits));
	},
});

// ----------------------------------------------------------------------------------------------- token

route(app, { GET: "read" }, "/v1/token", {
	GET: async (c) => {
		const { name, scope, prefix, key } = c.get("grant");
		return c.json({ name, scope, prefix, ...(key !== undefined && { key }) } satisfies TokenInfo);
	},
});

// ---------------------------------------------------------------------------------------------- limits

route(app, { GET: "read" }, "/v1/limits", {
	GET: async (c) => {
		const { order, prefix, after, count } = accept(requests.parseLimitsQuery(c.req.query()));
		allow(c, "read", prefix === "" ? [] : [prefix]);
		const within = prefix === "" ? c.get("grant").prefix : prefix;
		const listed =
			order === "name"
				? await directory(c).names(within, after, count)
				: { ...(await directory(c).attention(within, count)), next: null };
		const { names, next } = listed;
		const answers = await inParts(names, (name) => limitOf(c.env, name).summary());
		const limits: LimitSummary[] = answers.flatMap((answer) =>
			answer.status === "fulfilled" && answer.value ? [answer.value] : [],
		);
		// One limit that is out of reach does not hide the others, nor itself.
		const unavailable = names.filter((_, index) => answers[index]?.status === "rejected");
		const page: LimitsPage = { limits, next, ...(unavailable.length > 0 && { unavailable }) };
		return c.json("totals" in listed ? { ...page, totals: listed.totals } : page);
	},
});

route(app, { GET: "read", PUT: "admin", PATCH: "admin", DELETE: "admin" }, "/v1/limits/:name", {
	GET: async (c) => {
		const name = named(c, "read");
		return c.json(await veiled(c.get("grant"), (await limitOf(c.env, name).inspect()) ?? unknown(name)));
	},
	PUT: async (c) => {
		const name = named(c, "admin");
		const settings = accept(requests.parseSettings(await body(c.req.raw)));
		const set = await limitOf(c.env, name).configure(settings, by(c));
		if ("placed" in set) return placedElsewhere(name, set);
		return c.json(set.summary, set.created ? 201 : 200);
	},
	PATCH: async (c) => {
		const name = named(c, "admin");
		const patch = accept(requests.parsePatch(await body(c.req.raw)));
		const set = (await limitOf(c.env, name).patch(patch, by(c))) ?? unknown(name);
		if ("notLent" in set) return lendsNothing(name);
		return "placed" in set ? placedElsewhere(name, set) : c.json(set);
	},
	DELETE: async (c) => {
		const name = named(c, "admin");
		if (!(await limitOf(c.env, name).remove(by(c)))) unknown(name);
		return c.body(null, 204);
	},
});

/** An operator who asks for a place wants the limit there: settings alone would hide that it stays where it is. */
function placedElsewhere(name: string, { placed }: Placed): never {
	const made = placed === null ? "without a region" : `for "${placed}"`;
	const message = `the limit "${name}" was made ${made}, and a limit never moves. Leave it out, or give the limit another name there`;
	return refuse("invalid", `region: ${message}. Nothing was changed.`, { errors: [{ field: "region", message }] });
}

function lendsNothing(name: string): never {
	const message = `${LENDS_NOTHING}. Those of "${name}" are`;
	return refuse("invalid", `lendSeconds: ${message}. Nothing was changed.`, {
		errors: [{ field: "lendSeconds", message }],
	});
}

route(app, { POST: "use" }, "/v1/limits/:name/pause", {
	POST: async (c) => {
		const name = named(c, "use");
		const { ms } = accept(requests.parsePause(await body(c.req.raw)));
		if (ms === 0) allow(c, "admin", [name]);
		return c.json((await limitOf(c.env, name).pause(ms, by(c))) ?? unknown(name));
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
		if (!answer.found) refuse("lease_gone", `"${name}" has no lease "${shown(id)}": it has ended, or never was.`);
		return c.json({ released: leases.slotsBack(answer) });
	},
});

policyRoutes(app);

/** The Worker's fetch: the routes behind the gate, also for the pages of other origins where some are allowed. */
export const service = guarded(acrossOrigins(app));
