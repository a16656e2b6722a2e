/** A copy of this checkout, for who builds in it. */

import { execFileSync } from "node:child_process";
import { cpSync, existsSync, symlinkSync } from "node:fs";
import path from "node:path";
import { root } from "./sources.ts";

/** The checkout as it is, to build in: others read the `dist/` of the checkout itself meanwhile. */
export function copyOfCheckout(into: string): string {
	const copy = path.join(into, "checkout");
	const ours = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: root });
	for (const file of ours.toString().split("\0")) {
		// What is deleted and not yet committed is in git's list as well.
		if (file !== "" && existsSync(path.join(root, file))) cpSync(path.join(root, file), path.join(copy, file));
	}
	symlinkSync(path.join(root, "node_modules"), path.join(copy, "node_modules"));
	return copy;
}
