/** Python for the tools that only it has: an environment of its own for each list of pinned packages, made once. */

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");

/** The interpreter of an environment with the packages of this `requirements.txt`. */
export function pythonWith(requirements: string): string {
	const file = path.resolve(root, requirements);
	const digest = createHash("sha256").update(readFileSync(file)).digest("hex").slice(0, 12);
	const folder = path.join(root, ".venv", digest);
	const python = path.join(folder, "bin/python");
	const done = path.join(folder, "installed");
	if (existsSync(done)) return python;
	// What an interrupted run left is not to be trusted.
	rmSync(folder, { recursive: true, force: true });
	const run = (program: string, args: string[]) =>
		execFileSync(program, args, { stdio: ["ignore", "ignore", "inherit"] });
	run("python3", ["-m", "venv", folder]);
	run(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", file]);
	writeFileSync(done, "");
	return python;
}
