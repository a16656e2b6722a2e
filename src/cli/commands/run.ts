/** `run`: holds slots while a command runs. */

import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { constants, hostname } from "node:os";
import path from "node:path";
import type { Lease, Slots } from "../../client/index.ts";
import { BOUNDS } from "../../protocol.ts";
import type { Context } from "../context.ts";
import { systemErrorCode } from "../errors.ts";
import { CliError, EXIT, explain } from "../exit.ts";
import { counted, safe, span } from "../print.ts";

export interface RunOptions {
	limit: string[];
	occupy?: string[];
	wait?: number;
	lease?: number;
	holder?: string;
	strict?: boolean;
	create?: boolean;
	onLeaseLost: "end" | "continue";
	onError: "fail" | "run";
	grace: number;
	quiet?: boolean;
}

/** Signals that somebody may send to the command by sending them here. */
const PASSED_ON = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;
/** What a terminal sends to every process in the foreground by itself. */
const FROM_TERMINAL: readonly string[] = ["SIGINT", "SIGQUIT"];

/** Answers with the exit code. */
export async function run(context: Context, command: string[], options: RunOptions): Promise<number> {
	const [program = "", ...args] = command;
	const slots = slotsOf(options.limit, options.occupy ?? []);
	let child: ChildProcess | undefined;
	let received: NodeJS.Signals | undefined;
	const waiting = new AbortController();
	const onSignal = (signal: NodeJS.Signals): void => {
		received = signal;
		if (child === undefined) waiting.abort(signal);
		else if (!FROM_TERMINAL.includes(signal) || !inForeground()) child.kill(signal);
	};
	// They stay to the end: whatever comes, however often, the slots are given back before this program ends.
	for (const signal of PASSED_ON) process.on(signal, onSignal);

	let lease: Lease;
	try {
		lease = await acquire(context, slots, program, options, waiting.signal);
	} catch (error) {
		if (waiting.signal.aborted && received !== undefined) return endedBy(received);
		const known = explain(error, context.url);
		if (known === undefined || known.exitCode !== EXIT.refused) throw error;
		// 1 is what many commands end with; it shall not look as if this one had run.
		throw new CliError(known.message, EXIT.runRefused, known.hint);
	}
	try {
		if (received !== undefined) return endedBy(received);
		tellWhatIsNotEnforced(context, lease, options);
		child = spawn(program, args, { stdio: "inherit", env: { ...process.env, HEADGATE_LEASE: JSON.stringify(lease) } });
		return await outcome(context, child, lease, options);
	} finally {
		await lease[Symbol.asyncDispose]();
	}
}

async function acquire(
	context: Context,
	slots: Slots,
	program: string,
	options: RunOptions,
	signal: AbortSignal,
): Promise<Lease> {
	const progress = new Progress(context, Object.keys(slots), options.quiet === true);
	try {
		return await context.gate.acquire(slots, {
			signal,
			holder: options.holder ?? `${hostname()}:${process.pid} ${path.basename(program)}`.slice(0, BOUNDS.holderLength),
			timeoutSeconds: options.wait,
			leaseSeconds: options.lease,
			strict: options.strict,
			createIfMissing: options.create,
			onLeaseLost: options.onLeaseLost === "continue" ? "continue" : "abort",
			onError: options.onError === "run" ? "open" : "throw",
			onQueued: (position) => progress.place(position),
		});
	} finally {
		progress.end();
	}
}

/** Waits for the command, and ends it when the lease is lost. */
function outcome(context: Context, child: ChildProcess, lease: Lease, options: RunOptions): Promise<number> {
	return new Promise((resolve, reject) => {
		let lost = false;
		let last: NodeJS.Timeout | undefined;
		const onLost = (): void => {
			lost = true;
			const { reason } = lease.signal;
			context.warn(`${reason instanceof Error ? reason.message : "The lease was lost."} The command is ended.`);
			child.kill("SIGTERM");
			last = setTimeout(() => child.kill("SIGKILL"), options.grace * 1_000);
		};
		if (lease.signal.aborted) onLost();
		else lease.signal.addEventListener("abort", onLost);
		const done = (): void => {
			clearTimeout(last);
			lease.signal.removeEventListener("abort", onLost);
		};
		child.once("error", (error) => {
			// A signal that could not be passed on is no end.
			if (child.pid !== undefined) return context.warn("a signal could not be passed on", error);
			done();
			const code = systemErrorCode(error);
			const program = child.spawnfile;
			if (code === "ENOENT") reject(new CliError(`There is no command "${program}".`, EXIT.notFound));
			else if (code === undefined) reject(error);
			else reject(new CliError(`"${program}" cannot be executed: ${error.message}`, EXIT.notExecutable));
		});
		child.once("exit", (code, signal) => {
			done();
			if (lost) resolve(EXIT.leaseLost);
			else if (signal !== null) resolve(endedBy(signal));
			else resolve(code ?? EXIT.runRefused);
		});
	});
}

