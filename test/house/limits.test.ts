/** What may free slots makes a Worker forget the denials that it remembers: so no call of a limit goes past that. */

import { expect, test } from "vitest";
import { codeOnly, files, read } from "../support/sources.ts";

/** The one way there, and an object that asks its peers: it remembers nothing. */
const MAY_CALL = ["src/server/front/limit-stub.ts", "src/server/limit/doubts.ts", "src/server/limit/relocation.ts"];

test("Workers call limits by `limitOf` alone", () => {
	const DIRECT = /\bLIMITS\s*\.\s*(getByName|get|idFromName)\b|\blimits\s*\.\s*getByName\b/;
	const direct = files("src/**/*.ts").filter((file) => DIRECT.test(codeOnly(read(file))));
	expect(direct.filter((file) => !MAY_CALL.includes(file))).toEqual([]);
	// The rule looks for what is there: both say it in their own way.
	expect(direct).toContain("src/server/front/limit-stub.ts");
});
