/**
 * Global set-up of what starts the command hundreds of times: it is built once, as the package has it. From its sources each
 * start would bundle the Worker anew, which takes as much processor time as all the rest of a start.
 */

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import path from "node:path";
import type { TestProject } from "vitest/node";
import { buildCli } from "../../scripts/build.ts";
import { buildWorker } from "../../src/cli/bundle.ts";
import "./provided.ts";
import { root } from "./sources.ts";

export default async function setup(project: TestProject): Promise<() => void> {
	mkdirSync(path.join(root, "dist"), { recursive: true });
	// Within the checkout, so that `workerd` is found. As there, it has a folder of sources beside it, which it is not to read.
	const folder = mkdtempSync(path.join(root, "dist/tested-"));
	mkdirSync(path.join(folder, "src/server"), { recursive: true });
	const build = async (): Promise<void> => {
		await buildCli(path.join(folder, "dist"));
		await buildWorker(path.join(folder, "dist"));
	};
	await build();
	project.onTestsRerun(build);
	project.provide("headgate", path.join(folder, "dist/cli/main.js"));
	return () => rmSync(folder, { recursive: true, force: true });
}
