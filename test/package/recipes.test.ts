/** The recipes of docs/library.md, each as it stands there, in a project that has the packed file and the framework. */

import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { blocks } from "../support/markdown.ts";
import "../support/provided.ts";
import { type FreshServer, freshServer } from "../support/server.ts";
import { read } from "../support/sources.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/temporary.ts";

const recipes = new Map(
	blocks(read("docs/library.md"))
		.filter(({ words }) => words.includes("recipe"))
		.map(({ words, code }) => [words.at(-1) as string, code]),
);

/** Asks the recipe three times, and says how it was answered. */
const ASK = {
	express: `
		const server = app.listen(0, "127.0.0.1");
		await new Promise((resolve) => server.once("listening", resolve));
		const ask = () => fetch("http://127.0.0.1:" + server.address().port);
		export const end = () => server.close();`,
	fastify: `
		const url = await app.listen({ port: 0, host: "127.0.0.1" });
		const ask = () => fetch(url);
		export const end = () => app.close();`,
	next: `
		const ask = () => GET(new Request("http://site.example/hello", { headers: { "x-forwarded-for": "1.2.3.4, 127.0.0.1" } }));
		export const end = () => undefined;`,
	sveltekit: `
		const event = { request: new Request("http://site.example/"), getClientAddress: () => "127.0.0.1" };
		const ask = () => handle({ event, resolve: async () => new Response("hello") });
		export const end = () => undefined;`,
};

let folder: TemporaryFolder;
let server: FreshServer;

beforeAll(async () => {
	[folder, server] = await Promise.all([temporaryFolder(), freshServer()]);
	writeFileSync(path.join(folder.path, "package.json"), '{ "type": "module", "private": true }');
	const what = [inject("tarball"), "express@5", "fastify@5", "--prefer-offline"];
	await execute("npm", ["install", "--no-audit", "--no-fund", ...what], folder.path);
});
afterAll(async () => {
	await server?.[Symbol.asyncDispose]();
	await folder?.[Symbol.asyncDispose]();
});

function execute(program: string, args: string[], cwd: string, env: Record<string, string> = {}): Promise<string> {
	return new Promise((resolve, reject) => {
		const options = { cwd, env: { ...process.env, ...env }, maxBuffer: 2 ** 26 };
		execFile(program, args, options, (error, stdout, stderr) => (error ? reject(new Error(stderr)) : resolve(stdout)));
	});
}

test("there is a recipe for each", () => {
	expect([...recipes.keys()].sort()).toEqual(Object.keys(ASK).sort());
});

test.each(Object.entries(ASK))(
	"%s: two are served, the third is 429, and the headers say how much is left",
	async (name, ask) => {
		const policy = { limit: 2, slotDecayPerSecond: 0.001 };
		// Each recipe has a server's whole limit to itself.
		for (const address of ["127.0.0.1", "::ffff:127.0.0.1"]) {
			await fetch(`${server.url}/v1/limits/${encodeURIComponent(`ip:${address}`)}`, { method: "DELETE" });
		}
		const set = await fetch(`${server.url}/v1/policies/${encodeURIComponent("ip:*")}`, {
			...{ method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify(policy) },
		});
		expect(set.ok).toBe(true);
		mkdirSync(path.join(folder.path, name));
		const file = path.join(folder.path, name, "recipe.js");
		const asked = `${recipes.get(name)}\n${ask}
		const seen = [];
		for (let round = 0; round < 3; round += 1) {
			const response = await ask();
			const { status, headers } = response;
			seen.push({ status, left: headers.get("RateLimit"), again: headers.get("Retry-After"), body: await response.text() });
		}
		console.log(JSON.stringify(seen));
		await end();`;
		writeFileSync(file, asked);
		const out = await execute(process.execPath, [file], folder.path, { HEADGATE_URL: server.url });
		const [first, second, third] = JSON.parse(out) as { status: number; left: string; again: string; body: string }[];
		expect(first).toMatchObject({ status: 200, body: "hello" });
		expect(second).toMatchObject({ status: 200, body: "hello" });
		expect(third?.status).toBe(429);
		expect(Number(third?.again)).toBeGreaterThan(0);
		expect(first?.left).toContain(";r=1");
		expect(second?.left).toContain(";r=0");
	},
);
