/**
 * Those who watch: an object tells them how things stand, as lines of a stream. Every line is the whole picture, so a
 * reader that is slow, or a change that comes right after another, costs a line that is left out and nothing else.
 */

import { BOUNDS, type WatchEvent } from "../../protocol.ts";
import type { Share } from "./answers.ts";

/** The shortest time between two lines of one limit. */
const LINE_MS = 250;
/** A limit that drains is looked at this often, for nothing happens that would say so. */
const DRAIN_MS = 500;
/** An empty line goes to whoever watches this often; a watcher that has gone is noticed by it. */
const BEAT_MS = 5_000;
/** Unread bytes after which a watcher gets no line until it has read them: a few lines of the longest kind. */
const BACKLOG_BYTES = 262_144;

const encoder = new TextEncoder();

/** A stream of lines to one who watches. */
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

	/** Says a line unless it is the same as the last of its kind, or the reader is behind: the next will say it all. */
	tell(kind: string, line: string): void {
		if (this.#told.get(kind) !== line && this.say(line)) this.#told.set(kind, line);
	}

	/** Says a line; false: the reader is behind. */
	say(line: string): boolean {
		if (this.#isBehind()) return false;
		this.#write(`${line}\n`);
		return true;
	}

	/** The first picture went another way. */
	knows(kind: string, line: string): void {
		this.#told.set(kind, line);
	}

	beat(): void {
		if (!this.#isBehind()) this.#write("\n");
	}

	end(line: string | null): void {
		if (line !== null) this.#write(`${line}\n`);
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

	/** Says a last line to everyone, and ends their streams. */
	end(line: string | null): void {
		for (const watcher of [...this.#all.keys()]) {
			this.#remove(watcher);
			watcher.end(line);
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

// --------------------------------------------------------------------------------------------- one limit

/** How a limit stands: as a row of the list; and, when asked for, in full, with the newest samples of its history. */
export interface Picture {
	row: WatchEvent & { event: "limit" };
	full?: WatchEvent & { event: "limit" };
	samples?: WatchEvent & { event: "samples" };
	/** It changes with time alone. */
	drains: boolean;
}

/** What `watch` of a limit answers: how it stands, and the lines that follow. */
export interface Watched {
	picture: WatchEvent & { event: "limit" };
	lines: ReadableStream;
}

class LimitWatcher extends Watcher {
	readonly full: boolean;
	constructor(full: boolean, gone: () => void) {
		super(gone);
		this.full = full;
	}
}

interface Deps {
	/** How the limit stands; null: it does not exist. */
	look(full: boolean): Promise<Picture | null>;
	/** Resolves when everything written so far is durable: nothing is shown that a crash could take back. */
	sync(): Promise<void>;
}

/** Those who watch one limit. They are told beside the decisions, never on the way to an answer. */
export class LimitWatchers {
	readonly #deps: Deps;
	readonly #watchers = new Watchers<LimitWatcher>(() => this.changed());
	#timer: ReturnType<typeof setTimeout> | null = null;
	#toldAt = 0;

	constructor(deps: Deps) {
		this.#deps = deps;
	}

	/** Null: the limit does not exist. `full`, `share`: too many watch already. */
	async add(full: boolean, share: Share | undefined): Promise<Watched | "full" | "share" | null> {
		const found = await this.#deps.look(full);
		const picture = full ? found?.full : found?.row;
		if (!picture) return null;
		const watcher = this.#watchers.add(share, (gone) => new LimitWatcher(full, gone));
		if (typeof watcher === "string") return watcher;
		watcher.knows("limit", JSON.stringify(picture));
		// Whatever happened since the look is told too; and the samples, if they are wanted.
		this.changed();
		return { picture, lines: watcher.readable };
	}

	/** Something may have changed. Costs a comparison while nobody watches, and a timer when somebody does. */
	changed(): void {
		if (this.#watchers.size === 0 || this.#timer) return;
		this.#tellIn(Math.max(0, this.#toldAt + LINE_MS - Date.now()));
	}

	/** The limit is no more. */
	ended(name: string): void {
		this.#watchers.end(JSON.stringify({ event: "deleted", name } satisfies WatchEvent));
	}

	#tellIn(ms: number): void {
		this.#timer ??= setTimeout(() => {
			// A limit that ended meanwhile has told so, and an object that broke has ended its streams.
			this.#tell().catch(() => undefined);
		}, ms);
	}

	async #tell(): Promise<void> {
		// What changes from here on is told the next time.
		this.#timer = null;
		this.#toldAt = Date.now();
		const picture = await this.#deps.look([...this.#watchers].some(({ full }) => full));
		if (!picture) return;
		const lines = {
			row: JSON.stringify(picture.row),
			full: picture.full && JSON.stringify(picture.full),
			samples: picture.samples && JSON.stringify(picture.samples),
		};
		await this.#deps.sync();
		for (const watcher of this.#watchers) {
			if (!watcher.full) watcher.tell("limit", lines.row);
			else if (lines.full && lines.samples) {
				watcher.tell("limit", lines.full);
				watcher.tell("samples", lines.samples);
			}
		}
		if (picture.drains && this.#watchers.size > 0) this.#tellIn(DRAIN_MS);
	}
}

// ------------------------------------------------------------------------------------------ which limits

/** Names gather this long before whoever watches the list is told. */
const NAMES_MS = 100;
/** Names told in one line; a flood of new ones is not worth more, for nobody reads it. */
const NAMES_AT_ONCE = 100;

class NamesWatcher extends Watcher {
	readonly prefix: string;
	readonly names = new Set<string>();
	constructor(prefix: string, gone: () => void) {
		super(gone);
		this.prefix = prefix;
	}
}

/** Those who want to hear of limits that are new. */
export class NamesWatchers {
	readonly #watchers = new Watchers<NamesWatcher>(() => undefined);
	#timer: ReturnType<typeof setTimeout> | null = null;

	/** Lines that are JSON lists of names which start with `prefix`; or why not, as of `Watchers`. */
	add(prefix: string, share: Share | undefined): ReadableStream | "full" | "share" {
		const watcher = this.#watchers.add(share, (gone) => new NamesWatcher(prefix, gone));
		return typeof watcher === "string" ? watcher : watcher.readable;
	}

	/** A limit is new here. */
	appeared(name: string): void {
		if (this.#watchers.size === 0) return;
		for (const { prefix, names } of this.#watchers) {
			if (name.startsWith(prefix) && names.size < NAMES_AT_ONCE) names.add(name);
		}
		this.#timer ??= setTimeout(() => this.#tell(), NAMES_MS);
	}

	#tell(): void {
		this.#timer = null;
		for (const watcher of this.#watchers) {
			if (watcher.names.size > 0 && watcher.say(JSON.stringify([...watcher.names]))) watcher.names.clear();
		}
	}
}
