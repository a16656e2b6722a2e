/**
 * `npm run test:prefect`: Prefect's own client and command line, as they are published, against a real server: once as
 * they are, polling, and once with the header that lets them wait in line. Writes its count for `sum.ts`. Words after
 * `--` go to pytest.
 */

import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { newToken } from "../src/cli/tokens.ts";
import { freshServer } from "../test/support/server.ts";
import { temporaryFolder } from "../test/support/temporary.ts";
import { pythonWith } from "./python.ts";

const root = path.resolve(import.meta.dirname, "..");
const folder = path.join(root, "test/prefect");
const COUNT = path.join(root, "dist/counts/prefect.json");
/** A run that hangs fails by this; a busy machine has taken five minutes. */
const LONGEST_MS = 900_000;

/** Each with another way to bring the token. */
const RUNS = (token: string): Record<string, Record<string, string>> => ({
	polling: { PREFECT_API_AUTH_STRING: `me:${token}` },
	waiting: { PREFECT_API_KEY: token, PREFECT_CLIENT_CUSTOM_HEADERS: '{"Prefer": "wait=5"}' },
});

async function main(words: string[]): Promise<number> {
	rmSync(COUNT, { force: true });
	const python = pythonWith("test/prefect/requirements.txt");
	const { token, entry } = newToken("prefect", "admin", undefined);
	// Side by side, each with a server of its own: they wait more than they work.
	const counts = await Promise.all(
		Object.entries(RUNS(token)).map(async ([name, env]) => {
			const printed: string[] = [];
			await using server = await freshServer({ tokens: [entry], onLine: (line) => printed.push(line) });
			await using home = await temporaryFolder();
			const report = path.join(home.path, `${name}.xml`);
			const code = await run(python, ["-m", "pytest", folder, `--junitxml=${report}`, ...words], {
				...env,
				...{ HEADGATE_URL: server.url, HEADGATE_TOKEN: token, PREFECT_API_URL: `${server.url}/api` },
				...{ PREFECT_HOME: home.path, PREFECT_SERVER_ANALYTICS_ENABLED: "false", DO_NOT_TRACK: "1" },
				PYTHONDONTWRITEBYTECODE: "1",
			});
			process.stdout.write(`prefect: ${name} has ended\n`);
			const count = (word: string): number =>
				Number(new RegExp(`<testsuite [^>]*\\b${word}="(\\d+)"`).exec(readFileSync(report, "utf8"))?.[1] ?? 0);
			const failed = count("failures") + count("errors");
			// What the server says of itself: an error that it answered somehow is still one.
			const complaints = printed.filter((line) => /\berror\b|exception/i.test(line));
			for (const line of complaints.slice(0, 20)) process.stdout.write(`prefect: the server printed: ${line}\n`);
			return {
				passed: count("tests") - count("skipped") - failed,
				failed: (failed === 0 && code !== 0 ? 1 : failed) + (complaints.length > 0 ? 1 : 0),
			};
		}),
	);
	const sum = (of: "passed" | "failed"): number => counts.reduce((total, each) => total + each[of], 0);
	const total = { passed: sum("passed"), failed: sum("failed") };
	process.stdout.write(`prefect: ${total.passed} passed, ${total.failed} failed\n`);
	mkdirSync(path.dirname(COUNT), { recursive: true });
	writeFileSync(COUNT, JSON.stringify(total));
	return total.failed === 0 && total.passed > 0 ? 0 : 1;
}

function run(program: string, args: string[], env: Record<string, string>): Promise<number> {
	// What the caller has set for Prefect is not for these tests.
	const own = Object.entries(process.env).filter(([name]) => !name.startsWith("PREFECT_"));
	return new Promise((resolve, reject) => {
		const child = spawn(program, args, {
			...{ cwd: folder, stdio: ["ignore", "inherit", "inherit"], timeout: LONGEST_MS },
			env: { ...Object.fromEntries(own), ...env },
		});
		child.once("error", reject);
		child.once("close", (code) => resolve(code ?? 1));
	});
}

process.exitCode = await main(process.argv.slice(2));
