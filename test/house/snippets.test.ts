/**
 * Every `ts` block of README.md and of `docs/` compiles, under `strict` and more, against the built package: for a user
 * of Workers, or of Node where it is marked `run` and README.md runs it.
 *
 * What a block takes as given can be declared, unseen by readers, in a comment right above it:
 * `<!-- given: declare const token: string; -->`.
 */

import { cpSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildClient, buildEmbedded, buildMiddleware, buildTesting } from "../../scripts/build.ts";
import { tsc } from "../../scripts/types.ts";
import { blocks } from "../support/markdown.ts";
import { files, read, root } from "../support/sources.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/temporary.ts";

const snippets = files("README.md", "docs/**/*.md").flatMap((file) =>
	blocks(read(file))
		.filter(({ language }) => ["ts", "tsx", "typescript"].includes(language))
		.map((block) => ({ ...block, file, runtime: block.words.includes("run") ? "node" : "workers" })),
);

let folder: TemporaryFolder;

beforeAll(async () => {
	folder = await temporaryFolder();
	const packages = path.join(folder.path, "node_modules");
	const installed = path.join(packages, "headgate");
	mkdirSync(installed, { recursive: true });
	await Promise.all(
		[buildClient, buildTesting, buildMiddleware, buildEmbedded].map((build) => build(path.join(installed, "dist"))),
	);
	cpSync(path.join(root, "package.json"), path.join(installed, "package.json"));
	// No more than a user has: neither zod nor anything else that is bundled.
	for (const name of ["@types", "@cloudflare", "hono", "undici-types"]) {
		symlinkSync(path.join(root, "node_modules", name), path.join(packages, name));
	}
	writeFileSync(path.join(folder.path, "package.json"), '{ "type": "module" }');
});
afterAll(() => folder[Symbol.asyncDispose]());

/** What each runtime has around a program. */
const RUNTIMES = {
	node: { lib: ["esnext", "dom", "dom.iterable"], types: ["node"] },
	workers: { lib: ["esnext"], types: ["@cloudflare/workers-types"] },
};

/** Compiles sources, by name, and answers with what the compiler says. */
async function compile(project: string, runtime: keyof typeof RUNTIMES, sources: Record<string, string>) {
	const at = path.join(folder.path, project);
	mkdirSync(at);
	for (const [name, source] of Object.entries(sources)) writeFileSync(path.join(at, name), source);
	const compilerOptions = {
		...RUNTIMES[runtime],
		...{ noUnusedLocals: false, noUnusedParameters: false, skipLibCheck: false },
	};
	const config = { extends: path.join(root, "tsconfig.base.json"), compilerOptions, include: ["*.ts"] };
	writeFileSync(path.join(at, "tsconfig.json"), JSON.stringify(config));
	return tsc(["--project", at, "--pretty", "false"]);
}

test("there are snippets for both runtimes", () => {
	expect(new Set(snippets.map(({ runtime }) => runtime))).toEqual(new Set(["node", "workers"]));
});

test.each(["node", "workers"] as const)(
	"every snippet for %s compiles, each as a module of its own",
	async (runtime) => {
		const sources = snippets
			.filter((snippet) => snippet.runtime === runtime)
			.map(({ file, line, given, code }) => [
				`${file.replaceAll(/\W/g, "-")}-line-${line}.ts`,
				`${given}\n${code}\nexport {};\n`,
			]);
		expect(await compile(runtime, runtime, Object.fromEntries(sources))).toEqual({ code: 0, output: "" });
	},
);

test("a snippet that does not compile is found", async () => {
	const wrong = 'import { Headgate } from "headgate";\nnew Headgate({ url: 8 });\n';
	expect((await compile("wrong", "workers", { "wrong.ts": wrong })).output).toContain("TS2322");
});

test("the types of every entry need nothing but the types of the platform, and Hono's where Hono is used", async () => {
	const uses = ["", "/fetch", "/hono", "/worker"].map(
		(entry, index) => `import * as all${index} from "headgate${entry}";\nexport type T${index} = typeof all${index};`,
	);
	expect(await compile("entries", "workers", { "use.ts": uses.join("\n") })).toEqual({ code: 0, output: "" });
});
