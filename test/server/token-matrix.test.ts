/**
 * Each operation of the document, times each scope, times a prefix that covers its names or does not. The operations
 * are those of the document, and the document has every route, so a new route cannot be forgotten here.
 */

import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { describe, expect, test } from "vitest";
import { type BatchAnswer, type Problem, SCOPES, type Scope } from "../../src/protocol.ts";
import type { Env } from "../../src/server/contract/env.ts";
import { openApiDocument } from "../../src/server/front/reference/openapi.ts";
import { service } from "../../src/server/front/routes.ts";
import { bindings, expectProblem, newName, read } from "./support.ts";

interface Operation {
	operationId: string;
	description?: string;
	security: Record<string, Scope[]>[];
	parameters?: { name: string; in: string }[];
	requestBody?: { content: Record<string, { examples: Record<string, { value: Record<string, unknown> }> }> };
	responses: Record<string, unknown>;
}

const document = JSON.parse(JSON.stringify(openApiDocument())) as { paths: Record<string, Record<string, Operation>> };

const operations = Object.entries(document.paths).flatMap(([path, item]) =>
	Object.entries(item).map(([method, operation]) => ({
		...{ id: operation.operationId, path, method: method.toUpperCase(), operation },
		scope: operation.security[0]?.bearer?.[0] ?? null,
	})),
);
const guarded = operations.flatMap(({ scope, ...one }) => (scope === null ? [] : [{ ...one, scope }]));

/** One request of an operation, about names that start with `prefix`. */
function requestOf({ path, method, operation }: (typeof operations)[number], prefix: string, token: string): Request {
	const values: Record<string, string> = { name: `${prefix}name`, pattern: `${prefix}*`, id: "some-id" };
	const filled = path.replaceAll(/\{(\w+)\}/g, (_, field: string) => encodeURIComponent(values[field] ?? ""));
	const takesPrefix = operation.parameters?.some((one) => one.in === "query" && one.name === "prefix");
	const query = takesPrefix ? `?prefix=${encodeURIComponent(prefix)}` : "";
	const examples = operation.requestBody?.content["application/json"]?.examples;
	const [example] = Object.values(examples ?? {});
	const named = { names: [`${prefix}name`] };
	const body = example && {
		...example.value,
		...("names" in example.value && named),
		...("actual" in example.value && { actual: { [`${prefix}name`]: 1 } }),
		...("requests" in example.value && { requests: [named, named] }),
	};
	return new Request(`http://headgate.test${filled}${query}`, {
		method,
		headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
		...(body && { body: JSON.stringify(body) }),
	});
}

/** Whether an operation speaks of names, which a prefix can cover or not. */
const speaksOfNames = ({ path, operation }: (typeof operations)[number]): boolean =>
	path.includes("{") ||
	operation.parameters?.some(({ name }) => name === "prefix") === true ||
	/"(names|actual)"/.test(JSON.stringify(operation.requestBody ?? {}));

async function secret(tokens: { token: string; scope: Scope; prefix: string }[]): Promise<string> {
	const entries = tokens.map(async ({ token, ...rest }) => {
		const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(token)));
		return { name: token, sha256: [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join(""), ...rest };
	});
	return JSON.stringify(await Promise.all(entries));
}

/** An answer of a Worker that knows these tokens, and no more of it than its head where it is a stream. */
async function ask(request: Request, HEADGATE_TOKENS: string) {
	const { LIMITS, DIRECTORY } = bindings;
	const context = createExecutionContext();
	const response = await service.fetch(request, { LIMITS, DIRECTORY, HEADGATE_TOKENS } as Env, context);
	if (response.headers.get("Content-Type")?.includes("ndjson")) {
		await response.body?.cancel();
		return { status: response.status, headers: response.headers, body: null };
	}
	const answer = await read<Problem>(response);
	await waitOnExecutionContext(context);
	return answer;
}

const allows = (has: Scope, needed: Scope): boolean => SCOPES.indexOf(has) >= SCOPES.indexOf(needed);

test("the document says of every operation what it needs, and few need nothing", () => {
	expect(
		operations
			.filter(({ scope }) => scope === null)
			.map(({ id }) => id)
			.sort(),
	).toEqual(["health", "openapi"]);
	for (const { scope, operation } of guarded) {
		expect(SCOPES).toContain(scope);
		expect(operation.security).toEqual([{ bearer: [scope] }, { basic: [scope] }]);
		expect(operation.description).toContain(`scope \`${scope}\``);
		expect(Object.keys(operation.responses)).toEqual(expect.arrayContaining(["401", "403"]));
	}
});

describe.each(guarded)("$id", (one) => {
	const family = newName();
	const [inside, outside] = [`${family}:in:`, `${family}:out:`];
	const tokens = SCOPES.map((scope) => ({ token: `${scope}-token-of-a-caller`, scope, prefix: inside }));

	test.each(SCOPES)("a token of scope %s, for names within its prefix", async (scope) => {
		const answer = await ask(requestOf(one, inside, `${scope}-token-of-a-caller`), await secret(tokens));
		if (allows(scope, one.scope)) {
			expect([401, 403], JSON.stringify(answer.body)).not.toContain(answer.status);
			// What it is answered with is in the document.
			expect(Object.keys(one.operation.responses)).toContain(String(answer.status));
			return;
		}
		const { detail } = expectProblem(answer as never, 403, "forbidden");
		expect(detail).toContain(`"${one.scope}"`);
		expect(detail).toContain(`"${scope}"`);
	});

	test.each(SCOPES)("a token of scope %s, for names outside of its prefix", async (scope) => {
		const answer = await ask(requestOf(one, outside, `${scope}-token-of-a-caller`), await secret(tokens));
		if (allows(scope, one.scope) && !speaksOfNames(one)) {
			expect([401, 403], JSON.stringify(answer.body)).not.toContain(answer.status);
			return;
		}
		if (allows(scope, one.scope) && one.id === "acquireBatch") {
			// Each request has its own outcome.
			const { answers } = answer.body as unknown as BatchAnswer;
			expect(answers.map(({ status }) => status)).toEqual([403, 403]);
			return expect(JSON.stringify(answers[0])).toContain(inside);
		}
		const { detail } = expectProblem(answer as never, 403, "forbidden");
		// Who lacks the scope is told of the scope: with another prefix the call would still be refused.
		if (!allows(scope, one.scope)) return expect(detail).toContain(`"${one.scope}"`);
		expect(detail).toContain(`"${inside}"`);
		expect(detail).toContain(`"${outside}`);
	});

	test("no token, and one that nobody knows", async () => {
		const known = await secret(tokens);
		expectProblem((await ask(requestOf(one, inside, "another"), known)) as never, 401, "unauthorized");
		const bare = new Request(requestOf(one, inside, ""), { headers: { "Content-Type": "application/json" } });
		const answer = await ask(bare, known);
		expectProblem(answer as never, 401, "unauthorized");
		expect(answer.headers.get("WWW-Authenticate")).toBe('Bearer realm="headgate"');
	});

	test("while tokens change, the old one and the new one are both let in", async () => {
		const rotating = await secret([
			{ token: "old-token-of-a-caller", scope: one.scope, prefix: "" },
			{ token: "new-token-of-a-caller", scope: one.scope, prefix: "" },
		]);
		for (const token of ["old-token-of-a-caller", "new-token-of-a-caller"]) {
			expect([401, 403]).not.toContain((await ask(requestOf(one, inside, token), rotating)).status);
		}
	});
});
