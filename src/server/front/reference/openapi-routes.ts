/**
 * Every route of the wire, once, for the reference at `/openapi.json` and `/docs`. A route of the app that is missing
 * here fails a test; what every route has in common is added by `openapi.ts`.
 */

import * as z from "zod";
import type { ZodOpenApiLinksObject } from "zod-openapi";
import { BOUNDS, type Code, type Scope, VERSION } from "../../../protocol.ts";
import * as schemas from "../schemas.ts";
import * as answers from "./answer-schemas.ts";

/** One answer that is no problem. */
export interface Answer {
	description: string;
	/** Without one the answer has no body. */
	schema?: z.ZodType;
	/** Default `application/json`. */
	contentType?: string;
	example?: unknown;
	/** A second form of the same answer, by the caller's choice. */
	or?: { contentType: string; schema: z.ZodType; example: unknown };
	/** What can be asked next with what was answered. */
	links?: ZodOpenApiLinksObject;
	/** `RateLimit-Policy` and `RateLimit` go with it. */
	limited?: true;
}

export interface RouteDescription {
	method: "get" | "post" | "put" | "patch" | "delete";
	/** As in the document: `/v1/limits/{name}`. */
	path: string;
	id: string;
	tag: "leases" | "limits" | "policies" | "server";
	summary: string;
	description?: string;
	/** What a token has to allow; null: none is needed. */
	scope: Scope | null;
	/** Which names a token's prefix has to cover: those of the body, the one in the path, or the `prefix` of a query. */
	names?: "body" | "path" | "query";
	params?: z.ZodObject;
	query?: z.ZodObject;
	body?: { schema: z.ZodType; examples: Record<string, unknown> };
	answers: Record<number, Answer>;
	/** Problems of its own; those of bodies, tokens and the platform are added. */
	refusals?: Code[];
}

const ID = "7c6a5b0e-6a3f-4c59-9a53-0d5c2b8f1e11";
const AT = "2026-11-22T17:00:00.000Z";
const status = { name: "database", limit: 20, activeSlots: 1, remaining: 19, enforced: true };
const fence = { database: 1_795_712_400_000_000 };
const lease = { id: ID, names: { database: 1 }, fence, expiresAt: AT, waitedSeconds: 0, limits: [status] };
const settings = { limit: 20, slotDecayPerSecond: 0, active: true, enforce: true, lendSeconds: 0 };
const summary = {
	...{ name: "database", id: "0b7f1a52-7f0c-4a43-9d39-1b9c86f2c0de", ...settings, origin: "configured" },
	...{ policy: null, region: null, createdAt: AT, updatedAt: AT, updatedBy: "ops", pausedUntil: null },
	...{ activeSlots: 1, remaining: 19, leaseCount: 1, waitingCount: 0 },
	lastMinute: { granted: 1, denied: 0 },
	totals: { grantedAtOnce: 1, grantedAfterWait: 0, denied: 0, timedOut: 0, released: 0, expired: 0, wouldDeny: 0 },
};
const counted = { grantedAtOnce: 1, grantedAfterWait: 0, denied: 0, released: 0, expired: 0, wouldDeny: 0 };
const sample = { at: AT, limit: 20, activeSlots: 1, waiting: 0, ...counted };
const leaseInfo = { id: ID, slots: 1, holder: "nightly-report", fence: fence.database, since: AT, expiresAt: AT };
const policy = {
	...{
		pattern: "login:*",
		limit: 5,
		slotDecayPerSecond: 0.1,
		active: true,
		enforce: true,
		lendSeconds: 0,
		region: null,
		idleSeconds: 300,
	},
	...{ updatedAt: AT, updatedBy: "ops" },
};

const health = { status: "ok", version: VERSION, time: AT };
const token = { name: "ci", scope: "use", prefix: "team-a:" };

const nameParam = z.object({ name: schemas.name });
const patternParam = z.object({ pattern: schemas.pattern });
const leaseParams = z.object({ name: schemas.name, id: schemas.anyId });

const ofName = { name: "$request.path.name" };
const limitLinks: ZodOpenApiLinksObject = {
	inspect: { operationId: "inspect", parameters: ofName },
	configureFields: { operationId: "configureFields", parameters: ofName },
	inspectLeases: { operationId: "inspectLeases", parameters: ofName },
	delete: { operationId: "delete", parameters: ofName },
};
const ofPattern = { pattern: "$request.path.pattern" };
const policyLinks: ZodOpenApiLinksObject = {
	inspectPolicy: { operationId: "inspectPolicy", parameters: ofPattern },
	deletePolicy: { operationId: "deletePolicy", parameters: ofPattern },
};
const leaseLinks: ZodOpenApiLinksObject = {
	renew: { operationId: "renew", requestBody: "$response.body" },
	release: { operationId: "release", requestBody: "$response.body" },
};

