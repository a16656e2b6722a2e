/** What estimates came to: each name's object settles its own part. */

import type { LimitStatus, Problem, Settled } from "../../protocol.ts";
import { publicStatus } from "../contract/answers.ts";
import type { Env } from "../contract/env.ts";
import { problem } from "../contract/problems.ts";
import { limitOf } from "./limit-stub.ts";
import type { Actual } from "./requests.ts";

/** Settles every part that can be; a problem says which cannot. The same again is answered the same. */
export async function settle(env: Env, id: string, actual: Actual): Promise<Settled | Problem> {
	const answers = await Promise.all(
		actual.map(async ([name, slots]) => ({ name, slots, answer: await limitOf(env, name).settle(id, slots) })),
	);
	const gone: string[] = [];
	const otherwise: string[] = [];
	const settled: [string, number][] = [];
	const limits: LimitStatus[] = [];
	for (const { name, slots, answer } of answers) {
		const { event, status } = answer ?? {};
		if (!status || event?.kind !== "settled") gone.push(`"${name}"`);
		else if (event.outcome === "otherwise") otherwise.push(`"${name}" with ${event.slots} and not ${slots}`);
		else {
			settled.push([name, event.slots]);
			limits.push(publicStatus(status));
		}
	}
	const rest = settled.length > 0 ? " The other names are settled." : "";
	if (gone.length > 0) {
		const why = "none was granted with `settleSeconds`, or they are over and it stands";
		return problem("receipt_gone", `There is no estimate "${id}" of ${gone.join(", ")}: ${why}.${rest}`);
	}
	if (otherwise.length > 0) {
		return problem("already_settled", `The estimate "${id}" was settled before: ${otherwise.join(", ")}.${rest}`);
	}
	return { id, actual: Object.fromEntries(settled), limits };
}
