/** `ls`, `inspect`, `configure`, `enable`, `disable`, `delete`. */

import type { LimitInfo, LimitPatch, LimitSummary } from "../../client/index.ts";
import { isHeadgateError } from "../../client/index.ts";
import { DEFAULTS, type HouseTotals, type Order, type Region, type WindowRequest } from "../../protocol.ts";
import type { Context } from "../context.ts";
import { CliError, EXIT } from "../exit.ts";
import { bar, type Column, comesBack, counted, type Screen, safe, span, table, word } from "../print.ts";
import { leaseColumns } from "./leases.ts";

function stateOf(limit: LimitSummary): string {
	if (!limit.active) return limit.origin === "default" ? "not configured" : "off";
	const left = pauseLeftMs(limit);
	if (left > 0) return `paused ${span(left)}`;
	return limit.enforce ? "" : "only watches";
}

const pauseLeftMs = ({ pausedUntil }: LimitSummary): number =>
	pausedUntil === null ? 0 : Math.max(0, Date.parse(pausedUntil) - Date.now());

/** Green with room, yellow when nearly full, red when full or with waiters. */
export function colorOf(screen: Screen, limit: LimitSummary): (text: string) => string {
	if (!limit.active) return screen.colors.dim;
	if (pauseLeftMs(limit) > 0) return screen.colors.red;
	if (limit.remaining === 0 || limit.waitingCount > 0) return screen.colors.red;
	return limit.activeSlots / limit.limit >= 0.8 ? screen.colors.yellow : screen.colors.green;
}

export function limitColumns(screen: Screen): Column<LimitSummary>[] {
	const barOnTerminal: Column<LimitSummary>[] = screen.terminal
		? [
				{
					title: "",
					drop: 3,
					text: ({ activeSlots, limit }) => bar(activeSlots, limit),
					color: (row, text) => colorOf(screen, row)(text),
				},
			]
		: [];
	return [
		{ title: "NAME", drop: 0, cut: true, text: ({ name }) => safe(name), color: (_, text) => screen.colors.bold(text) },
		...barOnTerminal,
		{
			title: "USED",
			drop: 0,
			right: true,
			text: ({ activeSlots, limit }) => `${activeSlots}/${limit}`,
			color: (row, text) => colorOf(screen, row)(text),
		},
		{ title: "WAITING", drop: 1, right: true, text: ({ waitingCount }) => String(waitingCount) },
		{ title: "COMES BACK", drop: 2, right: true, text: comesBack },
		{ title: "GRANTED/MIN", drop: 5, right: true, text: ({ lastMinute }) => String(lastMinute.granted) },
		{
			...{ title: "DENIED/MIN", drop: 4, right: true, text: ({ lastMinute }) => String(lastMinute.denied) },
			color: ({ lastMinute }, text) => (lastMinute.denied > 0 ? screen.colors.yellow(text) : text),
		},
		{ title: "STATE", drop: 2, text: stateOf, color: (_, text) => screen.colors.dim(text) },
	];
}

export async function ls(context: Context, prefix: string | undefined, order: Order): Promise<void> {
	if (order === "attention") return lsWorst(context, prefix);
	const limits: LimitSummary[] = [];
	for await (const limit of context.gate.limits({ prefix })) limits.push(limit);
	if (context.json) return context.printJson(limits);
	if (limits.length > 0) return context.print(...table(context.out, limitColumns(context.out), limits));
	if (!context.out.terminal) return;
	const which = prefix === undefined ? "No limits yet." : `No limits that start with "${safe(prefix)}".`;
	context.print(`${which} Make one: headgate configure database --limit 20`);
}

async function lsWorst(context: Context, prefix: string | undefined): Promise<void> {
	const page = await context.gate.attention({ prefix });
	const { limits, totals, unavailable = [] } = page;
	if (context.json) return context.printJson(page);
	context.print(...table(context.out, limitColumns(context.out), limits));
	// What a program reads has nothing but rows; who reads it is told all the same.
	const say = context.out.terminal ? (text: string) => context.print(text) : (text: string) => context.warn(text);
	if (unavailable.length > 0) say(`${counted(unavailable.length, "limit")} could not be asked`);
	const left = totals.limits - limits.length - unavailable.length;
	if (left > 0) say(`and ${left} more`);
	if (context.out.terminal) context.print(sumOf(totals));
}

