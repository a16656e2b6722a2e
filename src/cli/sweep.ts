/**
 * Files that hold nothing. The runtime makes one for every name that is asked for, also for one that does not exist, and
 * never removes it; so they are removed before it starts.
 */

import { closeSync, openSync, readdirSync, readSync, rmSync, statSync } from "node:fs";
import path from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { StartError } from "./errors.ts";

/** Files that are looked at before signals are heard again. */
const AT_ONCE = 500;
/** A start is not held up for longer; the next one goes on somewhere else. */
const SWEEP_MS = 20_000;
/** After this it is said what takes so long. */
const SAY_MS = 2_000;

/** Removes them from the folders of all objects, and answers how many there were. Nothing may have the folder open. */
export async function sweep(objectsFolder: string, say: ((line: string) => void) | undefined): Promise<number> {
	const began = performance.now();
	let [looked, removed, said] = [0, 0, false];
	for (const folder of subfolders(objectsFolder)) {
		const entries = readdirSync(folder, { withFileTypes: true });
		const link = entries.find((entry) => entry.isSymbolicLink());
		if (link !== undefined) refuseLink(path.join(folder, link.name));
		const names = new Set(entries.map(({ name }) => name));
		const databases = [...names].filter((name) => name.endsWith(".sqlite") && name !== "metadata.sqlite");
		// Where it begins is left to chance, so that what a short time leaves out has its turn another time.
		const first = Math.floor(Math.random() * databases.length);
		for (const name of [...databases.slice(first), ...databases.slice(0, first)]) {
			if (holdsNothing(folder, name, names)) {
				for (const ending of ["-wal", "-shm", ""]) {
					if (names.has(name + ending)) rmSync(path.join(folder, name + ending), { force: true });
				}
				removed += 1;
			}
			looked += 1;
			if (looked % AT_ONCE !== 0) continue;
			await turn();
			const tookMs = performance.now() - began;
			if (tookMs > SWEEP_MS) return removed;
			if (tookMs > SAY_MS && !said) {
				said = true;
				say?.(`headgate: looking through ${databases.length} files of limits for those that hold nothing`);
			}
		}
	}
	return removed;
}

function subfolders(folder: string): string[] {
	return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
		const found = path.join(folder, entry.name);
		if (entry.isSymbolicLink()) refuseLink(found);
		return entry.isDirectory() ? [found] : [];
	});
}

function refuseLink(file: string): never {
	throw new StartError(
		`${file} is a link, and nothing is written through one. Move what it leads to into its place, ` +
			"or choose another folder with --data.",
	);
}

/** The bytes before the list of tables, and the head of that list. */
const HEAD_BYTES = 108;
const MAGIC = "SQLite format 3\0";
const LEAF_OF_A_TABLE = 13;

/**
 * Whether a database provably holds nothing: it is one page, whose list of tables is empty, and nothing waits in its log
 * or its journal. A file of no bytes at all is no database; where its name is known it is damage, and for others to see.
 */
function holdsNothing(folder: string, name: string, names: Set<string>): boolean {
	const file = path.join(folder, name);
	if (names.has(`${name}-journal`)) return false;
	if (names.has(`${name}-wal`) && statSync(`${file}-wal`).size > 0) return false;
	const head = Buffer.alloc(HEAD_BYTES);
	const descriptor = openSync(file, "r");
	try {
		if (readSync(descriptor, head, 0, HEAD_BYTES, 0) < HEAD_BYTES) return false;
	} finally {
		closeSync(descriptor);
	}
	if (head.toString("latin1", 0, MAGIC.length) !== MAGIC) return false;
	// 1 stands for 65,536, which is more than fits.
	const pageBytes = head.readUInt16BE(16) === 1 ? 65_536 : head.readUInt16BE(16);
	const [pages, tables] = [head.readUInt32BE(28), head.readUInt16BE(103)];
	return pages === 1 && head[100] === LEAF_OF_A_TABLE && tables === 0 && statSync(file).size === pageBytes;
}
