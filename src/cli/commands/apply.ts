/** `apply` and `export`: limits and policies as a file. */

import { isUtf8 } from "node:buffer";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { buffer } from "node:stream/consumers";
import { pathToFileURL } from "node:url";
import { isHeadgateError, type LimitSummary } from "../../client/index.ts";
import type { TokenInfo } from "../../protocol.ts";
import type { Context } from "../context.ts";
import { type Desired, type Format, readDesired, writeDesired } from "../desired.ts";
import { systemErrorCode } from "../errors.ts";
import { CliError, EXIT } from "../exit.ts";
import { listLimits } from "../listing.ts";
import { writeSource } from "../output.ts";
import { type Actual, misplaced, type Plan, plan, type Step, spellings } from "../plan.ts";
import { counted, type Screen, safe } from "../print.ts";

export interface ApplyOptions {
	prune?: boolean;
	dryRun?: boolean;
	yes?: boolean;
}

/** Limits that are asked at once. */
const AT_ONCE = 8;

export async function apply(context: Context, file: string, options: ApplyOptions): Promise<void> {
	const desired = await read(file);
	if (!options.dryRun) await checkToken(context, desired);
	const actual = await look(context, desired, options.prune === true);
	checkPlaces(desired, actual);
	const wanted = plan(desired, actual, options.prune === true);
	if (!context.json) context.print(...describe(context.out, wanted));
	if (wanted.steps.length === 0 || options.dryRun) {
		if (context.json) context.printJson({ ...wanted, applied: 0 });
		return;
	}
	if (!options.yes && !(await context.confirm("Apply these changes?", "Applying a plan"))) {
		throw new CliError("Nothing was applied.");
	}
	let applied = 0;
	try {
		for (const step of wanted.steps) {
			await carryOut(context, step, desired);
			applied++;
		}
	} catch (error) {
		context.warn(
			`stopped after ${applied} of ${counted(wanted.steps.length, "change")}; apply again to go on from there`,
		);
		throw error;
	}
	if (context.json) context.printJson({ ...wanted, applied });
	else context.print(`Applied ${counted(applied, "change")}.`);
}

async function read(file: string): Promise<Desired> {
	if (file === "-") {
		const content = decode(await buffer(process.stdin), "standard input");
		return readDesired(content, content.trimStart().startsWith("{") ? "json" : "toml", "standard input");
	}
	if (/\.[cm]?[jt]s$/i.test(file)) return readDesired(await fromCode(file), "json", file);
	try {
		return readDesired(decode(await readFile(file), file), /\.json$/i.test(file) ? "json" : "toml", file);
	} catch (error) {
		if (systemErrorCode(error) === undefined) throw error;
		if (systemErrorCode(error) === "ENOENT") throw new CliError(`There is no file ${file}.`, EXIT.usage);
		throw new CliError(`${file} cannot be read: ${(error as Error).message}`, EXIT.usage);
	}
}

/** What a program exports by default, most often made by `defineLimits`, as JSON. */
async function fromCode(file: string): Promise<string> {
	if (!existsSync(file)) throw new CliError(`There is no file ${file}.`, EXIT.usage);
	try {
		const exported = (await import(pathToFileURL(path.resolve(file)).href)) as { default?: unknown };
		if (typeof exported.default === "object" && exported.default !== null) return JSON.stringify(exported.default);
	} catch (error) {
		const why = (error as { code?: string }).code === "ERR_UNKNOWN_FILE_EXTENSION";
		const hint = why ? "Node reads TypeScript from 22.18 on: use a newer one, or a .js file." : undefined;
		throw new CliError(`${file} cannot be run: ${(error as Error).message}`, EXIT.usage, hint);
	}
	throw new CliError(`${file} has no default export of limits: export default defineLimits({ … })`, EXIT.usage);
}

/** UTF-8 with or without a mark at its beginning. Anything else would turn two names into one. */
function decode(bytes: Buffer, file: string): string {
	if (isUtf8(bytes)) return new TextDecoder().decode(bytes);
	let line = 1;
	for (let from = 0; from < bytes.length; line++) {
		const end = bytes.indexOf("\n", from);
		if (!isUtf8(bytes.subarray(from, end === -1 ? bytes.length : end))) break;
		from = end === -1 ? bytes.length : end + 1;
	}
	throw new CliError(`${file} is not UTF-8 (line ${line}), so nothing was applied.`, EXIT.data);
}

/** Refuses before anything is changed what the server would refuse in the middle. */
async function checkToken(context: Context, { limits, policies }: Desired): Promise<void> {
	const { scope, prefix } = await context.transport().call<TokenInfo>("GET", "/v1/token");
	if (scope !== "admin") {
		throw new CliError(`Applying needs a token of scope "admin"; yours has scope "${scope}".`, EXIT.noPermission);
	}
	const outside = [...limits.keys(), ...policies.keys()].filter((name) => !name.startsWith(prefix));
	if (outside.length === 0) return;
	const list = outside.slice(0, 5).map((name) => `"${name}"`);
	const rest = outside.length > list.length ? ` and ${outside.length - list.length} more` : "";
	const message = `Your token is for names that start with "${prefix}", and not for ${list.join(", ")}${rest}: nothing was applied.`;
	throw new CliError(message, EXIT.noPermission);
}

