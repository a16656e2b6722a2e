/** Reads the lines of a stream that a limit's object made. */

import type { WaitingFor } from "../../protocol.ts";
import type { Outcome } from "../contract/outcomes.ts";

/** The place in a line of a waiter that waits on. */
export interface Place {
	place: number;
	waitingFor: WaitingFor;
}

export type Line = Outcome | Place | { event: "heartbeat" };

export async function* lines(stream: ReadableStream, signal: AbortSignal): AsyncGenerator<Line> {
	for await (const text of textLines(stream, signal)) yield JSON.parse(text) as Line;
}

/**
 * Yields each line that is not empty. Leaving the loop, or the signal, ends it and cancels the stream, and the object
 * notices.
 */
export async function* textLines(stream: ReadableStream, signal: AbortSignal): AsyncGenerator<string> {
	const reader = (stream as ReadableStream<Uint8Array>).getReader();
	const stop = (): void => void reader.cancel(signal.reason).catch(() => undefined);
	if (signal.aborted) stop();
	signal.addEventListener("abort", stop);
	const decoder = new TextDecoder();
	let text = "";
	try {
		for (;;) {
			const { done, value } = await reader.read().catch((error: unknown) => {
				// A cancelled read may fail instead of ending.
				if (!signal.aborted) throw error;
				return { done: true as const, value: undefined };
			});
			if (done || signal.aborted) return;
			text += decoder.decode(value, { stream: true });
			const parts = text.split("\n");
			text = parts.pop() ?? "";
			for (const part of parts) if (part !== "") yield part;
		}
	} finally {
		signal.removeEventListener("abort", stop);
		// What is over already cannot be cancelled, and that is as well.
		await reader.cancel().catch(() => undefined);
	}
}
