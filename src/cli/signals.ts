/** Signals that this process was told to ignore by its parent, and the terminal that may send some. */

import { closeSync, constants, openSync } from "node:fs";
import path from "node:path";

/** Set by the launcher (`launch.sh`): names without SIG, separated by blanks. */
const LAUNCHER = "HEADGATE_IGNORED_SIGNALS";

/**
 * What this process was started to ignore, as `nohup` and a shell's `&` ask for. Node itself forgets it at its start, so
 * the launcher looks beforehand. Without it (`node main.js`) only `nohup` is known, by the variable in which shells
 * leave the command's path.
 */
export function ignoredSignals(env: NodeJS.ProcessEnv = process.env): Set<NodeJS.Signals> {
	const told = (env[LAUNCHER] ?? "").split(" ").filter((name) => name !== "");
	if (env[LAUNCHER] === undefined && path.basename(env._ ?? "") === "nohup") told.push("HUP");
	return new Set(told.map((name) => `SIG${name}` as NodeJS.Signals));
}

/** The environment for other programs: what the launcher said is for this one. */
export function inheritedEnvironment(): NodeJS.ProcessEnv {
	const { [LAUNCHER]: _, ...env } = process.env;
	return env;
}

/** Whether this process belongs to a terminal, whatever its input and output are. */
export function hasTerminal(): boolean {
	try {
		closeSync(openSync("/dev/tty", constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK));
		return true;
	} catch {
		// That it cannot be opened is the answer.
		return false;
	}
}
