/**
 * One call of `decide` on its way: the limit that it changes, the moment at which things happen, and what has happened so
 * far. What the files beside this one do to a limit, they do in a turn.
 */

import type { Event } from "./commands.ts";
import type { Ended, Limit } from "./limit.ts";
import { REMEMBER_MS } from "./patience.ts";
import type { At } from "./time.ts";

export interface Turn {
	readonly limit: Limit;
	/** While time is being caught up with, the moment at which something fell due; else the moment of the call. */
	now: At;
	readonly events: Event[];
}

export function say(turn: Turn, event: Event): void {
	turn.events.push(event);
}

/** The row of an entry must follow; null: of none. */
export function sayMoved(turn: Turn, id: string | null): void {
	if (id !== null) say(turn, { kind: "rewritten", id });
}

export function remember(turn: Turn, record: Ended): void {
	say(turn, { kind: "ended", id: record.id, record });
}

/** The request of this id may still be on its way: it must not be granted to a caller that has gone. */
export function rememberCancelled(turn: Turn, id: string): void {
	const until = turn.now + REMEMBER_MS;
	remember(turn, { id, kind: "cancelled", print: "", slots: 0, enforced: false, until });
}

/** What is remembered of an id: said in this very turn, for its storage follows later, or stored before. */
export function recall(turn: Turn, id: string): Ended | undefined {
	const said = turn.events.findLast((event) => event.kind === "ended" && event.id === id);
	const past = said?.kind === "ended" ? said.record : turn.limit.recall(id);
	return past && past.until > turn.now ? past : undefined;
}
