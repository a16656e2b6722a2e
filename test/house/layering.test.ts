/** The rules of the house: which folder may use what, held here and by the compiler instead of by a reviewer. */

import { globSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { projects, tsc } from "../../scripts/types.ts";
import { codeOnly, files, imports, read, root } from "../support/sources.ts";

/** Who may import whom: folders of `src`, packages, and `node:*`. A folder may always import itself. */
const MAY_IMPORT: Record<string, string[]> = {
	core: [],
	protocol: [],
	headers: ["protocol"],
	visible: [],
	window: ["protocol"],
	refusals: ["protocol"],
	rhythms: [],
	places: ["protocol"],
	attention: [],
	// The entry, and the sides of the server: the Worker and the objects, which know each other by the contract alone.
	"server/worker": ["server/front", "server/limit", "server/directory"],
	"server/contract": ["attention", "core", "protocol", "places"],
	"server/front": [
		...["server/contract", "core", "protocol", "headers", "refusals", "rhythms", "places"],
		...["hono", "zod", "zod-openapi", "cloudflare:workers"],
	],
	"server/limit": ["server/contract", "attention", "core", "protocol", "rhythms", "cloudflare:workers"],
	"server/directory": ["server/contract", "attention", "core", "protocol", "cloudflare:workers"],
	client: ["protocol", "refusals", "rhythms"],
	testing: ["client", "attention", "core", "protocol", "server/contract", "server/front", "server/limit"],
	middleware: ["client", "headers", "protocol", "hono", "ipaddr.js", "@noble/hashes"],
	worker: ["server/worker", "server/contract", "server/front", "server/limit", "server/directory"],
	// Of the server only what checks requests: see below.
	cli: [
		...[
			"client",
			"attention",
			"protocol",
			"rhythms",
			"places",
			"server/front",
			"visible",
			"window",
			"node:*",
			"esbuild",
		],
		...["@humanwhocodes/momoa", "commander", "picocolors", "smol-toml", "string-width"],
	],
	dashboard: ["attention", "protocol", "rhythms", "visible", "window", "preact", "@preact/signals", "uplot"],
};

/** The folder of `src` that a file is in; a file of `src` or of `src/server` itself counts as a folder of its own. */
function layer(file: string): string {
	const parts = path.relative("src", file).split(path.sep);
	return parts
		.slice(0, parts[0] === "server" ? 2 : 1)
		.join("/")
		.replace(/\.ts$/, "");
}

/** What an import is called in the table above. */
function target(file: string, specifier: string): string {
	if (specifier.startsWith(".")) return layer(path.join(path.dirname(file), specifier));
	if (specifier.startsWith("node:")) return "node:*";
	if (specifier.startsWith("cloudflare:")) return specifier;
	return specifier.startsWith("@") ? specifier.split("/").slice(0, 2).join("/") : (specifier.split("/")[0] ?? "");
}

const sources = files("src/**/*.{ts,tsx}");

test("there are sources to look at", () => {
	expect(sources.length).toBeGreaterThan(10);
	const found = sources.flatMap((file) => imports(read(file)));
	expect(found.length).toBeGreaterThan(30);
});

test.each(sources)("%s imports only what its folder may", (file) => {
	const allowed = MAY_IMPORT[layer(file)];
	expect(allowed, `src/${layer(file)} is in no row of the table`).toBeDefined();
	const forbidden = imports(read(file))
		.map(({ specifier }) => target(file, specifier))
		.filter((name) => name !== layer(file) && !allowed?.includes(name));
	expect(forbidden).toEqual([]);
});

/** What the command line has of the server: a file of limits is refused as a request would be. */
const DOOR_OF_THE_CLI = "src/server/front/requests.ts";

test("the command line imports of the server what checks requests, and nothing else", () => {
	const imported = files("src/cli/**/*.ts").flatMap((file) =>
		relativeImports(file, read(file)).filter((to) => to.startsWith("src/server/")),
	);
	expect([...new Set(imported)]).toEqual([DOOR_OF_THE_CLI]);
});

/** Where it is decided where an object lives. */
const PLACEMENT = "src/server/contract/placement.ts";
const FINDS_OBJECTS = /\.\s*(?:getByName|idFromName|idFromString|newUniqueId|jurisdiction)\s*\(/;

test("objects are found by their placement, and nowhere else", () => {
	const finding = sources.filter((file) => FINDS_OBJECTS.test(codeOnly(read(file))));
	expect(finding).toEqual([PLACEMENT]);
});

/** The files that a file imports, for their values or for their types. */
const relativeImports = (file: string, source: string): string[] =>
	imports(source).flatMap(({ specifier }) =>
		specifier.startsWith(".") ? [path.join(path.dirname(file), specifier)] : [],
	);

/**
 * The circles of a graph: groups of files of which each leads to all the others (Tarjan's strongly connected
 * components), and files that lead to themselves.
 */
function circles(graph: ReadonlyMap<string, readonly string[]>): string[][] {
	const found: string[][] = [];
	const order = new Map<string, number>();
	const lowest = new Map<string, number>();
	const open: string[] = [];
	const visit = (file: string): number => {
		const at = order.size;
		order.set(file, at);
		open.push(file);
		let low = at;
		for (const next of graph.get(file) ?? []) {
			if (!order.has(next)) low = Math.min(low, visit(next));
			else if (open.includes(next)) low = Math.min(low, lowest.get(next) ?? order.get(next) ?? low);
		}
		lowest.set(file, low);
		if (low < at) return low;
		const group = open.splice(open.indexOf(file));
		if (group.length > 1 || graph.get(file)?.includes(file)) found.push(group.sort());
		return low;
	};
	for (const file of graph.keys()) if (!order.has(file)) visit(file);
	return found;
}

const graphOf = (read: (file: string) => string, all: string[]): Map<string, string[]> =>
	new Map(all.map((file) => [file, relativeImports(file, read(file))]));

test("no imports go in a circle, types included", () => {
	expect(circles(graphOf(read, sources))).toEqual([]);
});

test("a circle would be found", () => {
	const planted: Record<string, string> = {
		"src/a.ts": 'import type { B } from "./b.ts";',
		"src/b.ts": 'export * from "./x/c.ts";\nimport { z } from "./z.ts";',
		"src/x/c.ts": 'export type C = import("../a.ts").A;',
		"src/leads-to-it.ts": 'import "./a.ts";\nimport { z } from "./z.ts";',
		"src/itself.ts": 'import { itself } from "./itself.ts";',
		"src/z.ts": "export const z = 1;",
	};
	const graph = graphOf((file) => planted[file] ?? "", Object.keys(planted));
	expect(circles(graph)).toEqual([["src/a.ts", "src/b.ts", "src/x/c.ts"], ["src/itself.ts"]]);
});

test("the reader of imports sees every way to import", () => {
	const source = `
		import a from "a";
		import type { B } from "b";
		import {
			c,
			type C,
		} from "c";
		import * as d from "d";
		import "e";
		export { f } from "f";
		export * from "g";
		const h = await import("h");
		// import no from "comment";
		/* import no from "block"; */
		export const url = "https://x.example"; const from = "nothing";
	`;
	expect(imports(source)).toEqual([
		...[..."a"].map((specifier) => ({ specifier, typeOnly: false })),
		{ specifier: "b", typeOnly: true },
		...[..."cdefgh"].map((specifier) => ({ specifier, typeOnly: false })),
	]);
});

describe("the core is pure", () => {
	const impure = /\b(?:Date|Math\.random|performance|async|await|Promise|Symbol\.asyncIterator|globalThis)\b/g;

	test.each(files("src/core/**/*.ts", "src/*.ts"))("%s has no clock, no random and no waiting", (file) => {
		// A moment can be written as text without asking for the present one.
		const code = codeOnly(read(file)).replaceAll(/\bnew Date\((?!\s*\))|\bDate\.(?:parse|UTC)\(/g, "(");
		expect(code.match(impure) ?? []).toEqual([]);
	});

	test("the reader of code leaves comments and strings out", () => {
		expect(codeOnly('a("Date"); // Date\n/* Date\n */ b(`Date`)')).not.toContain("Date");
		expect(codeOnly("const x = Date.now();")).toContain("Date.now");
	});
});

test("the library brings no other package with it", () => {
	const manifest = JSON.parse(read("package.json"));
	for (const kind of ["dependencies", "optionalDependencies", "bundledDependencies"]) {
		expect(manifest[kind], kind).toBeUndefined();
	}
	// What only a server needs is its user's to install.
	for (const name of Object.keys(manifest.peerDependencies)) {
		expect(manifest.peerDependenciesMeta[name], name).toEqual({ optional: true });
	}
	const bare = files("src/client/**/*.ts").flatMap((file) => imports(read(file)));
	expect(bare.filter(({ specifier }) => !specifier.startsWith("."))).toEqual([]);
});

test("every TypeScript file is checked by some tsconfig", () => {
	const checked = projects().flatMap((project) => {
		const { include } = JSON.parse(read(project)) as { include: string[] };
		return globSync(include, { cwd: path.join(root, path.dirname(project)) }).map((file) =>
			path.join(path.dirname(project), file),
		);
	});
	const all = files("*.ts", "{src,test,scripts,bench,soak,examples}/**/*.{ts,tsx}");
	expect(all.filter((file) => !checked.includes(file))).toEqual([]);
});

/** Each folder's `tsconfig.json` lets its own runtime's globals through and no other's. */
const GLOBALS: Record<string, { known: string[]; unknown: string[] }> = {
	"src/core": {
		known: ["Math.max(1, 2)", "new Map<string, number>()"],
		unknown: [
			"setTimeout",
			"fetch",
			"crypto",
			"console",
			"process",
			"document",
			"DurableObjectState",
			"structuredClone",
		],
	},
	src: {
		known: ["new Set<string>()"],
		unknown: ["setTimeout", "fetch", "crypto", "console", "process", "document"],
	},
	"src/server": {
		known: [
			"crypto.randomUUID()",
			"setTimeout(() => {}, 1)",
			"new IdentityTransformStream()",
			"{} as DurableObjectState",
		],
		// workerd has `process` and `Buffer` since compatibility date 2026-08-04.
		unknown: ["document", "window", "require", "Deno"],
	},
	"src/client": {
		known: ["fetch", "AbortSignal.timeout(1)", "setTimeout(() => {}, 1)", "crypto.randomUUID()"],
		unknown: ["process", "Buffer", "require", "DurableObjectState", "IdentityTransformStream"],
	},
	"src/cli": {
		known: ["process.pid", "fetch", "Buffer.from([1])"],
		unknown: ["document", "window", "DurableObjectState", "IdentityTransformStream"],
	},
};

test.each(Object.keys(GLOBALS))("in %s the compiler knows the globals of its runtime and no others", async (folder) => {
	const { known = [], unknown = [] } = GLOBALS[folder] ?? {};
	// Inside the checkout, because the packages with the types are looked for from there upwards.
	mkdirSync(path.join(root, "dist"), { recursive: true });
	const probe = mkdtempSync(path.join(root, "dist/probe-"));
	try {
		const extended = path.join(root, folder, "tsconfig.json");
		const config = { extends: extended, include: ["*.ts"], compilerOptions: { noEmit: true } };
		writeFileSync(path.join(probe, "tsconfig.json"), JSON.stringify(config));
		for (const [index, expression] of known.entries()) {
			writeFileSync(path.join(probe, `known-${index}.ts`), `export const x = ${expression};\n`);
		}
		for (const name of unknown) {
			// As a value and as a type, since some are only one of them.
			writeFileSync(path.join(probe, `unknown-${name}.ts`), `export const x = ${name};\nexport type T = ${name};\n`);
		}
		const { output } = await tsc(["--project", probe, "--pretty", "false"]);
		const lines = output.split("\n");
		expect(lines.filter((line) => line.includes("known-") && !line.includes("unknown-"))).toEqual([]);
		const places = (name: string) =>
			[1, 2].filter((at) => lines.some((line) => line.includes(`unknown-${name}.ts(${at},`)));
		expect(unknown.filter((name) => places(name).length < 2)).toEqual([]);
	} finally {
		rmSync(probe, { recursive: true });
	}
});
