/**
 * The core with a storage of JSON text around it, kept as the object of a limit keeps it: a row is written when an
 * event says that it changed, the limit's own record when any row was, and a restart finds only what was written.
 */

import type { Command, Decision, Event } from "../../src/core/commands.ts";
import { decide } from "../../src/core/decide.ts";
import { createLimit, type Ended, type Limit, type Settings } from "../../src/core/limit.ts";
import { rebuild, type SavedEntry, saveEntry, saveLimit } from "../../src/core/saved.ts";

export type Move = { command: Command; wall: number } | { restartAt: number };

export interface Written {
	/** Whether anything was written. */
	any: boolean;
	/** Ids whose rows were. */
	rows: Set<string>;
}

export class Subject {
	limit: Limit;
	readonly history: Move[] = [];
	readonly #startedAt: number;
	readonly #settings: Settings;
	readonly #rows = new Map<string, string>();
	/** Of the requests that rows are of. */
	readonly #seqs = new Map<string, number>();
	readonly #ended = new Map<string, Ended>();
	#record: string;

	constructor(settings: Settings, now: number) {
		this.#settings = { ...settings };
		this.#startedAt = now;
		this.limit = createLimit({ ...settings }, now, this.#recall);
		this.#record = JSON.stringify(saveLimit(this.limit));
	}

	decide(command: Command, wall: number): Decision & { written: Written } {
		this.history.push({ command, wall });
		const decision = decide(this.limit, command, wall);
		return { ...decision, written: this.#write(decision.events) };
	}

	restart(wall: number): void {
		this.history.push({ restartAt: wall });
		this.limit = this.rebuilt(wall);
	}

	/** What a restart at this moment would find. */
	rebuilt(wall: number, record = this.#record): Limit {
		const rows = [...this.#rows.values()].map((row) => JSON.parse(row) as SavedEntry);
		rows.sort((a, b) => a.seq - b.seq);
		return rebuild(JSON.parse(record), rows, wall, this.#recall);
	}

	/** Another one that went through the same. */
	twin(): Subject {
		const twin = new Subject(this.#settings, this.#startedAt);
		for (const move of this.history) {
			if ("restartAt" in move) twin.restart(move.restartAt);
			else twin.decide(move.command, move.wall);
		}
		return twin;
	}

	readonly #recall = (id: string): Ended | undefined => this.#ended.get(id);

	#write(events: readonly Event[]): Written {
		const written: Written = { any: false, rows: new Set() };
		const touched = new Set<string>();
		for (const event of events) {
			if (event.kind === "ended") this.#ended.set(event.id, JSON.parse(JSON.stringify(event.record)));
			if (changesRow(event)) written.any = true;
			if (event.kind === "configured") continue;
			touched.add(event.id);
			if (changesRow(event)) written.rows.add(event.id);
		}
		for (const id of touched) {
			const entry = this.limit.entries.get(id);
			// The row is of an earlier request of this id.
			if (entry && this.#rows.has(id) && this.#seqs.get(id) !== entry.seq) {
				written.rows.add(id);
				written.any = true;
			}
			if (entry && written.rows.has(id)) this.#seqs.set(id, entry.seq);
			if (entry && written.rows.has(id)) this.#rows.set(id, JSON.stringify(saveEntry(this.limit, entry)));
			else if (!entry && this.#rows.delete(id)) written.any = true;
		}
		if (written.any) this.#record = JSON.stringify(saveLimit(this.limit));
		return written;
	}
}

/** Whether an event says that the row of its request must be written. */
function changesRow(event: Event): boolean {
	if (event.kind === "granted") return !event.repeat;
	return ["queued", "parked", "renewed", "rewritten", "ended", "configured"].includes(event.kind);
}
