/**
 * `npm run build`: the library as one file with its types (`dist/client/`), the middleware (`dist/middleware/`), the
 * Worker (`dist/worker/`), and the command line with everything that it needs (`dist/cli/`).
 */

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { build } from "esbuild";
import { buildWorker } from "../src/cli/bundle.ts";
import { tsc } from "./types.ts";

const root = path.resolve(import.meta.dirname, "..");

/** Writes `client/index.js` and the declarations into `folder`. */
export async function buildClient(folder: string): Promise<void> {
	await build({
		entryPoints: [path.join(root, "src/client/index.ts")],
		outfile: path.join(folder, "client/index.js"),
		bundle: true,
		format: "esm",
		// Nothing of any one runtime may get in: an import of `node:*` fails the build.
		platform: "neutral",
		target: "es2022",
		logLevel: "warning",
	});
	await declare("src/client", folder);
}

/** Writes what stands before a Worker's routes: `middleware/hono.js` and `middleware/fetch.js`, with their types. */
export async function buildMiddleware(folder: string): Promise<void> {
	await build({
		entryPoints: ["hono", "fetch"].map((name) => path.join(root, `src/middleware/${name}.ts`)),
		outdir: path.join(folder, "middleware"),
		bundle: true,
		splitting: true,
		format: "esm",
		platform: "neutral",
		target: "es2022",
		logLevel: "warning",
	});
	await declare("src/middleware", folder);
}

/** Writes `worker/index.js`, the Worker as a library, beside the Worker that `buildWorker` writes. */
async function buildEmbedded(folder: string): Promise<void> {
	const names = "DirectoryObject, default as app, HeadgateService, LimitObject";
	writeFileSync(path.join(folder, "worker/index.js"), `export { ${names} } from "./worker.js";\n`);
	await declare("src/worker", folder);
}

/** Writes the declarations of one folder of `src`, and of what it imports. */
async function declare(project: string, folder: string): Promise<void> {
	const { code, output } = await tsc([
		...["--project", path.join(root, project, "tsconfig.json")],
		...["--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--rewriteRelativeImportExtensions"],
		...["--rootDir", path.join(root, "src"), "--outDir", folder],
	]);
	if (code !== 0) throw new Error(`The declarations could not be made:\n${output}`);
}

/** Writes `cli/main.js` and what it loads when it is asked for. */
export async function buildCli(folder: string): Promise<void> {
	rmSync(path.join(folder, "cli"), { recursive: true, force: true });
	await build({
		entryPoints: [path.join(root, "src/cli/main.ts")],
		outdir: path.join(folder, "cli"),
		bundle: true,
		// Each command in a file of its own, so that `ls` does not wait for what only `apply` needs.
		splitting: true,
		format: "esm",
		platform: "node",
		target: "node20",
		minifySyntax: true,
		minifyWhitespace: true,
		// Only a checkout bundles the Worker anew.
		external: ["esbuild"],
		// Packages of the older kind ask for Node's modules by `require`.
		banner: { js: REQUIRE },
		logLevel: "warning",
	});
	const file = path.join(folder, "cli/main.js");
	const [, ...code] = readFileSync(file, "utf8").split("\n");
	writeFileSync(file, [...launcher(), ...code].join("\n"));
}

/** The first lines of the command: to a shell a script that starts Node with this very file, to Node a comment. */
function launcher(): string[] {
	const script = readFileSync(path.join(root, "src/cli/launch.sh"), "utf8");
	return ["#!/usr/bin/env sh", '":" /*', ...script.trim().split("\n"), "*/;"];
}

const REQUIRE =
	'import { createRequire as headgateRequire } from "node:module"; const require = headgateRequire(import.meta.url);';

if (import.meta.main) {
	await buildClient(path.join(root, "dist"));
	await buildMiddleware(path.join(root, "dist"));
	await buildCli(path.join(root, "dist"));
	await buildWorker();
	await buildEmbedded(path.join(root, "dist"));
}
