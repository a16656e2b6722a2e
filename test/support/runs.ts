/** What `vitest.config.ts` and `vitest.programs.config.ts` have in common. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { loadWorker } from "../../src/cli/bundle.ts";
import { isLateEvent } from "./late-events.ts";

/** Ends what hangs, and says nothing of how fast anything is: a test that takes longer fails on no machine that moves at all. */
export const patience = { testTimeout: 300_000, hookTimeout: 300_000, expect: { poll: { timeout: 90_000 } } };
/** npm may have to fetch what a clone needs. */
export const npmPatience = { ...patience, testTimeout: 600_000, hookTimeout: 600_000 };

const folder = mkdtempSync(path.join(tmpdir(), "headgate-run-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
// Programs under test are started hundreds of times, and each would compile the same files anew.
process.env.NODE_COMPILE_CACHE = path.join(folder, "compiled");

/**
 * Bundles the Worker for all files of the run: each would do so anew, which takes more processor time than to start a server. Who
 * watches wants what the sources are now, and gets it.
 */
export async function shareBundle(): Promise<void> {
	if (!process.argv.includes("run")) return;
	process.env.HEADGATE_TESTED_WORKER = path.join(folder, "worker.json");
	writeFileSync(process.env.HEADGATE_TESTED_WORKER, JSON.stringify(await loadWorker()));
}

/** What README, docs and examples show is run as programs, and so are two of `wrangler dev` beside each other. */
export const shown = ["house/readme", "house/http-docs", "edge/examples", "edge/processes"].map(
	(file) => `test/${file}.test.ts`,
);

export const run = {
	// Most tests wait for a server and not for a processor.
	maxWorkers: 6,
	// A server's log tells of each change and each refusal; of a test that passed nobody reads it.
	silent: "passed-only" as const,
	reporters: ["./test/support/quiet.ts"],
	onUnhandledError: ({ message }: { message: string }) => (isLateEvent(message) ? false : undefined),
};
