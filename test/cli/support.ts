/** The command `headgate` as a user has it: in a process of its own, in a pipe or in a terminal. */

import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import { inject, onTestFinished, vi } from "vitest";
import { Headgate } from "../../src/client/index.ts";
import "../support/provided.ts";
import type { Ended } from "../support/start.ts";

export const main = inject("headgate");
/** Enough for a process to start and to answer on a loaded machine. */
export const SOON_MS = 45_000;

export interface Running {
	process: ChildProcess;
	ended: Promise<Ended>;
	/** What was printed until now. */
	stdout(): string;
	stderr(): string;
}

/** No variable of whoever runs the tests, so that a server of theirs is never asked. */
export function environment(env: Record<string, string> = {}): Record<string, string | undefined> {
	const { HEADGATE_URL: _, HEADGATE_TOKEN: __, HEADGATE_TOKENS: ___, NO_COLOR: ____, ...inherited } = process.env;
	return { ...inherited, TERM: "xterm-256color", ...env };
}

/** Starts it with pipes; one that still runs at the end of the test is killed. */
export function begin(args: string[], env: Record<string, string> = {}, input?: string): Running {
	return watched(process.execPath, [main, ...args], env, input);
}

/** In a session of its own, as without any terminal; its process leads a group. */
export const beginApart = (program: string, args: string[], env: Record<string, string> = {}): Running =>
	watched(program, args, env, undefined, true);

/** The same through a shell: `headgate` stands for the command. */
export function shell(line: string, env: Record<string, string> = {}): Promise<Ended> {
	const script = `headgate() { "${process.execPath}" "${main}" "$@"; }\n${line}`;
	return watched("bash", ["-c", script], env).ended;
}

function watched(
	program: string,
	args: string[],
	env: Record<string, string>,
	input?: string,
	detached = false,
): Running {
	const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"], env: environment(env), detached });
	onTestFinished(() => void child.kill("SIGKILL"));
	child.stdin.on("error", () => undefined);
	child.stdin.end(input ?? "");
	let stdout = "";
	let stderr = "";
	child.stdout.setEncoding("utf8").on("data", (chunk) => {
		stdout += chunk;
	});
	child.stderr.setEncoding("utf8").on("data", (chunk) => {
		stderr += chunk;
	});
	const ended = new Promise<Ended>((resolve, reject) => {
		child.once("error", reject);
		child.once("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
	});
	return { process: child, ended, stdout: () => stdout, stderr: () => stderr };
}

/** Runs it to its end. */
export const headgate = (args: string[], env: Record<string, string> = {}, input?: string): Promise<Ended> =>
	begin(args, env, input).ended;

export interface Terminal {
	/** Everything that was written to the terminal. */
	output(): string;
	send(text: string): void;
	resize(columns: number, rows: number): void;
	/** Closes the terminal, as the cross of its window does. */
	hangUp(): void;
	/** Waits until the terminal has shown this. */
	shows(text: string | RegExp): Promise<void>;
	ended: Promise<{ code?: number; signal?: number }>;
}

/** Runs it in a pseudo-terminal of this size, whose keys the test presses. */
export const terminal = (args: string[], env: Record<string, string> = {}, columns = 100, rows = 24): Terminal =>
	inTerminal([process.execPath, main, ...args], env, columns, rows);

/** The same with any program. */
export function inTerminal(command: string[], env: Record<string, string> = {}, columns = 100, rows = 24): Terminal {
	const driver = path.join(import.meta.dirname, "terminal.py");
	const child = spawn("python3", [driver, String(columns), String(rows), ...command], {
		stdio: ["pipe", "pipe", "inherit"],
		env: environment(env),
	});
	onTestFinished(() => void child.kill("SIGKILL"));
	let output = "";
	let rest = "";
	const ended = new Promise<{ code?: number; signal?: number }>((resolve, reject) => {
		child.once("error", reject);
		child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
			const lines = (rest + chunk).split("\n");
			rest = lines.pop() ?? "";
			for (const line of lines) {
				const told = JSON.parse(line);
				if (told.output === undefined) resolve(told);
				else output += told.output;
			}
		});
		child.once("close", () => reject(new Error(`the terminal broke: ${output}`)));
	});
	ended.catch(() => undefined);
	const order = (what: object): void => void child.stdin.write(`${JSON.stringify(what)}\n`);
	return {
		output: () => output,
		send: (text) => order({ send: text }),
		hangUp: () => void child.kill("SIGKILL"),
		resize: (width, height) => order({ resize: [width, height] }),
		shows: (text) =>
			vi.waitFor(() => {
				const shown = typeof text === "string" ? output.includes(text) : text.test(output);
				if (!shown) throw new Error(`the terminal did not show ${text}, but: ${output}`);
			}, SOON_MS),
		ended,
	};
}

export const CTRL_C = "\x03";

/** Slots that are taken, and requests that wait. */
export async function standing(url: string, name: string): Promise<{ held: number; waiting: number }> {
	const { activeSlots, waitingCount } = await new Headgate({ url }).inspect(name);
	return { held: activeSlots, waiting: waitingCount };
}

export async function until(url: string, name: string, wanted: { held?: number; waiting?: number }): Promise<void> {
	await vi.waitFor(
		async () => {
			const now = await standing(url, name);
			for (const [key, value] of Object.entries(wanted)) {
				if (now[key as "held"] !== value) throw new Error(`${name} has ${JSON.stringify(now)}`);
			}
		},
		{ timeout: SOON_MS, interval: 50 },
	);
}

let count = 0;
export const newName = (): string => `cli-${process.pid}-${++count}`;
