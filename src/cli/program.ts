/** Every command with its options. What a command does is loaded when it is asked for, so that each starts quickly. */

import { Command, Option } from "commander";
import { ORDERS, type Order, REGIONS, SCOPES, VERSION, type Window, type WindowRequest } from "../protocol.ts";

import type { CheckOptions } from "./commands/kinds.ts";
import type { RunOptions } from "./commands/run.ts";
import type { StartOptions } from "./commands/start.ts";
import type { TokenOptions } from "./commands/token.ts";
import { COMPLETIONS, SHELLS } from "./completions.ts";
import { Context, LOCAL_URL, type ServerOptions } from "./context.ts";
import { CliError, EXIT } from "./exit.ts";
import { write } from "./output.ts";
import * as values from "./values.ts";

const HELP = `
Which server: --url and --token, or HEADGATE_URL and HEADGATE_TOKEN;
without them ${LOCAL_URL}.
Exit codes: 0 done, 1 refused, 2 called wrongly, 69 server out of reach,
77 token not enough.

Begin with:
  headgate start                              a server on this machine
  headgate configure database --limit 20      a limit
  headgate run --limit database -- ./backup   hold a slot while a command runs`;

const RUN_HELP = `
The command's exit code is passed on; 128 + n when signal n ended it.
Own exit codes: 69 server out of reach, 75 no slot in time, 77 token not enough,
79 lease lost, 125 refused, 126 cannot be executed, 127 not found.
The command finds its lease in the variable HEADGATE_LEASE, as JSON.`;

/** What the program ends with; a command that has no say ends with 0. */
export interface Outcome {
	exitCode: number;
}

