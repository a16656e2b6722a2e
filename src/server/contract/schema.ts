/** The version of what an object has stored, of a limit as of the directory: older data is migrated, newer is left alone. */

/** The stored data was written by a newer version of the code. It is left alone. */
export class NewerDataError extends Error {
	override readonly name = "NewerDataError";
	constructor(found: number, known: number) {
		super(
			`The data of this object has version ${found}; this code knows versions up to ${known}. ` +
				"It was left alone. Deploy the newer code again.",
		);
	}
}

/** Brings a database to the newest schema. One that holds nothing yet is left without a table, unless `create`. */
export function migrate(sql: SqlStorage, migrations: ((sql: SqlStorage) => void)[], create: boolean): boolean {
	const exists = sql.exec("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema'").toArray().length > 0;
	if (!exists && !create) return false;
	if (!exists) sql.exec("CREATE TABLE schema (version INTEGER NOT NULL); INSERT INTO schema VALUES (0);");
	const version = sql.exec<{ version: number }>("SELECT version FROM schema").one().version;
	if (version > migrations.length) throw new NewerDataError(version, migrations.length);
	for (const step of migrations.slice(version)) step(sql);
	if (version < migrations.length) sql.exec("UPDATE schema SET version = ?", migrations.length);
	return true;
}