const endedBy = (signal: NodeJS.Signals): number => EXIT.signal + constants.signals[signal];

/**
 * Whether the terminal sends its signals to this process, and so to the command as well, which is in the same group:
 * to pass them on would be to press Ctrl-C twice, and many programs take that for "at once".
 */
function inForeground(): boolean {
	try {
		const stat = readFileSync("/proc/self/stat", "utf8");
		const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
		return group === foreground;
	} catch {
		// Other systems keep no such record; whoever has a terminal is taken to be in its foreground.
		return process.stdin.isTTY === true || process.stdout.isTTY === true || process.stderr.isTTY === true;
	}
}

/** Slots per limit: `--occupy 2` for each, `--occupy memory=4` for one. */
function slotsOf(limits: string[], occupy: string[]): Slots {
	let each = 1;
	const own = new Map<string, number>();
	for (const text of occupy) {
		const [, name, number = ""] = /^(?:(.*)=)?([^=]*)$/su.exec(text) ?? [];
		if (!/^[1-9]\d*$/.test(number) || Number(number) > BOUNDS.limit) {
			throw new CliError(`--occupy takes a whole number from 1, or name=number, and not "${text}".`, EXIT.usage);
		}
		if (name === undefined) each = Number(number);
		else if (!limits.includes(name)) {
			throw new CliError(
				`--occupy speaks of "${name}", which is not among the limits.`,
				EXIT.usage,
				`Add --limit ${name}.`,
			);
		} else own.set(name, Number(number));
	}
	return Object.fromEntries(limits.map((name) => [name, own.get(name) ?? each]));
}

function tellWhatIsNotEnforced(context: Context, lease: Lease, options: RunOptions): void {
	if (options.quiet) return;
	for (const { name, enforced, missing } of lease.limits) {
		if (enforced) continue;
		const why = missing ? "does not exist" : "is switched off, or nobody has configured it";
		context.warn(`"${safe(name)}" ${why}, so it holds nothing back; see: headgate inspect ${safe(name)}`);
	}
}

const FRAMES = [..."⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"];
const FRAME_MS = 100;

/** The place in line, on a terminal alone, on one line that goes when the wait is over. */
class Progress {
	readonly #context: Context;
	readonly #names: string;
	readonly #shown: boolean;
	readonly #startedAt = performance.now();
	#timer: NodeJS.Timeout | undefined;
	#position = 0;
	#frame = 0;

	constructor(context: Context, names: string[], quiet: boolean) {
		this.#context = context;
		this.#names = names.map(safe).join(", ");
		this.#shown = context.err.terminal && !quiet;
	}

	place(position: number): void {
		this.#position = position;
		if (!this.#shown) return;
		this.#timer ??= setInterval(() => this.#draw(), FRAME_MS);
		this.#draw();
	}

	end(): void {
		if (this.#timer === undefined) return;
		clearInterval(this.#timer);
		process.stderr.write("\r\x1b[K");
	}

	#draw(): void {
		const { columns } = this.#context.err;
		const frame = FRAMES[this.#frame++ % FRAMES.length] ?? "";
		const ahead = this.#position === 1 ? "next in line" : `${counted(this.#position - 1, "request")} ahead`;
		const text = `${ahead}, ${span(performance.now() - this.#startedAt)}, for ${this.#names}`;
		process.stderr.write(`\r${frame} ${[...text].slice(0, columns - 3).join("")}\x1b[K`);
	}
}
