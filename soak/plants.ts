/**
 * Faults of the server itself, to show that a run finds what it is for: each is planted in a copy of the checkout, whose server is
 * then judged like any other.
 */

import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Figures } from "./report.ts";

interface Plant {
	title: string;
	file: string;
	/** There exactly once. */
	is: string;
	becomes: string;
}

export const PLANTS: Record<string, Plant> = {
	"early-answer": {
		title: "callers are answered before the commit, which follows within a second",
		file: "src/server/limit/store.ts",
		is: "		this.#remembered.forget(now);\n		this.#due();\n		return true;",
		becomes: "		this.#remembered.forget(now);\n		this.writeSoon();\n		return true;",
	},
	"lost-lease": {
		title: "leases that the oldest rows of the ring speak of are not said again",
		file: "src/server/limit/store.ts",
		is: "left -= entry ? this.#sayEntry(limit, entry) : LOOKED_AT_SIZE;",
		becomes: "left -= LOOKED_AT_SIZE;",
	},
	"id-twice": {
		title: "ids that ended are not remembered, and are granted once more",
		file: "src/core/decide.ts",
		is: "const past = request.remember ? recall(turn, id) : undefined;",
		becomes: "const past = request.slots < 0 ? recall(turn, id) : undefined;",
	},
	"never-expires": {
		title: "a lease does not expire",
		file: "src/core/granting.ts",
		is: `const end = entry.mode === "concurrency" ? entry.expiresAt : Number.POSITIVE_INFINITY;`,
		becomes: "const end = Number.POSITIVE_INFINITY;",
	},
	"clock-frees": {
		title: "a clock that is set back counts as time that ran, and ends leases",
		file: "src/core/time.ts",
		is: "if (now + clock.offsetMs < clock.lastAt) clock.offsetMs = clock.lastAt - now;",
		becomes: "if (now + clock.offsetMs < clock.lastAt) clock.offsetMs = 2 * (clock.lastAt - now);",
	},
	"dead-waiter": {
		title: "a waiter whose connection broke stays in line, and is served",
		file: "src/core/decide.ts",
		is: "return detach(turn, command.id);",
		becomes: "return;",
	},
	"clock-forgotten": {
		title: "after a restart time runs by the clock, wherever it was before",
		file: "src/core/saved.ts",
		is: "...{ clock: { ...saved.clock }, unleased",
		becomes: "...{ unleased",
	},
	"empty-bucket": {
		title: "what was taken of a bucket is forgotten with a restart",
		file: "src/core/saved.ts",
		is: "if (decays(limit)) limit.level.restore(bands, saved.level);",
		becomes: "",
	},
};

const root = path.resolve(import.meta.dirname, "..");
const COPIED = ["src", "package.json", "wrangler.toml", "tsconfig.base.json"];

/** Plants one after another; answers with a row for each, and whether all of them were found. */
export async function planted(
	names: string[],
	soak: (code: string) => Promise<Figures>,
	say: (line: string) => void,
): Promise<{ rows: string[][]; all: boolean }> {
	const rows: string[][] = [];
	let all = true;
	for (const name of names) {
		const plant = PLANTS[name];
		if (!plant) throw new Error(`There is no fault ${name} to plant: ${Object.keys(PLANTS).join(", ")}.`);
		const { title, file, is, becomes } = plant;
		const copy = path.join(root, "dist/soak", name);
		await rm(copy, { recursive: true, force: true });
		await mkdir(copy, { recursive: true });
		for (const each of COPIED) await cp(path.join(root, each), path.join(copy, each), { recursive: true });
		const source = await readFile(path.join(copy, file), "utf8");
		if (source.split(is).length !== 2) throw new Error(`The text of "${name}" is not in ${file} exactly once.`);
		await writeFile(
			path.join(copy, file),
			source.replace(is, () => becomes),
		);
		const { seconds, rounds, violation } = await soak(copy);
		if (violation === null) all = false;
		const after = `${seconds.toFixed(0)} s, in round ${rounds + 1}`;
		const found = violation === null ? "**not found**" : `promise ${violation.promise}: ${violation.what}`;
		say(`${violation === null ? "NOT FOUND" : "found"} ${name} (${title}): ${after}: ${found}`);
		rows.push([title, violation === null ? `not within ${seconds.toFixed(0)} s` : after, cut(found)]);
		await rm(copy, { recursive: true, force: true });
	}
	return { rows, all };
}

/** What a cell of a table has room for, and no mark of its own. */
const cut = (text: string): string => (text.length > 160 ? `${text.slice(0, 160)}…` : text).replaceAll("|", "\\|");
