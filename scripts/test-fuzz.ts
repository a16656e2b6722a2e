/**
 * `npm run test:fuzz`: schemathesis makes requests of `/openapi.json`, valid and not, and holds every answer of a real
 * server to the document. `--seed 7` and `--examples 500` for another or a longer run. Writes its count for `sum.ts`.
 */

import { spawn } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { newToken } from "../src/cli/tokens.ts";
import { freshServer } from "../test/support/server.ts";
import { pythonWith } from "./python.ts";

const root = path.resolve(import.meta.dirname, "..");
const folder = path.join(root, "test/fuzz");
/** Where schemathesis leaves what it remembers of a run; nothing of it is taken over into the next one. */
const scratch = path.join(root, "dist/fuzz");
const COUNT = path.join(root, "dist/counts/fuzz.json");
/** With fewer the run proves too little to pass. */
const LEAST_CASES = 1_000;
/** A run that hangs fails by this; a busy machine has taken five minutes. */
const LONGEST_MS = 900_000;

const { values } = parseArgs({
	options: { seed: { type: "string", default: "1" }, examples: { type: "string", default: "29" } },
});

async function main(): Promise<number> {
	rmSync(COUNT, { force: true });
	rmSync(scratch, { recursive: true, force: true });
	mkdirSync(scratch, { recursive: true });
	const python = pythonWith("test/fuzz/requirements.txt");
	const { token, entry } = newToken("fuzz", "admin", undefined);
	const printed: string[] = [];
	await using server = await freshServer({ tokens: [entry], onLine: (line) => printed.push(line) });
	const { code, output } = await run(path.join(path.dirname(python), "schemathesis"), [
		...["--no-color", "--config-file", path.join(folder, "schemathesis.toml"), "run", `${server.url}/openapi.json`],
		...["--header", `Authorization: Bearer ${token}`, "--checks", "all", "--continue-on-failure"],
		...["--max-examples", values.examples, "--seed", values.seed],
	]);
	const cases = Number(/^\s*(\d+) generated/m.exec(output)?.[1] ?? 0);
	const failed = code === 0 ? 0 : Math.max(1, Number(/(\d+) unique failure/.exec(output)?.[1] ?? 1));
	const passed = Number(/generated, (\d+) passed/.exec(output)?.[1] ?? Math.max(0, cases - failed));
	const problems: string[] = [];
	if (code !== 0) problems.push(`schemathesis ended with ${code}`);
	if (cases < LEAST_CASES) problems.push(`${cases} cases are fewer than ${LEAST_CASES}`);
	// What the server says of itself: an error that it answered somehow is still one.
	problems.push(...printed.filter((line) => /\berror\b|exception/i.test(line)).slice(0, 20));
	for (const problem of problems) process.stdout.write(`fuzz: ${problem}\n`);
	process.stdout.write(`fuzz: ${passed} passed, ${failed} failed\n`);
	mkdirSync(path.dirname(COUNT), { recursive: true });
	writeFileSync(COUNT, JSON.stringify({ passed, failed }));
	return problems.length === 0 ? 0 : 1;
}

function run(program: string, args: string[]): Promise<{ code: number; output: string }> {
	return new Promise((resolve, reject) => {
		const child = spawn(program, args, {
			cwd: scratch,
			stdio: ["ignore", "pipe", "inherit"],
			env: { ...process.env, SCHEMATHESIS_HOOKS: "hooks", PYTHONPATH: folder, PYTHONDONTWRITEBYTECODE: "1" },
			timeout: LONGEST_MS,
		});
		let output = "";
		child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
			output += chunk;
			process.stdout.write(chunk);
		});
		child.once("error", reject);
		child.once("close", (code) => resolve({ code: code ?? 1, output }));
	});
}

process.exitCode = await main();
