/** What may free slots makes a Worker forget the denials that it remembers: so no call of a limit goes past that. */

import { expect, test } from "vitest";
import { codeOnly, files, read } from "../support/sources.ts";

/** The one way there, and objects, which remember no denial: the directory asks a condition, and a limit asks its peers. */
const MAY_CALL = [
	"src/server/directory/directory-object.ts",
	"src/server/front/limit-stub.ts",
	"src/server/limit/limit-object.ts",
];

test("Workers call limits by `limitOf` alone", () => {
	const direct = files("src/**/*.ts").filter((file) => /\blimitObject\s*\(/.test(codeOnly(read(file))));
	expect(direct).toEqual(MAY_CALL);
});
