/** The path of a newcomer, as README.md has it: from a clone to a request that is refused, in less than two minutes. */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { expect, onTestFinished, test, vi } from "vitest";
import { blocks } from "../support/markdown.ts";
import { root } from "../support/sources.ts";
import { temporaryFolder } from "../support/temporary.ts";

/** Ends a start that hangs. */
const READY_MS = 120_000;
const run = promisify(execFile);

test("from clone to a limited curl", async () => {
	await using folder = await temporaryFolder();
	const clone = path.join(folder.path, "headgate");
	const kept = Object.entries(process.env).filter(([name]) => !/^(npm_|HEADGATE_)/i.test(name));
	const env = { ...Object.fromEntries(kept), npm_config_loglevel: "error" };
	const startedAt = performance.now();
	await run("git", ["clone", "--quiet", "--depth", "1", `file://${root}`, clone]);
	const all = blocks(readFileSync(path.join(clone, "README.md"), "utf8"));
	const [begin, ask, ...rest] = all.filter(({ words }) => words.includes("newcomer"));
	expect(rest).toEqual([]);
	expect(begin?.code.trim()).toMatch(/^npm ci && npm start\b/);

	// The port of README.md may be taken here.
	const command = (begin?.code ?? "").replace("npm start", "npm start -- --port 0");
	const server: ChildProcess = spawn("bash", ["-c", command], { cwd: clone, env, detached: true });
	onTestFinished(() => {
		try {
			process.kill(-(server.pid ?? 0), "SIGTERM");
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
		}
	});
	let output = "";
	const collect = (chunk: Buffer): void => {
		output += chunk;
	};
	for (const stream of [server.stdout, server.stderr]) stream?.on("data", collect);
	const url = await vi.waitFor(
		() => /ready on (http\S+)/.exec(output)?.[1] ?? Promise.reject(new Error(`not ready: ${output}`)),
		{ timeout: READY_MS, interval: 200 },
	);
	const { stdout } = await run("bash", ["-euc", (ask?.code ?? "").replaceAll("http://127.0.0.1:8787", url)], { env });
	const seconds = (performance.now() - startedAt) / 1_000;
	console.log(`From clone to a limited curl: ${seconds.toFixed(0)} s.`);
	expect(stdout.trim().split(/\s+/).slice(-3)).toEqual(["200", "200", "429"]);
	const gone = new Promise((resolve) => server.once("close", resolve));
	process.kill(-(server.pid ?? 0), "SIGTERM");
	await gone;
});
