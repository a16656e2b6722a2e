/** Two Workers in two processes, as two of `wrangler dev` beside each other: what RPC keeps of an error, and what not. */

import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type TemporaryFolder, temporaryFolder } from "../support/temporary.ts";
import { root } from "./harness.ts";

const READY_MS = 50_000;

interface Dev {
	process: ChildProcess;
	url: string;
	/** What it has printed. */
	printed(): string;
}

let folder: TemporaryFolder;
let headgate: Dev;
let caller: Dev;

/** `wrangler dev`, which finds the others of its registry. */
function dev(config: string, ...more: string[]): Promise<Dev> {
	const wrangler = path.join(root, "node_modules", "wrangler", "bin", "wrangler.js");
	const args = [wrangler, "dev", "-c", path.join(root, config), "--port", "0", "--inspector-port", "0", ...more];
	const env = {
		...process.env,
		...{ WRANGLER_REGISTRY_PATH: path.join(folder.path, "registry"), WRANGLER_SEND_METRICS: "false", CI: "1" },
		CLOUDFLARE_CF_FETCH_ENABLED: "false",
	};
	// In a group of its own, for it starts others and does not end them when it is killed.
	const child = spawn(process.execPath, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"], detached: true });
	let text = "";
	return new Promise((resolve, reject) => {
		const late = setTimeout(() => reject(new Error(`Not ready: ${text}`)), READY_MS);
		for (const stream of [child.stdout, child.stderr]) {
			stream.setEncoding("utf8").on("data", (chunk: string) => {
				text += chunk;
				const port = /Ready on http:\/\/[^:]+:(\d+)/.exec(text)?.[1];
				if (!port) return;
				clearTimeout(late);
				resolve({ process: child, url: `http://127.0.0.1:${port}`, printed: () => text });
			});
		}
		child.once("close", () => reject(new Error(`It ended: ${text}`)));
	});
}

beforeAll(async () => {
	folder = await temporaryFolder();
	const state = path.join(folder.path, "state");
	headgate = await dev("wrangler.toml", "--persist-to", state, "--var", "HEADGATE_OPEN:true");
	caller = await dev("test/edge/caller/wrangler.toml");
	const connected = /env\.LIMITS \(\S+\)\s+Worker\s+local \[connected\]/;
	await vi.waitUntil(() => connected.test(caller.printed()), { timeout: READY_MS });
});

afterAll(async () => {
	for (const each of [caller, headgate]) {
		if (each?.process.pid === undefined || each.process.exitCode !== null) continue;
		const ended = new Promise((resolve) => each.process.once("close", resolve));
		process.kill(-each.process.pid, "SIGKILL");
		await ended;
	}
	await folder?.[Symbol.asyncDispose]();
});

test("a refusal of a binding in another process is told by refusalOf, name and problem", async () => {
	await fetch(`${headgate.url}/v1/limits/one`, {
		method: "PUT",
		headers: { "Content-Type": "application/json" },
		body: JSON.stringify({ limit: 1 }),
	});
	const answer = await fetch(`${caller.url}/refused?name=one`);
	const [enforced, ...refused] = (await answer.json()) as { refusal?: object }[];
	expect(enforced).toBe(true);
	const codes = ["denied", "denied", "exceeds_limit", "unknown_limit", "no_decay"];
	const told = codes.map((code, index) => ({
		name: index === 0 ? "TimeoutError" : "ConcurrencySlotAcquisitionError",
		problem: expect.objectContaining({ code, status: expect.any(Number), detail: expect.any(String) }),
	}));
	expect(refused.map(({ refusal }) => refusal)).toEqual(told);
});
