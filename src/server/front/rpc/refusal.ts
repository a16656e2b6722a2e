/** Refusals that are thrown to other Workers. */

import type { Problem } from "../../../protocol.ts";
import { type RefusalName, withRefusal } from "../../../refusals.ts";

/** A refusal as it is thrown to another Worker: with its name, its message and the problem itself; see `refusalOf`. */
export function refusal(refused: Problem, name: RefusalName = "HeadgateError"): Error & { problem: Problem } {
	const fields = (refused.errors ?? []).map(({ field, message }) => `${field}: ${message}`).join("; ");
	const detail = [`${refused.status} ${refused.code}`, refused.detail || refused.title, fields].filter((part) => part);
	const message = withRefusal(detail.join("; "), { name, problem: refused });
	return Object.assign(new Error(message), { name, problem: refused });
}
