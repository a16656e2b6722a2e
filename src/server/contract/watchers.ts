/**
 * Watchers: an object tells them how things are, as messages of a stream. Every message is the whole picture, so a
 * watcher that is slow, or a change that comes right after another, costs a message that is left out and nothing else.
 */

import { BOUNDS } from "../../protocol.ts";
import type { Share } from "./outcomes.ts";

/** An empty message goes to every watcher this often; one that has gone is noticed by it. */
const BEAT_MS = 5_000;
/** Unread bytes after which a watcher gets no message until it has read them: a few of the longest kind. */
const BACKLOG_BYTES = 262_144;

const encoder = new TextEncoder();

/** A stream to one watcher. */
export class Watcher {
	readonly readable: ReadableStream;
	/** What it was told last of each kind: nothing is said twice. */
	readonly #told = new Map<string, string>();
	#controller!: ReadableByteStreamController;

	constructor(gone: () => void) {
		this.readable = new ReadableStream({
			type: "bytes",
			start: (controller) => {
				this.#controller = controller;
			},
			cancel: gone,
		});
	}

	/** Says a message unless it is the same as the last of its kind, or the watcher is behind: the next will say it all. */
	tell(kind: string, message: string): void {
		if (this.#told.get(kind) !== message && this.say(message)) this.#told.set(kind, message);
	}

	/** False: the watcher is behind. */
	say(message: string): boolean {
		if (this.#isBehind()) return false;
		this.#write(`${message}\n`);
		return true;
	}

	/** The first picture went another way. */
	knows(kind: string, message: string): void {
		this.#told.set(kind, message);
	}

	beat(): void {
		if (!this.#isBehind()) this.#write("\n");
	}

	end(message: string | null): void {
		if (message !== null) this.#write(`${message}\n`);
		this.#controller.close();
	}

	#isBehind(): boolean {
		return (this.#controller.desiredSize ?? 0) < -BACKLOG_BYTES;
	}

	#write(text: string): void {
		this.#controller.enqueue(encoder.encode(text));
	}
}

/** Watchers of one object, and their beat. */
export class Watchers<T extends Watcher = Watcher> {
	/** Each with the token that it watches by. */
	readonly #all = new Map<T, string | undefined>();
	readonly #onBeat: () => void;
	#timer: ReturnType<typeof setInterval> | null = null;

	constructor(onBeat: () => void) {
		this.#onBeat = onBeat;
	}

	get size(): number {
		return this.#all.size;
	}

	[Symbol.iterator](): IterableIterator<T> {
		return this.#all.keys();
	}

	/** `full`: there are as many as there may be. `share`: as many of this token. */
	add(share: Share | undefined, make: (gone: () => void) => T): T | "full" | "share" {
		if (this.#all.size >= BOUNDS.watchers) return "full";
		if (share && this.#countOf(share.token) >= share.most) return "share";
		const watcher = make(() => this.#remove(watcher));
		this.#all.set(watcher, share?.token);
		this.#timer ??= setInterval(() => this.#beat(), BEAT_MS);
		return watcher;
	}

	/** Says a last message to every watcher, and ends their streams. */
	end(message: string | null): void {
		for (const watcher of [...this.#all.keys()]) {
			this.#remove(watcher);
			watcher.end(message);
		}
	}

	#beat(): void {
		for (const watcher of this.#all.keys()) watcher.beat();
		this.#onBeat();
	}

	#countOf(token: string): number {
		let count = 0;
		for (const one of this.#all.values()) if (one === token) count += 1;
		return count;
	}

	#remove(watcher: T): void {
		this.#all.delete(watcher);
		if (this.#all.size > 0 || !this.#timer) return;
		clearInterval(this.#timer);
		this.#timer = null;
	}
}
