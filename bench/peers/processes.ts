/** Programs that are measured: started, weighed with all that they started themselves, and killed. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { cpuMs } from "../neighbours.ts";

/** Prefect's server, the slowest to be ready, takes up to fifteen on a busy machine. */
const READY_MS = 90_000;
const LINES_KEPT = 20;

const running = new Set<number>();
process.on("exit", () => {
	for (const pid of family([...running])) killed(pid);
});

export interface Started {
	readonly pid: number;
	readonly child: ChildProcess;
	/** What the line said that it is ready by. */
	readonly said: RegExpExecArray;
	/** `kill -9` for it and all that it started; resolves when it is gone. */
	kill(): Promise<void>;
}

/** Starts a program, and resolves with the first line that matches. */
export async function started(
	[program, ...args]: [string, ...string[]],
	ready: RegExp,
	env: Record<string, string> = {},
): Promise<Started> {
	const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...env } });
	const pid = child.pid;
	if (pid !== undefined) {
		running.add(pid);
		child.once("exit", () => running.delete(pid));
	}
	const lines: string[] = [];
	const said = await new Promise<RegExpExecArray>((resolve, reject) => {
		const fail = (how: string) => reject(new Error(`${program} ${args[0] ?? ""} ${how}:\n${lines.join("\n")}`));
		const late = setTimeout(() => {
			child.kill("SIGKILL");
			fail("was not ready in time");
		}, READY_MS);
		child.once("error", reject);
		child.once("exit", () => {
			clearTimeout(late);
			fail("ended");
		});
		for (const stream of [child.stdout, child.stderr]) {
			createInterface({ input: stream }).on("line", (line) => {
				lines.push(line);
				if (lines.length > LINES_KEPT) lines.shift();
				const match = ready.exec(line);
				if (match === null) return;
				clearTimeout(late);
				resolve(match);
			});
		}
	});
	return {
		...{ pid: pid as number, child, said },
		async kill() {
			if (child.exitCode !== null || child.signalCode !== null) return;
			const exited = once(child, "exit");
			for (const each of family([pid as number])) killed(each);
			await exited;
		},
	};
}

function killed(pid: number): void {
	try {
		process.kill(pid, "SIGKILL");
	} catch {
		// It ended by itself meanwhile.
	}
}

/** These processes and all that they started, as far as they live. */
export function family(roots: number[]): number[] {
	const parents = new Map<number, number>();
	for (const entry of readdirSync("/proc")) {
		if (!/^\d+$/.test(entry)) continue;
		try {
			const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
			parents.set(Number(entry), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
		} catch {
			// It ended meanwhile.
		}
	}
	const all = roots.filter((pid) => parents.has(pid));
	for (const pid of all) for (const [child, parent] of parents) if (parent === pid) all.push(child);
	return all;
}

/** What they have used of the processor, in milliseconds. */
export const cpuOf = (roots: number[]): number => family(roots).reduce((sum, pid) => sum + cpuMs(pid), 0);

/** What they have sent to a disk, in bytes. */
export const writtenBy = (roots: number[]): number =>
	family(roots).reduce(
		(sum, pid) => sum + Number(/^write_bytes: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, "utf8"))?.[1]),
		0,
	);

export async function freePort(): Promise<number> {
	const server = createServer().listen(0, "127.0.0.1");
	await once(server, "listening");
	const { port } = server.address() as { port: number };
	server.close();
	await once(server, "close");
	return port;
}
