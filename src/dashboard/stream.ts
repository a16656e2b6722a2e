/** The one stream of the page: asked for again whenever it breaks, and let go while the page is hidden. */

import { batch, signal } from "@preact/signals";
import type { WatchEvent } from "../protocol.ts";
import { WATCH_BEAT_MS } from "../rhythms.ts";
import { ask, granted, inspectToken, Refusal } from "./api.ts";

/** `live`: lines come. `connecting`: for the first time, or again after a moment. `lost`: it did not come back at once. */
export const connection = signal<"connecting" | "live" | "lost">("connecting");
/** When the last line came, by this computer's clock. */
export const heardAt = signal(Date.now());
/** The server's time, second by second. */
export const now = signal(Date.now());
let offsetMs = 0;
setInterval(() => {
	now.value = Date.now() + offsetMs;
}, 1_000);

/** Three heartbeats that are missing, and a moment, are a broken connection. */
const SILENCE_MS = 3 * WATCH_BEAT_MS + 500;
const AGAIN_MS = { first: 500, last: 10_000 };
/** A page in the background lets the stream go after this; watched limits stay in the server's memory. */
const HIDDEN_MS = 60_000;

/** Follows a stream of events until `stop`; a refusal that will not change ends it. */
export function follow(
	query: Record<string, string>,
	hear: (event: WatchEvent) => void,
	refused: (refusal: Refusal) => void,
): { stop(): void } {
	const over = new AbortController();
	void run(`/v1/watch?${new URLSearchParams(query)}`, hear, refused, over.signal);
	return { stop: () => over.abort() };
}

async function run(
	path: string,
	hear: (event: WatchEvent) => void,
	refused: (refusal: Refusal) => void,
	over: AbortSignal,
): Promise<void> {
	let pauseMs = AGAIN_MS.first;
	connection.value = "connecting";
	while (!over.aborted) {
		const silence = new AbortController();
		try {
			const ended = AbortSignal.any([over, silence.signal]);
			const response = await ask("GET", path, undefined, ended);
			// Beside the figures, which need not wait for it.
			if (granted.value === null) void learn(ended).catch(() => silence.abort());
			await read(response, hear, silence);
			pauseMs = AGAIN_MS.first;
		} catch (error) {
			if (over.aborted) return;
			if (error instanceof Refusal && error.problem.status < 500 && error.problem.status !== 429) {
				return refused(error);
			}
		}
		if (over.aborted) return;
		connection.value = pauseMs > AGAIN_MS.first ? "lost" : "connecting";
		await visible(over);
		await pause(pauseMs, over);
		pauseMs = Math.min(AGAIN_MS.last, 2 * pauseMs);
	}
}

/** What the token allows. Where that cannot be heard the stream is taken up again, and so it is asked again. */
async function learn(ended: AbortSignal): Promise<void> {
	const info = await inspectToken();
	if (!ended.aborted) granted.value = info;
}

async function read(response: Response, hear: (event: WatchEvent) => void, silence: AbortController): Promise<void> {
	const reader = (response.body as ReadableStream<Uint8Array>).getReader();
	const decoder = new TextDecoder();
	let text = "";
	let timer = setTimeout(() => silence.abort(), SILENCE_MS);
	let hidden: ReturnType<typeof setTimeout> | undefined;
	const onVisibility = (): void => {
		clearTimeout(hidden);
		if (document.hidden) hidden = setTimeout(() => silence.abort(), HIDDEN_MS);
	};
	document.addEventListener("visibilitychange", onVisibility);
	try {
		for (;;) {
			const { done, value } = await reader.read();
			if (done) return;
			clearTimeout(timer);
			timer = setTimeout(() => silence.abort(), SILENCE_MS);
			const lines = (text + decoder.decode(value, { stream: true })).split("\n");
			text = lines.pop() ?? "";
			batch(() => {
				connection.value = "live";
				heardAt.value = Date.now();
				for (const line of lines) tell(JSON.parse(line) as WatchEvent, hear);
			});
		}
	} finally {
		clearTimeout(timer);
		clearTimeout(hidden);
		document.removeEventListener("visibilitychange", onVisibility);
		reader.cancel().catch(() => undefined); // It may have ended already.
	}
}

function tell(event: WatchEvent, hear: (event: WatchEvent) => void): void {
	if (event.event === "heartbeat") offsetMs = Date.parse(event.at) - Date.now();
	hear(event);
}

function pause(ms: number, over: AbortSignal): Promise<void> {
	return new Promise((resolve) => {
		const timer = setTimeout(resolve, ms);
		over.addEventListener("abort", () => {
			clearTimeout(timer);
			resolve();
		});
	});
}

function visible(over: AbortSignal): Promise<void> {
	return new Promise((resolve) => {
		if (!document.hidden) return resolve();
		const done = (): void => {
			document.removeEventListener("visibilitychange", done);
			resolve();
		};
		document.addEventListener("visibilitychange", done);
		over.addEventListener("abort", done);
	});
}