const settingsBody = {
	schema: schemas.limitSchema,
	examples: {
		concurrency: { limit: 20 },
		rate: { limit: 100, slotDecayPerSecond: 5 },
	},
};

const policyBody = {
	schema: schemas.policySchema,
	examples: {
		rate: { limit: 5, slotDecayPerSecond: 0.1 },
		concurrency: { limit: 2, idleSeconds: 3_600 },
	},
};

export const routes: RouteDescription[] = [
	{
		...{ method: "post", path: "/v1/acquire", id: "acquire", tag: "leases", scope: "use", names: "body" },
		summary: "Take slots of one or more limits, all or none",
		description:
			"Answered when the slots were granted or refused. With `Accept: application/x-ndjson` it is answered at once, with a line of JSON for everything that happens: `queued`, `heartbeat`, then `granted` or `denied` and the end. A caller that breaks the stream leaves the line.",
		body: {
			schema: schemas.streamSchema,
			examples: {
				one: { names: "database" },
				several: { names: ["database", "reports"], occupy: 2, waitSeconds: 30, holder: "nightly-report" },
				perName: { names: { database: 1, openai: 3 }, leaseSeconds: 300 },
				rate: { names: "openai", mode: "rate_limit", occupy: 3 },
			},
		},
		answers: {
			200: {
				description: "Granted: a lease, or a receipt in rate-limit mode. Or a stream of events.",
				schema: answers.granted,
				example: lease,
				or: {
					contentType: "application/x-ndjson",
					schema: answers.streamEvent,
					example: { event: "queued", position: 3, waitingFor: { name: "database", reason: "slots" } },
				},
				links: leaseLinks,
				limited: true,
			},
		},
		refusals: ["denied", "unknown_limit", "id_in_use", "exceeds_limit", "no_decay", "queue_full", "too_many_waiters"],
	},
	{
		...{ method: "post", path: "/v1/acquire/batch", id: "acquireBatch", tag: "leases", scope: "use" },
		summary: "Make many requests at once, each with its own outcome",
		description:
			"Up to 100 requests that neither wait nor hold a stream. Those for one name reach it together, are decided in their order and share a commit. Whatever becomes of them the answer is 200, with an outcome for each in its place: the lease or receipt, or the problem that the request alone would have been answered with; also where a name lies outside of the token's prefix.",
		body: {
			schema: schemas.batchShown,
			examples: {
				two: { requests: [{ names: "openai", mode: "rate_limit", occupy: 3 }, { names: ["database", "reports"] }] },
			},
		},
		answers: {
			200: {
				description: "An outcome for each request, in their order.",
				schema: answers.batchAnswer,
				example: { answers: [{ status: 200, lease }] },
			},
		},
	},
	{
		...{ method: "post", path: "/v1/check", id: "check", tag: "leases", scope: "read", names: "body" },
		summary: "Whether an acquire would be granted now",
		description: "Takes nothing, counts nothing and creates nothing. What is true now may not be so a moment later.",
		body: { schema: schemas.checkSchema, examples: { one: { names: "openai", mode: "rate_limit", occupy: 3 } } },
		answers: {
			200: {
				description: "Whether it would, with each limit as a denial shows it.",
				schema: answers.checked,
				example: { allowed: true, limits: [{ ...status, position: null, retryAfterSeconds: null }] },
				limited: true,
			},
		},
		refusals: ["unknown_limit"],
	},
	{
		...{ method: "post", path: "/v1/renew", id: "renew", tag: "leases", scope: "use", names: "body" },
		summary: "Keep a lease for longer",
		description: "A lease as it was answered is a valid body; other fields of it are ignored.",
		body: { schema: schemas.renewSchema, examples: { lease: { id: ID, names: { database: 1 }, leaseSeconds: 120 } } },
		answers: { 200: { description: "Renewed.", schema: answers.renewed, example: { id: ID, expiresAt: AT } } },
		refusals: ["lease_gone"],
	},
	{
		...{ method: "post", path: "/v1/release", id: "release", tag: "leases", scope: "use", names: "body" },
		summary: "Give a lease back, or leave the line",
		description:
			"A lease as it was answered is a valid body; other fields of it are ignored. Releasing twice frees nothing twice.",
		body: { schema: schemas.releaseSchema, examples: { lease: { id: ID, names: { database: 1 } } } },
		answers: { 200: { description: "What was given back.", schema: answers.released, example: { released: 1 } } },
		refusals: ["receipt_gone", "already_settled"],
	},
	{
		...{ method: "post", path: "/v1/settle", id: "settle", tag: "leases", scope: "use", names: "body" },
		summary: "Say what estimates came to",
		description:
			"Of what was taken by rate with `settleSeconds`. Below the estimate the rest comes back as far as it has not by itself; above it the difference is taken too, past the limit if need be. The same again changes nothing.",
		body: { schema: schemas.settleSchema, examples: { tokens: { id: ID, actual: { openai: 812 } } } },
		answers: {
			200: {
				description: "Settled.",
				schema: answers.settled,
				example: { id: ID, actual: { database: 812 }, limits: [status] },
				limited: true,
			},
		},
		refusals: ["receipt_gone", "already_settled"],
	},
	{
		...{ method: "get", path: "/v1/limits", id: "inspectLimits", tag: "limits", scope: "read", names: "query" },
		summary: "List limits with their live figures",
		description:
			"By name, page by page. With `order=attention` those first that need a look, over all limits, and the sums of all: what is beyond `count` is left out, and `totals.limits` says how many there are.",
		query: schemas.limitsQuery,
		answers: {
			200: { description: "A page.", schema: answers.limitsPage, example: { limits: [summary], next: null } },
		},
	},
	{
		...{ method: "get", path: "/v1/limits/{name}", id: "inspect", tag: "limits", scope: "read", names: "path" },
		summary: "See one limit: who holds, who waits",
		params: nameParam,
		answers: {
			200: {
				description: "The limit.",
				schema: answers.info,
				example: { ...summary, settled: { count: 1, meanRatio: 0.6 }, leases: [leaseInfo], waiting: [] },
			},
		},
		refusals: ["unknown_limit"],
	},
	{
		...{ method: "put", path: "/v1/limits/{name}", id: "configure", tag: "limits", scope: "admin", names: "path" },
		summary: "Create a limit, or replace its settings",
		params: nameParam,
		body: settingsBody,
		answers: {
			200: { description: "Replaced.", schema: answers.summary, example: summary, links: limitLinks },
			201: { description: "Created.", schema: answers.summary, example: summary, links: limitLinks },
		},
	},
	{
		...{ method: "patch", path: "/v1/limits/{name}", id: "configureFields", tag: "limits", scope: "admin" },
		names: "path",
		summary: "Change some settings, or the slots in use by hand",
		params: nameParam,
		body: { schema: schemas.patchSchema, examples: { off: { active: false }, reset: { activeSlots: 0 } } },
		answers: { 200: { description: "Changed.", schema: answers.summary, example: summary } },
		refusals: ["unknown_limit"],
	},
	{
		...{ method: "delete", path: "/v1/limits/{name}", id: "delete", tag: "limits", scope: "admin", names: "path" },
		summary: "Delete a limit",
		description: "Its leases end, and those in line are refused.",
		params: nameParam,
		answers: { 204: { description: "Deleted." } },
		refusals: ["unknown_limit"],
	},
	{
		...{ method: "post", path: "/v1/limits/{name}/pause", id: "pause", tag: "limits", scope: "use", names: "path" },
		summary: "Grant nothing for a while",
		description:
			"For an upstream that answered 429: leases and places in line stay, and the line is served at the end. An earlier pause that ends later stays. 0 ends a pause, and needs scope `admin`.",
		params: nameParam,
		body: { schema: schemas.pauseSchema, examples: { upstream: { seconds: 30 } } },
		answers: {
			200: {
				description: "Paused, or not any more.",
				schema: answers.summary,
				example: { ...summary, pausedUntil: AT },
			},
		},
		refusals: ["unknown_limit"],
	},
	{
		...{ method: "get", path: "/v1/limits/{name}/leases", id: "inspectLeases", tag: "limits", scope: "read" },
		names: "path",
		summary: "List the leases of a limit",
		params: nameParam,
		query: schemas.leasesQuery,
		answers: {
			200: {
				description: "A page, in order of arrival.",
				schema: answers.leasesPage,
				example: { leases: [leaseInfo], next: null },
			},
		},
		refusals: ["unknown_limit"],
	},
	{
		...{ method: "get", path: "/v1/limits/{name}/history", id: "inspectHistory", tag: "limits", scope: "read" },
		names: "path",
		summary: "See the last 15 minutes of a limit",
		params: nameParam,
		answers: {
			200: {
				description: "Samples of 5 s; fewer for a limit that is younger.",
				schema: answers.history,
				example: { name: "database", sampleSeconds: 5, samples: [sample] },
			},
		},
		refusals: ["unknown_limit"],
	},
	{
		...{ method: "get", path: "/v1/watch", id: "inspectLive", tag: "limits", scope: "read", names: "query" },
		summary: "Watch limits as they change",
		description:
			"A stream that does not end by itself: a page of limits, then a line for each that is new, changed (at most four times a second) or deleted. With `name`, that limit in full, to its end. A stream that has followed very many limits ends; ask again.",
		query: schemas.watchQuery,
		answers: {
			200: {
				description: "A line of JSON for each event.",
				contentType: "application/x-ndjson",
				schema: answers.watchEvent,
				example: { event: "limits", limits: [summary], next: null },
			},
		},
		refusals: ["unknown_limit", "too_many_names", "too_many_streams"],
	},
	{
		...{ method: "delete", path: "/v1/limits/{name}/leases/{id}", id: "releaseByForce", tag: "limits" },
		...{ scope: "admin", names: "path" },
		summary: "Take a lease back by force",
		description: "By its `id`, or by the digest that tokens below `admin` see in place of it.",
		params: leaseParams,
		answers: { 200: { description: "What was taken back.", schema: answers.released, example: { released: 1 } } },
		refusals: ["unknown_limit", "lease_gone"],
	},
	{
		...{ method: "get", path: "/v1/policies", id: "inspectPolicies", tag: "policies", scope: "read" },
		summary: "List the policies",
		answers: { 200: { description: "All of them.", schema: answers.policiesPage, example: { policies: [policy] } } },
	},
	{
		...{ method: "get", path: "/v1/policies/{pattern}", id: "inspectPolicy", tag: "policies", scope: "read" },
		names: "path",
		summary: "See one policy",
		params: patternParam,
		answers: { 200: { description: "The policy.", schema: answers.policy, example: policy } },
		refusals: ["unknown_policy"],
	},
	{
		...{
			method: "get",
			path: "/v1/policies/{pattern}/denied",
			id: "inspectDeniedKeys",
			tag: "policies",
			scope: "read",
		},
		names: "path",
		summary: "See which keys of a policy are denied most",
		description: `The first ${BOUNDS.deniedKeys} by what they told within the last minute or two: a key in use tells once a minute.`,
		params: patternParam,
		answers: {
			200: {
				description: "Keys, those denied most first.",
				schema: answers.deniedKeys,
				example: { keys: [{ name: "login:mallory", denied: 120 }] },
			},
		},
		refusals: ["unknown_policy"],
	},
	{
		...{ method: "put", path: "/v1/policies/{pattern}", id: "configurePolicy", tag: "policies", scope: "admin" },
		names: "path",
		summary: "Set a policy: settings for every name that starts with a prefix, or for one exact name",
		description: "A changed policy holds within five seconds for names that are there already.",
		params: patternParam,
		body: policyBody,
		answers: {
			200: { description: "Replaced.", schema: answers.policy, example: policy, links: policyLinks },
			201: { description: "Created.", schema: answers.policy, example: policy, links: policyLinks },
		},
		refusals: ["too_many_policies"],
	},
	{
		...{ method: "delete", path: "/v1/policies/{pattern}", id: "deletePolicy", tag: "policies", scope: "admin" },
		names: "path",
		summary: "Delete a policy",
		params: patternParam,
		answers: { 204: { description: "Deleted." } },
		refusals: ["unknown_policy"],
	},
	{
		...{ method: "get", path: "/health", id: "health", tag: "server", scope: null },
		summary: "Whether the server answers",
		answers: { 200: { description: "It does.", schema: answers.health, example: health } },
	},
	{
		...{ method: "get", path: "/v1/token", id: "inspectToken", tag: "server", scope: "read" },
		summary: "What the token that was sent allows",
		description: "On an open server: everything.",
		answers: { 200: { description: "Its scope and its prefix.", schema: answers.token, example: token } },
	},
	{
		...{ method: "get", path: "/metrics", id: "metrics", tag: "server", scope: "read" },
		summary: "Every limit, and the sum of each policy, as OpenMetrics text",
		description: `A token with a prefix sees the names and patterns that start with it. At most ${BOUNDS.limitsMeasured} limits are shown one by one. All who ask within a second get the same text.`,
		answers: {
			200: {
				description: "OpenMetrics 1.0.",
				contentType: "application/openmetrics-text",
				schema: z.string(),
				example: 'headgate_in_use_slots{limit="database",origin="configured"} 1',
			},
		},
		refusals: ["overloaded"],
	},
	{
		...{ method: "get", path: "/openapi.json", id: "openapi", tag: "server", scope: null },
		summary: "This document",
		answers: { 200: { description: "OpenAPI 3.1.", schema: z.record(z.string(), z.unknown()) } },
	},
];