/** `outcome` is told the exit code of commands that have one of their own. */
export function createProgram(outcome: Outcome): Command {
	const program = new Command("headgate")
		.description("Named limits for every program that shares something scarce.")
		.version(VERSION, "-V, --version", "the version of this program")
		.helpOption("-h, --help", "how to use it")
		.helpCommand("help [command]", "how to use a command")
		.enablePositionalOptions()
		.showHelpAfterError(false)
		.addHelpText("after", HELP);
	for (const option of serverOptions()) program.addOption(option.hideHelp());

	program.hook("preAction", (_, command) => refuseUnnameable(command));
	const asking: Command[] = [];
	const add = (name: string, description: string, parent = program): Command => {
		const command = parent.command(name).description(description).addHelpOption(helpOption());
		asking.push(command);
		return command;
	};
	const contextOf = (command: Command): Context => new Context(serverOptionsOf(command));

	program
		.command("start")
		.description("run a server on this machine")
		.option("--port <number>", "port to listen on; 0 takes any that is free", values.port, 8787)
		.option("--host <address>", "address to listen on; any but loopback needs tokens", values.notEmpty, "127.0.0.1")
		.option("--data <folder>", "where limits and leases are kept", values.notEmpty, ".headgate")
		.helpOption("-h, --help", "how to use it")
		.addHelpText("after", START_HELP)
		.action(async (options: StartOptions) => {
			outcome.exitCode = await (await import("./commands/start.ts")).start(options);
		});

	add("ls", "list the limits")
		.argument("[prefix]", "only those whose names start with this")
		.addOption(
			new Option("--order <order>", "attention: the hundred that need a look first, and how many are left out")
				.choices(ORDERS)
				.default("name"),
		)
		.action(async (prefix: string | undefined, { order }: { order: Order }, command: Command) =>
			(await import("./commands/limits.ts")).ls(contextOf(command), prefix, order),
		);
	add("inspect", "show a limit: who holds it, who waits")
		.argument("<name>")
		.action(async (name: string, _, command: Command) =>
			(await import("./commands/limits.ts")).inspect(contextOf(command), name),
		);
	add("watch", "show how limits stand, live")
		.argument("[prefix]", "only those whose names start with this")
		.action(async (prefix: string | undefined, _, command: Command) => {
			const over = new AbortController();
			for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => over.abort());
			await (await import("./commands/watch.ts")).watch(contextOf(command), prefix, over.signal);
		});
	const limit = add("configure", "create a limit, or change what is given")
		.argument("<name>")
		.option("-l, --limit <slots>", "capacity in slots", values.count);
	withReturn(limit)
		.option("--on", "switch it on")
		.addOption(new Option("--off", "switch it off: it grants at once and holds nothing").conflicts("on"))
		.addOption(enforceOption("no: it says what it would deny, and denies nothing"))
		.addOption(new Option("--region <region>", "where a new limit is to live").choices(REGIONS))
		.option("--used <slots>", "set the slots in use by hand", values.count)
		.action(async (name: string, given: Record<string, unknown>, command: Command) =>
			(await import("./commands/limits.ts")).configure(contextOf(command), name, {
				...(given as { limit?: number; decay?: number }),
				...(given.lendSeconds !== undefined && { lend: given.lendSeconds as number }),
				...(given.used !== undefined && { activeSlots: given.used as number }),
				...activeOf(given),
				...enforceOf(given),
				...windowOf(given),
				...turnsOf(given),
			}),
		);
	for (const [name, active, description] of [
		["enable", true, "switch limits on"],
		["disable", false, "switch limits off: they grant at once and hold nothing"],
	] as const) {
		add(name, description)
			.argument("<names...>")
			.action(async (names: string[], _, command: Command) =>
				(await import("./commands/limits.ts")).setActive(contextOf(command), names, active),
			);
	}
	add("pause", "let limits grant nothing for a while: leases and lines stay")
		.argument("<names...>")
		.addOption(
			new Option("-f, --for <time>", "for so long, or until an earlier pause ends: 30, 5min; at most 10min")
				.argParser(values.pauseDuration)
				.conflicts("end"),
		)
		.option("--end", "end the pause; the line is served at once")
		.action(async (names: string[], options: { for?: number; end?: boolean }, command: Command) =>
			(await import("./commands/kinds.ts")).pause(contextOf(command), names, options),
		);
	add("check", "say whether slots would be granted now, and take none; exits with 1 when not")
		.argument("<names...>")
		.option("-o, --occupy <slots>", "slots of each limit (default: 1)", values.count)
		.option("--rate", "slots that come back by themselves, not held ones")
		.option("--strict", "a limit that nobody has configured is an error")
		.action(async (names: string[], options: CheckOptions, command: Command) => {
			outcome.exitCode = await (await import("./commands/kinds.ts")).check(contextOf(command), names, options);
		});
	add("delete", "delete limits; asks when one is in use")
		.argument("<names...>")
		.option("-y, --yes", "do not ask")
		.action(async (names: string[], options: { yes?: boolean }, command: Command) =>
			(await import("./commands/limits.ts")).remove(contextOf(command), names, options),
		);
	add("leases", "list who holds slots of a limit")
		.argument("<name>")
		.action(async (name: string, _, command: Command) =>
			(await import("./commands/leases.ts")).leases(contextOf(command), name),
		);
	add("release", "take slots away from leases, whoever holds them")
		.argument("<name>", "the limit")
		.argument("[ids...]", "the leases, as `headgate leases` shows them")
		.option("--all", "all leases of the limit")
		.option("-y, --yes", "do not ask")
		.action(async (name: string, ids: string[], options: { all?: boolean; yes?: boolean }, command: Command) =>
			(await import("./commands/leases.ts")).release(contextOf(command), name, ids, options),
		);

	addPolicies(add, contextOf);
	addRun(add, contextOf, outcome);
	addFiles(add, contextOf);

	add("doctor", "check address, token, clock and version").action(async (_, command: Command) => {
		outcome.exitCode = await (await import("./commands/doctor.ts")).doctor(contextOf(command));
	});
	addTokens(program);
	addCompletion(program);
	// After their own, so that those come first in the help.
	for (const command of asking) for (const option of serverOptions()) command.addOption(option);
	return program;
}

