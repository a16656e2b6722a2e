/** Who may do what: scopes, prefixes, and a server that is closed unless it was told otherwise. */

import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { describe, expect, test, vi } from "vitest";
import { BOUNDS, type LimitsPage, type PoliciesPage } from "../../src/protocol.ts";
import type { Env } from "../../src/server/contract/env.ts";
import { service } from "../../src/server/front/routes.ts";
import { type Answer, bindings, expectProblem, newId, newLimit, newName, read, until } from "./support.ts";

type Vars = Pick<Env, "HEADGATE_TOKENS" | "HEADGATE_ADMIN_TOKEN" | "HEADGATE_OPEN" | "HEADGATE_CORS_ORIGINS">;

/** One call of a Worker with variables of its own. */
async function ask<Body = unknown>(
	vars: Vars,
	method: string,
	route: string,
	{ token, body, headers = {} }: { token?: string; body?: unknown; headers?: Record<string, string> } = {},
): Promise<Answer<Body>> {
	const { LIMITS, DIRECTORY } = bindings;
	const context = createExecutionContext();
	const request = new Request(`http://headgate.test${route}`, {
		method,
		headers: {
			...(token !== undefined && { Authorization: `Bearer ${long(token)}` }),
			...(body !== undefined && { "Content-Type": "application/json" }),
			...headers,
		},
		...(body !== undefined && { body: JSON.stringify(body) }),
	});
	const answer = await read<Body>(
		await service.fetch(request, { LIMITS, DIRECTORY, HEADGATE_HOSTS: "headgate.test", ...vars }, context),
	);
	await waitOnExecutionContext(context);
	return answer;
}

/** A token that is long enough to be one. */
const long = (token: string): string => token.padEnd(BOUNDS.tokenLength, ".");

async function digest(token: string): Promise<string> {
	const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(token)));
	return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

interface Given {
	token: string;
	scope: string;
	prefix?: string;
}

/** The secret of a server that knows these tokens. */
async function secret(...given: Given[]): Promise<Vars> {
	const entries = given.map(async ({ token, ...entry }) => ({ ...entry, sha256: await digest(long(token)) }));
	return { HEADGATE_TOKENS: JSON.stringify(await Promise.all(entries)) };
}

/** Every route that a token can be asked for, with the weakest scope that opens it. */
const routes = (name: string): [scope: "read" | "use" | "admin", method: string, route: string, body?: unknown][] => [
	["read", "GET", "/v1/token"],
	["read", "GET", "/v1/limits"],
	["read", "GET", `/v1/limits/${name}`],
	["read", "GET", `/v1/limits/${name}/leases`],
	["read", "GET", "/v1/policies"],
	["read", "GET", `/v1/policies/${name}*`],
	["use", "POST", "/v1/acquire", { names: name }],
	["use", "POST", "/v1/renew", { id: newId(), names: name }],
	["use", "POST", "/v1/release", { id: newId(), names: name }],
	["admin", "PUT", `/v1/limits/${name}`, { limit: 5 }],
	["admin", "PATCH", `/v1/limits/${name}`, { limit: 5 }],
	["admin", "DELETE", `/v1/limits/${name}/leases/${newId()}`],
	["admin", "PUT", `/v1/policies/${name}*`, { limit: 5 }],
	["admin", "DELETE", `/v1/policies/${name}*`],
	["admin", "DELETE", `/v1/limits/${name}`],
];

const SCOPES = ["read", "use", "admin"] as const;

