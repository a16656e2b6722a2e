/** All limits, and the names of those that could not be asked: a list that leaves some out has to say so. */

import type { LimitSummary, LimitsPage } from "../protocol.ts";
import type { Context } from "./context.ts";

export interface Listing {
	limits: LimitSummary[];
	unavailable: string[];
}

export async function listLimits(context: Context, prefix?: string): Promise<Listing> {
	const transport = context.transport();
	const all: Listing = { limits: [], unavailable: [] };
	const query = new URLSearchParams(prefix ? { prefix } : {});
	for (;;) {
		const page: LimitsPage = await transport.call("GET", `/v1/limits?${query}`);
		all.limits.push(...page.limits);
		all.unavailable.push(...(page.unavailable ?? []));
		if (page.next === null) return all;
		query.set("after", page.next);
	}
}
