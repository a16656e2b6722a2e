/** The licences of the packages whose code is bundled, each with its own words. */

import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import licenses from "spdx-license-list/full.js";

const root = path.resolve(import.meta.dirname, "..");

/** The folders of the packages that these files, relative to the root, come from. */
export function packagesOf(files: Iterable<string>): string[] {
	const folders = [...files].flatMap((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(file)?.[0] ?? []);
	return [...new Set(folders)].sort();
}

/** `NOTICE`, for what was bundled from these files. */
export function notice(files: Iterable<string>): string {
	const parts = packagesOf(files).map((folder) => {
		const { name, version, license } = JSON.parse(readFileSync(path.join(root, folder, "package.json"), "utf8"));
		return `${"-".repeat(80)}\n${name} ${version} (${license})\n\n${wording(folder, license)}\n`;
	});
	const head = "Headgate is under the licence in LICENSE. It carries code of these packages, each under its own:";
	return `${head}\n\n${parts.join("\n")}`;
}

/** Its licence and its notices as it ships them; of a package that ships none the text of the licence that it names. */
function wording(folder: string, license: string): string {
	const files = readdirSync(path.join(root, folder)).filter((file) => /^(licen[cs]e|copying|notice)\b/i.test(file));
	const texts = files.map((file) => readFileSync(path.join(root, folder, file), "utf8").trim());
	if (texts.length > 0) return texts.join("\n\n");
	const text = licenses[license]?.licenseText.trim();
	if (!text) throw new Error(`${folder} ships no licence, and "${license}" is none whose text is known.`);
	return text;
}
