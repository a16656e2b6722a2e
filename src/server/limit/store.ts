/**
 * What one limit keeps on its disk: a row for itself, a row for each live request, a row for each id that is
 * remembered. Written from events; nothing else decides what is stored.
 */

import type { Event } from "../../core/commands.ts";
import { History, rebuildSample, SAMPLES, type SavedSample, saveSample } from "../../core/history.ts";
import type { Ended, Entry, Limit } from "../../core/limit.ts";
import { rebuild, type SavedEntry, type SavedLimit, saveEntry, saveLimit } from "../../core/saved.ts";
import type { At, Ms } from "../../core/time.ts";
import type { Totals } from "../../core/totals.ts";
import type { Origin, Region } from "../../protocol.ts";
import { migrate, NewerDataError } from "../contract/schema.ts";

/** What a limit is, apart from its state. */
export interface Identity {
	name: string;
	id: string;
	origin: Origin;
	/** The pattern of the policy that it follows, or whose settings its own override. */
	policy: string | null;
	/** The version of the policies that its settings were taken from. */
	version: number;
	/** How long it is kept when it is idle and empty; null: for ever. */
	idleMs: Ms | null;
	createdAt: At;
	/** Since when it has its settings; once deleted, when that was. */
	updatedAt: At;
	/** The token that set them. */
	updatedBy: string | null;
	/** Where its object was asked to live. */
	region: Region | null;
	/** False once it was deleted and only waits for the directory to hear of it. */
	alive: boolean;
	/** Whether the directory is to know of it: keys of a policy that are used once or twice are not worth a write. */
	listed: boolean;
	/** Whether the directory knows what it is to know. */
	reported: boolean;
	/** When the directory that knows it began; 0 or left out: before that was noted. */
	since?: At;
	/** Of its totals, what others were told to add up, and when. */
	told?: { at: At; totals: Totals };
}

/** What is remembered of an id, and by which limit; absent in what was stored before names could be used again. */
type SavedEnded = Ended & { limitId?: string };

/** When the first and the last of the ids that a limit remembers may be forgotten. */
export interface IdsUntil {
	first: At;
	last: At;
}

/** What the identity of a limit says that was stored before these fields came. */
const EARLIER = { policy: null, version: 0, updatedBy: null, region: null, listed: true };
const earlierIdleMs = (origin: Origin): Ms | null =>
	origin === "configured" ? null : origin === "policy" ? 300_000 : 86_400_000;

/** Each entry brings the schema from the version of its index to the next. Never change one that was released. */
const MIGRATIONS: ((sql: SqlStorage) => void)[] = [
	(sql) => {
		sql.exec("CREATE TABLE itself (identity TEXT NOT NULL, state TEXT NOT NULL, used_at INTEGER NOT NULL)");
	},
	// The history came.
	() => undefined,
	// The other tables are made when there is something to put into them.
	() => undefined,
];

/** Made when they are first written to: most keys of policies never need them, and each costs a page or two. */
const TABLES = {
	entry: "CREATE TABLE entry (id TEXT PRIMARY KEY, seq INTEGER NOT NULL, data TEXT NOT NULL) WITHOUT ROWID",
	ended: `
		CREATE TABLE ended (id TEXT PRIMARY KEY, until INTEGER NOT NULL, data TEXT NOT NULL) WITHOUT ROWID;
		CREATE INDEX ended_until ON ended (until);
	`,
	history: "CREATE TABLE history (starts_at INTEGER PRIMARY KEY, sample TEXT NOT NULL)",
};
type Table = keyof typeof TABLES;

export const SCHEMA_VERSION = MIGRATIONS.length;

/** Nothing is stored of a limit that the directory knows. */
export class DamagedDataError extends Error {
	override readonly name = "DamagedDataError";
	constructor(name: string) {
		super(
			`The data of the limit "${name}" is lost: its file is empty or gone, though the directory knows the limit. ` +
				"It is refused, for nobody knows who holds its slots. Restore the file from a copy and start again, or delete the limit.",
		);
	}
}

/** Counters of denials alone are written this much later, so that a denial costs no write. */
const SOON_MS = 1_000;

export class LimitStore {
	readonly #sql: SqlStorage;
	/** Ids that have a row in `entry`. */
	readonly #rows = new Set<string>();
	/** The offset of the limit's clock as it is stored. */
	#offsetMs: Ms = 0;
	/** The id of the limit: what another one of the same name remembered is not of this one. */
	#limitId = "";
	/** Whether the limit has a row. */
	#ready = false;
	/** Tables that there are beside it. */
	readonly #tables = new Set<string>();
	/** Written with whatever else is written: the sample being taken within the limit's row, each that ended in its own. */
	#history: History | null = null;
	#timer: ReturnType<typeof setTimeout> | null = null;

