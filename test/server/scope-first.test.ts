/** The table of routes says what each needs, and who lacks it is told so before anything that was sent is looked at. */

import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { describe, expect, test } from "vitest";
import { SCOPES, type Scope } from "../../src/protocol.ts";
import { ROUTES as NATIVE } from "../../src/server/front/http/route.ts";
import { ROUTES as PREFECT } from "../../src/server/front/prefect/http.ts";
import { prefect } from "../../src/server/front/prefect/routes.ts";
import { openApiDocument, scopeOf } from "../../src/server/front/reference/openapi.ts";
import { app, service } from "../../src/server/front/routes.ts";
import { bindings } from "./support.ts";

const ROUTES = [...NATIVE, ...PREFECT];
const TOKENS = { read: "a-token-of-scope-read", use: "a-token-of-scope-use", admin: "a-token-of-scope-admin" };

async function secret(): Promise<string> {
	const entries = Object.entries(TOKENS).map(async ([scope, token]) => {
		const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(token)));
		return { scope, sha256: Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") };
	});
	return JSON.stringify(await Promise.all(entries));
}

/** A body that tells whether anybody looked at it. */
function watched(): { body: ReadableStream<Uint8Array>; read(): boolean } {
	let read = false;
	const pull = (controller: ReadableStreamDefaultController<Uint8Array>): void => {
		read = true;
		controller.enqueue(new TextEncoder().encode("{not JSON"));
		controller.close();
	};
	return { body: new ReadableStream({ pull }, { highWaterMark: 0 }), read: () => read };
}

async function ask(method: string, path: string, token: string | null) {
	const { LIMITS, DIRECTORY } = bindings;
	const context = createExecutionContext();
	const sent = watched();
	// No name, pattern or id of a path is one that could be meant.
	const filled = path.replaceAll(/:\w+/g, "a%2Fb");
	const request = new Request(`http://headgate.test${filled}`, {
		method,
		headers: { "Content-Type": "application/json", ...(token !== null && { Authorization: `Bearer ${token}` }) },
		...(method !== "GET" && { body: sent.body }),
	});
	const response = await service.fetch(request, { LIMITS, DIRECTORY, HEADGATE_TOKENS: await secret() }, context);
	await response.body?.cancel();
	await waitOnExecutionContext(context);
	return { status: response.status, read: sent.read() };
}

const weaker = (scope: Scope): Scope[] => SCOPES.slice(0, SCOPES.indexOf(scope));

describe.each(ROUTES.filter(({ needs }) => needs !== "anyone"))("$method $path", ({ method, path, needs }) => {
	test("is refused for want of a token or of a scope, and nothing is read", async () => {
		expect(await ask(method, path, null)).toEqual({ status: 401, read: false });
		for (const scope of weaker(needs as Scope)) {
			expect(await ask(method, path, TOKENS[scope]), scope).toEqual({ status: 403, read: false });
		}
	});
});

test("every path of both wires is in the table", () => {
	const known = new Set(ROUTES.map(({ path }) => path));
	const registered = [...app.routes, ...prefect.routes].map(({ path }) => path);
	// The whole of Prefect's wire, and a stream that asks for the token in its own first message.
	const others = ["/api/*", "/api/events/in"];
	expect([...new Set(registered)].filter((path) => !known.has(path) && !others.includes(path))).toEqual([]);
});

test("few routes need nothing, and the document says of each what the table says", () => {
	const open = ROUTES.filter(({ needs }) => needs === "anyone").map(({ path }) => path);
	expect(open.sort()).toEqual(["/", "/api/health", "/api/ready", "/assets/:file", "/docs", "/health", "/openapi.json"]);
	for (const [path, item] of Object.entries(openApiDocument().paths ?? {})) {
		for (const [method, operation] of Object.entries(item)) {
			const native = NATIVE.find(
				(route) => route.method === method.toUpperCase() && route.path === path.replaceAll(/\{(\w+)\}/g, ":$1"),
			);
			expect(native?.needs, `${method} ${path}`).toBe(scopeOf(operation as never) ?? "anyone");
		}
	}
});
