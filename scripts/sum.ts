/**
 * The end of a CI run: prints the sum over all runners as its last line, and fails unless everything passed.
 * Arguments: vitest's JSON reports with commas between them, and the names of the steps that failed. Every other runner writes what it counted
 * as `{ "passed": 1, "failed": 0 }` into `dist/counts/<runner>.json`.
 */

import { existsSync, globSync, readFileSync } from "node:fs";
import path from "node:path";

interface Report {
	numPassedTests: number;
	numFailedTests: number;
	numPendingTests: number;
	numTodoTests: number;
	testResults: {
		name: string;
		status: string;
		message: string;
		assertionResults: { fullName: string; status: string; failureMessages: string[] }[];
	}[];
}

/** How vitest ended; written by `test/support/quiet.ts`. */
interface Ending {
	reason: string;
	errors: string[];
}

/** Of a failure's message, enough to know it again; all of it stands above. */
const MESSAGE_LENGTH = 600;
const ENDINGS = "dist/stray-errors/*.json";

const [files = "", ...failedSteps] = process.argv.slice(2);
const problems = failedSteps.map((step) => `failed: ${step}`);
let passed = 0;
let failed = 0;

for (const file of files.split(",")) add(file);
for (const ending of globSync(ENDINGS).sort()) {
	const { reason, errors }: Ending = JSON.parse(readFileSync(ending, "utf8"));
	if (reason !== "passed") problems.push(`vitest ended: ${reason}`);
	for (const error of errors) problems.push(`beside the tests: ${error.slice(0, MESSAGE_LENGTH)}`);
}
for (const count of globSync("dist/counts/*.json").sort()) {
	const counted: { passed: number; failed: number } = JSON.parse(readFileSync(count, "utf8"));
	passed += counted.passed;
	failed += counted.failed;
}
if (passed === 0) problems.push("no test passed");
if (failed > 0) problems.push(`${failed} tests failed`);

for (const problem of problems) process.stdout.write(`${problem}\n`);
process.stdout.write(`${passed} passed, ${failed} failed\n`);
process.exitCode = problems.length === 0 ? 0 : 1;

function add(file: string): void {
	if (!existsSync(file)) {
		problems.push(`vitest left no report at ${file}`);
		return;
	}
	const report: Report = JSON.parse(readFileSync(file, "utf8"));
	passed += report.numPassedTests;
	failed += report.numFailedTests;
	for (const { name, status, message, assertionResults } of report.testResults) {
		for (const { fullName, status, failureMessages } of assertionResults) {
			if (status !== "failed") continue;
			problems.push(`${path.relative("", name)}: ${fullName}: ${failureMessages[0]?.slice(0, MESSAGE_LENGTH)}`);
		}
		// A file that does not load has no test that could fail, so it counts as one.
		if (status !== "failed" || assertionResults.length > 0) continue;
		failed++;
		problems.push(`${name} did not run: ${message}`);
	}
	const leftOut = report.numPendingTests + report.numTodoTests;
	if (leftOut > 0) problems.push(`${leftOut} tests were left out`);
}
