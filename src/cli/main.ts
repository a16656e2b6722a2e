#!/usr/bin/env node
/** The command `headgate`. */

import { type Command, CommanderError } from "commander";
import { LOCAL_URL } from "./context.ts";
import { systemErrorCode } from "./errors.ts";
import { EXIT, explain } from "./exit.ts";
import { write } from "./output.ts";
import { safe, screenOf } from "./print.ts";
import { createProgram, type Outcome } from "./program.ts";

/** The reader of the output has seen enough, as `head` does: no news, and no reason to end a server or a command. */
function tolerateClosedPipes(staysOpen: boolean): void {
	for (const stream of [process.stdout, process.stderr]) {
		stream.on("error", (error) => {
			if (systemErrorCode(error) !== "EPIPE") throw error;
			if (!staysOpen) process.exit(EXIT.ok);
		});
	}
}

const safeLines = (text: string): string => text.split("\n").map(safe).join("\n");

function complain(message: string, hint: string | undefined): void {
	const { red } = screenOf(process.stderr, !process.argv.includes("--no-color")).colors;
	const lines = [message, ...(hint === undefined ? [] : [hint])].map(safeLines);
	write(process.stderr, `${red("headgate:")} ${lines.join("\n")}\n`);
}

/** Commands that end by themselves, or by a signal. */
const LASTING = ["start", "run"];

async function main(args: string[]): Promise<number> {
	const outcome: Outcome = { exitCode: EXIT.ok };
	const program = createProgram(outcome);
	const words = args.filter((arg) => !arg.startsWith("-"));
	tolerateClosedPipes(LASTING.includes(words[0] ?? ""));
	let complaint = "";
	quietly(program, (text) => {
		complaint += text;
	});
	try {
		if (args.length === 0) {
			program.outputHelp();
			return EXIT.usage;
		}
		await program.parseAsync(args, { from: "user" });
		return outcome.exitCode;
	} catch (error) {
		if (error instanceof CommanderError) {
			if (error.exitCode === 0) return EXIT.ok;
			const [first = "", ...rest] = complaint.trim().split("\n");
			// A command that has others under it, and was asked for none, has told how to use it.
			if (first.startsWith("Usage:")) {
				write(process.stderr, complaint);
				return EXIT.usage;
			}
			const help = `Try: ${["headgate", ...asked(program, words)].join(" ")} --help`;
			complain([first.replace(/^error: /, ""), ...rest].join("\n"), help);
			return EXIT.usage;
		}
		const known = explain(error, urlOf(program));
		if (known === undefined) {
			// A bug: where it happened is of use.
			write(process.stderr, `${safeLines(error instanceof Error ? (error.stack ?? error.message) : String(error))}\n`);
			return EXIT.refused;
		}
		complain(known.message, known.hint);
		return known.exitCode;
	}
}

/** The names of the command that was meant, and of those above it. */
function asked(program: Command, words: string[]): string[] {
	const names: string[] = [];
	let command: Command | undefined = program;
	for (const word of words) {
		const next: Command | undefined = command.commands.find((one) => one.name() === word);
		if (next) names.push(word);
		command = next ?? command;
	}
	return names;
}

/** Complaints are collected, to be printed in one voice with all the others. */
function quietly(command: Command, collect: (text: string) => void): void {
	command.exitOverride().configureOutput({ writeErr: collect, writeOut: (text) => write(process.stdout, text) });
	for (const one of command.commands) quietly(one, collect);
}

/** The address that was asked, for messages. */
function urlOf(program: Command): string {
	const given = [program, ...program.commands, ...program.commands.flatMap((one) => one.commands)];
	const urls = given.map((one) => one.opts<{ url?: string }>().url);
	return urls.find((url) => url !== undefined) ?? (process.env.HEADGATE_URL || LOCAL_URL);
}

const args = process.argv.slice(2);
const exitCode = await main(args);
if (exitCode === EXIT.signal + 2) {
	// Ended by Ctrl-C, and seen to be: a loop in a shell goes on after a mere exit code.
	process.removeAllListeners("SIGINT");
	process.kill(process.pid, "SIGINT");
}
process.exitCode = exitCode;