/** All limits together, in a line. */
export const sumOf = ({ limits, full, waiting, lastMinute }: HouseTotals): string =>
	`${counted(limits, "limit")}, ${full} full, ${waiting} waiting, ${lastMinute.denied} denied and ${lastMinute.granted} granted a minute`;

export async function inspect(context: Context, name: string): Promise<void> {
	const { out } = context;
	const info = await context.gate.inspect(name);
	// An answer shows the first leases; a program gets all of them, and a person is told how to.
	if (info.leaseCount > info.leases.length && (context.json || !out.terminal)) {
		info.leases = [];
		for await (const lease of context.gate.leases(name)) info.leases.push(lease);
	}
	if (context.json) return context.printJson(info);
	const rows: [string, string][] = facts(out, info);
	const width = Math.max(...rows.map(([title]) => title.length));
	const lines = rows.map(([title, text]) => `${out.colors.dim(title.padEnd(width))}  ${text}`);
	if (info.leases.length > 0) {
		const all = `all: headgate leases ${word(name)}`;
		lines.push("", more("Held by", info.leases.length, Math.max(info.leases.length, info.leaseCount), all));
		lines.push(...table(out, leaseColumns(out), info.leases));
	}
	if (info.waiting.length > 0) {
		lines.push("", more("In line", info.waiting.length, info.waitingCount));
		const columns: Column<Waiter>[] = [
			{ title: "PLACE", drop: 0, right: true, text: ({ position }) => String(position) },
			{ title: "SLOTS", drop: 0, right: true, text: ({ slots }) => String(slots) },
			...(info.waiting.some(({ priority }) => priority > 0)
				? [{ title: "PRIORITY", drop: 0, right: true, text: ({ priority }: Waiter) => String(priority) }]
				: []),
			...(info.waiting.some(({ key }) => (key ?? null) !== null)
				? [{ title: "KEY", drop: 0, cut: true, text: ({ key }: Waiter) => safe(key ?? "-") }]
				: []),
			{ title: "HOLDER", drop: 0, cut: true, text: ({ holder }) => safe(holder ?? "-") },
			{ title: "FOR", drop: 1, right: true, text: ({ since }) => span(Date.now() - Date.parse(since)) },
			{ title: "ID", drop: 2, text: ({ id }) => safe(id) },
		];
		lines.push(...table(out, columns, info.waiting), ...byKey(out, info));
	}
	context.print(...lines);
}

type Waiter = LimitInfo["waiting"][number];
type Waiting = NonNullable<LimitInfo["waitingKeys"]>[number];

/** Whose turns there are, where there is more than one. */
function byKey(out: Screen, { waitingKeys = [] }: LimitInfo): string[] {
	if (waitingKeys.length === 0) return [];
	const columns: Column<Waiting>[] = [
		{ title: "PRIORITY", drop: 1, right: true, text: ({ priority }) => String(priority) },
		{ title: "KEY", drop: 0, cut: true, text: ({ key }) => (key === null ? "(none)" : safe(key)) },
		{ title: "WEIGHT", drop: 2, right: true, text: ({ weight }) => String(weight) },
		{ title: "WAITING", drop: 0, right: true, text: ({ waiting }) => String(waiting) },
		{ title: "SLOTS", drop: 1, right: true, text: ({ slots }) => String(slots) },
	];
	return ["", "Whose turns:", ...table(out, columns, waitingKeys)];
}

const more = (title: string, shown: number, all: number, how?: string): string =>
	shown === all ? `${title}:` : `${title} (the first ${shown} of ${all}${how === undefined ? "" : `; ${how}`}):`;

function state(info: LimitInfo): string {
	if (!info.active) return "off: grants at once and holds nothing";
	const left = pauseLeftMs(info);
	if (left > 0) return `paused: grants nothing for ${span(left)}`;
	return info.enforce ? "on" : "on, but not enforced: it says what it would deny, and denies nothing";
}