/**
 * What names nothing: text that is no UTF-8, which Node reads as U+FFFD, and the two names that a URL cannot hold. The
 * command of `run` is its own affair.
 */
function refuseUnnameable(command: Command): void {
	if (command.name() === "complete") return;
	const words = command.name() === "run" ? [] : command.args;
	const all = [...words, ...Object.values(command.opts()).flat()].map(String);
	if (all.some((word) => word.includes("\ufffd"))) throw new CliError("An argument is not UTF-8.", EXIT.data);
	const dots = words.find((word) => word === "." || word === "..");
	if (dots !== undefined) throw new CliError(`Nothing can be called "${dots}".`, EXIT.usage);
}

type Add = (name: string, description: string, parent?: Command) => Command;
type ContextOf = (command: Command) => Context;

function addPolicies(add: Add, contextOf: ContextOf): void {
	const policies = add("policies", "list, set and delete policies: settings for every name that starts alike");
	policies.action(async (_, command: Command) => (await import("./commands/policies.ts")).policies(contextOf(command)));
	const policy = add("set", "create a policy, or replace its settings", policies)
		.argument("<pattern>", "a literal prefix and a closing star, 'login:*', or one exact name")
		.requiredOption("-l, --limit <slots>", "capacity in slots of each name", values.count);
	withReturn(policy)
		.addOption(new Option("--region <region>", "where names are to live, from their first use on").choices(REGIONS))
		.option("--idle <time>", "how long a name is kept that is idle and empty (default: 5min)", values.duration)
		.option("--off", "its names grant at once and hold nothing")
		.addOption(enforceOption("no: they say what they would deny, and deny nothing"))
		.action(async (pattern: string, given: Record<string, unknown>, command: Command) =>
			(await import("./commands/policies.ts")).setPolicy(contextOf(command), pattern, {
				...(given as { limit: number; decay?: number; idle?: number }),
				...(given.lendSeconds !== undefined && { lend: given.lendSeconds as number }),
				...activeOf(given),
				...enforceOf(given),
				...windowOf(given),
				...turnsOf(given),
			}),
		);
	add("denied", "list the keys of a policy that were denied most within the last minute or two", policies)
		.argument("<pattern>")
		.action(async (pattern: string, _, command: Command) =>
			(await import("./commands/policies.ts")).deniedKeys(contextOf(command), pattern),
		);
	add("delete", "delete policies", policies)
		.argument("<patterns...>")
		.action(async (patterns: string[], _, command: Command) =>
			(await import("./commands/policies.ts")).deletePolicies(contextOf(command), patterns),
		);
}

function addRun(add: Add, contextOf: ContextOf, outcome: Outcome): void {
	const run = add("run", "hold slots while a command runs")
		.usage("--limit <name> [options] -- <command> [args...]")
		.argument("<command...>", "the command with its arguments")
		.passThroughOptions();
	run
		.requiredOption("-l, --limit <name>", "limit to hold; several times for several, all or none", values.several)
		.option("-o, --occupy <slots>", "slots of each limit; name=slots for one of them (default: 1)", values.several)
		.option(
			"-w, --wait <time>",
			"how long to wait in line: 30, 5min; 0: not at all (default: for ever)",
			values.duration,
		)
		.option("--lease <time>", "how long slots stay taken if this program dies (default: 60)", values.leaseDuration)
		.option("--key <key>", "whose turn it takes in the line, such as a tenant: keys take turns", values.notEmpty)
		.option(
			"--priority <number>",
			"0 to 9: of those that wait the higher are served first (default: 0)",
			values.priority,
		)
		.option("--holder <text>", "who holds, for the operator's eyes (default: host, process, command)")
		.option("--strict", "a limit that nobody has configured is an error")
		.option("--no-create", "skip limits that do not exist")
		.addOption(choice("--on-lease-lost <what>", "when the slots are taken away meanwhile", ["end", "continue"]))
		.addOption(
			choice("--on-error <what>", "when the server is out of reach: fail, or run without slots", ["fail", "run"]),
		)
		.option("--grace <time>", "from SIGTERM to SIGKILL, when the lease is lost", values.duration, 10)
		.option("--pass-token", "leave HEADGATE_TOKEN in the command's environment")
		.option("-q, --quiet", "say nothing while waiting")
		.addHelpText("after", RUN_HELP)
		.action(async (words: string[], options: RunOptions, command: Command) => {
			const { run: hold } = await import("./commands/run.ts");
			outcome.exitCode = await hold(contextOf(command), words, options);
		});
}

