/** `policies`, `policies set` and `policies delete`. */

import type { Policy } from "../../client/index.ts";
import type { Context } from "../context.ts";
import { CliError, EXIT } from "../exit.ts";
import { type Column, comesBack, counted, safe, span, table } from "../print.ts";
import type { ConfigureOptions } from "./limits.ts";

const lends = ({ lendSeconds = 0 }: Policy): string => (lendSeconds > 0 ? `, lent for ${lendSeconds} s` : "");

const COLUMNS: Column<Policy>[] = [
	{ title: "PATTERN", drop: 0, cut: true, text: ({ pattern }) => safe(pattern) },
	{ title: "LIMIT", drop: 0, right: true, text: ({ limit }) => String(limit) },
	{ title: "COMES BACK", drop: 1, right: true, text: comesBack },
	{ title: "KEPT IDLE", drop: 3, right: true, text: ({ idleSeconds }) => span(idleSeconds * 1_000) },
	{ title: "REGION", drop: 4, text: ({ region }) => region ?? "" },
	{ title: "STATE", drop: 2, text: ({ active, enforce }) => (active ? (enforce ? "" : "only watches") : "off") },
];

export async function policies(context: Context): Promise<void> {
	const all = await context.gate.policies();
	if (context.json) return context.printJson(all);
	if (all.length > 0) return context.print(...table(context.out, COLUMNS, all));
	if (context.out.terminal)
		context.print("No policies yet. Make one: headgate policies set 'login:*' --limit 5 --decay 5/min");
}

export async function deniedKeys(context: Context, pattern: string): Promise<void> {
	const keys = await context.gate.deniedKeys(pattern);
	if (context.json) return context.printJson(keys);
	const columns: Column<(typeof keys)[number]>[] = [
		{ title: "KEY", drop: 0, cut: true, text: ({ name }) => safe(name) },
		{ title: "DENIED LATELY", drop: 0, right: true, text: ({ denied }) => String(denied) },
	];
	if (keys.length > 0) return context.print(...table(context.out, columns, keys));
	if (context.out.terminal) context.print(`No key of ${safe(pattern)} told of a denial within the last minute or two.`);
}

export async function setPolicy(
	context: Context,
	pattern: string,
	options: ConfigureOptions & { limit: number; idle?: number },
): Promise<void> {
	const { limit, decay, lend, window, active, enforce, idle, region, weights, starveAfterSeconds } = options;
	const settings = {
		limit,
		...(decay !== undefined && { slotDecayPerSecond: decay }),
		...(window !== undefined && { window }),
		...(lend !== undefined && { lendSeconds: lend }),
		...(active !== undefined && { active }),
		...(enforce !== undefined && { enforce }),
		...(weights !== undefined && { weights }),
		...(starveAfterSeconds !== undefined && { starveAfterSeconds }),
		...(idle !== undefined && { idleSeconds: idle }),
		...(region !== undefined && { region }),
	};
	const policy = await context.gate.configurePolicy(pattern, settings);
	if (context.json) return context.printJson(policy);
	const words = comesBack(policy);
	const decays = words === "" ? "" : policy.window ? ` ${words}` : `, decay ${words}`;
	context.print(
		`Set ${safe(pattern)}: ${counted(policy.limit, "slot")}${decays}${lends(policy)}${policy.active ? "" : ", switched off"}`,
	);
}

export async function deletePolicies(context: Context, patterns: string[]): Promise<void> {
	const deleted: string[] = [];
	for (const pattern of patterns) {
		if (!(await context.gate.deletePolicy(pattern))) {
			throw new CliError(
				`There is no policy "${pattern}".`,
				EXIT.refused,
				"`headgate policies` shows those there are.",
			);
		}
		deleted.push(pattern);
		if (!context.json) context.print(`Deleted ${safe(pattern)}`);
	}
	if (context.json) context.printJson({ deleted });
}
