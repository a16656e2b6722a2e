/** The watchers of one limit. They are told beside the decisions, never on the way to an answer. */

import type { WatchEvent } from "../../protocol.ts";
import type { Watched } from "../contract/limit-calls.ts";
import type { Share } from "../contract/outcomes.ts";
import { Watcher, Watchers } from "../contract/watchers.ts";

/** The shortest time between two pictures of one limit. */
const PICTURE_MS = 250;
/** A limit that drains is looked at this often, for nothing happens that would say so. */
const DRAIN_MS = 500;

/** How a limit is: as a row of the list; and, when asked for, in full, with the newest samples of its history. */
export interface Picture {
	row: WatchEvent & { event: "limit" };
	full?: WatchEvent & { event: "limit" };
	samples?: WatchEvent & { event: "samples" };
	/** It changes with time alone. */
	drains: boolean;
}

class LimitWatcher extends Watcher {
	readonly full: boolean;
	constructor(full: boolean, gone: () => void) {
		super(gone);
		this.full = full;
	}
}

interface Deps {
	/** How the limit is; null: it does not exist. */
	look(full: boolean): Promise<Picture | null>;
	/** Resolves when everything written so far is durable: nothing is shown that a crash could take back. */
	sync(): Promise<void>;
}

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

	/** Something may have changed. Costs a comparison while there is no watcher, and a timer while there is one. */
	changed(): void {
		if (this.#watchers.size === 0 || this.#timer) return;
		this.#tellIn(Math.max(0, this.#toldAt + PICTURE_MS - Date.now()));
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
		const texts = {
			row: JSON.stringify(picture.row),
			full: picture.full && JSON.stringify(picture.full),
			samples: picture.samples && JSON.stringify(picture.samples),
		};
		await this.#deps.sync();
		for (const watcher of this.#watchers) {
			if (!watcher.full) watcher.tell("limit", texts.row);
			else if (texts.full && texts.samples) {
				watcher.tell("limit", texts.full);
				watcher.tell("samples", texts.samples);
			}
		}
		if (picture.drains && this.#watchers.size > 0) this.#tellIn(DRAIN_MS);
	}
}
