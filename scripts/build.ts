/**
 * `npm run build`: the library as one file with its types (`dist/client/`), and the Worker (`dist/worker/`).
 */

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
	const { code, output } = await tsc([
		...["--project", path.join(root, "src/client/tsconfig.json")],
		...["--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--rewriteRelativeImportExtensions"],
		...["--rootDir", path.join(root, "src"), "--outDir", folder],
	]);
	if (code !== 0) throw new Error(`The declarations could not be made:\n${output}`);
}

if (import.meta.main) {
	await buildClient(path.join(root, "dist"));
	await buildWorker();
}
