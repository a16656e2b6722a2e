/**
 * What README.md shows is true: its examples run. That they compile is shown by `snippets.test.ts`.
 *
 * - A block marked `ts run` is run by Node against a real server.
 * - A `sh` block with `curl` in it is run against a real server; an answer of 400 or more fails it. With
 *   `curl -N` the stream is cut after a few seconds and has to have granted something.
 * - The block marked `sh deploy` is run to the letter, on a server that is started on this machine instead of deployed.
 */

import { execFile } from "node:child_process";
import { cpSync, existsSync, globSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildClient } from "../../scripts/build.ts";
import { tsc } from "../../scripts/types.ts";
import { type Block, blocks } from "../support/markdown.ts";
import { type FreshServer, freshServer } from "../support/server.ts";
import { files, read, root } from "../support/sources.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/temporary.ts";

const readme = files("README.md").map(read).join("");
const all = blocks(readme);
const runnable = all.filter(({ language, words }) => language === "ts" && words.includes("run"));
// The path of a newcomer is run by a test of its own, from a clone.
const curls = all.filter(
	({ language, code, words }) =>
		["sh", "bash", "shell"].includes(language) && /\bcurl\b/.test(code) && words.length === 0,
);

let folder: TemporaryFolder;
let server: FreshServer;

beforeAll(async () => {
	folder = await temporaryFolder();
	[server] = await Promise.all([freshServer(), installPackage(folder.path)]);
});

afterAll(async () => {
	await server[Symbol.asyncDispose]();
	await folder[Symbol.asyncDispose]();
});

/** The package as npm would install it: what `files` of its manifest lists, and nothing else. */
async function installPackage(into: string): Promise<void> {
	const installed = path.join(into, "node_modules/headgate");
	mkdirSync(installed, { recursive: true });
	await buildClient(path.join(into, "built/dist"));
	const manifest: { files: string[] } = JSON.parse(read("package.json"));
	for (const entry of globSync(manifest.files, { cwd: path.join(into, "built") })) {
		cpSync(path.join(into, "built", entry), path.join(installed, entry), { recursive: true });
	}
	cpSync(path.join(root, "package.json"), path.join(installed, "package.json"));
	for (const name of ["@types", "@cloudflare", "hono", "undici-types"]) {
		symlinkSync(path.join(root, "node_modules", name), path.join(into, "node_modules", name));
	}
	writeFileSync(path.join(into, "package.json"), '{ "type": "module" }');
}

/** The addresses that README.md uses become the test server's. */
function aimed(code: string): string {
	return code.replaceAll(/http:\/\/(?:127\.0\.0\.1|localhost):8787/g, server.url);
}

function execute(program: string, args: string[], env: Record<string, string> = {}) {
	return new Promise<{ code: number; output: string }>((resolve, reject) => {
		const options = { cwd: folder.path, timeout: 120_000, env: { ...process.env, ...env } };
		execFile(program, args, options, (error, stdout, stderr) => {
			const code = error === null ? 0 : error.code;
			if (typeof code === "number") resolve({ code, output: stdout + stderr });
			else reject(error);
		});
	});
}

const title = ({ line, code }: Block) => `line ${line}: ${code.split("\n")[0]}`;

test("the first screen has both commands, a piece of TypeScript and a curl", () => {
	expect(readme).toContain("npm ci && npm start");
	expect(readme).toContain("npm ci && npm test");
	expect(runnable.length).toBeGreaterThan(0);
	expect(curls.length).toBeGreaterThan(0);
});

test("the installed package has everything that its manifest points to", async () => {
	const installed = path.join(folder.path, "node_modules/headgate");
	const { exports } = JSON.parse(read("package.json"));
	for (const target of Object.values<string>(exports["."]))
		expect(existsSync(path.join(installed, target)), target).toBe(true);
	const use = "import { Headgate } from 'headgate'; process.stdout.write(typeof Headgate);";
	writeFileSync(path.join(folder.path, "use.mjs"), use);
	expect(await execute(process.execPath, ["use.mjs"])).toEqual({ code: 0, output: "function" });
});

