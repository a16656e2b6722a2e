/**
 * What docs/http.md shows is true: its calls are made, in their order, of a real server with a token, and there is one
 * for every operation of the OpenAPI document. Python and Go run with nothing but their standard libraries.
 */

import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { newToken } from "../../src/cli/tokens.ts";
import { PROBLEMS } from "../../src/protocol.ts";
import { openApiDocument } from "../../src/server/front/reference/openapi.ts";
import { blocks } from "../support/markdown.ts";
import { type FreshServer, freshServer } from "../support/server.ts";
import { read } from "../support/sources.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/temporary.ts";

const LOCAL = "http://127.0.0.1:8787";
/** `go run` builds the standard library when it is the first one to need it. */
const BUILD_MS = 180_000;

const all = blocks(read("docs/http.md"));
const curls = all.filter(({ language, code }) => language === "sh" && /\bcurl\b/.test(code));
const programs = all.filter(({ words }) => words.includes("run"));

const { token, entry } = newToken("docs", "admin", undefined);
let folder: TemporaryFolder;
let server: FreshServer;

beforeAll(async () => {
	[folder, server] = await Promise.all([temporaryFolder(), freshServer({ tokens: [entry] })]);
});

afterAll(async () => {
	await server[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});

function execute(program: string, args: string[], env: Record<string, string>, timeout: number) {
	return new Promise<{ code: number; stdout: string; output: string }>((resolve, reject) => {
		const options = { cwd: folder.path, timeout, env: { ...process.env, ...env } };
		execFile(program, args, options, (error, stdout, stderr) => {
			const code = error === null ? 0 : error.code;
			if (typeof code === "number") resolve({ code, stdout, output: stdout + stderr });
			else reject(error ?? new Error(`${program} ended without a code: ${stderr}`));
		});
	});
}

/** Method and path of each `curl` of a block, as the document writes them. */
function callsOf(code: string): string[] {
	return [...code.matchAll(/\bcurl\b(.*)/g)].map(([, rest = ""]) => {
		const method = /-X (\w+)/.exec(rest)?.[1] ?? (/--json|\s-d\s/.test(rest) ? "POST" : "GET");
		const route = /http:\/\/127\.0\.0\.1:8787([^\s'"?]*)/.exec(rest)?.[1] ?? "";
		return `${method} ${route}`;
	});
}

test("there is a call for every operation of the document", () => {
	const calls = curls.flatMap(({ code }) => callsOf(code));
	const missing = Object.entries(openApiDocument().paths ?? {}).flatMap(([route, item]) => {
		const pattern = new RegExp(`^${route.replaceAll(/\{\w+\}/g, "[^/]+")}$`);
		return Object.keys(item)
			.map((method) => method.toUpperCase())
			.filter(
				(method) => !calls.some((call) => call.startsWith(`${method} `) && pattern.test(call.split(" ")[1] ?? "")),
			)
			.map((method) => `${method} ${route}`);
	});
	expect(missing).toEqual([]);
});

test("its error codes are those of the protocol, each with its status, and when a caller sees it", () => {
	const rows = Array.from(read("docs/http.md").matchAll(/^\| (\d{3}) \| `(\w+)` \| (.+) \|$/gm), (row) => row.slice(1));
	const codes = Object.entries(PROBLEMS).map(([code, { status, when }]) => [String(status), code, when]);
	expect(rows).toEqual(codes.sort(([a = ""], [b = ""]) => Number(a) - Number(b)));
});

test.each(curls)("line $line: curl is answered", async ({ code, line }) => {
	const streams = /\bcurl -N\b/.test(code);
	writeFileSync(
		path.join(folder.path, ".curlrc"),
		`fail-with-body\nsilent\nshow-error\nheader = "Authorization: Bearer ${token}"\nmax-time = ${streams ? 3 : 40}\n`,
	);
	const aimed = code.replaceAll(LOCAL, server.url);
	const result = await execute("bash", ["-euo", "pipefail", "-c", aimed], { CURL_HOME: folder.path }, 120_000);
	const what = `line ${line}: ${result.output}`;
	// 28: cut off in the middle of a stream that is meant to stay open.
	expect(streams ? [0, 28] : [0], what).toContain(result.code);
	if (streams) expect(result.stdout, what).toMatch(/"event":"(granted|limits)"/);
});

test("the programs are in Python and Go", () => {
	expect(programs.map(({ language }) => language).sort()).toEqual(["go", "python"]);
});

test.each(programs)(
	"line $line: the $language program runs, and says why when it is refused",
	async ({ language, code }) => {
		const own = path.join(folder.path, language);
		mkdirSync(own, { recursive: true });
		const file = path.join(own, language === "go" ? "main.go" : "main.py");
		writeFileSync(file, `${code}\n`);
		const [program, args] = language === "go" ? ["go", ["run", file]] : ["python3", ["-I", file]];
		// The tool chain that is there, and nothing from a network.
		const env = { HEADGATE_URL: server.url, GOTOOLCHAIN: "local", GOPROXY: "off", GOFLAGS: "-mod=mod" };
		const good = await execute(program as string, args as string[], { ...env, HEADGATE_TOKEN: token }, BUILD_MS);
		expect(good, good.output).toMatchObject({ code: 0 });
		expect(good.stdout).toMatch(/working until \d{4}-\d\d-\d\dT[\s\S]*gave back 1\n/);
		const bad = await execute(program as string, args as string[], { ...env, HEADGATE_TOKEN: "wrong" }, BUILD_MS);
		expect(bad.code).not.toBe(0);
		expect(bad.output).toContain("unauthorized: The token is not known here.");
	},
	2 * BUILD_MS,
);
