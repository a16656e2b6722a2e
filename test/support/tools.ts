/** Programs beside Node that some tests run. */

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

/** How to see whether each is there: with `venv`, for Debian has a Python without it. */
const LOOK = {
	python3: ["-c", "import ensurepip, venv"],
	go: ["version"],
} as const;

type Tool = keyof typeof LOOK;

function isThere(tool: Tool): boolean {
	try {
		execFileSync(tool, LOOK[tool], { stdio: "ignore" });
		return true;
	} catch {
		return false; // Absent, or of no use.
	}
}

/**
 * Test files that cannot run here, for want of a program. A contributor is told and gets every other test; in CI it is
 * an error, so that nothing is left out unnoticed.
 */
export function filesWithoutTools(needs: Record<string, Tool[]>): string[] {
	return Object.entries(needs).flatMap(([file, tools]) => {
		const missing = tools.filter((tool) => !isThere(tool));
		if (missing.length === 0) return [];
		const what = `${file} needs ${missing.join(" and ")}`;
		if (process.env.CI === "true") throw new Error(`${what}; CI does not go without.`);
		process.stderr.write(`left out: ${what}\n`);
		return [file];
	});
}

/** Test files that need a disk of their own, where this process may not mount one, as in most containers. */
export function filesWithoutMounts(files: string[]): string[] {
	const folder = mkdtempSync(path.join(tmpdir(), "headgate-mount-"));
	try {
		execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], { stdio: "ignore" });
		execFileSync("umount", [folder], { stdio: "ignore" });
		return [];
	} catch {
		process.stderr.write(`left out: ${files.join(", ")}, for nothing may be mounted here\n`);
		return files;
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
}
