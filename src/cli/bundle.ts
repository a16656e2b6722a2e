/**
 * The Worker as one file, and what `wrangler.toml` says about it.
 *
 * A program that runs from the sources reads both from them, once, which takes some tenths of a second. One that was built
 * has what `npm run build` made with it, in `dist/worker/`.
 */

import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { StartError } from "./errors.ts";
import { bundlePage } from "./page.ts";

/** Everything workerd has to know about a Worker. */
export interface WorkerBundle {
	/** One ES module without imports, but for `cloudflare:*` and `node:*`. */
	code: string;
	compatibilityDate: string;
	compatibilityFlags: string[];
	/** The Durable Object classes, each with the name of its binding. */
	objects: { binding: string; className: string }[];
	/** The dashboard's files, by path; a Worker of another `wrangler.toml` has none. */
	page: Record<string, string>;
}

/** The part of `wrangler.toml` that is read here; wrangler itself checks the rest. */
interface WranglerToml {
	main: string;
	compatibility_date: string;
	compatibility_flags?: string[];
	/** It hands out the page. */
	assets?: object;
	durable_objects?: { bindings?: { name: string; class_name: string }[] };
}

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(here, "../..");
const ownSource = path.resolve(here, "../server/worker.ts");
const ownConfig = path.join(root, "wrangler.toml");
const builtFolder = path.join(root, "dist/worker");

let ownWorker: Promise<WorkerBundle> | undefined;

/** The Worker of this checkout or package, or with `config` the one that another `wrangler.toml` describes. */
export async function loadWorker(config?: string): Promise<WorkerBundle> {
	if (config !== undefined) return bundleWorker(path.resolve(config));
	if (existsSync(ownSource)) {
		ownWorker ??= bundleWorker(ownConfig);
		return ownWorker;
	}
	if (!existsSync(path.join(builtFolder, "worker.js"))) {
		throw new StartError(`No Worker to run: neither ${ownSource} nor ${builtFolder} exists.`);
	}
	const settings = JSON.parse(await readFile(path.join(builtFolder, "worker.json"), "utf8"));
	return { ...settings, code: await readFile(path.join(builtFolder, "worker.js"), "utf8") };
}

/** Writes into `folder` what `loadWorker` falls back to where there are no sources. `sourcesSeen` is told of every file that is in it. */
export async function buildWorker(folder: string, sourcesSeen = new Set<string>()): Promise<void> {
	const { code, ...settings } = await bundleWorker(ownConfig, sourcesSeen);
	const built = path.join(folder, "worker");
	await mkdir(built, { recursive: true });
	await writeFile(path.join(built, "worker.js"), code);
	await writeFile(path.join(built, "worker.json"), `${JSON.stringify(settings, null, "\t")}\n`);
}

async function bundleWorker(configPath: string, sourcesSeen = new Set<string>()): Promise<WorkerBundle> {
	// Imported here, because a package without its sources has no need of them.
	const [{ build }, { parse }] = await Promise.all([import("esbuild"), import("smol-toml")]);
	const config = parse(await readFile(configPath, "utf8")) as unknown as WranglerToml;
	const result = await build({
		entryPoints: [path.resolve(path.dirname(configPath), config.main)],
		bundle: true,
		metafile: true,
		write: false,
		format: "esm",
		target: "esnext",
		// The same choices as wrangler makes, so that what runs here is what is deployed.
		conditions: ["workerd", "worker", "browser"],
		external: ["cloudflare:*", "node:*"],
		loader: { ".html": "text", ".txt": "text", ".sql": "text" },
		logLevel: "silent",
	});
	const file = result.outputFiles[0];
	if (file === undefined) throw new Error(`Bundling ${configPath} made no file`);
	for (const { inputs } of Object.values(result.metafile.outputs)) for (const input in inputs) sourcesSeen.add(input);
	return {
		code: file.text,
		page: config.assets ? await bundlePage(sourcesSeen) : {},
		compatibilityDate: config.compatibility_date,
		compatibilityFlags: config.compatibility_flags ?? [],
		objects: (config.durable_objects?.bindings ?? []).map((one) => ({
			binding: one.name,
			className: one.class_name,
		})),
	};
}
