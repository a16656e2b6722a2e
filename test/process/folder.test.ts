/** The data folder: whose it is, what is written into it, and what is said when that cannot be. */

import {
	chmodSync,
	chownSync,
	existsSync,
	globSync,
	mkdirSync,
	readFileSync,
	rmSync,
	statSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import path from "node:path";
import { expect, test, vi } from "vitest";
import { failAt, heal } from "../support/faults.ts";
import { startServer } from "../support/server.ts";
import { run } from "../support/start.ts";
import { temporaryFolder } from "../support/temporary.ts";
import { Caller } from "./support.ts";

/** Objects that nobody uses are out of memory after about 13 s. */
const EVICTED_MS = 30_000;

async function refused(data: string): Promise<string> {
	await using program = run("start", ["--port", "0", "--data", data]);
	const end = await program.ended;
	expect(end).toMatchObject({ code: 1, stdout: "" });
	expect(end.stderr).not.toContain(".ts:");
	return end.stderr;
}

const mode = (file: string): string => (statSync(file).mode & 0o777).toString(8);

test.each([0o777, 0o775, 0o1777, 0o757])("a folder of mode %o, in which others may write, is refused", async (bits) => {
	await using parent = await temporaryFolder();
	const shared = path.join(parent.path, "shared");
	mkdirSync(shared);
	chmodSync(shared, bits);
	const said = await refused(shared);
	expect(said).toContain(
		`Other users may write in the data folder ${shared} (its mode is ${(bits & 0o777).toString(8)}).`,
	);
	expect(said).toContain(`--data ${path.join(shared, "headgate")}`);
	expect(globSync("*", { cwd: shared })).toEqual([]);
	// What it advises works.
	chmodSync(shared, 0o755);
	await (await startServer({ port: 0, data: shared })).stop();
});

// Only root can give a folder away.
test.runIf(process.getuid?.() === 0)("a folder of another user is refused, by a link as well", async () => {
	await using parent = await temporaryFolder();
	const theirs = path.join(parent.path, "theirs");
	mkdirSync(theirs);
	chownSync(theirs, 4242, 4242);
	symlinkSync(theirs, path.join(parent.path, "link"));
	expect(await refused(theirs)).toContain(
		`The data folder ${theirs} belongs to another user (4242, and this one is 0)`,
	);
	expect(await refused(path.join(parent.path, "link"))).toContain("belongs to another user (4242");
	expect(globSync("*", { cwd: theirs })).toEqual([]);
});

test("a folder that others may read keeps its files from them", async () => {
	await using parent = await temporaryFolder();
	const folder = path.join(parent.path, "open");
	mkdirSync(folder, { mode: 0o755 });
	mkdirSync(path.join(folder, "objects"), { mode: 0o755 });
	const server = await startServer({ port: 0, data: folder });
	const caller = new Caller(server.url);
	await caller.limit("secret", 1);
	caller.close();
	const all = globSync("**/*", { cwd: folder }).map((name) => [name, mode(path.join(folder, name))]);
	await server.stop();
	expect(all.length).toBeGreaterThan(10);
	expect(all.filter(([name = "", bits]) => bits !== (/\.|^lock$/.test(name) ? "600" : "700"))).toEqual([]);
});

test("nothing is written through a link: files are replaced, folders of data refused", async () => {
	await using parent = await temporaryFolder();
	const [folder, elsewhere] = [path.join(parent.path, "data"), path.join(parent.path, "elsewhere")];
	mkdirSync(folder);
	mkdirSync(elsewhere);
	const precious = path.join(elsewhere, "precious");
	writeFileSync(precious, "as it was");
	for (const name of ["worker.js", "workerd.capnp"]) symlinkSync(precious, path.join(folder, name));
	await (await startServer({ port: 0, data: folder })).stop();
	expect(readFileSync(precious, "utf8")).toBe("as it was");

	const limits = path.join(folder, "objects/headgate-LimitObject");
	for (const link of [
		path.join(folder, "lock"),
		path.join(folder, "page"),
		limits,
		path.join(limits, "1.sqlite"),
		path.join(folder, "objects"),
	]) {
		rmSync(link, { recursive: true, force: true });
		symlinkSync(elsewhere, link);
		const error = await startServer({ port: 0, data: folder }).catch((reason: Error) => reason);
		expect(error, link).toBeInstanceOf(Error);
		expect((error as Error).message, link).toContain("is a link");
		rmSync(link);
		if (link === limits) mkdirSync(limits);
	}
	expect(globSync("*", { cwd: elsewhere })).toEqual(["precious"]);
	await (await startServer({ port: 0, data: folder })).stop();
});

test.each([
	[
		"a path with a file in it",
		(parent: string) => `${parent}/file/data`,
		"a part of its path is a file and not a folder. Move that away",
	],
	[
		"a name that is too long",
		(parent: string) => `${parent}/${"x".repeat(300)}`,
		"its path is longer than the system allows. Make it shorter",
	],
	["a link to itself", (parent: string) => `${parent}/loop`, "there is a link that leads to itself"],
])("%s is told in a sentence", async (_, data, sentence) => {
	await using parent = await temporaryFolder();
	writeFileSync(path.join(parent.path, "file"), "");
	symlinkSync(path.join(parent.path, "loop"), path.join(parent.path, "loop"));
	const said = await refused(data(parent.path));
	expect(said).toContain(sentence);
	expect(said).not.toMatch(/ENOTDIR|ENAMETOOLONG|ELOOP|EEXIST|ENOENT/);
});

// Node's own way to make folders with their parents goes round for ever there.
test.runIf(existsSync("/proc/self"))("a file system that takes no folders is told in a sentence", async () => {
	for (const data of ["/proc/headgate", "/proc/headgate/data"]) {
		expect(await refused(data)).toContain(
			`The data folder ${data} cannot be made: the file system there takes no folders`,
		);
	}
});

test.each([
	["EROFS", "it is on a file system that can only be read. Mount that for writing"],
	["ENOSPC", "the disk is full. Make room on it"],
	["EDQUOT", "the quota of this user on that disk is used up. Make room"],
	["EACCES", "this user has no right to write there. Take a user who has"],
	["EMFILE", "this process has too many files open"],
	["EBUSY", "EBUSY: as the system says. Mend that"],
])("%s while the folder is written is told in a sentence, with what to try", async (code, sentence) => {
	await using folder = await temporaryFolder();
	failAt(folder.path, 2, () => {
		throw Object.assign(new Error(`${code}: as the system says`), { code });
	});
	const error = await startServer({ port: 0, data: folder.path }).catch((reason: Error) => reason);
	heal();
	expect((error as Error).name).toBe("StartError");
	expect((error as Error).message).toContain(`The data folder ${folder.path} cannot be written: ${sentence}`);
	expect((error as Error).message).toContain("or choose another folder with --data.");
});

/** The databases of limits. */
const databases = (folder: string): string[] =>
	globSync("objects/headgate-LimitObject/*.sqlite", { cwd: folder })
		.filter((name) => !name.includes("metadata"))
		.sort();

test("files of names that never existed are gone after the next start; all others are as they were", async () => {
	await using folder = await temporaryFolder();
	const first = await startServer({ port: 0, data: folder.path });
	const one = new Caller(first.url);
	await one.limit("kept", 3);
	await one.take({ names: "kept", id: "held", leaseSeconds: 600 });
	await one.take({ names: "made-by-use", leaseSeconds: 600 });
	const known = databases(folder.path);
	for (let count = 0; count < 20; count += 1) {
		await one.take({ names: `never-${count}`, createIfMissing: false });
	}
	expect(databases(folder.path)).toHaveLength(known.length + 20);
	one.close();
	// Its log was not written back: what a limit knows is in a file beside an empty one.
	await first.kill();
	expect(known.map((name) => statSync(path.join(folder.path, name)).size)).toEqual([4096, 4096]);

	const damaged = path.join(folder.path, "objects/headgate-LimitObject", `${"0".repeat(64)}.sqlite`);
	writeFileSync(damaged, "");
	const second = await startServer({ port: 0, data: folder.path });
	expect(existsSync(damaged)).toBe(true);
	rmSync(damaged);
	expect(databases(folder.path)).toEqual(known);
	const two = new Caller(second.url);
	expect(await two.inspect("kept")).toMatchObject({ limit: 3, activeSlots: 1, leaseCount: 1 });
	expect((await two.inspect("made-by-use")).leaseCount).toBe(0);
	// A name that is made after it was swept is like any other.
	await two.limit("never-1", 7);
	expect(databases(folder.path)).toHaveLength(known.length + 1);
	// Written back and let go, as after a quiet while.
	await vi.waitFor(
		() => expect(globSync("objects/headgate-LimitObject/[0-9a-f]*-wal", { cwd: folder.path })).toEqual([]),
		EVICTED_MS,
	);
	two.close();
	await second.stop();
	const third = await startServer({ port: 0, data: folder.path });
	const three = new Caller(third.url);
	expect(await three.inspect("kept")).toMatchObject({ limit: 3, activeSlots: 1 });
	expect(await three.inspect("never-1")).toMatchObject({ limit: 7 });
	expect(databases(folder.path)).toHaveLength(known.length + 1);
	three.close();
	await third.stop();
});

test("thousands of files that hold nothing are gone; what one start leaves out, the next ones find", async () => {
	await using folder = await temporaryFolder();
	const server = await startServer({ port: 0, data: folder.path });
	const caller = new Caller(server.url);
	await caller.take({ names: "never", createIfMissing: false });
	caller.close();
	await server.stop();
	const [empty = ""] = databases(folder.path);
	const bytes = readFileSync(path.join(folder.path, empty));
	for (let count = 0; count < 10_000; count += 1) {
		const name = count.toString(16).padStart(64, "0");
		writeFileSync(path.join(folder.path, "objects/headgate-LimitObject", `${name}.sqlite`), bytes);
	}
	for (let left = databases(folder.path).length; left > 0; ) {
		await using program = run("start", ["--port", "0", "--data", folder.path]);
		await program.url;
		program.process.kill("SIGTERM");
		expect(await program.ended).toMatchObject({ code: 0 });
		// A start looks for 20 s, and then serves.
		const after = databases(folder.path).length;
		expect(after).toBeLessThan(left);
		left = after;
	}
});