function facts(screen: Screen, info: LimitInfo): [string, string][] {
	const { totals, lastMinute } = info;
	const color = colorOf(screen, info);
	const gauge = screen.terminal ? `${bar(info.activeSlots, info.limit)} ` : "";
	const back = comesBack(info);
	return [
		["name", safe(info.name)],
		["state", state(info)],
		["in use", color(`${gauge}${info.activeSlots} of ${counted(info.limit, "slot")}`)],
		[
			"comes back",
			back === ""
				? "by release"
				: info.window
					? untilReset(info, back)
					: `${back} (${counted(info.slotDecayPerSecond, "slot")} a second)`,
		],
		...(info.lentSlots === undefined ? [] : [["lent", lent(info)] as [string, string]]),
		["held", counted(info.leaseCount, "lease")],
		["waiting", String(info.waitingCount)],
		[
			"granted",
			`${totals.grantedAtOnce} at once, ${totals.grantedAfterWait} after a wait; ${lastMinute.granted} in the last minute`,
		],
		["denied", `${totals.denied}, of these ${totals.timedOut} after a wait; ${lastMinute.denied} in the last minute`],
		...(totals.wouldDeny > 0 ? [["would deny", String(totals.wouldDeny)] as [string, string]] : []),
		...(info.settled?.count > 0 ? [["settled", settledAs(info)] as [string, string]] : []),
		["came back", `${totals.released} released, ${totals.expired} expired`],
		["settings", settingsBy(info)],
		...turns(info),
		["region", info.region ?? "none asked for: near its first caller"],
		["id", safe(info.id)],
	];
}

function turns({ weights = {}, starveAfterSeconds = DEFAULTS.starveAfterSeconds }: LimitInfo): [string, string][] {
	const all = Object.entries(weights);
	const shown = all.slice(0, WEIGHTS_SHOWN).map(([key, weight]) => `${safe(key)} ${weight}`);
	const rest = all.length > shown.length ? `, and ${all.length - shown.length} more` : "";
	const patience = starveAfterSeconds === 0 ? "never" : `after ${span(1_000 * starveAfterSeconds)}`;
	return [
		...(all.length > 0 ? [["weights", shown.join(", ") + rest] as [string, string]] : []),
		...(starveAfterSeconds === DEFAULTS.starveAfterSeconds ? [] : [["starving", patience] as [string, string]]),
	];
}

/** Weights in a line; `--json` has them all. */
const WEIGHTS_SHOWN = 10;

const lent = ({ lentSlots = 0, lendSeconds = 0 }: LimitInfo): string =>
	`${counted(lentSlots, "slot")} to Workers, ${lendSeconds > 0 ? `each time for ${lendSeconds} s` : "and no more"}`;
const settledAs = ({ settled: { count, meanRatio } }: LimitInfo): string =>
	`${counted(count, "estimate")}, on average at ${Math.round(100 * (meanRatio ?? 0))} % of it`;

const untilReset = ({ resetsAt }: LimitInfo, words: string): string =>
	resetsAt === undefined ? words : `${words}; next at ${resetsAt}, in ${span(Date.parse(resetsAt) - Date.now())}`;

function settingsBy({ origin, policy, updatedBy, updatedAt }: LimitInfo): string {
	if (origin === "default") return "of nobody yet: `headgate configure` switches it on";
	const whose = origin === "policy" ? `from the policy ${safe(policy ?? "")}` : "configured by hand";
	const instead = origin === "configured" && policy !== null ? `, in place of the policy ${safe(policy)}` : "";
	return `${whose}${instead}, ${safe(updatedAt)}${updatedBy === null ? "" : `, by ${safe(updatedBy)}`}`;
}

export interface ConfigureOptions {
	limit?: number;
	decay?: number;
	lend?: number;
	active?: boolean;
	enforce?: boolean;
	weights?: Record<string, number>;
	starveAfterSeconds?: number;
	window?: WindowRequest | null;
	activeSlots?: number;
	region?: Region;
}

