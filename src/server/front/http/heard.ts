/**
 * Answers to callers that have waited, and may have gone without the server noticing: an orderly close of a connection
 * (FIN) is told only to the side that writes to it. So white space is written first, which means nothing before JSON. Where
 * that fails the grant is taken back, and its caller was not told of it; one that read the answer itself holds what it says.
 */

import { probe } from "../../contract/probe.ts";
import type { Caller } from "../caller.ts";

/** Answers with `text`, which is JSON. `undo` takes back what it grants. */
export function answerHeard(text: string, headers: HeadersInit, caller: Caller, undo: () => Promise<void>): Response {
	const { readable, writable } = new IdentityTransformStream();
	const writer = writable.getWriter();
	const encoder = new TextEncoder();
	const space = encoder.encode(" ");
	const work = async (): Promise<void> => {
		try {
			await probe(() => writer.write(space));
			await writer.write(encoder.encode(text));
		} catch {
			return undo(); // The connection is gone, and with it the caller that was to hold the slots.
		}
		// A caller that has read all that matters may be gone by now.
		await writer.close().catch(() => undefined);
	};
	caller.waitUntil(work());
	return new Response(readable, { headers });
}
