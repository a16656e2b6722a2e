/** Promise 1 from below: one runtime on a folder, whatever fails, dies or stands still meanwhile. */

import { spawn } from "node:child_process";
import { globSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test, vi } from "vitest";
import { lockFolder } from "../../src/cli/lock.ts";
import { failAt, heal } from "../support/faults.ts";
import { startServer } from "../support/server.ts";
import { isRunning, processesOf, run, runtimePid, runtimesOf } from "../support/start.ts";
import { temporaryFolder } from "../support/temporary.ts";
import { Caller } from "./support.ts";

/** How long an end may take on a busy machine. */
const SOON_MS = 45_000;
const IN_USE = "in use by another Headgate server";

const records = (folder: string): string[] => globSync(["server-*", "*.new", "**/*.new"], { cwd: folder });

/** What the system says of a call that it refuses. */
function full(call: string): never {
	throw Object.assign(new Error(`ENOSPC: no space left on device, ${call}`), { code: "ENOSPC" });
}

/** Writes of one start: on a new folder, and on one that has been used. */
async function writesOfAStart(folder: string): Promise<number> {
	failAt(folder, 0, full);
	const server = await startServer({ port: 0, data: folder });
	const count = heal();
	await server.stop();
	return count;
}

test.each(["a new", "a used"])(
	"whichever write of a start on %s folder fails, nothing runs and nothing is left",
	async (which) => {
		await using parent = await temporaryFolder();
		const folder = path.join(parent.path, "data");
		const writes = await writesOfAStart(folder);
		const used = which === "a new" ? writes : await writesOfAStart(folder);
		let failed = 0;
		for (let at = 1; at <= used; at += 1) {
			if (which === "a new") rmSync(folder, { recursive: true, force: true });
			failAt(folder, at, full);
			const started = await startServer({ port: 0, data: folder }).catch((error: Error) => error);
			heal();
			if (started instanceof Error) {
				failed += 1;
				expect(started.message, `write ${at}`).toMatch(
					/^The data folder .* cannot be (made|written): the disk is full\./,
				);
				expect(processesOf(folder), `write ${at}`).toEqual([]);
				// The record itself may be what could not be removed.
				expect(
					records(folder).filter((name) => name.endsWith(".new")),
					`write ${at}`,
				).toEqual([]);
			} else {
				await started.stop();
			}
		}
		console.log(`${which} folder: ${failed} of ${used} writes end a start`);
		expect(failed).toBeGreaterThan(3);
		const server = await startServer({ port: 0, data: folder });
		expect(runtimesOf(folder)).toEqual([server.pid]);
		await server.stop();
		expect(records(folder)).toEqual([]);
	},
);

test("a server that is killed at any of its writes leaves nothing that runs, and none that holds up the next", async () => {
	await using folder = await temporaryFolder();
	const writes = await writesOfAStart(folder.path);
	// Those after the runtime was begun are the last ones; each of the others is like its neighbours.
	for (const at of [1, 2, 3, Math.ceil(writes / 2), writes - 3, writes - 2, writes - 1, writes]) {
		const faults = path.resolve(import.meta.dirname, "../support/faults.ts");
		await using program = run("start", ["--port", "0", "--data", folder.path], {
			NODE_OPTIONS: `--import=${faults}`,
			HEADGATE_TEST_DIES_AT: String(at),
			HEADGATE_TEST_DIES_IN: folder.path,
		});
		await Promise.race([program.ended, program.url.catch(() => undefined)]);
		program.process.kill("SIGKILL");
		await program.ended;
		await vi.waitFor(() => expect(processesOf(folder.path)).toEqual([]), SOON_MS);
	}
	const server = await startServer({ port: 0, data: folder.path });
	expect(records(folder.path)).toHaveLength(1);
	await server.stop();
});

test("a runtime that cannot be recorded was never started", async () => {
	await using folder = await temporaryFolder();
	const writes = await writesOfAStart(folder.path);
	const used = await writesOfAStart(folder.path);
	expect(used).toBeLessThanOrEqual(writes);
	const started: number[] = [];
	// The record of the runtime is written aside and moved into place: the last two writes before it serves.
	for (const at of [used - 1, used]) {
		failAt(folder.path, at, (call) => {
			// Time enough for one that does not wait to be told.
			Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
			started.push(...runtimesOf(folder.path));
			full(call);
		});
		await expect(startServer({ port: 0, data: folder.path })).rejects.toThrow("the disk is full");
		heal();
		expect(processesOf(folder.path)).toEqual([]);
		expect(records(folder.path)).toEqual([]);
	}
	expect(started).toEqual([]);
});

