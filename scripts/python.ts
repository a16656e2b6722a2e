/** Python for the tools that only it has: an environment of its own for each list of pinned packages, made once. */

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");

/** The interpreter of an environment with the packages of this `requirements.txt`, made by `program`. */
export function pythonWith(requirements: string, program = "python3"): string {
	const file = path.resolve(root, requirements);
	const own = program === "python3" ? "" : program;
	const digest = createHash("sha256").update(readFileSync(file)).update(own).digest("hex").slice(0, 12);
	const folder = path.join(root, ".venv", digest);
	const python = path.join(folder, "bin/python");
	const done = path.join(folder, "installed");
	if (existsSync(done)) return python;
	// What an interrupted run left is not to be trusted.
	rmSync(folder, { recursive: true, force: true });
	const run = (program: string, args: string[]) =>
		execFileSync(program, args, { stdio: ["ignore", "ignore", "inherit"] });
	run(program, ["-m", "venv", folder]);
	run(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", file]);
	writeFileSync(done, "");
	return python;
}
