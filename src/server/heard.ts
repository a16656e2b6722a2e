/**
 * Answers to callers that have waited, and may have gone without the server noticing: an orderly close of a connection
 * (FIN) is told only to those who write to it. So the answer is written, and ended a moment later. Where that fails
 * nobody has heard, and the grant is taken back.
 */

import type { Caller } from "./acquire.ts";

/** An answer is kept open for so long, for the other end to say that nobody reads it: a local network takes less. */
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
	// White space at the end of JSON means nothing.
	const [probe, end] = [encoder.encode(" "), encoder.encode("\n")];
	const work = async (): Promise<void> => {
		try {
			await writer.write(encoder.encode(text));
			await scheduler.wait(PROBE_MS);
			for (let probes = 0; probes < PROBES; probes += 1) await writer.write(probe);
			await writer.write(end);
			await writer.close();
		} catch {
			await undo(); // The connection is gone, and with it whoever was to hold the slots.
		}
	};
	caller.waitUntil(work());
	return new Response(readable, { headers });
}
