/** Slots that are held until an answer has been sent, or nobody is there to send it to. */

import type { Lease } from "../client/index.ts";

/** Lets work go on after the answer, where the runtime has a say in that. */
export type WaitUntil = (work: Promise<unknown>) => void;

interface Sending {
	lease: Lease;
	maxBodySeconds: number;
	/** Aborts when the caller has gone, where that is noticed. */
	gone: AbortSignal;
	waitUntil: WaitUntil | undefined;
}

type Pipe = new () => { readable: ReadableStream<Uint8Array<ArrayBuffer>>; writable: WritableStream<Uint8Array> };

/**
 * The same answer, whose end releases the lease. In workerd only a native pipe tells its writer that the reader has
 * gone, and only when it writes; a body that is silent is bounded by `maxBodySeconds`.
 */
export async function holdUntilSent(response: Response, sending: Sending): Promise<Response> {
	const { lease, waitUntil } = sending;
	const release = async (): Promise<void> => lease[Symbol.asyncDispose]();
	if (!response.body || response.status === 101) {
		if (waitUntil) waitUntil(release());
		else await release();
		return response;
	}
	const native = (globalThis as { IdentityTransformStream?: Pipe }).IdentityTransformStream;
	const { readable, writable } = new (native ?? (TransformStream as Pipe))();
	const sent = send(response.body, writable, sending).finally(release);
	if (waitUntil) waitUntil(sent);
	return new Response(readable, response);
}

/** Sends to the end; never rejects. A body that is cut breaks its connection, so that nobody takes it for whole. */
async function send(
	body: ReadableStream<Uint8Array>,
	writable: WritableStream<Uint8Array>,
	{ lease, maxBodySeconds, gone }: Sending,
): Promise<void> {
	const reader = body.getReader();
	const writer = writable.getWriter();
	const cut = (reason: unknown): void => {
		for (const ending of [writer.abort(reason), reader.cancel(reason)]) ending.catch(() => undefined);
	};
	const overtime = new Error(`The answer was cut after ${maxBodySeconds} s: so long may one hold its slots.`);
	const timer = setTimeout(() => cut(overtime), maxBodySeconds * 1_000);
	const stop = AbortSignal.any([lease.signal, gone]);
	const stopped = (): void => cut(stop.reason);
	stop.addEventListener("abort", stopped);
	if (stop.aborted) stopped();
	try {
		for (;;) {
			const { done, value } = await reader.read();
			if (done) break;
			await writer.write(value);
		}
		await writer.close();
	} catch (error) {
		// The caller has gone, or the handler's body broke: each side is told of the other.
		cut(error);
	} finally {
		clearTimeout(timer);
		stop.removeEventListener("abort", stopped);
	}
}
