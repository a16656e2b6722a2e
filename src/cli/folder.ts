/** The data folder: whose it is, how files come into it, and what is wrong when they do not. */

import { randomUUID } from "node:crypto";
import {
	chmodSync,
	lstatSync,
	mkdirSync,
	readFileSync,
	realpathSync,
	renameSync,
	rmSync,
	type Stats,
	statSync,
	writeFileSync,
} from "node:fs";
import path from "node:path";
import { StartError, systemErrorCode } from "./errors.ts";

/**
 * Makes the folder if need be, and answers with its real path. Another user who may write in it could put a program of
 * theirs where this one's is started, so such a folder is refused.
 */
export function prepareFolder(given: string): string {
	const folder = withFolder(given, "made", () => {
		makePath(path.resolve(given));
		return realpathSync(given);
	});
	const { uid, mode } = withFolder(given, "read", () => statSync(folder));
	const own = process.getuid?.();
	// A system without users has no others.
	if (own === undefined) return folder;
	const instead = `Choose a folder of its own, which is made if it is absent: --data ${path.join(given, "headgate")}`;
	if (uid !== own) {
		throw new StartError(
			`The data folder ${given} belongs to another user (${uid}, and this one is ${own}), ` +
				`who could change what is in it. ${instead}`,
		);
	}
	if ((mode & 0o022) !== 0) {
		throw new StartError(
			`Other users may write in the data folder ${given} (its mode is ${(mode & 0o777).toString(8)}). ` +
				`Take that from them with: chmod go-w ${given}\nOr: ${instead}`,
		);
	}
	return folder;
}

/**
 * Makes a folder, and what is missing above it. One by one: where a file system takes no folders, as `/proc` does not, Node's own
 * `recursive` tries for ever.
 */
function makePath(folder: string): void {
	if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return;
	if (statSync(path.dirname(folder), { throwIfNoEntry: false }) === undefined) makePath(path.dirname(folder));
	try {
		mkdirSync(folder, { mode: 0o700 });
	} catch (error) {
		// Another program may have made it meanwhile.
		if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) throw error;
	}
}

/** A folder in the data folder, for its owner alone; a link in its place is refused, whatever it leads to. */
export function makeInside(parent: string, name: string): string {
	const folder = path.join(parent, name);
	if (isThere(folder)?.isDirectory() === false) {
		throw new StartError(
			`${folder} is a link or a file where a folder is to be. Move it away, or choose another folder with --data.`,
		);
	}
	mkdirSync(folder, { recursive: true, mode: 0o700 });
	chmodSync(folder, 0o700);
	return folder;
}

/**
 * Gives a file these contents. It is written aside and moved into place: no reader sees half of it, a link in its place
 * is replaced and not followed, and a disk that fills up leaves nothing. One that has them already is left as it is.
 */
export function place(file: string, contents: string): void {
	const there = isThere(file);
	if (there?.isFile() && (there.mode & 0o077) === 0 && readFileSync(file, "utf8") === contents) return;
	const aside = `${file}.${randomUUID()}.new`;
	try {
		writeFileSync(aside, contents, { mode: 0o600, flag: "wx" });
		renameSync(aside, file);
	} catch (error) {
		rmSync(aside, { force: true });
		throw error;
	}
}

/** What stands there itself, links not followed; undefined: nothing. */
function isThere(file: string): Stats | undefined {
	return lstatSync(file, { throwIfNoEntry: false });
}

/** What a system error means for the one who chose the folder, and what to try. */
const MEANINGS: Record<string, string> = {
	EROFS: "it is on a file system that can only be read. Mount that for writing",
	ENOSPC: "the disk is full. Make room on it",
	EDQUOT: "the quota of this user on that disk is used up. Make room",
	EACCES: "this user has no right to write there. Take a user who has",
	EPERM: "this user has no right to do that there. Take a user who has",
	ENOTDIR: "a part of its path is a file and not a folder. Move that away",
	ENOENT: "the file system there takes no folders. Take another one",
	EEXIST: "it is a file and not a folder. Move that away",
	ENAMETOOLONG: "its path is longer than the system allows. Make it shorter",
	ELOOP: "there is a link that leads to itself, or that is not followed. Remove it",
	EIO: "the disk reports an error. Have it checked",
	EMFILE: "this process has too many files open. Raise its limit (`ulimit -n`)",
	ENFILE: "the system has too many files open. End what has them",
};

/** Does what needs the folder; an error of the system is told as a sentence. */
export function withFolder<T>(folder: string, what: "made" | "read" | "written", action: () => T): T {
	try {
		return action();
	} catch (error) {
		throw folderError(error, folder, what);
	}
}

export function folderError(error: unknown, folder: string, what: "made" | "read" | "written"): unknown {
	const code = systemErrorCode(error);
	if (code === undefined) return error;
	const meaning = MEANINGS[code];
	const why = meaning === undefined ? `${(error as Error).message}. Mend that` : meaning;
	return new StartError(`The data folder ${folder} cannot be ${what}: ${why}, or choose another folder with --data.`);
}
