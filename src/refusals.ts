/**
 * Refusals as they are thrown over a service binding. Between two processes RPC keeps an error's message and drops its
 * name and its fields, as with two of `wrangler dev`: so the message carries them too, on a line of its own.
 */

import type { Problem } from "./protocol.ts";

/** What a service binding throws, by the `name` of the error. */
export type RefusalName = "TimeoutError" | "ConcurrencySlotAcquisitionError" | "HeadgateError";

export interface Refusal {
	/** `TimeoutError` after `timeoutSeconds`, `ConcurrencySlotAcquisitionError` where slots are refused, else `HeadgateError`. */
	name: RefusalName;
	problem: Problem;
}

const MARK = "\nheadgate refusal: ";

/** A message that carries the refusal along. */
export const withRefusal = (message: string, refusal: Refusal): string => `${message}${MARK}${JSON.stringify(refusal)}`;

/** What a service binding refused, whichever process it runs in; null: the error is of another kind. */
export function refusalOf(error: unknown): Refusal | null {
	if (!(error instanceof Error)) return null;
	const at = error.message.lastIndexOf(MARK);
	if (at < 0) return null;
	try {
		return JSON.parse(error.message.slice(at + MARK.length)) as Refusal;
	} catch {
		return null; // Cut on its way, or the text of another program.
	}
}
