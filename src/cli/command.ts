/** The command that `run` holds slots for: its start, the signals that it gets, and its certain end. */

import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { systemErrorCode } from "./errors.ts";
import { CliError, EXIT } from "./exit.ts";
import { JOB_CONTROL, Leash } from "./leash.ts";
import { hasTerminal } from "./signals.ts";

/**
 * So long after a signal it is decided whether the command got it as well: who signals a group reaches its members one
 * after the other, and `timeout` signals twice. Of one kind within this time there is one, as while it is pending.
 */
const SETTLE_MS = 50;
/** How often what is left of an ended command is counted. */
const LOOK_MS = 50;
/** A command that does not stand still so long after SIGTSTP goes on; some clear up their screen first. */
const STOPPING_MS = 2_000;
/** What is not gone so long after SIGKILL hangs in the kernel. */
const KILLED_MS = 5_000;

/** How the command ended: by itself, or by a signal. */
export interface CommandEnd {
	code: number | null;
	signal: NodeJS.Signals | null;
}

export interface CommandOptions {
	env: NodeJS.ProcessEnv;
	/** A text that is in `env`, and in the environment of nothing else. */
	mark: string;
	/** Signals that it is to ignore from the start. */
	ignored: ReadonlySet<NodeJS.Signals>;
	/** Asked last before the start. */
	wanted: () => boolean;
	warn: (message: string, cause?: unknown) => void;
}

export class RunningCommand {
	/** Rejects with a `CliError` when there is no such command, or it cannot be executed. */
	readonly ended: Promise<CommandEnd>;
	readonly #child: ChildProcess;
	readonly #leash: Leash | undefined;
	/** It leads a session and a group of its own; otherwise it is in ours, and in the terminal's foreground with us. */
	readonly #own: boolean;
	readonly #options: CommandOptions;
	readonly #pending = new Set<NodeJS.Signals>();
	readonly #onJobControl = (signal: NodeJS.Signals): void => this.pass(signal);

	/**
	 * In a terminal the command stays in the group that its shell made, with the other commands of its pipeline: the
	 * keyboard, Ctrl-C, Ctrl-Z and `fg` are the shell's to give. Anywhere else it gets a session of its own. Undefined
	 * when it was not wanted any more.
	 */
	static async start(program: string, args: string[], options: CommandOptions): Promise<RunningCommand | undefined> {
		const own = !hasTerminal();
		const leash = await Leash.start(options.mark, own, without(options.env, "HEADGATE_LEASE"));
		if (options.wanted()) return new RunningCommand(program, args, options, own, leash);
		leash?.close();
		return undefined;
	}

	private constructor(
		program: string,
		args: string[],
		options: CommandOptions,
		own: boolean,
		leash: Leash | undefined,
	) {
		this.#options = options;
		this.#own = own;
		this.#leash = leash;
		// Node gives a child every signal's usual effect; only a shell can give it another. Without need there is none,
		// because a shell drops variables whose names it does not like.
		const traps = [...options.ignored].map((signal) => `trap '' ${signal.slice(3)}; `).join("");
		const [file, words] = traps === "" ? [program, args] : ["sh", ["-c", `${traps}exec "$0" "$@"`, program, ...args]];
		this.#child = spawn(file, words, { stdio: "inherit", env: options.env, detached: own });
		if (this.#child.pid !== undefined) leash?.watch(this.#child.pid);
		this.ended = this.#end();
		for (const signal of JOB_CONTROL) process.on(signal, this.#onJobControl);
	}

	/** Passes a signal on that this process got, unless the command got it from the same hand. */
	pass(signal: NodeJS.Signals): void {
		if (this.#options.ignored.has(signal) || this.#pending.has(signal)) return;
		this.#pending.add(signal);
		const since = performance.now() - SETTLE_MS;
		setTimeout(async () => {
			const reached = (await this.#leash?.reached(signal, since)) === true;
			this.#pending.delete(signal);
			if (!reached) await this.#passOn(signal);
			if (signal === "SIGTSTP") await this.#stopWithIt();
		}, SETTLE_MS);
	}

	async #passOn(signal: NodeJS.Signals): Promise<void> {
		if (this.#own || !(await this.#leash?.pass(signal))) this.#send(signal);
	}

	/**
	 * Stops this process once the command is stopped, so that its shell sees a job that stands still. A command that
	 * does not mind goes on, and so does the renewing of its lease.
	 */
	async #stopWithIt(): Promise<void> {
		for (const startedAt = performance.now(); performance.now() - startedAt < STOPPING_MS; await pause(LOOK_MS)) {
			if (await this.#leash?.stopped()) return void process.kill(process.pid, "SIGSTOP");
		}
	}

	/** SIGTERM, and SIGKILL after the grace, until nothing of it is left. */
	async destroy(graceMs: number): Promise<void> {
		const leash = this.#leash;
		if (leash === undefined) {
			this.#send("SIGTERM");
			const last = setTimeout(() => this.#send("SIGKILL"), graceMs);
			await this.ended;
			clearTimeout(last);
			return;
		}
		const startedAt = performance.now();
		while ((await leash.end()) > 0 && performance.now() - startedAt < graceMs) await pause(LOOK_MS);
		const killedAt = performance.now();
		while ((await leash.kill()) > 0) {
			if (performance.now() - killedAt > KILLED_MS) {
				this.#options.warn("a process of the command does not end, not even by SIGKILL");
				return;
			}
			await pause(LOOK_MS);
		}
		// For a leash that was killed itself.
		this.#send("SIGKILL");
		await this.ended;
	}

	close(): void {
		for (const signal of JOB_CONTROL) process.off(signal, this.#onJobControl);
		this.#leash?.close();
	}

	#send(signal: NodeJS.Signals): void {
		const { pid, exitCode, signalCode } = this.#child;
		// Once it is reaped its number may be another process's.
		if (pid === undefined || exitCode !== null || signalCode !== null) return;
		if (!this.#own) return void this.#child.kill(signal);
		try {
			// A group without a parent in its session is not stopped by SIGTSTP.
			process.kill(-pid, signal === "SIGTSTP" ? "SIGSTOP" : signal);
		} catch (error) {
			if (systemErrorCode(error) !== "ESRCH") this.#options.warn("a signal could not be passed on", error);
		}
	}

	#end(): Promise<CommandEnd> {
		const child = this.#child;
		return new Promise((resolve, reject) => {
			child.once("error", (error) => {
				// A signal that could not be passed on is no end.
				if (child.pid !== undefined) return this.#options.warn("a signal could not be passed on", error);
				const code = systemErrorCode(error);
				const program = child.spawnfile;
				if (code === "ENOENT") reject(new CliError(`There is no command "${program}".`, EXIT.notFound));
				else if (code === undefined) reject(error);
				else reject(new CliError(`"${program}" cannot be executed: ${error.message}`, EXIT.notExecutable));
			});
			child.once("exit", (code, signal) => {
				this.#leash?.commandEnded();
				resolve({ code, signal });
			});
		});
	}
}

export const exitCodeOf = ({ code, signal }: CommandEnd): number =>
	signal === null ? (code ?? EXIT.runRefused) : endedBy(signal);

export const endedBy = (signal: NodeJS.Signals): number => EXIT.signal + constants.signals[signal];

function without(env: NodeJS.ProcessEnv, name: string): NodeJS.ProcessEnv {
	const { [name]: _, ...others } = env;
	return others;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
