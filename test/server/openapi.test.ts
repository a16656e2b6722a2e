/** The reference speaks of the routes that there are, and each of them is answered as it says. */

import { expect, test } from "vitest";
import { openApiDocument } from "../../src/server/front/reference/openapi.ts";
import { app } from "../../src/server/front/routes.ts";
import { call, newLimit, newName } from "./support.ts";

/** Pages for people, and a wire that has its own document. */
const ELSEWHERE = /^\/$|^\/assets\/|^\/docs$|^\/api(\/|$)/;

/** A path of the router as the document writes it, and as a caller could. */
const paths = [...new Set(app.routes.map(({ path }) => path))].filter(
	(path) => !path.includes("*") && !ELSEWHERE.test(path),
);

/** What the app says that it takes. */
async function methodsOf(path: string): Promise<string[]> {
	const { status, headers } = await call("OPTIONS", path.replaceAll(/:\w+/g, "x"));
	expect(status, path).toBe(405);
	return (headers.get("Allow") ?? "").split(", ").filter((method) => method !== "HEAD");
}

const inDocument = Object.entries(openApiDocument().paths ?? {}).flatMap(([path, item]) =>
	Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
);

test("every route of the app is in the document, and no other", async () => {
	const inApp = await Promise.all(
		paths.map(async (path) => {
			const shown = path.replaceAll(/:(\w+)/g, "{$1}");
			return (await methodsOf(path)).map((method) => `${method} ${shown}`);
		}),
	);
	expect(inApp.flat().sort()).toEqual([...inDocument].sort());
});

test("the document is served without a token, as JSON", async () => {
	const { status, headers, body } = await call("GET", "/openapi.json");
	expect(status).toBe(200);
	expect(headers.get("Content-Type")).toMatch(/^application\/json/);
	expect(body).toEqual(JSON.parse(JSON.stringify(openApiDocument())));
});

test.each(["", "x", "-1", "1.5", "0x10", "1e2", " 7", "٧", "0", "101"])(
	"a count of %j is refused by its name",
	async (count) => {
		const { status, body } = await call("GET", `/v1/limits?count=${encodeURIComponent(count)}`);
		expect({ status, body }).toMatchObject({ status: 422, body: { code: "invalid", errors: [{ field: "count" }] } });
	},
);

test("a holder is bounded by characters, as the document counts them", async () => {
	const names = await newLimit();
	const ask = (holder: string) => call("POST", "/v1/acquire", { names, holder });
	expect((await ask("\u{1f9ea}".repeat(256))).status).toBe(200);
	expect((await ask("\u{1f9ea}".repeat(257))).status).toBe(422);
});

test("a name of dots alone is refused, as the pattern of the document says", async () => {
	for (const name of [".", "..", "..."]) {
		const { status } = await call("POST", "/v1/acquire", { names: [newName(), name], createIfMissing: false });
		expect(status).toBe(name === "..." ? 200 : 422);
	}
});

test("an empty object of slots is refused, among names and by rate", async () => {
	for (const request of [{ names: {} }, { names: newName(), rate: {} }]) {
		const { status, body } = await call<{ detail: string }>("POST", "/v1/acquire", request);
		expect({ status, detail: body.detail }).toEqual({
			status: 422,
			detail: expect.stringContaining("at least one name"),
		});
	}
});

test("QUERY is a method like any other that a route does not take", async () => {
	const { status, headers } = await call("QUERY", "/v1/renew");
	expect({ status, allow: headers.get("Allow") }).toEqual({ status: 405, allow: "POST" });
});
