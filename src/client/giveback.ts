/** Slots whose holder is done with them, while the service cannot be reached: a restart shall not cost a whole lease. */

import type { Slots } from "../protocol.ts";
import { Interruption } from "./interruption.ts";
import { now, pause } from "./timers.ts";
import { backoffMs, type Transport } from "./transport.ts";

/** Longest time for the answer to one try: so long a try under way may keep a process alive that has ended otherwise. */
const TRY_MS = 5_000;
/** The pauses grow to this part of the time that has passed, so that a fleet does not fall upon a service that is back. */
const SLOWER = 1 / 10;

/**
 * Releases a lease, or takes back a request, until it is done or `endsAt` (of `now()`) is past, when it ends by
 * itself. Keeps no process alive. Answers with the last failure, or null when it is given back; never rejects but by
 * `signal`.
 */
export async function giveBack(
	transport: Transport,
	lease: { id: string; names: Slots },
	endsAt: number,
	signal?: AbortSignal,
): Promise<unknown> {
	const startedAt = now();
	for (let failures = 1; ; failures++) {
		try {
			await transport.once("POST", "/v1/release", lease, { signal, answerMs: TRY_MS });
			return null;
		} catch (error) {
			signal?.throwIfAborted();
			const failedAt = now();
			const interruption = error instanceof Interruption ? error : undefined;
			const pauseMs = Math.max(backoffMs(failures, interruption), (failedAt - startedAt) * SLOWER);
			// What is refused stays so.
			if (!interruption || failedAt + pauseMs >= endsAt) return error;
			await pause(pauseMs, signal, true);
		}
	}
}
