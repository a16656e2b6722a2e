/** `run`: holds slots while a command runs. */

import { hostname } from "node:os";
import path from "node:path";
import type { Lease, Slots } from "../../client/index.ts";
import { BOUNDS, type WaitingFor } from "../../protocol.ts";
import { endedBy, exitCodeOf, RunningCommand } from "../command.ts";
import type { Context } from "../context.ts";
import { CliError, EXIT, explain } from "../exit.ts";
import { PASSED_ON } from "../leash.ts";
import { draw } from "../output.ts";
import { counted, safe, span, word } from "../print.ts";
import { ignoredSignals, inheritedEnvironment } from "../signals.ts";

export interface RunOptions {
	limit: string[];
	occupy?: string[];
	wait?: number;
	lease?: number;
	key?: string;
	priority?: number;
	holder?: string;
	strict?: boolean;
	create?: boolean;
	onLeaseLost: "end" | "continue";
	onError: "fail" | "run";
	grace: number;
	quiet?: boolean;
	passToken?: boolean;
}

/** Answers with the exit code. */
export async function run(context: Context, words: string[], options: RunOptions): Promise<number> {
	const [program = "", ...args] = words;
	const slots = slotsOf(options.limit, options.occupy ?? []);
	const ignored = ignoredSignals();
	let command: RunningCommand | undefined;
	let received: NodeJS.Signals | undefined;
	const waiting = new AbortController();
	const onSignal = (signal: NodeJS.Signals): void => {
		if (ignored.has(signal)) return;
		received = signal;
		if (command === undefined) waiting.abort(signal);
		else command.pass(signal);
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
		await checkEnforced(context, lease, options);
		const env: NodeJS.ProcessEnv = { ...inheritedEnvironment(), HEADGATE_LEASE: JSON.stringify(lease) };
		// Who may call the service is this program's affair; a command has no need of it.
		// The secret of a server is no business of a command, whatever it is passed.
		delete env.HEADGATE_ADMIN_TOKEN;
		if (!options.passToken) delete env.HEADGATE_TOKEN;
		command = await RunningCommand.start(program, args, {
			...{ env, ignored, mark: lease.id, wanted: () => received === undefined },
			warn: (message, cause) => context.warn(message, cause),
		});
		// A signal that came too late to leave the line came before there was a command.
		if (command === undefined) return endedBy(received ?? "SIGTERM");
		return await outcome(context, command, lease, options);
	} finally {
		command?.close();
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
			key: options.key,
			priority: options.priority,
			strict: options.strict,
			createIfMissing: options.create,
			onLeaseLost: options.onLeaseLost === "continue" ? "continue" : "abort",
			onError: options.onError === "run" ? "open" : "throw",
			onQueued: (position, waitingFor) => progress.place(position, waitingFor),
		});
	} finally {
		progress.end();
	}
}

/** Waits for the command, and ends it when the lease is lost. */
async function outcome(context: Context, command: RunningCommand, lease: Lease, options: RunOptions): Promise<number> {
	let forget = (): void => undefined;
	const lost = new Promise<"lost">((resolve) => {
		const onLost = (): void => resolve("lost");
		if (lease.signal.aborted) onLost();
		lease.signal.addEventListener("abort", onLost);
		forget = () => lease.signal.removeEventListener("abort", onLost);
	});
	try {
		const end = await Promise.race([command.ended, lost]);
		if (end !== "lost") return exitCodeOf(end);
	} finally {
		forget();
	}
	const { reason } = lease.signal;
	context.warn(`${reason instanceof Error ? reason.message : "The lease was lost."} The command is ended.`);
	await command.destroy(options.grace * 1_000);
	return EXIT.leaseLost;
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

/** Limits that hold nothing back: told, and with `--strict` an error where it was not configured to be so. */
async function checkEnforced(context: Context, lease: Lease, options: RunOptions): Promise<void> {
	for (const { name, enforced, missing } of lease.limits) {
		if (enforced) continue;
		const shown = safe(name);
		if (!missing && (await context.gate.inspect(name)).origin !== "default") {
			if (!options.quiet) context.warn(`"${shown}" is switched off, so it holds nothing back`);
			continue;
		}
		const why = missing ? "does not exist" : "was configured by nobody";
		const hint = `Configure it: headgate configure ${word(name)} --limit N`;
		if (options.strict) throw new CliError(`"${shown}" ${why}.`, EXIT.runRefused, hint);
		if (!options.quiet) context.warn(`"${shown}" ${why}, so it holds nothing back. ${hint}`);
	}
}

const FRAMES = [..."⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"];
const FRAME_MS = 100;

/** How a wait may end, where it is not by a holder that gives its slots back. */
const REASONS: Record<WaitingFor["reason"], string> = {
	...{ slots: "", rate: "(slots come back by rate)", window: "(until its window has room)", paused: "(it is paused)" },
};

/** The place in line, on a terminal alone, on one line that goes when the wait is over. */
class Progress {
	readonly #context: Context;
	readonly #names: string;
	readonly #shown: boolean;
	readonly #startedAt = performance.now();
	#timer: NodeJS.Timeout | undefined;
	#position = 0;
	#waitingFor: WaitingFor | undefined;
	#frame = 0;

	constructor(context: Context, names: string[], quiet: boolean) {
		this.#context = context;
		this.#names = names.map(safe).join(", ");
		this.#shown = context.err.terminal && !quiet;
	}

	place(position: number, waitingFor: WaitingFor | undefined): void {
		this.#position = position;
		this.#waitingFor = waitingFor;
		if (!this.#shown) return;
		this.#timer ??= setInterval(() => this.#draw(), FRAME_MS);
		this.#draw();
	}

	end(): void {
		if (this.#timer === undefined) return;
		clearInterval(this.#timer);
		draw(process.stderr, "\r\x1b[K");
	}

	#draw(): void {
		const { columns } = this.#context.err;
		const frame = FRAMES[this.#frame++ % FRAMES.length] ?? "";
		const ahead = this.#position === 1 ? "next in line" : `${counted(this.#position - 1, "request")} ahead`;
		const why = this.#waitingFor ? ` ${REASONS[this.#waitingFor.reason]}` : "";
		const name = this.#waitingFor ? safe(this.#waitingFor.name) : this.#names;
		const text = `${ahead}, ${span(performance.now() - this.#startedAt)}, for ${name}${why}`;
		draw(process.stderr, `\r${frame} ${[...text].slice(0, columns - 3).join("")}\x1b[K`);
	}
}