test("the package's types are complete", async () => {
	// Without `skipLibCheck`, so that a declaration that names a file which was not installed is found.
	const source =
		'import { Headgate } from "headgate";\nexport const gate: Headgate = new Headgate({ url: "http://x" });\n';
	mkdirSync(path.join(folder.path, "types"));
	writeFileSync(path.join(folder.path, "types/use.ts"), source);
	writeFileSync(
		path.join(folder.path, "types/tsconfig.json"),
		JSON.stringify({
			...tsconfig(),
			compilerOptions: { ...tsconfig().compilerOptions, skipLibCheck: false, types: [] },
		}),
	);
	expect(await tsc(["--project", path.join(folder.path, "types")])).toEqual({ code: 0, output: "" });
	writeFileSync(path.join(folder.path, "types/use.ts"), source.replace('"http://x"', "8"));
	expect((await tsc(["--project", path.join(folder.path, "types")])).code).not.toBe(0);
});

function tsconfig() {
	return {
		extends: path.join(root, "tsconfig.base.json"),
		compilerOptions: { lib: ["esnext", "dom", "dom.iterable"], types: ["node"], noUnusedLocals: false },
		include: ["*.ts"],
	};
}

test.each(runnable)("$line: the TypeScript runs", async (block) => {
	const file = path.join(folder.path, `run-${block.line}.ts`);
	writeFileSync(file, aimed(`${block.code}\nexport {};\n`));
	expect(await execute(process.execPath, [file]), title(block)).toMatchObject({ code: 0 });
});

test.each(curls)("$line: the curl is answered", async (block) => {
	const streams = /\bcurl\b.* (?:-N|--no-buffer)\b/.test(block.code);
	// curl reads this file from the folder it is told of; without it an error would look like an answer.
	writeFileSync(
		path.join(folder.path, ".curlrc"),
		`fail-with-body\nsilent\nshow-error\nmax-time = ${streams ? 3 : 20}\n`,
	);
	const { code, output } = await execute("bash", ["-euo", "pipefail", "-c", aimed(block.code)], {
		CURL_HOME: folder.path,
	});
	if (streams) {
		expect(output, title(block)).toContain('"granted"');
		// 28: cut off in the middle of a stream that is meant to stay open.
		expect([0, 28], `${title(block)}\n${output}`).toContain(code);
	} else {
		expect({ code, output }, title(block)).toMatchObject({ code: 0 });
	}
});

test("the steps of a deployment, to the letter, end with a limit that holds back", async () => {
	const [steps, ...rest] = all.filter(({ words }) => words.includes("deploy"));
	expect(rest).toEqual([]);
	const lines = (steps?.code ?? "").split("\n").map((line) => line.replace(/\s+#.*$/, ""));
	const [deploy, mint = "", secret = "", ...configure] = lines;
	expect(deploy).toBe("npm ci && npm run deploy");
	expect(secret).toBe("echo $HEADGATE_TOKEN | npx wrangler secret put HEADGATE_ADMIN_TOKEN");
	const inCheckout = (script: string, env: Record<string, string> = {}) =>
		execute("bash", ["-euo", "pipefail", "-c", `cd ${JSON.stringify(root)}\n${script}`], {
			npm_config_loglevel: "error",
			...env,
		});

	// What wrangler would be given, and keep.
	const minted = await inCheckout(`${mint}\n${secret.replace("npx wrangler secret put HEADGATE_ADMIN_TOKEN", "cat")}`);
	expect(minted.code, minted.output).toBe(0);
	const token = minted.output.trim();
	await using deployed = await freshServer({ adminToken: minted.output });
	const script = configure.join("\n").replace(/https:\/\/\S+\.workers\.dev/, deployed.url);
	expect(script).not.toMatch(/[<>](?!\/)\w/);
	const { code, output } = await inCheckout(script, { HEADGATE_TOKEN: token });
	expect(code, output).toBe(0);
	expect(output.trim().split(/\s+/).slice(-3)).toEqual(["200", "200", "429"]);
});

test("what it says of installing names the file that npm makes", () => {
	const { name, version } = JSON.parse(read("package.json"));
	for (const file of ["README.md", "docs/cli.md"]) {
		expect(read(file)).toContain(`npm ci && npm pack`);
		expect(read(file)).toContain(`npm install ../${name}/${name}-${version}.tgz`);
		expect(read(file), "it is not published yet").not.toMatch(/npm install headgate(?!-)/);
	}
});
