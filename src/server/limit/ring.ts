/**
 * A log of states in rows that are written over and over: each commit writes one row, and nothing is ever deleted.
 *
 *     number   5    6    7    8    9          of the row, rising with each
 *     slot     0    3    1    4    2          where it lies; a slot whose row is not needed any more is written over
 *              oldest              newest
 *
 * A row says what changed, and what of the oldest rows is still true: these are not needed any more, and their slots
 * are free. So the ring grows and shrinks with the state, no row is written but with a commit, and no commit has to write the
 * whole state. What was stored is what the rows from the oldest to the newest say, each laid on those before it.
 *
 * The table is named after the one in which every version before the ring looked for a version: those find one that is newer
 * than theirs, or more rows than they can read, and leave all of it alone.
 */

/** The version that every row says it was written by. */
export const RING_VERSION = 4;

const TABLE = `
	CREATE TABLE schema (
		slot INTEGER PRIMARY KEY,
		number INTEGER NOT NULL,
		oldest INTEGER NOT NULL,
		version INTEGER NOT NULL,
		state TEXT NOT NULL,
		changes TEXT NOT NULL
	)`;

const PUT = `
	INSERT INTO schema (slot, number, oldest, version, state, changes) VALUES (?1, ?2, ?3, ${RING_VERSION}, ?4, ?5)
	ON CONFLICT (slot) DO UPDATE SET
		number = excluded.number, oldest = excluded.oldest, version = excluded.version,
		state = excluded.state, changes = excluded.changes`;

/** A row that is needed, and what it holds as its writer knows it. */
export interface Row<Contents> {
	readonly number: number;
	readonly slot: number;
	readonly size: number;
	readonly contents: Contents;
}

/** A row as it is read: `state` counts in the newest one alone. */
export interface Written {
	number: number;
	state: string;
	changes: string;
}

export class Ring<Contents> {
	readonly #sql: SqlStorage;
	/** From the oldest to the newest; those before `#first` are not needed. */
	#rows: Row<Contents>[] = [];
	#first = 0;
	#free: number[] = [];
	#slots = 0;
	#newest = 0;
	#size = 0;

	constructor(sql: SqlStorage) {
		this.#sql = sql;
	}

	/** Characters of all rows that are needed. */
	get size(): number {
		return this.#size;
	}

	get oldest(): Row<Contents> | undefined {
		return this.#rows[this.#first];
	}

	/** The number of the next row. */
	get next(): number {
		return this.#newest + 1;
	}

	create(): void {
		this.#sql.exec(TABLE);
	}

	/**
	 * Every row that is needed, in order. `contentsOf` reads one. Answers the newest state; null: there is no row. What is torn,
	 * a row missing among them, is thrown by `torn`.
	 */
	read(contentsOf: (row: Written) => Contents, torn: (why: string) => Error): string | null {
		const all = this.#sql
			.exec<{ slot: number; number: number; oldest: number }>("SELECT slot, number, oldest FROM schema")
			.toArray();
		let last = all[0];
		if (!last) return null;
		for (const each of all) if (each.number > last.number) last = each;
		const { oldest, number: newest } = last;
		this.#newest = newest;
		for (const { slot, number } of all) {
			this.#slots = Math.max(this.#slots, slot + 1);
			if (number < oldest) this.#free.push(slot);
		}
		const rows = this.#sql
			.exec<{ slot: number; number: number; state: string; changes: string }>(
				"SELECT slot, number, state, changes FROM schema WHERE number >= ?",
				oldest,
			)
			.toArray()
			.sort((a, b) => a.number - b.number);
		for (const [index, { number }] of rows.entries()) {
			if (number !== oldest + index) throw torn(`row ${oldest + index} of ${oldest} to ${newest} is missing`);
		}
		for (const row of rows) this.#push(row.slot, row.number, row.state, row.changes, contentsOf(row));
		return rows.at(-1)?.state ?? null;
	}

	/** Writes the next row. */
	append(state: string, changes: string, contents: Contents): void {
		const slot = this.#free.pop() ?? this.#slots++;
		this.#newest += 1;
		const oldest = this.oldest?.number ?? this.#newest;
		this.#sql.exec(PUT, slot, this.#newest, oldest, state, changes);
		this.#push(slot, this.#newest, state, changes, contents);
	}

	/** The oldest row is not needed any more, from the next one on. */
	drop(): void {
		const row = this.oldest;
		if (!row) return;
		this.#free.push(row.slot);
		this.#size -= row.size;
		this.#first += 1;
		if (this.#first < this.#rows.length / 2) return;
		this.#rows = this.#rows.slice(this.#first);
		this.#first = 0;
	}

	/** The table is gone. */
	clear(): void {
		this.#rows = [];
		this.#free = [];
		this.#first = this.#slots = this.#newest = this.#size = 0;
	}

	#push(slot: number, number: number, state: string, changes: string, contents: Contents): void {
		const size = state.length + changes.length;
		this.#rows.push({ number, slot, size, contents });
		this.#size += size;
	}
}
