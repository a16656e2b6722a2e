/** What the program ends with, and how an error becomes a message and an exit code. */

import {
	type HeadgateError,
	isHeadgateError,
	isLeaseLostError,
	isTimeoutError,
	isUnreachableError,
} from "../client/index.ts";
import { StartError, systemErrorCode } from "./errors.ts";
import { word } from "./print.ts";

/** Exit codes. Those from 64 on are named in `sysexits.h`; 125 to 127 are those of `env`, `nice` and `timeout`. */
export const EXIT = {
	ok: 0,
	/** The service refused, or what was asked for is not so. */
	refused: 1,
	/** Called wrongly: unknown commands, options and values, and files that cannot be understood. */
	usage: 2,
	/** A file, standard input or a name that is no UTF-8. */
	data: 65,
	/** The service is out of reach, or something else answers there. */
	unreachable: 69,
	/** `run`: no slot in time. */
	noSlot: 75,
	/** The token is missing, unknown, or does not allow this. */
	noPermission: 77,
	/** `run`: the lease was lost, and the command was ended. */
	leaseLost: 79,
	/** `run`: refused before the command was started, for good. */
	runRefused: 125,
	/** `run`: the command cannot be executed. */
	notExecutable: 126,
	/** `run`: the command was not found. */
	notFound: 127,
	/** Added to the number of the signal that ended it. */
	signal: 128,
} as const;

/** An end that its user can do something about; shown as it is, without a stack. */
export class CliError extends Error {
	override readonly name = "CliError";
	readonly exitCode: number;
	/** What to try next. */
	readonly hint: string | undefined;

	constructor(message: string, exitCode: number = EXIT.refused, hint?: string) {
		super(message);
		this.exitCode = exitCode;
		this.hint = hint;
	}
}

/** Ctrl-C at a question. */
export class Interrupted extends CliError {
	constructor(message = "Interrupted: nothing was changed.") {
		super(message, EXIT.signal + 2);
	}
}

/** What an error says to the person at the terminal; undefined: it is a bug, and its stack is of use. */
export function explain(error: unknown, url: string): CliError | undefined {
	if (error instanceof CliError) return error;
	if (error instanceof StartError) return new CliError(error.message, error.exitCode);
	if (isUnreachableError(error)) {
		const local = /^https?:\/\/(127\.|localhost|\[::1\])/.test(url);
		const hint = local
			? "Start a server with `headgate start`, or say where one is with --url or HEADGATE_URL."
			: "Check the address (--url or HEADGATE_URL); `headgate doctor` looks closer.";
		return new CliError(error.message, EXIT.unreachable, hint);
	}
	if (isTimeoutError(error)) return new CliError(error.message, EXIT.noSlot, "Wait longer with --wait.");
	if (isHeadgateError(error)) return explainProblem(error, url);
	if (isLeaseLostError(error)) return new CliError(error.message, EXIT.leaseLost);
	const code = systemErrorCode(error);
	if (code !== undefined && error instanceof Error) return new CliError(error.message, EXIT.usage);
	return undefined;
}

/** What a service advises its callers to send is no advice to an operator who types commands. */
const withoutHttp = (detail: string): string =>
	detail.replace(/[:;,] [^:;,]*,? with (?:PUT|POST|PATCH|DELETE) \/.*$/, ".");

function howToConfigure(names: string[]): string {
	const shown = "`headgate ls` shows the limits there are.";
	return `${shown} To make one: headgate configure ${word(names[0] ?? "NAME")} --limit N`;
}

function explainProblem(error: HeadgateError, url: string): CliError {
	const { problem } = error;
	const text =
		problem.errors?.map(({ field, message }) => `${field}: ${message}`).join("; ") || withoutHttp(problem.detail);
	if (problem.detail.startsWith("Not an answer of Headgate")) {
		const message = `${url} answered ${problem.status}, and it is not Headgate: ${problem.detail.split(": ").slice(1).join(": ").slice(0, 80)}`;
		return new CliError(message, EXIT.unreachable, "Check the address: --url or HEADGATE_URL.");
	}
	switch (problem.code) {
		case "unauthorized":
			return new CliError(
				`The server does not know this token, or was sent none. It says: ${text}`,
				EXIT.noPermission,
				"Give a token with HEADGATE_TOKEN (or --token); `headgate token new` makes one.",
			);
		case "forbidden":
			return new CliError(text, EXIT.noPermission, "`headgate doctor` shows what your token allows.");
		case "unknown_limit":
			return new CliError(text, EXIT.refused, howToConfigure(problem["violated-policies"] ?? []));
		case "unknown_policy":
			return new CliError(text, EXIT.refused, "`headgate policies` shows the policies there are.");
		case "not_found": {
			const message = `${url} is not where Headgate's calls are: ${text}`;
			return new CliError(message, EXIT.unreachable, "Check the address: --url or HEADGATE_URL.");
		}
		case "queue_full":
		case "too_many_waiters":
			return new CliError(text, EXIT.noSlot, "Try again later.");
		case "denied":
			return new CliError(text, EXIT.noSlot, "Wait longer with --wait.");
		default:
			return new CliError(text);
	}
}
