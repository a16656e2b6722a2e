/**
 * `npm run build`: the library as one file with its types (`dist/client/`), the same for tests, with the core
 * (`dist/testing/`), the middleware (`dist/middleware/`), the
 * Worker (`dist/worker/`), the command line with everything that it needs (`dist/cli/`), and the licences of all that is
 * bundled (`NOTICE`).
 */

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { type BuildOptions, build } from "esbuild";
import { buildWorker, loadWorker } from "../src/cli/bundle.ts";
import { notice } from "./notice.ts";
import { tsc } from "./types.ts";

const root = path.resolve(import.meta.dirname, "..");

/** Bundles, and notes which files came to be in what was made. */
async function bundle(options: BuildOptions, sourcesSeen: Set<string>): Promise<void> {
	const { metafile } = await build({
		...options,
		...{ bundle: true, metafile: true, format: "esm", logLevel: "warning", absWorkingDir: root },
	});
	for (const { inputs } of Object.values(metafile.outputs)) for (const file in inputs) sourcesSeen.add(file);
}

/** Writes `client/index.js` and the declarations into `folder`. */
export async function buildClient(folder: string, sourcesSeen = new Set<string>()): Promise<void> {
	const options: BuildOptions = {
		entryPoints: [path.join(root, "src/client/index.ts")],
		outfile: path.join(folder, "client/index.js"),
		// Nothing of any one runtime may get in: an import of `node:*` fails the build.
		platform: "neutral",
		target: "es2022",
	};
	await bundle(options, sourcesSeen);
	await declare("src/client", folder);
}

/** Writes `testing/index.js`, which has a copy of the library of its own, for its time is another. */
export async function buildTesting(folder: string, sourcesSeen = new Set<string>()): Promise<void> {
	const options: BuildOptions = {
		entryPoints: [path.join(root, "src/testing/index.ts")],
		outfile: path.join(folder, "testing/index.js"),
		platform: "neutral",
		target: "es2022",
		minifySyntax: true,
	};
	await bundle(options, sourcesSeen);
	await declare("src/testing", folder);
}

/** Writes what stands before a Worker's routes: `middleware/hono.js` and `middleware/fetch.js`, with their types. */
export async function buildMiddleware(folder: string, sourcesSeen = new Set<string>()): Promise<void> {
	const options: BuildOptions = {
		entryPoints: ["hono", "fetch"].map((name) => path.join(root, `src/middleware/${name}.ts`)),
		outdir: path.join(folder, "middleware"),
		splitting: true,
		platform: "neutral",
		// Packages of the older kind name their code so.
		mainFields: ["module", "main"],
		target: "es2022",
	};
	await bundle(options, sourcesSeen);
	await declare("src/middleware", folder);
}

/** Writes `worker/index.js`, the Worker as a library, beside the Worker that `buildWorker` writes. */
export async function buildEmbedded(folder: string): Promise<void> {
	const names = "DirectoryObject, default as app, HeadgateService, LimitObject";
	mkdirSync(path.join(folder, "worker"), { recursive: true });
	writeFileSync(path.join(folder, "worker/index.js"), `export { ${names} } from "./worker.js";\n`);
	writeFileSync(path.join(folder, "worker/wrangler.toml"), await developmentConfig());
	await declare("src/worker", folder, "--stripInternal");
}

/** How `wrangler dev` runs the Worker beside one that is bound to it. It is open, so it is not to be deployed. */
async function developmentConfig(): Promise<string> {
	const { compatibilityDate, compatibilityFlags, objects } = await loadWorker();
	const bindings = objects.map(({ binding, className }) => [
		`\n[[durable_objects.bindings]]\nname = "${binding}"\nclass_name = "${className}"`,
		`\n[exports.${className}]\ntype = "durable-object"\nstorage = "sqlite"`,
	]);
	return [
		"# For development alone: wrangler dev -c wrangler.toml -c node_modules/headgate/dist/worker/wrangler.toml",
		'name = "headgate"\nmain = "worker.js"',
		`compatibility_date = "${compatibilityDate}"`,
		`compatibility_flags = ${JSON.stringify(compatibilityFlags)}`,
		'\n[vars]\nHEADGATE_OPEN = "true"',
		...bindings.flat(),
		"",
	].join("\n");
}

/** Writes the declarations of one folder of `src`, and of what it imports. */
async function declare(project: string, folder: string, ...options: string[]): Promise<void> {
	const { code, output } = await tsc([
		...options,
		...["--project", path.join(root, project, "tsconfig.json")],
		...["--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--rewriteRelativeImportExtensions"],
		...["--rootDir", path.join(root, "src"), "--outDir", folder],
	]);
	if (code !== 0) throw new Error(`The declarations could not be made:\n${output}`);
}

/** Writes `cli/main.js` and what it loads when it is asked for. */
export async function buildCli(folder: string, sourcesSeen = new Set<string>()): Promise<void> {
	rmSync(path.join(folder, "cli"), { recursive: true, force: true });
	const options: BuildOptions = {
		entryPoints: [path.join(root, "src/cli/main.ts")],
		outdir: path.join(folder, "cli"),
		// Each command in a file of its own, so that `ls` does not wait for what only `apply` needs.
		splitting: true,
		platform: "node",
		target: "node20",
		minifySyntax: true,
		minifyWhitespace: true,
		// Only a checkout bundles the Worker anew.
		external: ["esbuild"],
		// Packages of the older kind ask for Node's modules by `require`.
		banner: { js: REQUIRE },
	};
	await bundle(options, sourcesSeen);
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
	const dist = path.join(root, "dist");
	const sourcesSeen = new Set<string>();
	await buildClient(dist, sourcesSeen);
	await buildTesting(dist, sourcesSeen);
	await buildMiddleware(dist, sourcesSeen);
	await buildCli(dist, sourcesSeen);
	await buildWorker(dist, sourcesSeen);
	await buildEmbedded(dist);
	writeFileSync(path.join(root, "NOTICE"), notice(sourcesSeen));
}