describe("a server that is closed", () => {
	test("without tokens every call but /health is refused, and nothing is taken", async () => {
		const name = newName();
		for (const vars of [{}, { HEADGATE_OPEN: "1" }, { HEADGATE_OPEN: "TRUE" }, { HEADGATE_OPEN: "" }]) {
			for (const [, method, route, body] of routes(name)) {
				const answer = await ask(vars, method, route, { token: "whatever-it-is", body });
				const problem = expectProblem(answer, 401, "unauthorized");
				expect(problem.detail).toContain("HEADGATE_TOKENS");
				expect(answer.headers.get("WWW-Authenticate")).toMatch(/^Bearer/);
			}
			expectProblem(await ask(vars, "GET", "/v1/nothing"), 401, "unauthorized");
			expectProblem(await ask(vars, "GET", "/v1"), 401, "unauthorized");
			expect((await ask(vars, "GET", "/health")).status).toBe(200);
		}
		expectProblem(await ask({ HEADGATE_OPEN: "true" }, "GET", `/v1/limits/${name}`), 404, "unknown_limit");
	});

	test.each([
		["empty", ""],
		["not JSON", "{"],
		["a token as it is", "my-secret-token"],
		["an object", `{"token":"x"}`],
		["null", "null"],
		["an entry without a scope", `[{"sha256":"${"a".repeat(64)}"}]`],
		["an unknown scope", `[{"sha256":"${"a".repeat(64)}","scope":"root"}]`],
		["a digest that is too short", `[{"sha256":"${"a".repeat(63)}","scope":"admin"}]`],
		["a token in place of its digest", `[{"sha256":"my-secret-token","scope":"admin"}]`],
		["a prefix that is not text", `[{"sha256":"${"a".repeat(64)}","scope":"admin","prefix":1}]`],
		["a field that is misspelt", `[{"sha256":"${"a".repeat(64)}","scope":"use","prefx":"tenant"}]`],
		["one bad entry among good ones", `[{"sha256":"${"a".repeat(64)}","scope":"use"},{"scope":"use"}]`],
	])("a HEADGATE_TOKENS that cannot be read refuses everything: %s", async (_, text) => {
		const log = vi.spyOn(console, "error").mockImplementation(() => undefined);
		for (const HEADGATE_OPEN of ["true", undefined]) {
			const vars = { HEADGATE_TOKENS: text, ...(HEADGATE_OPEN && { HEADGATE_OPEN }) };
			for (const token of ["my-secret-token", "x", "", text]) {
				const problem = expectProblem(
					await ask(vars, "GET", "/v1/limits", { token: token.trim() }),
					401,
					"unauthorized",
				);
				expect(problem.detail).not.toContain("my-secret-token");
			}
			expect((await ask(vars, "GET", "/health")).status).toBe(200);
		}
		log.mockRestore();
	});

	test("an empty list of tokens lets nobody in, open or not", async () => {
		for (const vars of [{ HEADGATE_TOKENS: "[]" }, { HEADGATE_TOKENS: "[]", HEADGATE_OPEN: "true" }]) {
			expectProblem(await ask(vars, "GET", "/v1/limits", { token: "x" }), 401, "unauthorized");
			expectProblem(await ask(vars, "GET", "/v1/limits"), 401, "unauthorized");
		}
	});

	test("open, no token is needed", async () => {
		const name = newName();
		for (const [, method, route, body] of routes(name)) {
			expect([401, 403]).not.toContain((await ask({ HEADGATE_OPEN: "true" }, method, route, { body })).status);
		}
	});

	test("one plain secret is a token of scope admin, beside those of the list, and closes the server", async () => {
		const plain = long("plain");
		const name = newName();
		const list = await secret({ token: "reader", scope: "read" });
		for (const vars of [
			{ HEADGATE_ADMIN_TOKEN: plain },
			{ HEADGATE_ADMIN_TOKEN: `${plain}\n`, HEADGATE_OPEN: "true" },
			{ HEADGATE_ADMIN_TOKEN: plain, ...list },
		]) {
			const configured = await ask<{ updatedBy: string }>(vars, "PUT", `/v1/limits/${name}`, {
				...{ token: "plain", body: { limit: 1 } },
			});
			expect([200, 201]).toContain(configured.status);
			expect(configured.body.updatedBy).toBe("HEADGATE_ADMIN_TOKEN");
			expectProblem(await ask(vars, "GET", "/v1/limits"), 401, "unauthorized");
			expectProblem(await ask(vars, "GET", "/v1/limits", { token: "plainer" }), 401, "unauthorized");
		}
		const both = { HEADGATE_ADMIN_TOKEN: plain, ...list };
		expect((await ask(both, "GET", "/v1/token", { token: "reader" })).body).toMatchObject({ scope: "read" });
		expectProblem(await ask(both, "DELETE", `/v1/limits/${name}`, { token: "reader" }), 403, "forbidden");
	});

	test.each([
		["empty", ""],
		["white space", " \n"],
		["short", "guess-me"],
	])("a plain secret that is %s lets nobody in, and opens nothing", async (_, HEADGATE_ADMIN_TOKEN) => {
		for (const HEADGATE_OPEN of ["true", "false"]) {
			const request = new Request("http://headgate.test/v1/limits", {
				headers: { Authorization: `Bearer ${HEADGATE_ADMIN_TOKEN.trim()}` },
			});
			const { LIMITS, DIRECTORY } = bindings;
			const vars = { LIMITS, DIRECTORY, HEADGATE_HOSTS: "headgate.test", HEADGATE_OPEN, HEADGATE_ADMIN_TOKEN };
			expectProblem(await read(await service.fetch(request, vars, createExecutionContext())), 401, "unauthorized");
		}
	});

	test("with tokens, HEADGATE_OPEN opens nothing", async () => {
		const vars = { ...(await secret({ token: "good", scope: "admin" })), HEADGATE_OPEN: "true" };
		expectProblem(await ask(vars, "GET", "/v1/limits"), 401, "unauthorized");
	});
});

