/** `pause` and `check`. */

import type { LimitSummary } from "../../client/index.ts";
import type { Context } from "../context.ts";
import { CliError, EXIT } from "../exit.ts";
import { counted, safe, span } from "../print.ts";

export async function pause(
	context: Context,
	names: string[],
	{ for: seconds, end }: { for?: number; end?: boolean },
): Promise<void> {
	if (seconds === undefined && !end) {
		throw new CliError("For how long?", EXIT.usage, "Give --for 30, or --end to end a pause.");
	}
	const summaries: LimitSummary[] = [];
	for (const name of names) {
		const summary = await context.gate.pause(name, end ? 0 : (seconds ?? 0));
		summaries.push(summary);
		if (context.json) continue;
		const { pausedUntil } = summary;
		const left = pausedUntil === null ? "" : span(Date.parse(pausedUntil) - Date.now());
		context.print(pausedUntil === null ? `${safe(name)} grants again` : `Paused ${safe(name)} for ${left}`);
	}
	if (context.json) context.printJson(summaries);
}

export interface CheckOptions {
	occupy?: number;
	rate?: boolean;
	strict?: boolean;
}

/** Answers the exit code. */
export async function check(context: Context, names: string[], options: CheckOptions): Promise<number> {
	const { occupy, rate, strict } = options;
	const answer = await context.gate.check(names, { occupy, strict, ...(rate && { mode: "rate_limit" }) });
	const exitCode = answer.allowed ? EXIT.ok : EXIT.refused;
	if (context.json) {
		context.printJson(answer);
		return exitCode;
	}
	const lines = answer.limits.map(({ name, remaining, limit, enforced }) =>
		enforced ? `${safe(name)}: ${remaining} of ${counted(limit, "slot")} free` : `${safe(name)}: holds nothing back`,
	);
	const again = answer.retryAfterSeconds === undefined ? "" : `, again in ${span(answer.retryAfterSeconds * 1_000)}`;
	context.print(
		...lines,
		answer.allowed ? "Would be granted" : `Would be refused: ${safe(answer.detail ?? "")}${again}`,
	);
	return exitCode;
}
