/** What estimates came to: each name's object settles its own part. */

import type { Problem, Settled } from "../../protocol.ts";
import type { Env } from "../contract/env.ts";
import { limitOf } from "./limit-stub.ts";
import type { Actual } from "./requests.ts";
import { settleAnswer } from "./verdict.ts";

/** Settles every part that can be; a problem says which cannot. The same again is answered the same. */
export async function settle(env: Env, id: string, actual: Actual): Promise<Settled | Problem> {
	const answers = await Promise.all(
		actual.map(async ([name, slots]) => ({ name, slots, answer: await limitOf(env, name).settle(id, slots) })),
	);
	return settleAnswer(id, answers);
}