describe("tokens", () => {
	test("missing and wrong", async () => {
		const vars = await secret({ token: "good-token-of-a-server", scope: "admin" });
		const name = await newLimit();
		const sha256 = await digest("good-token-of-a-server");
		const wrong: (string | null)[] = [
			null,
			"",
			"Bearer",
			"Bearer ",
			"Bearer good-token-of-a-serve",
			"Bearer good-token-of-a-servers",
			"Bearer GOOD-TOKEN-OF-A-SERVER",
			`Bearer ${sha256}`,
			"good-token-of-a-server",
			"Token good-token-of-a-server",
			"Digest good-token-of-a-server",
			"Basic good-token-of-a-server",
			`Basic ${btoa("good-token-of-a-server:")}`,
			"Basic !!!",
			"Bearer \u00e4",
		];
		for (const header of wrong) {
			const headers: Record<string, string> = header === null ? {} : { Authorization: header };
			const answer = await ask(vars, "POST", "/v1/acquire", { body: { names: name }, headers });
			expectProblem(answer, 401, "unauthorized");
			expect(answer.headers.get("WWW-Authenticate")).toMatch(/^Bearer/);
		}
		const { body } = await ask<{ activeSlots: number }>(vars, "GET", `/v1/limits/${name}`, {
			token: "good-token-of-a-server",
		});
		expect(body.activeSlots).toBe(0);
	});

	test("the schemes are read whatever their case, and Basic carries the token as password", async () => {
		const token = "good:token-of-a-server";
		const vars = await secret({ token, scope: "read" });
		for (const header of [
			`Bearer ${token}`,
			`bearer ${token}`,
			`BEARER  ${token}`,
			`Basic ${btoa(`:${token}`)}`,
			`Basic ${btoa(`anyone:${token}`)}`,
			`basic ${btoa(`x:${token}`)}`,
		]) {
			const { status } = await ask(vars, "GET", "/v1/limits", { headers: { Authorization: header } });
			expect(status, header).toBe(200);
		}
	});

	test("a token that can be guessed lets nobody in, and is told why", async () => {
		const vars = { HEADGATE_TOKENS: JSON.stringify([{ name: "ci", scope: "admin", sha256: await digest("hunter2") }]) };
		const answer = await ask(vars, "GET", "/v1/limits", { headers: { Authorization: "Bearer hunter2" } });
		const problem = expectProblem(answer, 401, "unauthorized");
		expect(problem.detail).toContain('"ci" has 7 characters');
		expect(problem.detail).not.toContain("hunter2");
	});

	test("each scope opens its routes and those of the weaker ones, and no others", async () => {
		const vars = await secret(
			{ token: "r", scope: "read" },
			{ token: "u", scope: "use" },
			{ token: "a", scope: "admin" },
		);
		for (const scope of SCOPES) {
			const name = await newLimit({ limit: 3 });
			for (const [needed, method, route, body] of routes(name)) {
				const answer = await ask(vars, method, route, { token: scope[0] as string, body });
				if (SCOPES.indexOf(scope) >= SCOPES.indexOf(needed)) {
					expect([401, 403], `${scope}: ${method} ${route}`).not.toContain(answer.status);
				} else {
					const problem = expectProblem(answer, 403, "forbidden");
					expect(problem.detail).toContain(`"${needed}"`);
				}
			}
		}
	});

	test("too weak a token changes nothing", async () => {
		const name = await newLimit({ limit: 3 });
		const vars = await secret({ token: "r", scope: "read" }, { token: "u", scope: "use" });
		await ask(vars, "POST", "/v1/acquire", { token: "r", body: { names: name } });
		await ask(vars, "PUT", `/v1/limits/${name}`, { token: "u", body: { limit: 100 } });
		await ask(vars, "PATCH", `/v1/limits/${name}`, { token: "u", body: { activeSlots: 3 } });
		await ask(vars, "DELETE", `/v1/limits/${name}`, { token: "u" });
		const { body } = await ask(vars, "GET", `/v1/limits/${name}`, { token: "r" });
		expect(body).toMatchObject({ limit: 3, activeSlots: 0, leaseCount: 0 });
	});

	test("a token with a prefix is for names that start with it, each of them", async () => {
		const prefix = newName("tenant-");
		const vars = await secret({ token: "t", scope: "admin", prefix });
		const mine = `${prefix}:a`;
		const theirs = newName("other-");
		for (const [, method, route, body] of routes(theirs)) {
			if (["/v1/token", "/v1/limits", "/v1/policies"].includes(route)) continue;
			expectProblem(await ask(vars, method, route, { token: "t", body }), 403, "forbidden");
		}
		for (const [, method, route, body] of routes(mine)) {
			expect((await ask(vars, method, route, { token: "t", body })).status, `${method} ${route}`).not.toBe(403);
		}
		for (const names of [[mine, theirs], { [mine]: 1, [theirs]: 1 }]) {
			const answer = await ask(vars, "POST", "/v1/acquire", { token: "t", body: { names } });
			expect(expectProblem(answer, 403, "forbidden").detail).toContain(theirs);
			const stream = { token: "t", body: { names }, headers: { Accept: "application/x-ndjson" } };
			expectProblem(await ask(vars, "POST", "/v1/acquire", stream), 403, "forbidden");
		}
		for (const route of ["/v1/renew", "/v1/release"]) {
			const body = { id: newId(), names: [mine, theirs] };
			expectProblem(await ask(vars, "POST", route, { token: "t", body }), 403, "forbidden");
		}
		for (const near of [prefix.slice(0, -1), prefix.toUpperCase(), ` ${mine}`]) {
			expectProblem(await ask(vars, "POST", "/v1/acquire", { token: "t", body: { names: near } }), 403, "forbidden");
		}
		const open = { HEADGATE_OPEN: "true" };
		expectProblem(await ask(open, "GET", `/v1/limits/${theirs}`), 404, "unknown_limit");
	});

	test("a token can ask what it allows, and is told nothing else", async () => {
		const vars = await secret({ token: "t", scope: "read", prefix: "tenant-" });
		const { status, body } = await ask(vars, "GET", "/v1/token", { token: "t" });
		expect({ status, body }).toEqual({
			status: 200,
			body: { name: expect.stringMatching(/^sha256:[0-9a-f]{8}$/), scope: "read", prefix: "tenant-" },
		});
	});

	test("a policy that would reach past the prefix is not for that token", async () => {
		const prefix = newName("tenant-");
		const vars = await secret({ token: "t", scope: "admin", prefix });
		const put = (pattern: string) =>
			ask(vars, "PUT", `/v1/policies/${encodeURIComponent(pattern)}`, { token: "t", body: { limit: 1 } });
		expectProblem(await put(`${prefix.slice(0, -1)}*`), 403, "forbidden");
		expectProblem(await put("t*"), 403, "forbidden");
		expect((await put(`${prefix}*`)).status).toBe(201);
		expect((await put(`${prefix}:x*`)).status).toBe(201);
		const open = { HEADGATE_OPEN: "true" };
		await ask(open, "PUT", `/v1/policies/${encodeURIComponent(`${newName()}*`)}`, { body: { limit: 1 } });
		const { body } = await ask<PoliciesPage>(vars, "GET", "/v1/policies", { token: "t" });
		expect(body.policies.map(({ pattern }) => pattern)).toEqual([`${prefix}*`, `${prefix}:x*`]);
	});

	test("the list shows a token with a prefix its own names alone, whatever it asks for", async () => {
		const family = newName();
		const prefix = `${family}-b`;
		const vars = await secret({ token: "t", scope: "read", prefix }, { token: "all", scope: "admin" });
		const names = [`${family}-a`, `${family}-b1`, `${family}-b2`, `${family}-c`];
		for (const name of names) await ask(vars, "PUT", `/v1/limits/${name}`, { token: "all", body: { limit: 1 } });
		const list = async (query: string, token = "t") => {
			const { status, body } = await ask<LimitsPage>(vars, "GET", `/v1/limits?${query}`, { token });
			return status === 200 ? body.limits.map(({ name }) => name) : status;
		};
		await until(async () => ((await list(`prefix=${family}`, "all")) as string[]).length === 4);
		expect(await list("")).toEqual(names.slice(1, 3));
		expect(await list("prefix=")).toEqual(names.slice(1, 3));
		expect(await list(`prefix=${prefix}2`)).toEqual([names[2]]);
		expect(await list(`after=${names[0]}`)).toEqual(names.slice(1, 3));
		expect(await list(`after=${names[2]}`)).toEqual([]);
		expect(await list(`prefix=${family}`)).toBe(403);
		expect(await list(`prefix=${family}-c`)).toBe(403);
	});

	test("several at once: each is let in as itself", async () => {
		const [a, b] = [newName("a-"), newName("b-")];
		const vars = await secret(
			{ token: "a", scope: "use", prefix: "a-" },
			{ token: "b", scope: "use", prefix: "b-" },
			{ token: "admin", scope: "admin" },
		);
		const acquire = async (token: string, name: string) =>
			(await ask(vars, "POST", "/v1/acquire", { token, body: { names: name } })).status;
		expect(await acquire("a", a)).toBe(200);
		expect(await acquire("b", b)).toBe(200);
		expect(await acquire("admin", a)).toBe(200);
		expect(await acquire("a", b)).toBe(403);
		expect(await acquire("b", a)).toBe(403);
	});

	test("a changed secret is heeded at once", async () => {
		const before = await secret({ token: "old", scope: "admin" });
		const after = await secret({ token: "new", scope: "admin" });
		const status = async (vars: Vars, token: string) => (await ask(vars, "GET", "/v1/limits", { token })).status;
		expect(await status(before, "old")).toBe(200);
		expect(await status(after, "old")).toBe(401);
		expect(await status(after, "new")).toBe(200);
		expect(await status(before, "new")).toBe(401);
		expect(await status(before, "old")).toBe(200);
	});

	test("who may not ask is told so before what was wrong with the question", async () => {
		const vars = await secret({ token: "good", scope: "admin" });
		const send = { body: { nonsense: true } };
		expectProblem(await ask(vars, "POST", "/v1/acquire", send), 401, "unauthorized");
		expectProblem(await ask(vars, "DELETE", "/v1/acquire"), 401, "unauthorized");
	});
});

