/** The dashboard as files that any server of static files can hand out. */

import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { makeInside, place } from "./folder.ts";

const sources = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../dashboard");

/**
 * Its files by path. Names of scripts and styles tell their contents, so they may be kept for ever. `sourcesSeen` is told
 * of every file that is in them.
 */
export async function bundlePage(sourcesSeen = new Set<string>()): Promise<Record<string, string>> {
	// Imported here, because a package without its sources has no need of it.
	const { build } = await import("esbuild");
	const { outputFiles, metafile } = await build({
		metafile: true,
		entryPoints: [path.join(sources, "app.tsx")],
		bundle: true,
		minify: true,
		write: false,
		format: "esm",
		target: "es2022",
		jsx: "automatic",
		jsxImportSource: "preact",
		outdir: "assets",
		entryNames: "[name]-[hash]",
		legalComments: "none",
		logLevel: "silent",
	});
	for (const { inputs } of Object.values(metafile.outputs)) for (const file in inputs) sourcesSeen.add(file);
	const files: Record<string, string> = {};
	let page = await readFile(path.join(sources, "index.html"), "utf8");
	for (const { path: file, text } of outputFiles) {
		const name = path.basename(file);
		files[`assets/${name}`] = text;
		page = page.replace(`app${path.extname(name)}`, name);
	}
	files["assets/icon.svg"] = await readFile(path.join(sources, "icon.svg"), "utf8");
	files["index.html"] = page;
	return files;
}

/** Makes a folder hold these files and no others; what is there already is left as it is, for it may be in use. */
export function writePage(folder: string, files: Record<string, string>): void {
	mkdirSync(folder, { recursive: true });
	for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
		const file = path.join(entry.parentPath, entry.name);
		if (!entry.isDirectory() && !(path.relative(folder, file) in files)) rmSync(file, { force: true });
	}
	for (const [name, contents] of Object.entries(files)) {
		const { dir, base } = path.parse(name);
		place(path.join(dir === "" ? folder : makeInside(folder, dir), base), contents);
	}
}
