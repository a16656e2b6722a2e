/** Headgate and what else there is, side by side, each real and on this machine: `npm run bench -- peers`. */

import type { Context } from "../context.ts";
import type { Report } from "../report.ts";
import { deployments } from "./deployments.ts";
import { installed } from "./installed.ts";
import { prices } from "./prices.ts";
import { achieved, denials, hotKey, killedStore } from "./rates.ts";
import { filled } from "./rounds.ts";
import { slots } from "./slots.ts";

export async function peers(context: Context): Promise<Record<string, Report>> {
	const { progress, short } = context;
	const here = installed(short, progress);
	const held = await slots(here, context);
	const { all, stop, not } = await deployments(here, progress);
	const cannot = [...Map.groupBy(not, ({ why }) => why)].map(([why, those]) => [
		those.map(({ name }) => name).join("; "),
		why,
	]);
	// What is let in and spent does not depend on how a Redis keeps it, and what is lost not on who asks it.
	const kinds = all.filter(({ only }) => only === undefined);
	const stores = all.filter(({ name, only }) => only === undefined || name.startsWith("rate-limiter-flexible"));
	try {
		const reports: Record<string, Report> = {
			"peers-grants": await hotKey(all, context),
			"peers-admitted": await achieved(kinds, context),
			"peers-denials": await denials(kinds, context),
			"peers-killed": await killedStore(stores, context),
		};
		for (const report of Object.values(reports)) {
			report.rows = [...report.rows, ...cannot].map((row) => filled(row, report.head));
		}
		return { ...held, ...reports, "peers-prices": prices() };
	} finally {
		await stop();
	}
}
