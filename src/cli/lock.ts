/**
 * One server per data folder: two would each keep their own count of the same slots.
 *
 * Every contender first writes a file of its own, under a name that is never used twice, and then looks at
 * the others. Of two that start at once at least one sees the other, whatever the order; and as a file is
 * only ever removed when its owner is gone, a lock left behind by `kill -9` is cleared without a race.
 *
 * Where the system has `flock`, the kernel keeps a lock as well, on a descriptor that the runtime inherits: it ends when
 * the last of the two has ended, and also holds where processes do not see each other, as in two containers, and where
 * its operator deleted the files. Processes on other machines are not seen; a folder belongs on a local disk anyway.
 */

import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, constants, existsSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { StartError, systemErrorCode } from "./errors.ts";
import { place } from "./folder.ts";

/** A process, told apart from a later one that got the same number. */
interface ProcessMark {
	pid: number;
	/** When it began, in the kernel's own unit; null where the system does not tell. */
	began: string | null;
}

interface LockContent {
	server: ProcessMark;
	/** The runtime under the server, which outlives it by an instant when the server is killed. */
	runtime: ProcessMark | null;
}

/** A data folder held by this process. */
export interface FolderLock {
	/** The kernel's lock, for the runtime to inherit. */
	descriptor: number;
	/** Records the runtime, so that a successor waits until that is gone as well. It must not run before. */
	setRuntime(pid: number): void;
	/** Only when no runtime of this server lives any more. */
	release(): void;
}

const PREFIX = "server-";
const SUFFIX = ".lock";
/** What is left of a record that was being written when its writer died. */
const UNFINISHED = /^server-(\d+)-.*\.new$/;
/** How long a runtime without its server is given to end; its watcher needs a few milliseconds. */
const ORPHAN_MS = 3_000;
const LOOK_MS = 20;

/** Takes the folder, or says who has it. */
export async function lockFolder(folder: string): Promise<FolderLock> {
	const own = `${PREFIX}${process.pid}-${randomUUID()}${SUFFIX}`;
	const file = path.join(folder, own);
	const content: LockContent = { server: mark(process.pid), runtime: null };
	place(file, JSON.stringify(content));
	let descriptor: number | undefined;
	const release = () => {
		if (descriptor !== undefined) closeSync(descriptor);
		descriptor = undefined;
		try {
			rmSync(file, { force: true });
		} catch (error) {
			// It stays, as after `kill -9`: on a disk that has gone it holds no other server up.
			if (systemErrorCode(error) === undefined) throw error;
		}
	};
	try {
		for (const name of readdirSync(folder)) {
			const writer = Number(UNFINISHED.exec(name)?.[1] ?? Number.NaN);
			// One of this process's number is an earlier one's: what this one writes is moved away in the same turn.
			if (writer === process.pid || (writer > 0 && !isAlive({ pid: writer, began: null }))) {
				rmSync(path.join(folder, name), { force: true });
			}
			if (name !== own && name.startsWith(PREFIX) && name.endsWith(SUFFIX)) {
				await clearOrRefuse(folder, name);
			}
		}
		const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants;
		descriptor = openSync(path.join(folder, "lock"), O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
		await lockInKernel(folder, descriptor);
		return {
			descriptor,
			setRuntime(pid) {
				content.runtime = mark(pid);
				place(file, JSON.stringify(content));
			},
			release,
		};
	} catch (error) {
		release();
		throw error;
	}
}

/** The lock belongs to what is open, and not to the helper that asks for it: it stays when that has ended. */
async function lockInKernel(folder: string, descriptor: number): Promise<void> {
	const giveUpAt = Date.now() + ORPHAN_MS;
	for (;;) {
		const { error, status } = spawnSync("flock", ["-n", "3"], { stdio: ["ignore", "ignore", "ignore", descriptor] });
		// Without such a program, or on a file system without such locks, the files have to do.
		if (error !== undefined || status !== 1) return;
		if (Date.now() > giveUpAt) break;
		await sleep(LOOK_MS);
	}
	throw new StartError(
		`The data folder ${folder} is in use by another Headgate server that left no record in it: one in another ` +
			"container, or one whose record was deleted. Stop that one first, or choose another folder with --data.",
	);
}

async function clearOrRefuse(folder: string, name: string): Promise<void> {
	const file = path.join(folder, name);
	const other = readLock(file);
	if (other === undefined) return;
	const giveUpAt = Date.now() + ORPHAN_MS;
	while (!isAlive(other.server) && other.runtime !== null && isAlive(other.runtime) && Date.now() < giveUpAt) {
		await sleep(LOOK_MS);
	}
	for (const one of [other.server, other.runtime]) {
		if (one === null || !isAlive(one)) continue;
		throw new StartError(
			`The data folder ${folder} is in use by another Headgate server (process ${one.pid}). ` +
				"Stop that one first, or choose another folder with --data.",
		);
	}
	rmSync(file, { force: true });
}

/** Undefined when its owner has just removed it. */
function readLock(file: string): LockContent | undefined {
	try {
		return JSON.parse(readFileSync(file, "utf8"));
	} catch (error) {
		if (systemErrorCode(error) === "ENOENT") return undefined;
		// An empty file is what a loss of power leaves of one; its owner did not survive that either.
		if (error instanceof SyntaxError) return { server: { pid: 0, began: null }, runtime: null };
		throw error;
	}
}

function mark(pid: number): ProcessMark {
	return { pid, began: kernelRecord(pid)?.began ?? null };
}

function isAlive(one: ProcessMark): boolean {
	if (one.pid === 0) return false;
	try {
		process.kill(one.pid, 0);
	} catch (error) {
		// EPERM: it is there, and belongs to another user.
		if (systemErrorCode(error) === "ESRCH") return false;
	}
	// Where the system keeps no such records, the number alone has to do.
	if (!existsSync("/proc/self/stat")) return true;
	const record = kernelRecord(one.pid);
	// A zombie has ended and only waits for its parent to take notice, which some containers never do.
	return record !== undefined && record.state !== "Z" && (one.began === null || one.began === record.began);
}

/** Fields 3 and 22 of `/proc/<pid>/stat`; the name before them may hold spaces and brackets, so it is cut off first. */
function kernelRecord(pid: number): { state: string; began: string } | undefined {
	try {
		const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
		const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
		return { state: fields[0] ?? "", began: fields[19] ?? "" };
	} catch (error) {
		const code = systemErrorCode(error);
		if (code === "ENOENT" || code === "ESRCH") return undefined;
		throw error;
	}
}