/** Changes what is given and leaves the rest; creates the limit when there is none. */
export async function configure(context: Context, name: string, options: ConfigureOptions): Promise<void> {
	const { limit, decay, lend, window, active, enforce, activeSlots, region, weights, starveAfterSeconds } = options;
	const patch: LimitPatch = {
		...(limit !== undefined && { limit }),
		...(decay !== undefined && { slotDecayPerSecond: decay }),
		...(window !== undefined && { window }),
		...(lend !== undefined && { lendSeconds: lend }),
		...(active !== undefined && { active }),
		...(enforce !== undefined && { enforce }),
		...(weights !== undefined && { weights }),
		...(starveAfterSeconds !== undefined && { starveAfterSeconds }),
		...(activeSlots !== undefined && { activeSlots }),
		...(region !== undefined && { region }),
	};
	if (Object.keys(patch).length === 0) {
		throw new CliError(
			"Nothing to change.",
			EXIT.usage,
			"Give at least one of --limit, --decay, --lend-seconds, --window, --weight, --starve-after, --on, --off, --used.",
		);
	}
	const existed = await change(context, name, patch);
	const summary = existed ?? (await create(context, name, patch));
	if (context.json) return context.printJson(summary);
	context.print(`${existed ? "Changed" : "Created"} ${describe(summary)}`);
}

/** Undefined when there is no such limit. A name that was not configured yet counts as none. */
async function change(context: Context, name: string, patch: LimitPatch): Promise<LimitSummary | undefined> {
	try {
		return await context.gate.update(name, patch);
	} catch (error) {
		if (isHeadgateError(error) && error.code === "unknown_limit") return undefined;
		throw error;
	}
}

async function create(context: Context, name: string, patch: LimitPatch): Promise<LimitSummary> {
	const { limit, activeSlots, ...settings } = patch;
	if (limit === undefined) {
		throw new CliError(
			`There is no limit "${name}".`,
			EXIT.refused,
			"Give --limit to create it; `headgate ls` shows those there are.",
		);
	}
	const summary = await context.gate.configure(name, { limit, ...settings });
	return activeSlots === undefined ? summary : context.gate.update(name, { activeSlots });
}

function describe({ name, limit, slotDecayPerSecond, window, active, enforce }: LimitSummary): string {
	const words = comesBack({ slotDecayPerSecond, window: window ?? null });
	const decay = words === "" ? "" : window ? ` ${words}` : `, decay ${words}`;
	return `${safe(name)}: ${counted(limit, "slot")}${decay}${active ? "" : ", switched off"}${enforce ? "" : ", not enforced"}`;
}

export async function setActive(context: Context, names: string[], active: boolean): Promise<void> {
	const summaries: LimitSummary[] = [];
	for (const name of names) {
		const summary = await context.gate.update(name, { active });
		summaries.push(summary);
		if (!context.json) context.print(`${active ? "Enabled" : "Disabled"} ${describe(summary)}`);
	}
	if (context.json) context.printJson(summaries);
}

export async function remove(context: Context, names: string[], options: { yes?: boolean }): Promise<void> {
	// All are looked at before the first goes, so that a name that is misspelt deletes nothing.
	const found: LimitSummary[] = [];
	for (const name of names) found.push(await context.gate.inspect(name));
	const busy = found.filter(({ leaseCount, activeSlots, waitingCount }) => leaseCount + activeSlots + waitingCount > 0);
	if (busy.length > 0 && !options.yes) {
		for (const { name, activeSlots, limit, waitingCount } of busy) {
			context.note(`${safe(name)} is in use: ${activeSlots} of ${counted(limit, "slot")}, ${waitingCount} waiting.`);
		}
		const all = names.length === 1 ? "it" : `all ${names.length}`;
		if (!(await context.confirm(`Delete ${all}, with leases and lines?`, "Deleting a limit in use"))) {
			throw new CliError("Nothing was deleted.");
		}
	}
	const deleted: string[] = [];
	for (const { name } of found) {
		if (await context.gate.delete(name)) deleted.push(name);
		if (!context.json) context.print(`Deleted ${safe(name)}`);
	}
	if (context.json) context.printJson({ deleted });
}
