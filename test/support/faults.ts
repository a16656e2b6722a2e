/** Faults of the disk, put in from outside: `node --import` this file, or `failAt` in a test of this process. */

import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

/** Whatever changes something on the disk. */
const WRITES = ["mkdirSync", "chmodSync", "writeFileSync", "renameSync", "openSync", "rmSync"] as const;
const originals = WRITES.map((name) => [name, fs[name]] as const);

/** Writes in this folder so far. */
let writes = 0;

/** From now on the `at`-th write in the folder ends as `fault` says, before it is done; from 1, and 0 is none. */
export function failAt(folder: string, at: number, fault: (call: string) => void): void {
	writes = 0;
	for (const [name, original] of originals) {
		const counted = (...args: unknown[]): unknown => {
			if (String(args[0]).startsWith(folder) && !(name === "openSync" && args[1] === "r")) {
				writes += 1;
				if (writes === at) fault(`${name} ${args[0]}`);
			}
			return (original as (...args: unknown[]) => unknown)(...args);
		};
		(fs as unknown as Record<string, unknown>)[name] = counted;
	}
	syncBuiltinESMExports();
}

/** Nothing fails any more; answers how many writes there were. */
export function heal(): number {
	for (const [name, original] of originals) (fs as unknown as Record<string, unknown>)[name] = original;
	syncBuiltinESMExports();
	return writes;
}

const { HEADGATE_TEST_DIES_AT: at, HEADGATE_TEST_DIES_IN: folder } = process.env;
if (at !== undefined && folder !== undefined) {
	failAt(folder, Number(at), () => process.kill(process.pid, "SIGKILL"));
}
