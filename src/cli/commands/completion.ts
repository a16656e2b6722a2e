/** `complete`: what the Tab key knows, from the commands themselves and from the server. */

import type { Argument, Command, Option } from "commander";
import { Context, type ServerOptions } from "../context.ts";
import { write } from "../output.ts";
import { safe } from "../print.ts";

/** Longest wait for the names of a server: a key was pressed, and its user looks at the cursor. */
const PATIENCE_MS = 800;
/** What the shell is told with the answers: nothing but these, or file names as well. */
const NO_FILES = ":4";
const FILES = ":0";

interface Suggestion {
	value: string;
	description: string;
}

/** Prints what may stand in place of the last word. */
export async function complete(program: Command, words: string[]): Promise<void> {
	const { suggestions, files } = await suggest(program, words);
	const last = words.at(-1) ?? "";
	// What cannot be shown as it is cannot be typed either.
	const matching = suggestions.filter(({ value }) => value.startsWith(last) && safe(value) === value);
	const lines = matching.map(({ value, description }) => `${value}\t${description.split("\n")[0]}`);
	write(process.stdout, `${[...lines, files ? FILES : NO_FILES].join("\n")}\n`);
}

async function suggest(program: Command, words: string[]): Promise<{ suggestions: Suggestion[]; files: boolean }> {
	const nothing = { suggestions: [], files: false };
	const before = words.slice(0, -1);
	const last = words.at(-1) ?? "";
	let command = program;
	let expecting: Option | undefined;
	let place = 0;
	const given: ServerOptions = {};
	for (const word of before) {
		if (word === "--") return { suggestions: [], files: true };
		if (expecting) {
			if (expecting.attributeName() === "url") given.url = word;
			if (expecting.attributeName() === "token") given.token = word;
			expecting = undefined;
		} else if (word.startsWith("-")) {
			const option = optionsOf(command).find(({ short, long }) => word === short || word === long);
			expecting = option && (option.required || option.optional) ? option : undefined;
		} else {
			const next: Command | undefined = command.commands.find(
				(one) => one.name() === word || one.aliases().includes(word),
			);
			if (next) command = next;
			else place++;
		}
	}
	if (expecting) {
		if (expecting.argChoices) return { ...nothing, suggestions: expecting.argChoices.map(plain) };
		if (expecting.attributeName() === "limit" && command.name() === "run")
			return { ...nothing, suggestions: await names(given) };
		return { suggestions: [], files: ["output", "data"].includes(expecting.attributeName()) };
	}
	if (last.startsWith("-")) {
		const suggestions = optionsOf(command).flatMap(({ long, description }) =>
			long ? [{ value: long, description }] : [],
		);
		return { ...nothing, suggestions };
	}
	const subcommands = program.createHelp().visibleCommands(command);
	const suggestions =
		place === 0 ? subcommands.map((one) => ({ value: one.name(), description: one.description() })) : [];
	const argument: Argument | undefined = command.registeredArguments[place] ?? lastVariadic(command);
	if (argument === undefined) return { ...nothing, suggestions };
	if (argument.argChoices) suggestions.push(...argument.argChoices.map(plain));
	if (argument.name() === "name" || argument.name() === "names") suggestions.push(...(await names(given)));
	if (argument.name() === "patterns" || argument.name() === "pattern") suggestions.push(...(await patterns(given)));
	return { suggestions, files: ["file", "command"].includes(argument.name()) };
}

const plain = (value: string): Suggestion => ({ value, description: "" });

const lastVariadic = (command: Command): Argument | undefined => {
	const last = command.registeredArguments.at(-1);
	return last?.variadic ? last : undefined;
};

const optionsOf = (command: Command): Option[] => [...command.createHelp().visibleOptions(command)];

/** Silent where there is no answer: an error in the middle of a command line is of no help. */
async function quietly(ask: (signal: AbortSignal) => Promise<Suggestion[]>): Promise<Suggestion[]> {
	try {
		return await ask(AbortSignal.timeout(PATIENCE_MS));
	} catch {
		return [];
	}
}

const names = (options: ServerOptions): Promise<Suggestion[]> =>
	quietly(async (signal) => {
		const found: Suggestion[] = [];
		for await (const { name, activeSlots, limit } of new Context(options).gate.limits({ signal })) {
			found.push({ value: name, description: `${activeSlots}/${limit}` });
			// More would not fit any screen.
			if (found.length === 200) break;
		}
		return found;
	});

const patterns = (options: ServerOptions): Promise<Suggestion[]> =>
	quietly(async (signal) => {
		const all = await new Context(options).gate.policies({ signal });
		return all.map(({ pattern, limit }) => ({ value: pattern, description: String(limit) }));
	});