const choice = (flags: string, description: string, choices: [string, ...string[]]): Option =>
	new Option(flags, description).choices(choices).default(choices[0]);

function addFiles(add: Add, contextOf: ContextOf): void {
	add("apply", "make limits and policies as a file says: shows a plan, asks, applies")
		.argument("<file>", "TOML, or JSON when it ends in .json; - for standard input")
		.option("--prune", "delete configured limits and policies that the file does not speak of")
		.option("--dry-run", "show the plan and change nothing")
		.option("-y, --yes", "do not ask")
		.action(async (file: string, options: Record<string, boolean>, command: Command) =>
			(await import("./commands/apply.ts")).apply(contextOf(command), file, options),
		);
	add("export", "write configured limits and policies as a file for `apply`")
		.addOption(new Option("--format <format>", "default: toml, or as --output ends").choices(["toml", "json"]))
		.option("-o, --output <file>", "write here, and not to standard output")
		.action(async (options: { format?: "toml" | "json"; output?: string }, command: Command) =>
			(await import("./commands/apply.ts")).exportAll(contextOf(command), options),
		);
}

function addTokens(program: Command): void {
	program
		.command("token")
		.description("make tokens")
		.command("new")
		.description("make a token; only its digest goes to the server")
		.addOption(
			new Option("--scope <scope>", "read: look; use: read, acquire, renew, release; admin: everything")
				.choices(SCOPES)
				.makeOptionMandatory(),
		)
		.option("--name <who>", "who it is for, shown to operators", values.notEmpty)
		.option("--prefix <prefix>", "only names that start with this")
		.option("--key <key>", "its requests take the turns of this key alone, in every line", values.turnKey)
		.option("--json", "print JSON")
		.helpOption("-h, --help", "how to use it")
		.action(async (options: TokenOptions, command: Command) => {
			const json = command.optsWithGlobals<{ json?: boolean }>().json ?? false;
			(await import("./commands/token.ts")).newTokenCommand({ ...options, json });
		});
}

function addCompletion(program: Command): void {
	program
		.command("completion")
		.description("print what a shell needs to complete headgate's commands and limits")
		.argument("<shell>", SHELLS.join(", "))
		.addHelpText("after", COMPLETION_HELP)
		.action((shell: string, _, command: Command) => {
			const known = SHELLS.find((one) => one === shell);
			if (known === undefined)
				return command.error(`error: There is no completion for "${shell}", only for ${SHELLS.join(", ")}.`);
			write(process.stdout, COMPLETIONS[known]);
		});
	program
		.command("complete", { hidden: true })
		.argument("[words...]")
		.passThroughOptions()
		.allowUnknownOption()
		.action(async (words: string[]) => (await import("./commands/completion.ts")).complete(program, words));
}

const COMMON = "Common options:";

const helpOption = (): Option => new Option("-h, --help", "how to use it").helpGroup(COMMON);

function serverOptions(): Option[] {
	return [
		new Option("--url <url>", "the server (HEADGATE_URL)"),
		new Option("--token <token>", "its token (HEADGATE_TOKEN)"),
		new Option("--json", "print JSON"),
		new Option("--no-color", "print without colours (NO_COLOR)"),
	].map((option) => option.helpGroup(COMMON));
}

