/** `headgate start` as a user has it: the program in a process of its own. */

import { type ChildProcess, spawn } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import path from "node:path";
import { inject, onTestFinished } from "vitest";
import "./provided.ts";

export interface Ended {
	code: number | null;
	signal: NodeJS.Signals | null;
	stdout: string;
	stderr: string;
}

export interface Program {
	process: ChildProcess;
	/** The server's address, once it says that it is ready; rejects when it ends instead. */
	url: Promise<string>;
	/** What it has printed there so far. */
	stdout(): string;
	stderr(): string;
	ended: Promise<Ended>;
}

/** Under `launcher`, or by itself: runs `headgate start` or `headgate token new`; one that still runs at the end of `await using`, or of the test, is killed. */
export function run(
	program: "start" | "token",
	args: string[],
	env: Record<string, string> = {},
	launcher: string[] = [],
): Program & AsyncDisposable {
	const { HEADGATE_TOKENS: _, HEADGATE_CORS_ORIGINS: __, ...inherited } = process.env;
	const words = program === "token" ? ["token", "new"] : [program];
	const [command = "", ...rest] = [...launcher, process.execPath, inject("headgate"), ...words, ...args];
	const child = spawn(command, rest, {
		stdio: ["ignore", "pipe", "pipe"],
		env: { ...inherited, ...env },
	});
	// A test that runs out of time is abandoned where it stands, and `await using` with it.
	onTestFinished(() => void child.kill("SIGKILL"));
	let stdout = "";
	let stderr = "";
	const ended = new Promise<Ended>((resolve, reject) => {
		child.once("error", reject);
		child.once("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
	});
	const url = new Promise<string>((resolve, reject) => {
		child.stdout.setEncoding("utf8").on("data", (chunk) => {
			stdout += chunk;
			const ready = /ready on (http\S+)/.exec(stdout);
			if (ready?.[1] !== undefined) resolve(ready[1]);
		});
		child.stderr.setEncoding("utf8").on("data", (chunk) => {
			stderr += chunk;
		});
		ended.then((end) => reject(new Error(`${program} ended without being ready: ${JSON.stringify(end)}`)), reject);
	});
	// A test that expects a refusal does not look at the address.
	url.catch(() => undefined);
	return {
		process: child,
		url,
		stdout: () => stdout,
		stderr: () => stderr,
		ended,
		async [Symbol.asyncDispose]() {
			child.kill("SIGKILL");
			await ended;
		},
	};
}

/** The process of workerd under the server that has this data folder. */
export function runtimePid(data: string): number {
	const locks = globSync("server-*.lock", { cwd: data });
	if (locks[0] === undefined || locks.length > 1) throw new Error(`${locks.length} locks in ${data} instead of one`);
	return JSON.parse(readFileSync(path.join(data, locks[0]), "utf8")).runtime.pid;
}

/** Whether a process is there and has not ended; one that nobody has reaped yet has ended. */
export function isRunning(pid: number): boolean {
	try {
		process.kill(pid, 0);
	} catch (error) {
		if (error instanceof Error && "code" in error && error.code === "ESRCH") return false;
		throw error;
	}
	const states = globSync(`/proc/${pid}/stat`).map((file) => readFileSync(file, "utf8"));
	return !states.some((stat) => stat.slice(stat.lastIndexOf(")")).startsWith(") Z"));
}

/** Processes whose command speaks of this folder. */
export function processesOf(data: string): number[] {
	return globSync("/proc/[0-9]*/cmdline").flatMap((file) => {
		const pid = Number(file.split("/")[2]);
		return pid !== process.pid && commandOf(file).includes(data) && isRunning(pid) ? [pid] : [];
	});
}

/** Those of them that are workerd, and not a shell that watches one. */
export const runtimesOf = (data: string): number[] =>
	processesOf(data).filter((pid) => commandOf(`/proc/${pid}/cmdline`).split("\0")[0]?.endsWith("workerd"));

function commandOf(file: string): string {
	try {
		return readFileSync(file, "utf8");
	} catch {
		return ""; // It has ended meanwhile.
	}
}
