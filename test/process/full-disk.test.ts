/** A disk that is full while a server is killed and started again. It needs the right to mount one. */

import { execFileSync } from "node:child_process";
import { globSync, mkdirSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { run, runtimesOf } from "../support/start.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/temporary.ts";
import { Caller } from "./support.ts";

const PAGE = 4096;
const SOON_MS = 45_000;

let disk: TemporaryFolder;
let data: string;
beforeEach(async () => {
	disk = await temporaryFolder();
	execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m", "tmpfs", disk.path]);
	data = path.join(disk.path, "data");
	mkdirSync(data, { mode: 0o700 });
});
afterEach(async () => {
	execFileSync("umount", ["--lazy", disk.path]);
	await disk[Symbol.asyncDispose]();
});

/** Fills the disk to its last page, and then frees so many. */
function fill(free: number): void {
	const file = path.join(disk.path, "filler");
	for (let size = 8 * 1024 * 1024; size >= PAGE; ) {
		try {
			writeFileSync(file, Buffer.alloc(size), { flag: "a" });
		} catch {
			size = Math.floor(size / 2); // Full: what went in stays.
		}
	}
	truncateSync(file, Math.floor(statSync(file).size / PAGE) * PAGE - free * PAGE);
}

const start = () => run("start", ["--port", "0", "--data", data]);

test.each([0, 1, 2, 3, 4, 8, 16])(
	"killed, and started with %i free pages: never two runtimes, and no slot twice",
	async (free) => {
		await using first = start();
		const one = new Caller(await first.url);
		await one.limit("only", 1);
		await one.take({ names: "only", leaseSeconds: 600 });
		one.close();
		first.process.kill("SIGKILL");
		await first.ended;
		await vi.waitFor(() => expect(runtimesOf(data)).toEqual([]), SOON_MS);

		fill(free);
		await using second = start();
		const url = await second.url.catch(() => undefined);
		if (url === undefined) {
			const end = await second.ended;
			expect(end.stderr).toContain("the disk is full");
			expect(end.code).toBe(1);
			expect(runtimesOf(data)).toEqual([]);
		} else {
			expect(runtimesOf(data)).toHaveLength(1);
		}
		expect(globSync("**/*.new", { cwd: data })).toEqual([]);
		rmSync(path.join(disk.path, "filler"));

		await using third = start();
		const other = await third.url.catch(() => undefined);
		// It runs exactly when the one before it does not.
		expect(other === undefined).toBe(url !== undefined && second.process.exitCode === null);
		expect(runtimesOf(data)).toHaveLength(1);
		const caller = new Caller(other ?? url ?? "");
		expect((await caller.acquire({ names: "only" })).status).toBe(429);
		caller.close();
	},
);
