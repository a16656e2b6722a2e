/** Slots that are held until an answer has been sent, or there is no reader to send it to. */

import type { Lease } from "../client/index.ts";
import { DEFAULTS } from "../protocol.ts";

/** Lets work go on after the answer, where the runtime has a say in that. */
export type WaitUntil = (work: Promise<unknown>) => void;

interface Sending {
	lease: Lease;
	/** Of the request. */
	method: string;
	maxBodySeconds: number | undefined;
	unreadSeconds: number | undefined;
	stalledSeconds: number | undefined;
	/** Aborts when the caller has gone, where that is noticed. */
	gone: AbortSignal;
	waitUntil: WaitUntil | undefined;
}

/** An answer whose slots come back by themselves. */
interface Held {
	answer: Response;
	/** Another answer was sent in place of this one. Null: there is nothing to drop. */
	drop: (() => void) | null;
}

type Bytes = Uint8Array<ArrayBuffer>;
interface Pipe {
	readable: ReadableStream<Bytes>;
	writable: WritableStream<Uint8Array>;
}
/** What workerd has: only these tell their writer that the reader has gone. */
interface Native {
	IdentityTransformStream?: new () => Pipe;
	FixedLengthStream?: new (length: number) => Pipe;
}
const { IdentityTransformStream, FixedLengthStream } = globalThis as Native;

/** Bytes that are handed on at once: a reader that takes a long part slowly is seen to take some of it. */
const PIECE = 65_536;

/** Statuses whose answers have no body. */
const BODILESS = [101, 204, 205, 304];

/**
 * What a handler gave, if it can be sent.
 * @throws TypeError when it is no `Response`, or its body is read already.
 */
export function sendable(response: Response): Response {
	// Not `instanceof`: servers and tests bring classes of their own.
	if (typeof response !== "object" || response === null || typeof response.headers?.get !== "function") {
		throw new TypeError(`The handler gave ${response === null ? "null" : typeof response}, and no Response.`);
	}
	if (response.bodyUsed || response.body?.locked) {
		throw new TypeError("The body of this Response is read already: each request needs a Response of its own.");
	}
	return response;
}

/**
 * The same answer, whose end releases the lease. In workerd only a native pipe tells its writer that the reader has
 * gone, and only when it writes; a body that is silent is bounded by `maxBodySeconds`.
 */
export async function holdUntilSent(response: Response, sending: Sending): Promise<Held> {
	const { lease, method, waitUntil } = sending;
	const release = async (): Promise<void> => lease[Symbol.asyncDispose]();
	if (!response.body || method === "HEAD" || BODILESS.includes(response.status)) {
		// Servers read what they do not send, and a body that no reader gets is not to be made without its slots.
		response.body
			?.cancel()
			.catch((error: unknown) => console.warn("A body that was not sent did not end well:", error));
		if (waitUntil) waitUntil(release());
		else await release();
		return { answer: response.body ? new Response(null, response) : response, drop: null };
	}
	const pipe = pipeFor(response);
	const answer = new Response(pipe.readable, response);
	const dropped = new AbortController();
	// A context without `waitUntil` ends with the answer, and what is not done by then is never done.
	const beforeEnd = IdentityTransformStream && !waitUntil ? release : undefined;
	const sent = send(response.body, pipe, sending, dropped.signal, beforeEnd)
		.finally(release)
		.catch((error: unknown) =>
			console.error("The end of an answer failed, and its slots come back with their lease:", error),
		);
	if (waitUntil) waitUntil(sent);
	// What has a reader may be read on for the answer in its place.
	const drop = (): void => {
		if (!pipe.readable.locked) dropped.abort(new Error("Another answer was sent in place of this one."));
	};
	// Where a runtime makes a body anew with each Response, none can be told from another.
	return { answer, drop: answer.body === pipe.readable ? drop : null };
}

/** A length that the handler gave stays. What is encoded is encoded again on its way out, to another length. */
function pipeFor({ headers }: Response): Pipe {
	const length = headers.get("Content-Length") ?? "";
	const told = /^\d{1,15}$/.test(length) && !headers.has("Content-Encoding");
	if (told && FixedLengthStream) return new FixedLengthStream(Number(length));
	return new (IdentityTransformStream ?? (TransformStream as new () => Pipe))();
}

/** Sends to the end; never rejects. A body that is cut breaks its connection, so that no reader takes it for whole. */
async function send(
	body: ReadableStream<Uint8Array>,
	{ readable, writable }: Pipe,
	sending: Sending,
	dropped: AbortSignal,
	beforeEnd: (() => Promise<void>) | undefined,
): Promise<void> {
	const { lease, gone } = sending;
	const { maxBodySeconds = DEFAULTS.bodySeconds, unreadSeconds = DEFAULTS.unreadSeconds } = sending;
	const { stalledSeconds = DEFAULTS.stalledSeconds } = sending;
	const reader = body.getReader();
	const writer = writable.getWriter();
	let stopWaiting: (reason: unknown) => void;
	// Without workerd's pipe a write that has no reader outlasts its pipe's end.
	const over = new Promise<never>((_, reject) => {
		stopWaiting = reject;
	});
	const cut = (reason: unknown): void => {
		for (const ending of [writer.abort(reason), reader.cancel(reason)]) ending.catch(() => undefined);
		stopWaiting(reason);
	};
	const overtime = new Error(`The answer was cut after ${maxBodySeconds} s: so long may one hold its slots.`);
	const timer = setTimeout(() => cut(overtime), maxBodySeconds * 1_000);
	// A server locks the body that it sends, and asks for its first part at once.
	const ignored = new Error(`Nobody began to read the answer within ${unreadSeconds} s, so it is not held any longer.`);
	const unread = setTimeout(() => !readable.locked && cut(ignored), unreadSeconds * 1_000);
	// A reader that has gone without a word takes nothing more; one that is slow takes something now and then.
	const stalled = new Error(`Nothing of the answer was read for ${stalledSeconds} s, so it is not held any longer.`);
	let [patience, impatience] = [unreadSeconds, ignored];
	let offer = unread;
	const hand = async (piece: Uint8Array): Promise<void> => {
		offer = setTimeout(cut, patience * 1_000, impatience);
		await writer.write(piece);
		clearTimeout(offer);
		clearTimeout(unread);
		[patience, impatience] = [stalledSeconds, stalled];
	};
	const stop = AbortSignal.any([lease.signal, gone, dropped]);
	const stopped = (): void => cut(stop.reason);
	stop.addEventListener("abort", stopped);
	const pump = async (): Promise<void> => {
		for (;;) {
			const { done, value } = await reader.read();
			if (done) break;
			let rest = value;
			for (; rest.byteLength > PIECE; rest = rest.subarray(PIECE)) await hand(rest.subarray(0, PIECE));
			await hand(rest);
		}
		await beforeEnd?.();
		await writer.close();
	};
	try {
		if (stop.aborted) stopped();
		await Promise.race([over, pump()]);
	} catch (error) {
		// The caller has gone, or the handler's body broke: each side is told of the other.
		cut(error);
	} finally {
		clearTimeout(timer);
		clearTimeout(unread);
		clearTimeout(offer);
		stop.removeEventListener("abort", stopped);
	}
}
