/** Headgate and what else there is, side by side, each real and on this machine: `npm run bench -- peers`. */

import type { Context } from "../context.ts";
import type { Report } from "../report.ts";
import { deployments } from "./deployments.ts";
import { installed } from "./installed.ts";
import { achieved, denials, hotKey, killedStore } from "./rates.ts";

export async function peers(context: Context): Promise<Record<string, Report>> {
	const { progress, short } = context;
	const here = installed(short, progress);
	const { all, stop, not } = await deployments(here, progress);
	const cannot = [...Map.groupBy(not, ({ why }) => why)]
		.map(([why, those]) => `${those.map(({ name }) => name).join("; ")} (${why})`)
		.join("; ");
	try {
		const reports: Record<string, Report> = {
			"peers-grants": await hotKey(all, context),
			"peers-admitted": await achieved(all, context),
			"peers-denials": await denials(all, context),
			"peers-killed": await killedStore(all, context),
		};
		if (cannot !== "") for (const report of Object.values(reports)) report.notes.push(`Not here: ${cannot}.`);
		return reports;
	} finally {
		await stop();
	}
}
