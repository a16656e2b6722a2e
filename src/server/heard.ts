/**
 * Answers to callers that have waited, and may have gone without the server noticing: an orderly close of a connection
 * (FIN) is told only to those who write to it. So white space is written first, which means nothing before JSON. Where
 * that fails the grant is taken back, and nobody was told of it; whoever read the answer itself holds what it says.
 */

import type { Caller } from "./acquire.ts";

/** After its first byte an answer pauses, for the other end to say that nobody reads it: a local network takes less. */
const PROBE_MS = 1;
/**
 * Then it is written to so often. The runtime looks at a few connections in each turn, and each write takes one turn:
 * with hundreds of callers that went at once, four were enough.
 */
const PROBES = 7;

/** Answers with `text`, which is JSON. `undo` takes back what it grants. */
export function answerHeard(text: string, headers: HeadersInit, caller: Caller, undo: () => Promise<void>): Response {
	const { readable, writable } = new IdentityTransformStream();
	const writer = writable.getWriter();
	const encoder = new TextEncoder();
	const probe = encoder.encode(" ");
	const work = async (): Promise<void> => {
		try {
			await writer.write(probe);
			await scheduler.wait(PROBE_MS);
			for (let probes = 0; probes < PROBES; probes += 1) await writer.write(probe);
			await writer.write(encoder.encode(text));
		} catch {
			return undo(); // The connection is gone, and with it whoever was to hold the slots.
		}
		// Whoever has read all that matters may be gone by now.
		await writer.close().catch(() => undefined);
	};
	caller.waitUntil(work());
	return new Response(readable, { headers });
}
