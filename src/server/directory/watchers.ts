/** Watchers of the list: they are told of limits that are new. */

import type { Share } from "../contract/outcomes.ts";
import { Watcher, Watchers } from "../contract/watchers.ts";

/** Names gather this long before the watchers are told. */
const NAMES_MS = 100;
/** Names told in one message; a flood of new ones is not worth more, for no reader keeps up with it. */
const NAMES_AT_ONCE = 100;

class NamesWatcher extends Watcher {
	readonly prefix: string;
	readonly names = new Set<string>();
	constructor(prefix: string, gone: () => void) {
		super(gone);
		this.prefix = prefix;
	}
}

export class NamesWatchers {
	readonly #watchers = new Watchers<NamesWatcher>(() => undefined);
	#timer: ReturnType<typeof setTimeout> | null = null;

	/** Messages that are JSON lists of names which start with `prefix`; or why not, as of `Watchers`. */
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
