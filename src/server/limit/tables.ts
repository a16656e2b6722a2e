/** What versions 1 to 3 stored: a row for the limit, for each request, for each remembered id. Read once, and then the ring's. */

import type { SavedSample } from "../../core/history.ts";
import type { Ended } from "../../core/limit.ts";
import type { SavedEntry, SavedLimit } from "../../core/saved.ts";
import type { At } from "../../core/time.ts";

/** The limit's own numbers, with the sample that was being taken. */
export type TabledState = SavedLimit & { sample?: SavedSample };

export interface Tabled {
	identity: unknown;
	state: TabledState;
	usedAt: At;
	entries: SavedEntry[];
	/** The id of the limit that remembers it is left out in what was stored before a name could be used again. */
	ended: (Ended & { limitId?: string })[];
	samples: SavedSample[];
}

const TABLES = ["itself", "entry", "ended", "history", "schema"];

/** Null: there is no limit in them. */
export function readTables(sql: SqlStorage): Tabled | null {
	const query = "SELECT name FROM sqlite_master WHERE type = 'table'";
	const names = sql.exec<{ name: string }>(query).toArray();
	const parsed = <T>(table: string, column: string, order = ""): T[] => {
		if (!names.some(({ name }) => name === table)) return [];
		const rows = sql.exec<{ text: string }>(`SELECT ${column} AS text FROM ${table} ${order}`);
		return [...rows].map(({ text }) => JSON.parse(text) as T);
	};
	const [state] = parsed<TabledState>("itself", "state");
	if (!state) return null;
	const { used_at: usedAt } = sql.exec<{ used_at: At }>("SELECT used_at FROM itself").one();
	return {
		...{ identity: parsed("itself", "identity")[0], state, usedAt },
		entries: parsed("entry", "data", "ORDER BY seq"),
		ended: parsed("ended", "data"),
		samples: parsed("history", "sample", "ORDER BY starts_at"),
	};
}

export function dropTables(sql: SqlStorage): void {
	for (const table of TABLES) sql.exec(`DROP TABLE IF EXISTS ${table}`);
}
