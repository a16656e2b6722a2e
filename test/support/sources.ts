/** The repository's own files, for tests that look at them. */

import { globSync, readFileSync } from "node:fs";
import path from "node:path";

export const root = path.resolve(import.meta.dirname, "../..");

/** Paths relative to the root, of the repository's own files only. */
export function files(...patterns: string[]): string[] {
	return globSync(patterns, { cwd: root, exclude: ["**/node_modules/**", "**/dist/**"] }).sort();
}

export function read(file: string): string {
	return readFileSync(path.join(root, file), "utf8");
}

/** Comments and the contents of strings made blank, so that a word in prose is not taken for code. */
export function codeOnly(source: string): string {
	return source.replace(
		/\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`/g,
		(match) => (match.startsWith("/") ? " " : `${match[0]}${match[0]}`),
	);
}

/** What a module imports, each statement at the start of a line, with and without types, also by `export ... from` and `import(...)`. */
export function imports(source: string): { specifier: string; typeOnly: boolean }[] {
	const withoutComments = source.replace(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/[^\n]*/g, " ");
	const statement =
		/^\s*(?:import|export)\s+(?<type>type\s+)?(?:[\w*{][^"';]*?\sfrom\s+)?["'](?<from>[^"']+)["']|\bimport\s*\(\s*["'](?<dynamic>[^"']+)["']/gm;
	return Array.from(withoutComments.matchAll(statement), ({ groups }) => ({
		specifier: groups?.from ?? groups?.dynamic ?? "",
		typeOnly: groups?.type !== undefined,
	}));
}
