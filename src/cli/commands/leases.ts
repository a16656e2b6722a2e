/** `leases` and `release`. */

import type { LeaseInfo } from "../../client/index.ts";
import type { Context } from "../context.ts";
import { CliError, EXIT } from "../exit.ts";
import { type Column, counted, type Screen, safe, span, table, word } from "../print.ts";

export function leaseColumns(screen: Screen): Column<LeaseInfo>[] {
	// Moments for programs, time spans for people.
	const moments: Column<LeaseInfo>[] = screen.terminal
		? [
				{ title: "FOR", drop: 2, right: true, text: ({ since }) => span(Date.now() - Date.parse(since)) },
				{ title: "ENDS IN", drop: 1, right: true, text: ({ expiresAt }) => span(Date.parse(expiresAt) - Date.now()) },
			]
		: [
				{ title: "SINCE", drop: 0, text: ({ since }) => safe(since) },
				{ title: "EXPIRES", drop: 0, text: ({ expiresAt }) => safe(expiresAt) },
			];
	return [
		{ title: "ID", drop: 0, text: ({ id }) => safe(id) },
		{ title: "SLOTS", drop: 0, right: true, text: ({ slots }) => String(slots) },
		{
			title: "HOLDER",
			drop: 0,
			cut: true,
			text: ({ holder }) => safe(holder ?? "-"),
			color: (_, text) => screen.colors.bold(text),
		},
		...moments,
	];
}

export async function leases(context: Context, name: string): Promise<void> {
	const all: LeaseInfo[] = [];
	for await (const lease of context.gate.leases(name)) all.push(lease);
	if (context.json) return context.printJson(all);
	if (all.length > 0) return context.print(...table(context.out, leaseColumns(context.out), all));
	if (context.out.terminal) context.print(`Nobody holds ${safe(name)}.`);
}

export async function release(
	context: Context,
	name: string,
	ids: string[],
	options: { all?: boolean; yes?: boolean },
): Promise<void> {
	if (options.all ? ids.length > 0 : ids.length === 0) {
		throw new CliError("Say which leases, or --all.", EXIT.usage, `\`headgate leases ${word(name)}\` shows them.`);
	}
	const which = [...ids];
	if (options.all) {
		for await (const lease of context.gate.leases(name)) which.push(lease.id);
		const question = `Release ${counted(which.length, "lease")} of ${safe(name)}?`;
		if (which.length === 0 && context.out.terminal && !context.json) context.print(`Nobody holds ${safe(name)}.`);
		if (which.length > 0 && !options.yes && !(await context.confirm(question, "Releasing all leases"))) {
			throw new CliError("Nothing was released.");
		}
	}
	const released: Record<string, number> = {};
	for (const id of which) {
		released[id] = (await context.gate.forceRelease(name, id)).released;
		if (!context.json) context.print(`${safe(id)}: ${counted(released[id], "slot")} back`);
	}
	if (context.json) context.printJson({ released });
	// A lease that had ended is no failure, but none at all was surely misspelt.
	if (!options.all && Object.values(released).every((slots) => slots === 0)) {
		throw new CliError(
			`"${safe(name)}" has no such lease: it has ended, or never was.`,
			EXIT.refused,
			`\`headgate leases ${word(name)}\` shows those there are.`,
		);
	}
}
