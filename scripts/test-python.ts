/**
 * `npm run test:python`: the Python client as its users get it, built and installed, against real servers; and what
 * ruff and pyright say of it. Writes its count for `sum.ts`. `--python python3.12` takes another Python; words after a
 * further `--` go to pytest.
 */

import { execFileSync, spawn } from "node:child_process";
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { temporaryFolder } from "../test/support/temporary.ts";
import { pythonWith } from "./python.ts";

const root = path.resolve(import.meta.dirname, "..");
const folder = path.join(root, "clients/python");
const COUNT = path.join(root, "dist/counts/python.json");
/** A run that hangs fails by this; a busy machine has taken five minutes. */
const LONGEST_MS = 900_000;

const { values, positionals } = parseArgs({
	allowPositionals: true,
	options: { python: { type: "string", default: "python3" } },
});

async function main(): Promise<number> {
	rmSync(COUNT, { force: true });
	const python = pythonWith("clients/python/tests/requirements.txt", values.python);
	await using home = await temporaryFolder();
	install(python, home.path);
	const tool = (name: string): string => path.join(path.dirname(python), name);
	const report = path.join(home.path, "report.xml");
	const total = { passed: 0, failed: 0 };
	const checks: [string, string[]][] = [
		[tool("ruff"), ["check", "--no-cache", "--quiet"]],
		[tool("ruff"), ["format", "--no-cache", "--check", "--quiet"]],
		[tool("pyright"), ["--pythonpath", python]],
	];
	for (const [program, args] of checks) {
		const code = await run(program, args);
		if (code === 0) total.passed += 1;
		else total.failed += 1;
	}
	const code = await run(python, ["-m", "pytest", `--junitxml=${report}`, ...positionals], {
		HEADGATE_COMMAND: `'${process.execPath}' '${path.join(root, "src/cli/main.ts")}'`,
	});
	const counted = readFileSync(report, "utf8");
	const count = (word: string): number =>
		Number(new RegExp(`<testsuite [^>]*\\b${word}="(\\d+)"`).exec(counted)?.[1] ?? 0);
	const failed = count("failures") + count("errors");
	total.passed += count("tests") - count("skipped") - failed;
	total.failed += failed === 0 && code !== 0 ? 1 : failed;
	process.stdout.write(`python: ${total.passed} passed, ${total.failed} failed\n`);
	mkdirSync(path.dirname(COUNT), { recursive: true });
	writeFileSync(COUNT, JSON.stringify(total));
	return total.failed === 0 && total.passed > checks.length ? 0 : 1;
}

/** The wheel that would be published, in place of one that an earlier run left. */
function install(python: string, scratch: string): void {
	const pip = (...args: string[]) =>
		execFileSync(python, ["-m", "pip", "--quiet", "--disable-pip-version-check", ...args], {
			stdio: ["ignore", "ignore", "inherit"],
		});
	pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", scratch, folder);
	pip("install", "--no-deps", "--force-reinstall", ...globSync(path.join(scratch, "*.whl")));
}

function run(program: string, args: string[], env: Record<string, string> = {}): Promise<number> {
	// What the caller has set for itself is not for these tests.
	const own = Object.entries(process.env).filter(([name]) => !name.startsWith("HEADGATE_"));
	return new Promise((resolve, reject) => {
		const child = spawn(program, args, {
			...{ cwd: folder, stdio: ["ignore", "inherit", "inherit"], timeout: LONGEST_MS },
			env: { ...Object.fromEntries(own), PYTHONDONTWRITEBYTECODE: "1", ...env },
		});
		child.once("error", reject);
		child.once("close", (code) => resolve(code ?? 1));
	});
}

process.exitCode = await main();