describe("pages of other origins", () => {
	const origin = "https://service.example";
	const preflight = (vars: Vars, from: string) =>
		ask(vars, "OPTIONS", "/v1/acquire", {
			headers: {
				...{ Origin: from, "Access-Control-Request-Method": "POST" },
				"Access-Control-Request-Headers": "authorization,content-type",
			},
		});

	test("are let in only as configured", async () => {
		const tokens = await secret({ token: "good", scope: "admin" });
		const vars = { ...tokens, HEADGATE_CORS_ORIGINS: `https://other.example, ${origin}` };
		const allowed = await preflight(vars, origin);
		expect(allowed.status).toBe(204);
		expect(allowed.headers.get("Access-Control-Allow-Origin")).toBe(origin);
		expect(allowed.headers.get("Access-Control-Allow-Methods")?.split(",")).toEqual(
			expect.arrayContaining(["GET", "POST", "PUT", "PATCH", "DELETE"]),
		);
		expect(allowed.headers.get("Access-Control-Allow-Headers")?.toLowerCase()).toContain("authorization");
		expect(allowed.headers.get("Access-Control-Allow-Credentials")).toBeNull();
		for (const from of ["https://evil.example", `${origin}.evil.example`, "https://service.exampl", "null"]) {
			expect((await preflight(vars, from)).headers.get("Access-Control-Allow-Origin")).toBeNull();
		}
		expect((await preflight(tokens, origin)).headers.get("Access-Control-Allow-Origin")).toBeNull();
	});

	test("can read answers, refusals and the headers that tell them when to come back", async () => {
		const tokens = await secret({ token: "good", scope: "admin" });
		const vars = { ...tokens, HEADGATE_CORS_ORIGINS: origin };
		const name = await newLimit();
		const send = (token: string, body: unknown, more: Record<string, string> = {}) =>
			ask(vars, "POST", "/v1/acquire", { token, body, headers: { Origin: origin, ...more } });
		const answers = [
			[200, await send("good", { names: name })],
			[429, await send("good", { names: name })],
			[422, await send("good", {})],
			[401, await send("bad", { names: name })],
			[404, await ask(vars, "GET", "/nothing", { headers: { Origin: origin } })],
			[405, await ask(vars, "GET", "/v1/acquire", { token: "good", headers: { Origin: origin } })],
			[200, await send("good", { names: name, waitSeconds: 0 }, { Accept: "application/x-ndjson" })],
		] as const;
		for (const [status, answer] of answers) {
			expect(answer.status).toBe(status);
			expect(answer.headers.get("Access-Control-Allow-Origin")).toBe(origin);
			expect(answer.headers.get("Vary")).toContain("Origin");
			const exposed = answer.headers
				.get("Access-Control-Expose-Headers")
				?.split(",")
				.map((each) => each.trim());
			expect(exposed).toEqual(expect.arrayContaining(["Retry-After", "RateLimit", "RateLimit-Policy"]));
		}
	});

	test("a page that is not let in cannot read, token or not", async () => {
		const tokens = await secret({ token: "good", scope: "admin" });
		const vars = { ...tokens, HEADGATE_CORS_ORIGINS: origin };
		const headers = { Origin: "https://evil.example" };
		const answer = await ask(vars, "GET", "/v1/limits", { token: "good", headers });
		expect(answer.headers.get("Access-Control-Allow-Origin")).toBeNull();
	});
});