	constructor(sql: SqlStorage) {
		this.#sql = sql;
	}

	/** Brings the data to this version; answers with an error if it is of a newer one, and leaves it alone. */
	open(): NewerDataError | null {
		try {
			this.#ready = migrate(this.#sql, MIGRATIONS, false);
			const names = "SELECT name FROM sqlite_master WHERE type = 'table'";
			if (this.#ready) for (const { name } of this.#sql.exec<{ name: string }>(names)) this.#tables.add(name);
			return null;
		} catch (error) {
			if (error instanceof NewerDataError) return error;
			throw error;
		}
	}

	/** The limit as it was stored; null when there is none. */
	load(now: At): { identity: Identity; limit: Limit; usedAt: At } | null {
		const row = this.#ready
			? this.#sql.exec<{ identity: string; state: string; used_at: At }>("SELECT * FROM itself").toArray()[0]
			: undefined;
		if (!row) return null;
		const entries: SavedEntry[] = [];
		for (const { data } of this.#rowsOf<{ data: string }>("entry", "SELECT data FROM entry ORDER BY seq")) {
			const entry = JSON.parse(data) as SavedEntry;
			this.#rows.add(entry.id);
			entries.push(entry);
		}
		const state = JSON.parse(row.state) as SavedLimit & { sample?: SavedSample };
		this.#offsetMs = state.clock.offsetMs;
		this.#history = new History(state.totals, state.sample ? rebuildSample(state.sample) : null, this.#savedSamples);
		const saved = JSON.parse(row.identity) as Omit<Identity, keyof typeof EARLIER | "idleMs">;
		const identity: Identity = { ...EARLIER, idleMs: earlierIdleMs(saved.origin), ...saved };
		this.#limitId = identity.id;
		return { identity, limit: rebuild(state, entries, now, this.recall), usedAt: row.used_at };
	}

	create(identity: Identity, limit: Limit, usedAt: At): void {
		migrate(this.#sql, MIGRATIONS, true);
		this.#ready = true;
		this.#limitId = identity.id;
		this.#rows.clear();
		this.#sql.exec("DELETE FROM itself");
		for (const table of ["entry", "history"]) if (this.#tables.has(table)) this.#sql.exec(`DELETE FROM ${table}`);
		this.#history = new History(limit.totals);
		const state = JSON.stringify(saveLimit(limit));
		this.#sql.exec("INSERT INTO itself VALUES (?, ?, ?)", JSON.stringify(identity), state, usedAt);
	}

	/** What this limit remembers of an ended id. Asked only for ids that a caller chose. */
	readonly recall = (id: string): Ended | undefined => this.recallOf(id, "last");

	/** What is remembered of an ended id: by the `last` limit of this name, or by one that was deleted `before` it. */
	recallOf(id: string, whose: "last" | "before"): Ended | undefined {
		const [row] = this.#rowsOf<{ data: string }>("ended", "SELECT data FROM ended WHERE id = ?", id);
		if (!row) return undefined;
		const { limitId = this.#limitId, ...ended } = JSON.parse(row.data) as SavedEnded;
		return (limitId === this.#limitId) === (whose === "last") ? ended : undefined;
	}

	/** Writes the ids that ended, so that the next decision of the same commit recalls them. */
	remember(events: Event[]): void {
		for (const event of events) if (event.kind === "ended") this.#remember(event.record);
	}

	/** Writes what else `events` changed, and the limit's own row if anything did. Answers whether anything did. */
	write(limit: Limit, events: Event[], now: At): boolean {
		let changed = false;
		const touched = new Map<string, boolean>();
		for (const event of events) {
			if (writesRow(event)) changed = true;
			if (event.kind !== "configured") touched.set(event.id, writesRow(event) || (touched.get(event.id) ?? false));
		}
		for (const [id, written] of touched) {
			const entry = limit.entries.get(id);
			if (entry && written) {
				this.#put(entry, JSON.stringify(saveEntry(limit, entry)));
			} else if (!entry && this.#rows.delete(id)) {
				this.#sql.exec("DELETE FROM entry WHERE id = ?", id);
				changed = true;
			}
		}
		// A clock that was set back is told by no event, but time must run on from there after a restart too.
		if (limit.clock.offsetMs !== this.#offsetMs) changed = true;
		if (changed) this.writeLimit(limit, now);
		return changed;
	}

	writeLimit(limit: Limit, usedAt: At): void {
		this.#offsetMs = limit.clock.offsetMs;
		const { open } = this.history;
		const state = { ...saveLimit(limit), ...(open && { sample: saveSample(open) }) };
		this.#sql.exec("UPDATE itself SET state = ?, used_at = ?", JSON.stringify(state), usedAt);
		const ended = this.history.takeUnsaved();
		for (const sample of ended) {
			const saved = JSON.stringify(saveSample(sample));
			this.#table("history");
			this.#sql.exec("INSERT OR REPLACE INTO history (starts_at, sample) VALUES (?, ?)", sample.startsAt, saved);
		}
		if (ended.length === 0) return;
		const newest = "SELECT starts_at FROM history ORDER BY starts_at DESC LIMIT ?";
		this.#sql.exec(`DELETE FROM history WHERE starts_at NOT IN (${newest})`, SAMPLES);
	}

	/** What the limit did lately; there is one for as long as there is a limit. */
	get history(): History {
		if (!this.#history) throw new Error("A limit has a history from the moment it exists.");
		return this.#history;
	}

	readonly #savedSamples = () =>
		this.#rowsOf<{ sample: string }>("history", "SELECT sample FROM history").map(({ sample }) =>
			rebuildSample(JSON.parse(sample) as SavedSample),
		);

	/** Writes the limit's own row a moment later, for what alone is not worth a write. `current` null: it is no more. */
	writeSoon(current: () => { limit: Limit; usedAt: At } | null): void {
		this.#timer ??= setTimeout(() => {
			this.#timer = null;
			const now = current();
			if (now) this.writeLimit(now.limit, now.usedAt);
		}, SOON_MS);
	}

	writeIdentity(identity: Identity): void {
		this.#sql.exec("UPDATE itself SET identity = ?", JSON.stringify(identity));
	}

	/** Forgets the ids whose time is over. */
	purge(now: At): void {
		if (this.#tables.has("ended")) this.#sql.exec("DELETE FROM ended WHERE until <= ?", now);
	}

	/** When the first and the last of the remembered ids are over; null: none is remembered. */
	idsUntil(): IdsUntil | null {
		const query = "SELECT min(until) AS first, max(until) AS last FROM ended HAVING count(*) > 0";
		return this.#rowsOf<{ first: At; last: At }>("ended", query)[0] ?? null;
	}

	/** Every id that is remembered. */
	remembered(): Ended[] {
		const rows = this.#rowsOf<{ data: string }>("ended", "SELECT data FROM ended");
		const all = rows.map(({ data }) => JSON.parse(data) as SavedEnded);
		return all.flatMap(({ limitId, ...ended }) => ((limitId ?? this.#limitId) === this.#limitId ? [ended] : []));
	}

	/** Deletes the row of every request. */
	dropEntries(): void {
		if (this.#tables.has("entry")) this.#sql.exec("DELETE FROM entry");
		this.#rows.clear();
	}

	/** After the storage was deleted as a whole. */
	forget(): void {
		this.#ready = false;
		this.#tables.clear();
		this.#rows.clear();
	}

	/** Makes sure that a table is there. */
	#table(name: Table): void {
		if (this.#tables.has(name)) return;
		this.#sql.exec(TABLES[name]);
		this.#tables.add(name);
	}

	/** What a query finds; nothing, where its table was never needed. */
	#rowsOf<Row extends Record<string, SqlStorageValue>>(table: Table, query: string, ...values: string[]): Row[] {
		return this.#tables.has(table) ? this.#sql.exec<Row>(query, ...values).toArray() : [];
	}

	#put({ id, seq }: Entry, data: string): void {
		if (this.#rows.has(id)) {
			this.#sql.exec("UPDATE entry SET data = ? WHERE id = ?", data, id);
			return;
		}
		this.#rows.add(id);
		this.#table("entry");
		this.#sql.exec("INSERT INTO entry (id, seq, data) VALUES (?, ?, ?)", id, seq, data);
	}

	#remember(record: Ended): void {
		const { id, until } = record;
		this.#table("ended");
		this.#sql.exec(
			"INSERT OR REPLACE INTO ended (id, until, data) VALUES (?, ?, ?)",
			id,
			until,
			JSON.stringify({ ...record, limitId: this.#limitId } satisfies SavedEnded),
		);
	}
}

/** Whether an event changes what a row must say. Rows of entries that are gone are dropped whatever the event. */
function writesRow(event: Event): boolean {
	switch (event.kind) {
		case "granted":
			return !event.repeat;
		case "reserved":
		case "queued":
		case "parked":
		case "renewed":
		case "rewritten":
		case "ended":
		case "configured":
			return true;
		case "denied":
		case "left":
		case "gone":
		case "released":
		case "doubted":
		case "vouched":
			return false;
		default:
			return event satisfies never;
	}
}
