/** What an error of the storage means to a caller. */

import { expect, test } from "vitest";
import { failure } from "../../src/server/contract/problems.ts";

const marked = Object.assign(new Error("reset"), { durableObjectReset: true });

test.each<[Error, string | undefined, RegExp]>([
	[new Error("database or disk is full: SQLITE_FULL"), "storage_failed", /full/],
	[new Error("attempt to write a readonly database: SQLITE_READONLY"), "storage_failed", /read-only/],
	[new Error("disk I/O error: SQLITE_IOERR"), "storage_failed", /fails/],
	[new Error("internal error; reference = 0abc"), "storage_failed", /could not be opened/],
	[new Error("database disk image is malformed: SQLITE_CORRUPT"), "damaged_data", /broken/],
	[new Error("file is not a database: SQLITE_NOTADB"), "damaged_data", /broken/],
	[marked, "overloaded", /did not answer/],
	[new Error("x is not a function"), undefined, /^$/],
])("%s is %s", (error, code, detail) => {
	const known = failure(error);
	expect(known?.code).toBe(code);
	expect(known?.detail ?? "").toMatch(detail);
	expect(known?.status ?? 503).toBe(503);
});