test("a runtime that ends slowly keeps the folder until it has ended", async () => {
	await using folder = await temporaryFolder();
	const server = await startServer({ port: 0, data: folder.path });
	const caller = new Caller(server.url);
	try {
		await caller.limit("one", 1);
		await caller.take({ names: "one", leaseSeconds: 600 });
		const waiting = caller.stream({ names: "one" });
		await waiting.queued;
		// It takes no new connections, and waits for those it has.
		process.kill(server.pid, "SIGTERM");
		await expect(startServer({ port: 0, data: folder.path })).rejects.toThrow(IN_USE);
		expect(runtimesOf(folder.path)).toEqual([server.pid]);
	} finally {
		caller.close();
		await server.stop();
	}
	expect(records(folder.path)).toEqual([]);
});

test("a server that stands still keeps its folder", async () => {
	await using folder = await temporaryFolder();
	await using program = run("start", ["--port", "0", "--data", folder.path]);
	const url = await program.url;
	program.process.kill("SIGSTOP");
	await expect(startServer({ port: 0, data: folder.path })).rejects.toThrow(IN_USE);
	expect((await fetch(`${url}/health`)).status).toBe(200);
	program.process.kill("SIGCONT");
	process.kill(runtimePid(folder.path), "SIGSTOP");
	await expect(startServer({ port: 0, data: folder.path })).rejects.toThrow(IN_USE);
	program.process.kill("SIGKILL");
	await program.ended;
	await vi.waitFor(() => expect(processesOf(folder.path)).toEqual([]), SOON_MS);
	await (await startServer({ port: 0, data: folder.path })).stop();
});

test("a runtime without its server and its watcher keeps the folder", async () => {
	await using folder = await temporaryFolder();
	await using program = run("start", ["--port", "0", "--data", folder.path]);
	await program.url;
	const runtime = runtimePid(folder.path);
	for (const pid of processesOf(folder.path)) {
		if (pid !== runtime && pid !== program.process.pid) process.kill(pid, "SIGKILL");
	}
	program.process.kill("SIGKILL");
	await program.ended;
	try {
		await expect(startServer({ port: 0, data: folder.path })).rejects.toThrow(`${IN_USE} (process ${runtime})`);
	} finally {
		process.kill(runtime, "SIGKILL");
	}
	await vi.waitFor(() => expect(isRunning(runtime)).toBe(false), SOON_MS);
	await (await startServer({ port: 0, data: folder.path })).stop();
});

test("what an earlier process left half written is removed; a record of one that lives is not", async () => {
	await using folder = await temporaryFolder();
	const other = spawn("sleep", ["60"]);
	try {
		const kept = `server-${other.pid}-left.lock.1.new`;
		for (const name of ["server-4194305-left.lock.1.new", "worker.js.1.new", "workerd.capnp.1.new", kept]) {
			writeFileSync(path.join(folder.path, name), "{");
		}
		await (await startServer({ port: 0, data: folder.path })).stop();
		expect(records(folder.path)).toEqual([kept]);
	} finally {
		other.kill("SIGKILL");
	}
});

// Where the system has no `flock`, the records alone have to do.
test.runIf(readdirSync("/usr/bin").includes("flock"))(
	"a server whose record was deleted keeps its folder",
	async () => {
		await using folder = await temporaryFolder();
		await using program = run("start", ["--port", "0", "--data", folder.path]);
		const url = await program.url;
		const runtime = runtimePid(folder.path);
		for (const name of records(folder.path)) rmSync(path.join(folder.path, name));
		await expect(startServer({ port: 0, data: folder.path })).rejects.toThrow("that left no record in it");
		expect((await fetch(`${url}/health`)).status).toBe(200);
		// The runtime holds it by itself, whatever becomes of the server and of its watcher.
		for (const pid of processesOf(folder.path)) if (pid !== runtime) process.kill(pid, "SIGKILL");
		await program.ended;
		try {
			await expect(lockFolder(folder.path)).rejects.toThrow("that left no record in it");
			expect(runtimesOf(folder.path)).toEqual([runtime]);
		} finally {
			process.kill(runtime, "SIGKILL");
		}
		await vi.waitFor(() => expect(isRunning(runtime)).toBe(false), SOON_MS);
		(await lockFolder(folder.path)).release();
		expect(records(folder.path)).toEqual([]);
	},
);
