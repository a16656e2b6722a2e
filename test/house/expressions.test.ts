/** No expression takes more time than its text has characters: who sends a long text waits for it, and nobody else. */

import { transform } from "esbuild";
import { analyse } from "scslre";
import { parseAst } from "vite";
import { expect, test } from "vitest";
import { files, read } from "../support/sources.ts";

interface Found {
	source: string;
	flags: string;
}

/** The expressions of a file, and whether it makes others of text. */
async function expressions(file: string): Promise<{ found: Found[]; made: boolean }> {
	const loader = file.endsWith("x") ? "tsx" : "ts";
	const { code } = await transform(read(file), { loader, jsx: "automatic" });
	const found: Found[] = [];
	let made = false;
	const look = (node: unknown): void => {
		if (typeof node !== "object" || node === null) return;
		if ("regex" in node) {
			const { pattern, flags } = node.regex as { pattern: string; flags: string };
			found.push({ source: pattern, flags });
		}
		if ("callee" in node && (node.callee as { name?: string }).name === "RegExp") made = true;
		for (const child of Object.values(node)) look(child);
	};
	look(parseAst(code));
	return { found, made };
}

/** Whether its time can grow with more than the length of a text. */
const stumbles = (expression: Found): boolean => analyse(expression).reports.length > 0;

test.each([
	["[{}]+$", true],
	["\\s*,\\s*", true],
	["\\/+$", true],
	["^(a+)+$", true],
	["^[{}]+$", false],
	["^\\s*[+-]?\\d+(\\.0*)?\\s*$", false],
	["[/%&><]", false],
])("the reader of expressions knows %s", (source, expected) => {
	expect(stumbles({ source, flags: "" })).toBe(expected);
});

test("none of src stumbles, and none is made of text", async () => {
	const faults: string[] = [];
	let seen = 0;
	for (const file of files("src/**/*.{ts,tsx}")) {
		const { found, made } = await expressions(file);
		seen += found.length;
		if (made) faults.push(`${file}: new RegExp`);
		for (const each of found.filter(stumbles)) faults.push(`${file}: /${each.source}/${each.flags}`);
	}
	expect(seen).toBeGreaterThan(20);
	expect(faults).toEqual([]);
});
