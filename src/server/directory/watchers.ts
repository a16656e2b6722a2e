/** Watchers of the list: they are told of limits that are new, of those that need a look, and of the sums of all. */

import type { ListNews } from "../contract/directory-calls.ts";
import type { Share } from "../contract/outcomes.ts";
import { Watcher, Watchers } from "../contract/watchers.ts";

/** Names gather this long before the watchers are told. */
const NAMES_MS = 100;
/** Names told in one message; a flood of new ones is not worth more, for no reader keeps up with it. */
const NAMES_AT_ONCE = 100;
/** The shortest time between two looks at all limits. */
const LOOK_MS = 1_000;

class ListWatcher extends Watcher {
	readonly prefix: string;
	readonly names = new Set<string>();
	constructor(prefix: string, gone: () => void) {
		super(gone);
		this.prefix = prefix;
	}
}

export class ListWatchers {
	readonly #watchers = new Watchers<ListWatcher>(() => this.changed());
	readonly #look: (prefix: string) => Promise<ListNews>;
	#names: ReturnType<typeof setTimeout> | null = null;
	#looking: ReturnType<typeof setTimeout> | null = null;

	/** `look`: how things stand for those who may see names that start with `prefix`. */
	constructor(look: (prefix: string) => Promise<ListNews>) {
		this.#look = look;
	}

	/** Messages that are `ListNews` of names which start with `prefix`; or why not, as of `Watchers`. */
	add(prefix: string, share: Share | undefined): ReadableStream | "full" | "share" {
		const watcher = this.#watchers.add(share, (gone) => new ListWatcher(prefix, gone));
		return typeof watcher === "string" ? watcher : watcher.readable;
	}

	/** A limit is new here. */
	appeared(name: string): void {
		if (this.#watchers.size === 0) return;
		for (const { prefix, names } of this.#watchers) {
			if (name.startsWith(prefix) && names.size < NAMES_AT_ONCE) names.add(name);
		}
		this.#names ??= setTimeout(() => this.#tellNames(), NAMES_MS);
	}

	/** A limit may need a look now, or none any more. Costs a comparison while there is no watcher. */
	changed(): void {
		if (this.#watchers.size === 0) return;
		this.#looking ??= setTimeout(() => {
			// Whoever could not be asked is asked the next time.
			this.#tellLook().catch(() => undefined);
		}, LOOK_MS);
	}

	#tellNames(): void {
		this.#names = null;
		for (const watcher of this.#watchers) {
			if (watcher.names.size > 0 && watcher.say(news({ appeared: [...watcher.names] }))) watcher.names.clear();
		}
	}

	async #tellLook(): Promise<void> {
		this.#looking = null;
		const byPrefix = new Map<string, string>();
		for (const watcher of this.#watchers) {
			const { prefix } = watcher;
			const line = byPrefix.get(prefix) ?? news(await this.#look(prefix));
			byPrefix.set(prefix, line);
			watcher.tell("look", line);
		}
	}
}

const news = (line: ListNews): string => JSON.stringify(line);
