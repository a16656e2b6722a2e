/** What every command has: which server, how to print, whom to ask. */

import { createInterface } from "node:readline/promises";
import { Headgate } from "../client/index.ts";
import { Transport } from "../client/transport.ts";
import { CliError, EXIT, Interrupted } from "./exit.ts";
import { write, writeSource } from "./output.ts";
import { type Screen, safe, screenOf } from "./print.ts";

/** Options that every command which speaks to a server takes. */
export interface ServerOptions {
	url?: string;
	token?: string;
	json?: boolean;
	color?: boolean;
}

export const LOCAL_URL = "http://127.0.0.1:8787";

export class Context {
	readonly url: string;
	readonly token: string | undefined;
	readonly json: boolean;
	/** Standard output. */
	readonly out: Screen;
	/** Standard error. */
	readonly err: Screen;
	#gate: Headgate | undefined;

	constructor(options: ServerOptions) {
		// An empty variable is what `HEADGATE_URL=$UNSET` leaves, so it counts as absent.
		this.url = options.url ?? (process.env.HEADGATE_URL || LOCAL_URL);
		this.token = options.token ?? (process.env.HEADGATE_TOKEN || undefined);
		this.json = options.json ?? false;
		this.out = screenOf(process.stdout, options.color);
		this.err = screenOf(process.stderr, options.color);
	}

	get gate(): Headgate {
		this.#gate ??= this.#made(() => new Headgate(this.#options));
		return this.#gate;
	}

	/** For the calls that the library has no method for. */
	transport(): Transport {
		return this.#made(() => new Transport(this.#options));
	}

	get #options() {
		return {
			url: this.url,
			token: this.token,
			onWarning: (message: string, cause: unknown) => this.warn(message, cause),
			// `run` says so itself, of whatever is not enforced.
			onUnconfigured: () => undefined,
		};
	}

	#made<T>(make: () => T): T {
		try {
			return make();
		} catch (error) {
			if (error instanceof TypeError) throw new CliError(error.message, EXIT.usage);
			throw error;
		}
	}

	/** Lines on standard output. */
	print(...lines: string[]): void {
		if (lines.length > 0) write(process.stdout, `${lines.join("\n")}\n`);
	}

	/** The whole answer, for programs. */
	printJson(value: unknown): void {
		writeSource(process.stdout, `${JSON.stringify(value, null, process.stdout.isTTY ? "  " : "")}\n`);
	}

	/** A line on standard error. */
	note(line: string): void {
		write(process.stderr, `${line}\n`);
	}

	warn(message: string, cause?: unknown): void {
		const why = cause instanceof Error ? `: ${cause.message}` : "";
		this.note(this.err.colors.yellow(safe(`headgate: ${message}${why}`)));
	}

	/**
	 * Asks before something is changed. Without a terminal there is no operator to ask: then it has to be said beforehand.
	 * @throws Interrupted on Ctrl-C, and when the terminal goes.
	 */
	async confirm(question: string, what: string): Promise<boolean> {
		if (!process.stdin.isTTY || !process.stderr.isTTY) {
			throw new CliError(`${what} needs a yes, and there is no terminal to ask on.`, EXIT.usage, "Say it with --yes.");
		}
		const lines = createInterface({ input: process.stdin, output: process.stderr });
		const gone = new AbortController();
		lines.on("SIGINT", () => gone.abort());
		lines.on("close", () => gone.abort());
		try {
			const answer = await lines.question(`${safe(question)} [y/N] `, { signal: gone.signal });
			return /^(y|yes)$/i.test(answer.trim());
		} catch (error) {
			if (!gone.signal.aborted) throw error;
			write(process.stderr, "\n");
			throw new Interrupted();
		} finally {
			lines.removeAllListeners("close");
			lines.close();
		}
	}
}
