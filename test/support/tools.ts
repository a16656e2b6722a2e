/** Programs beside Node that some tests run. */

import { execFileSync } from "node:child_process";

/** How to see whether each is there: with `venv`, for Debian has a Python without it. */
const LOOK = {
	python3: ["python3", "-c", "import ensurepip, venv"],
	go: ["go", "version"],
	gcc: ["gcc", "--version"],
	nginx: ["nginx", "-v"],
	promtool: ["promtool", "--version"],
	systemd: ["systemd-analyze", "--version"],
	/** A right, and no program: to mount a small disk. */
	mount: [
		"sh",
		"-c",
		'at=$(mktemp -d); mount -t tmpfs -o size=64k tmpfs "$at" && umount "$at"; ended=$?; rmdir "$at"; exit $ended',
	],
} as const;

/** What not every CI allows. */
const OPTIONAL: readonly Tool[] = ["mount"];

type Tool = keyof typeof LOOK;

function isThere(tool: Tool): boolean {
	try {
		const [program, ...args] = LOOK[tool];
		execFileSync(program, args, { stdio: "ignore" });
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
		if (process.env.CI === "true" && !missing.every((tool) => OPTIONAL.includes(tool)))
			throw new Error(`${what}; CI does not go without.`);
		process.stderr.write(`left out: ${what}\n`);
		return [file];
	});
}
