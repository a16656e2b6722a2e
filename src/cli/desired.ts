/**
 * A file of limits and policies, as TOML or JSON: read, checked as a whole by the same schemas as the service, or
 * refused with everything that is wrong with it.
 */

import { type AnyNode, parse as parseJson } from "@humanwhocodes/momoa";
import { parse as parseToml, stringify, TomlError } from "smol-toml";
import { DEFAULTS, type LimitSettings, type PolicySettings, type Window, type WindowRequest } from "../protocol.ts";
import { nameFault, type Parsed, parsePolicy, parseSettings, patternFault } from "../server/front/requests.ts";
import { CliError, EXIT } from "./exit.ts";
import { counted } from "./print.ts";

/** What a file says there should be. */
export interface Desired {
	limits: Map<string, LimitSettings>;
	policies: Map<string, PolicySettings>;
}

export type Format = "toml" | "json";

/** The kinds of entries, and what is wrong with a name of each. */
const SECTIONS = { limits: nameFault, policies: patternFault } as const;
type Section = keyof typeof SECTIONS;

/** @throws CliError that tells every fault: of a file that is half wrong nothing is applied. */
export function readDesired(text: string, format: Format, file: string): Desired {
	const faults: string[] = [];
	const content = format === "json" ? fromJson(text, file, faults) : fromToml(text, file);
	const desired: Desired = { limits: new Map(), policies: new Map() };
	if (!isTable(content)) throw wrong(file, ["it is not a table of limits and policies"]);
	for (const [section, entries] of Object.entries(content)) {
		if (!Object.hasOwn(SECTIONS, section)) {
			faults.push(`${section}: there is no such section; there are ${Object.keys(SECTIONS).join(" and ")}`);
		} else if (!isTable(entries)) {
			faults.push(`${section}: not a table; write [${section}.name]`);
		} else readSection(section as Section, entries, desired, faults);
	}
	if (faults.length > 0) throw wrong(file, faults);
	return desired;
}

function readSection(section: Section, entries: Record<string, unknown>, desired: Desired, faults: string[]): void {
	for (const [name, settings] of Object.entries(entries)) {
		const at = `${section}.${JSON.stringify(name)}`;
		const fault = SECTIONS[section](name);
		if (fault !== null) faults.push(`${at}: ${fault}`);
		const keep = (value: LimitSettings) => desired.limits.set(name, value);
		const keepPolicy = (value: PolicySettings) => desired.policies.set(name, value);
		const parsed = section === "limits" ? into(parseSettings(settings), keep) : into(parsePolicy(settings), keepPolicy);
		if (!parsed.ok)
			for (const { field, message } of parsed.fault.errors ?? []) faults.push(`${at}.${field}: ${message}`);
	}
}

function into<T>(parsed: Parsed<T>, keep: (value: T) => unknown): Parsed<T> {
	if (parsed.ok) keep(parsed.value);
	return parsed;
}

const isTable = (value: unknown): value is Record<string, unknown> =>
	typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);

function wrong(file: string, faults: string[]): CliError {
	const list = faults.map((fault) => `  ${fault}`).join("\n");
	return new CliError(`${file} has ${counted(faults.length, "fault")}, so nothing was applied:\n${list}`, EXIT.usage);
}

function fromToml(text: string, file: string): unknown {
	try {
		return parseToml(text);
	} catch (error) {
		// Two entries of one name are such an error, too: the format forbids them.
		if (error instanceof TomlError) throw wrong(file, [`line ${error.line}: ${error.message.split("\n")[0]}`]);
		throw error;
	}
}

/** JSON itself lets a later entry of the same name win without a word; a plan must not. */
function fromJson(text: string, file: string, faults: string[]): unknown {
	try {
		const { body } = parseJson(text, { mode: "json" });
		findTwice(body, [], faults);
		return JSON.parse(text);
	} catch (error) {
		if (error instanceof SyntaxError || (error instanceof Error && "line" in error)) throw wrong(file, [error.message]);
		throw error;
	}
}

function findTwice(node: AnyNode, path: string[], faults: string[]): void {
	if (node.type !== "Object") return;
	const seen = new Map<string, number>();
	for (const member of node.members) {
		const name = member.name.type === "String" ? member.name.value : member.name.name;
		const { line } = member.loc.start;
		const before = seen.get(name);
		if (before !== undefined)
			faults.push(`${[...path, JSON.stringify(name)].join(".")}: twice, on lines ${before} and ${line}`);
		seen.set(name, line);
		findTwice(member.value, [...path, name], faults);
	}
}

const briefWindow = ({ every, timeZone, at, startsOn, sliding }: Window): WindowRequest => ({
	every,
	...(timeZone !== "UTC" && { timeZone }),
	...(at !== "00:00" && { at }),
	...(startsOn !== null && { startsOn }),
	...(sliding && { sliding }),
});

/** The text of a file that says what there is; what is as it is by default is left out. */
export function writeDesired({ limits, policies }: Desired, format: Format): string {
	const brief = (all: Map<string, LimitSettings & { idleSeconds?: number }>) =>
		Object.fromEntries(
			[...all].map(([name, settings]) => {
				const { limit, slotDecayPerSecond, window, active, enforce, lendSeconds = 0, region } = settings;
				const { weights = {}, starveAfterSeconds = DEFAULTS.starveAfterSeconds } = settings;
				const { idleSeconds = DEFAULTS.idleSeconds } = settings;
				const unusual = {
					...(slotDecayPerSecond !== 0 && { slotDecayPerSecond }),
					...(window && { window: briefWindow(window) }),
					...(!active && { active }),
					...(!enforce && { enforce }),
					...(lendSeconds !== 0 && { lendSeconds }),
					...(Object.keys(weights).length > 0 && { weights }),
					...(starveAfterSeconds !== DEFAULTS.starveAfterSeconds && { starveAfterSeconds }),
					...(region !== null && { region }),
					...(idleSeconds !== DEFAULTS.idleSeconds && { idleSeconds }),
				};
				return [name, { limit, ...unusual }];
			}),
		);
	const content = {
		...(limits.size > 0 && { limits: brief(limits) }),
		...(policies.size > 0 && { policies: brief(policies) }),
	};
	return format === "json" ? `${JSON.stringify(content, null, "  ")}\n` : stringify(content);
}
