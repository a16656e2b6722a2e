/** `policies`, `policies set` and `policies delete`. */

import type { Policy } from "../../client/index.ts";
import type { Region } from "../../protocol.ts";
import type { Context } from "../context.ts";
import { CliError, EXIT } from "../exit.ts";
import { type Column, counted, rate, safe, span, table } from "../print.ts";

const lends = ({ lendSeconds = 0 }: Policy): string => (lendSeconds > 0 ? `, lent for ${lendSeconds} s` : "");

const COLUMNS: Column<Policy>[] = [
	{ title: "PATTERN", drop: 0, cut: true, text: ({ pattern }) => safe(pattern) },
	{ title: "LIMIT", drop: 0, right: true, text: ({ limit }) => String(limit) },
	{ title: "DECAY", drop: 1, right: true, text: ({ slotDecayPerSecond }) => rate(slotDecayPerSecond) },
	{ title: "KEPT IDLE", drop: 3, right: true, text: ({ idleSeconds }) => span(idleSeconds * 1_000) },
	{ title: "REGION", drop: 4, text: ({ region }) => region ?? "" },
	{ title: "STATE", drop: 2, text: ({ active }) => (active ? "" : "off") },
];

export async function policies(context: Context): Promise<void> {
	const all = await context.gate.policies();
	if (context.json) return context.printJson(all);
	if (all.length > 0) return context.print(...table(context.out, COLUMNS, all));
	if (context.out.terminal)
		context.print("No policies yet. Make one: headgate policies set 'login:*' --limit 5 --decay 5/min");
}

export async function setPolicy(
	context: Context,
	pattern: string,
	options: { limit: number; decay?: number; lend?: number; active?: boolean; idle?: number; region?: Region },
): Promise<void> {
	const { limit, decay, lend, active, idle, region } = options;
	const settings = {
		limit,
		...(decay !== undefined && { slotDecayPerSecond: decay }),
		...(lend !== undefined && { lendSeconds: lend }),
		...(active !== undefined && { active }),
		...(idle !== undefined && { idleSeconds: idle }),
		...(region !== undefined && { region }),
	};
	const policy = await context.gate.configurePolicy(pattern, settings);
	if (context.json) return context.printJson(policy);
	const decays = policy.slotDecayPerSecond === 0 ? "" : `, decay ${rate(policy.slotDecayPerSecond)}`;
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