/** The options that say which server, wherever they stand; the last word is the command's own. */
function serverOptionsOf(command: Command): ServerOptions {
	const all: ServerOptions = {};
	for (let one: Command | null = command; one !== null; one = one.parent) {
		const { url, token, json, color } = one.opts<ServerOptions>();
		if (all.url === undefined && url !== undefined) all.url = url;
		if (all.token === undefined && token !== undefined) all.token = token;
		if (json) all.json = true;
		if (color === false) all.color = false;
	}
	return all;
}

/** How slots come back that do so by themselves, and whose turn it is in the line. */
const withReturn = (command: Command): Command =>
	command
		.option(
			"--weight <key=number>",
			"what a key is given beside others while they wait; several, or none",
			values.weights,
		)
		.option(
			"--starve-after <time>",
			"how long a waiter is patient with higher priorities: 60, 5min; 0: for ever",
			values.patience,
		)
		.option("-d, --decay <rate>", "slots that come back by themselves: 0.5 (a second), 100/min, 5000/d", values.decay)
		.option("--lend-seconds <seconds>", "how long a Worker may borrow slots that come back; 0: not at all", values.lend)
		.option(
			"--window <every>",
			"slots come back with each minute, hour, day, week, month, year or so many seconds; none",
			values.windowEvery,
		)
		.option("--time-zone <zone>", "of the window: Europe/Berlin (default: UTC)", values.notEmpty)
		.option("--at <time>", "when its periods begin: 09:00 (default: 00:00)", values.notEmpty)
		.option("--starts-on <day>", "and on which day: sunday, 15 or 04-06", values.startDay)
		.option("--sliding", "each slot comes back so long after it was taken, in place of periods");

const activeOf = ({ on, off }: Record<string, unknown>): { active?: boolean } =>
	on === true ? { active: true } : off === true ? { active: false } : {};

const enforceOption = (description: string): Option =>
	new Option("--enforce <whether>", description).choices(["yes", "no"]);

/** Undefined where it was not said. */
const enforceOf = ({ enforce }: Record<string, unknown>): { enforce?: boolean } =>
	enforce === undefined ? {} : { enforce: enforce === "yes" };

/** Weights of keys, and patience with priorities, as far as they were said. */
function turnsOf({ weight, starveAfter }: { weight?: Record<string, number>; starveAfter?: number }): {
	weights?: Record<string, number>;
	starveAfterSeconds?: number;
} {
	return {
		...(weight !== undefined && { weights: weight }),
		...(starveAfter !== undefined && { starveAfterSeconds: starveAfter }),
	};
}

/** Undefined where nothing was said of it; null: there is to be none. */
function windowOf(given: Record<string, unknown>): { window?: WindowRequest | null } {
	const {
		window: every,
		timeZone,
		at,
		startsOn,
		sliding,
	} = given as Partial<Window> & { window?: Window["every"] | "none" };
	const more = Object.entries({ timeZone, at, startsOn, sliding }).filter(([, value]) => value !== undefined);
	if (every === "none" || every === undefined) {
		if (more.length === 0) return every === undefined ? {} : { window: null };
		throw new CliError(
			"--time-zone, --at, --starts-on and --sliding are of a window.",
			EXIT.usage,
			"Give --window, as in --window day.",
		);
	}
	return { window: { every, ...Object.fromEntries(more) } };
}

const START_HELP = `
Environment:
  HEADGATE_TOKENS        who may call, as JSON; see: headgate token new --help
  HEADGATE_ADMIN_TOKEN   one token of scope admin, as it is, to begin with (openssl rand -hex 24)
  HEADGATE_CORS_ORIGINS  origins whose pages may call, with commas between them
  HEADGATE_HOSTS         host names by which an open server may be called, beside localhost
  HEADGATE_DENIAL_MEMORY off: each denial comes from its limit, and none from memory
  HEADGATE_REGION        noted as the region of limits that are made; deployed, they are placed there`;

const COMPLETION_HELP = `
  bash:  headgate completion bash >> ~/.bashrc
  zsh:   headgate completion zsh >> ~/.zshrc      (after compinit)
  fish:  headgate completion fish > ~/.config/fish/completions/headgate.fish`;
