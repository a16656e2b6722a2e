/** The reference as OpenAPI 3.1, made of the schemas that requests are checked with. */

import {
	createDocument,
	type ZodOpenApiHeadersObject,
	type ZodOpenApiOperationObject,
	type ZodOpenApiPathsObject,
	type ZodOpenApiResponseObject,
} from "zod-openapi";
import { BOUNDS, type Code, PROBLEMS, type Scope, VERSION } from "../../../protocol.ts";
import { problem } from "../../contract/problems.ts";
import { problem as problemSchema } from "./answer-schemas.ts";
import { type Answer, type RouteDescription, routes } from "./openapi-routes.ts";

export type OpenApiDocument = ReturnType<typeof createDocument>;

const DESCRIPTION = `Named limits: a semaphore with leases, and a leaky bucket.

JSON in, JSON out. Durations are seconds and say so in their names; moments are ISO 8601 in UTC. Names in a path are percent-encoded. An error is \`application/problem+json\` with a \`code\` from a closed list. A body has at most ${BOUNDS.bodyBytes} bytes.`;

const TAGS = [
	{ name: "leases", description: "Take slots, keep them, give them back." },
	{ name: "limits", description: "Names and their settings; who holds, who waits." },
	{ name: "policies", description: "Settings for every name that starts with a prefix." },
	{ name: "server", description: "The server itself." },
];

const text = { type: "string" } as const;
const wholeSeconds = { type: "integer", minimum: 0 } as const;
const AFTER = "Whole seconds, rounded up, after which a retry is worth it.";
const rateLimit: ZodOpenApiHeadersObject = {
	"RateLimit-Policy": {
		schema: text,
		description: "What each limit allows (draft-ietf-httpapi-ratelimit-headers-11). Absent when none is enforced.",
		example: '"database";q=20;qu="concurrent-requests"',
	},
	RateLimit: {
		schema: text,
		description: "What is left of each limit (draft-ietf-httpapi-ratelimit-headers-11).",
		example: '"database";r=19',
	},
};
const HEADERS: Partial<Record<number, ZodOpenApiHeadersObject>> = {
	401: { "WWW-Authenticate": { schema: text, required: true, example: 'Bearer realm="headgate"' } },
	405: { Allow: { schema: text, required: true, example: "GET, HEAD" } },
	429: { "Retry-After": { schema: wholeSeconds, required: true, description: AFTER }, ...rateLimit },
	503: { "Retry-After": { schema: wholeSeconds, description: `${AFTER} Absent where none is.` }, ...rateLimit },
};

let made: OpenApiDocument | null = null;

/** Made when it is first asked for: most isolates never are. */
export function openApiDocument(): OpenApiDocument {
	made ??= createDocument(
		{
			openapi: "3.1.1",
			info: {
				title: "Headgate",
				version: VERSION,
				description: DESCRIPTION,
				license: { name: "MIT", identifier: "MIT" },
			},
			servers: [{ url: "/" }],
			tags: TAGS,
			paths: paths(),
			components: {
				securitySchemes: {
					bearer: { type: "http", scheme: "bearer", description: "A token of Headgate." },
					basic: { type: "http", scheme: "basic", description: "The token as password, with any user name." },
				},
			},
		},
		// What these stand for is said by `override` in `schemas.ts`.
		{ allowEmptySchema: { custom: true, transform: true } },
	);
	return made;
}

function paths(): ZodOpenApiPathsObject {
	const all: ZodOpenApiPathsObject = {};
	for (const route of routes) {
		all[route.path] = { ...all[route.path], [route.method]: operation(route) };
	}
	return all;
}

function operation(route: RouteDescription): ZodOpenApiOperationObject {
	const { id, tag, summary, scope, params, query, body } = route;
	const description = [route.description, needs(route)].filter((part) => part !== undefined).join("\n\n");
	return {
		...{ operationId: id, tags: [tag], summary },
		...(description !== "" && { description }),
		security: scope === null ? [] : [{ bearer: [scope] }, { basic: [scope] }],
		...((params || query) && { requestParams: { ...(params && { path: params }), ...(query && { query }) } }),
		...(body && {
			requestBody: {
				required: true,
				content: { "application/json": { schema: body.schema, examples: named(body.examples) } },
			},
		}),
		responses: {
			...Object.fromEntries(Object.entries(route.answers).map(([code, answer]) => [code, response(answer)])),
			...refusals(route),
		},
	};
}

/** The scope and the prefix in words. */
function needs({ scope, names }: RouteDescription): string | undefined {
	if (scope === null) return undefined;
	const covered = { body: "the names", path: "the name in the path", query: "the `prefix`" };
	return `Needs a token of scope \`${scope}\`${names ? ` whose own prefix covers ${covered[names]}` : ""}.`;
}

function response(answer: Answer): ZodOpenApiResponseObject {
	const { description, schema, contentType = "application/json", example, or, links, limited } = answer;
	return {
		description,
		...(limited && { headers: rateLimit }),
		...(schema && {
			content: {
				[contentType]: { schema, ...(example !== undefined && { example }) },
				...(or && { [or.contentType]: { schema: or.schema, example: or.example } }),
			},
		}),
		...(links && { links }),
	};
}

/** One response for each status, with an example for each of its codes. */
function refusals(route: RouteDescription): Record<string, ZodOpenApiResponseObject> {
	const byStatus = new Map<number, Code[]>();
	for (const code of new Set([...(route.refusals ?? []), ...common(route)])) {
		byStatus.set(PROBLEMS[code].status, [...(byStatus.get(PROBLEMS[code].status) ?? []), code]);
	}
	return Object.fromEntries(
		[...byStatus].map(([status, codes]) => {
			const headers = HEADERS[status];
			const examples = named(Object.fromEntries(codes.map((code) => [code, example(code)])));
			const description = codes.map((code) => `\`${code}\`: ${PROBLEMS[code].when}`).join("\n\n");
			const content = { "application/problem+json": { schema: problemSchema, examples } };
			return [status, { description, ...(headers && { headers }), content }];
		}),
	);
}

/** The problems that a route has by what it is. */
function common({ scope, names, params, query, body, tag }: RouteDescription): Code[] {
	const byName = (names === "body" || names === "path") && tag !== "policies";
	return [
		...(byName ? (["too_many_names"] as const) : []),
		...(scope === null ? [] : (["unauthorized", "forbidden"] as const)),
		"forbidden_host",
		"forbidden_origin",
		...(params || query || body ? (["invalid"] as const) : []),
		...(params || query ? (["malformed", "uri_too_long"] as const) : []),
		...(body ? (["malformed", "too_large", "unsupported_media_type"] as const) : []),
		// What an empty or broken part of a path meets.
		...(params ? (["not_found"] as const) : []),
		...(tag === "server" ? [] : (["overloaded", "storage_failed", "newer_data", "damaged_data", "internal"] as const)),
		"misconfigured",
	];
}

function example(code: Code) {
	const more =
		PROBLEMS[code].status === 429 || ["overloaded", "storage_failed"].includes(code) ? { retryAfterSeconds: 1 } : {};
	return problem(code, PROBLEMS[code].when.replaceAll("`", ""), more);
}

const named = (examples: Record<string, unknown>) =>
	Object.fromEntries(Object.entries(examples).map(([name, value]) => [name, { value }]));

/** The scope of a route as the document says it; undefined: it needs no token. */
export const scopeOf = (operation: { security?: Record<string, string[]>[] }): Scope | undefined =>
	operation.security?.[0]?.bearer?.[0] as Scope | undefined;
