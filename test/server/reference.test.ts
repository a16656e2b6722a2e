/** The page at `/docs`: everything that the document says, and nothing that a browser would have to fetch or run. */

import { expect, test } from "vitest";
import { openApiDocument } from "../../src/server/front/reference/openapi.ts";
import { renderPage } from "../../src/server/front/reference/page.ts";
import { call } from "./support.ts";

const get = async () => await call<string>("GET", "/docs");

test("every operation and every schema has its place, and every link one to go to", async () => {
	const { status, headers, body } = await get();
	expect({ status, type: headers.get("Content-Type") }).toEqual({ status: 200, type: "text/html; charset=UTF-8" });
	const document = JSON.parse(JSON.stringify(openApiDocument()));
	const operations = Object.values<object>(document.paths).flatMap((item) => Object.values(item));
	for (const { operationId } of operations) expect(body).toContain(`<article id="${operationId}">`);
	for (const name of Object.keys(document.components.schemas)) expect(body).toContain(`<article id="schema-${name}">`);
	const targets = [...body.matchAll(/href="#([^"]+)"/g)].map(([, id]) => id);
	expect(targets.length).toBeGreaterThan(operations.length);
	for (const id of new Set(targets)) expect(body, id).toContain(`id="${id}"`);
	const ids = [...body.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
	expect(new Set(ids).size).toBe(ids.length);
});

test("it runs nothing, fetches nothing, and its policy lets it do neither", async () => {
	const { headers, body } = await get();
	expect(body).not.toMatch(/<script|\son\w+=|javascript:|<img|<link|@import|url\(|\sstyle="/i);
	expect(body).not.toMatch(/(?:href|src)="(?:https?:)?\/\//i);
	const policy = headers.get("Content-Security-Policy") ?? "";
	expect(policy).toContain("default-src 'none'");
	const style = /<style>([\s\S]*?)<\/style>/.exec(body)?.[1] ?? "";
	const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(style)));
	expect(policy).toContain(`style-src 'sha256-${btoa(String.fromCharCode(...digest))}'`);
});

test("what is in the document as text is text on the page", async () => {
	const document = structuredClone(openApiDocument());
	document.info.description = "<img src=x onerror=alert(1)> and `<b>code</b>`";
	expect((await renderPage(document)).body).toContain(
		"<p>&lt;img src=x onerror=alert(1)&gt; and <code>&lt;b&gt;code&lt;/b&gt;</code></p>",
	);
	const { body } = await get();
	expect(body).not.toContain("[object Object]");
	expect(body).not.toContain("undefined");
	expect(body).not.toMatch(/`/);
});