/** The same of limits that would have to move. */
function checkPlaces(desired: Desired, actual: Actual): void {
	const all = misplaced(desired, actual);
	if (all.length === 0) return;
	const list = all.slice(0, 5).map(([name, region]) => `"${safe(name)}" (${region ?? "none"})`);
	const rest = all.length > list.length ? ` and ${all.length - list.length} more` : "";
	throw new CliError(
		`The file asks for another region than these limits were made with: ${list.join(", ")}${rest}. Nothing was applied.`,
		EXIT.refused,
		"A limit never moves: leave `region` out, or give the limit another name there.",
	);
}

async function look(context: Context, desired: Desired, prune: boolean): Promise<Actual> {
	const policies = new Map((await context.gate.policies()).map((policy) => [policy.pattern, policy]));
	const limits = new Map<string, LimitSummary>();
	const names = [...new Set([...desired.limits.keys()].flatMap(spellings))];
	const ask = async (): Promise<void> => {
		for (let name = names.shift(); name !== undefined; name = names.shift()) {
			const found = await inspected(context, name);
			if (found) limits.set(name, found);
		}
	};
	await Promise.all(Array.from({ length: AT_ONCE }, ask));
	if (prune) {
		const listed = await listLimits(context);
		if (listed.unavailable.length > 0) throw unavailable(listed.unavailable);
		for (const limit of listed.limits) limits.set(limit.name, limit);
	}
	return { limits, policies };
}

async function inspected(context: Context, name: string): Promise<LimitSummary | undefined> {
	try {
		return await context.gate.inspect(name);
	} catch (error) {
		if (isHeadgateError(error) && error.code === "unknown_limit") return undefined;
		throw error;
	}
}

const unavailable = (names: string[]): CliError =>
	new CliError(
		`${counted(names.length, "limit")} did not answer (${names.slice(0, 5).join(", ")}).`,
		EXIT.unreachable,
		"Try again.",
	);

const SIGN = { create: "+", change: "~", delete: "-" } as const;

function describe(screen: Screen, { steps, unchanged }: Plan): string[] {
	const { green, yellow, red, dim } = screen.colors;
	const color = { create: green, change: yellow, delete: red };
	const lines = steps.map(({ kind, name, action, changes, note }) => {
		const fields = changes.map(({ field, from, to }) =>
			from === undefined ? `${field} ${to}` : `${field} ${from} -> ${to}`,
		);
		const what = [...fields, ...(note === undefined ? [] : [note])].join(", ");
		const title = `${SIGN[action]} ${kind === "policy" ? "policy " : ""}${safe(name)}`;
		return `${color[action](title)}${what === "" ? "" : `  ${dim(what)}`}`;
	});
	const tally = (action: Step["action"]) => steps.filter((step) => step.action === action).length;
	if (steps.length === 0)
		return [`Nothing to do: ${unchanged === 1 ? "the entry is as it" : `${unchanged} entries are as they`} should be.`];
	const sum = `${tally("create")} to create, ${tally("change")} to change, ${tally("delete")} to delete, ${unchanged} as they should be`;
	return [...lines, sum];
}

async function carryOut({ gate }: Context, { kind, name, action }: Step, desired: Desired): Promise<void> {
	if (action === "delete") {
		await (kind === "limit" ? gate.delete(name) : gate.deletePolicy(name));
		return;
	}
	const settings = desired[kind === "limit" ? "limits" : "policies"].get(name);
	if (settings === undefined) throw new Error(`The plan speaks of ${name}, which the file does not`);
	await (kind === "limit" ? gate.configure(name, settings) : gate.configurePolicy(name, settings));
}

/** Writes what was configured by hand, and the policies; names that came by their first use are not wished for. */
export async function exportAll(context: Context, options: { format?: Format; output?: string }): Promise<void> {
	const [listed, policies] = [await listLimits(context), await context.gate.policies()];
	if (listed.unavailable.length > 0) throw unavailable(listed.unavailable);
	const desired: Desired = {
		limits: new Map(listed.limits.filter(({ origin }) => origin === "configured").map((limit) => [limit.name, limit])),
		policies: new Map(policies.map((policy) => [policy.pattern, policy])),
	};
	const byFile = options.output !== undefined && /\.json$/i.test(options.output) ? "json" : "toml";
	const format = options.format ?? (context.json ? "json" : byFile);
	const content = writeDesired(desired, format);
	if (options.output === undefined) writeSource(process.stdout, content, format);
	else await writeFile(options.output, content);
}
