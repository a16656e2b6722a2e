/**
 * `npm run types`: every folder is checked with the globals of its own runtime, so each has its own
 * `tsconfig.json`, and all of them are run here. Ends with 1 when any of them has an error.
 */

import { execFile } from "node:child_process";
import { globSync } from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(import.meta.dirname, "..");

/** Every project of the repository, as paths of their `tsconfig.json` relative to the root. */
export function projects(): string[] {
	return globSync(["tsconfig.json", "{src,test,scripts,bench,soak,examples}/**/tsconfig.json"], {
		cwd: root,
		exclude: ["**/node_modules/**"],
	}).sort();
}

/** The compiler's output and its exit code. */
export function tsc(args: string[]): Promise<{ code: number; output: string }> {
	const bin = fileURLToPath(new URL("./bin/tsc", import.meta.resolve("typescript/package.json")));
	return new Promise((resolve, reject) => {
		execFile(process.execPath, [bin, ...args], { cwd: root, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
			const code = error === null ? 0 : error.code;
			if (typeof code === "number") resolve({ code, output: stdout + stderr });
			else reject(error);
		});
	});
}

async function main(): Promise<void> {
	const left = projects();
	const checkRest = async (): Promise<void> => {
		for (let project = left.shift(); project !== undefined; project = left.shift()) {
			// What has not changed since the last time is not looked at again.
			const known = path.join("dist", "types", project.replaceAll("/", "-"));
			const { code, output } = await tsc(["--project", project, "--incremental", "--tsBuildInfoFile", known]);
			process.stdout.write(`${code === 0 ? "ok  " : "FAIL"} ${project}\n${output}`);
			if (code !== 0) process.exitCode = 1;
		}
	};
	await Promise.all(Array.from({ length: availableParallelism() }, checkRest));
}

if (import.meta.main) await main();
