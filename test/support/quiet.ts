/**
 * The reporter of both commands of tests: a line for each project that has ended, failures whole, and the sum.
 *
 * workerd prints every exception that crosses a call, also those that a test provokes and then asserts as an answer. They
 * are listed here, and told only with a file that fails; what is not listed is always told.
 */

import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { DefaultReporter, type TestModule, type TestSpecification } from "vitest/node";
import { isLateEvent } from "./late-events.ts";

/** How workerd begins what it says by itself; nothing that Vitest prints does. */
const RUNTIME = /^(?:uncaught exception; |exception = |console warning; |NOSENTRY |A header value for )/;
/** What tests provoke. */
const PROVOKED: readonly RegExp[] = [
	// Crashes of objects, and writes that fail: `crash` of test/server/support.ts, and planted errors.
	/crashed by a test|A write failed: |Error: (?:out of reach|no disk|disk full|connection lost)\b/,
	// Refusals of an object as a whole, which its caller gets as a problem.
	/NewerDataError: |DamagedDataError: |Error: The clock was set: |Error: The clocks are apart: /,
	// Peers of an older version.
	/The RPC receiver does not implement the method "(?:match|register|unregister)"/,
	// Callers that go in the middle of an answer.
	/\bdisconnected: |ReadableStream received over RPC disconnected prematurely/,
	// Alarms that are set anew while they ring, or before, and a token and a body that are no text.
	/SQLite alarm (?:handler canceled|overdue, running despite AlarmManager mismatch)|"Authorization" contains non-ASCII|Called \.text\(\) on an HTTP body/,
];

/** Where it is told how a run ended, and what failed that was no test: `scripts/sum.ts` tells it once more. */
const STRAY_ERRORS = path.resolve(import.meta.dirname, "../../dist/stray-errors");

/** Of what was held back; a file that fails needs the latest. */
const MOST_PIECES = 200;

interface Progress {
	files: number;
	tests: number;
	failed: number;
	beganAt: number;
}

export default class QuietReporter extends DefaultReporter {
	#heldBack: { at: number; text: string }[] = [];
	#stopHolding = (): void => undefined;
	readonly #beganAt = new Map<TestModule, number>();
	readonly #projects = new Map<string, Progress>();

	override onTestRunStart(specifications: readonly TestSpecification[]): void {
		super.onTestRunStart(specifications);
		this.#projects.clear();
		for (const { project } of specifications) {
			const one = this.#projects.get(project.name);
			if (one === undefined) this.#projects.set(project.name, { files: 1, tests: 0, failed: 0, beganAt: Number.NaN });
			else one.files += 1;
		}
		this.#holdBack();
	}

	onTestModuleStart(module: TestModule): void {
		const now = performance.now();
		this.#beganAt.set(module, now);
		const project = this.#projects.get(module.project.name);
		if (project !== undefined && Number.isNaN(project.beganAt)) project.beganAt = now;
	}

	override onTestRunEnd(...args: Parameters<DefaultReporter["onTestRunEnd"]>): void {
		this.#stopHolding();
		super.onTestRunEnd(...args);
		const [, errors, reason] = args;
		const stray = errors.map(({ name, message, stack }) => `${name}: ${message}\n${stack ?? ""}`);
		mkdirSync(STRAY_ERRORS, { recursive: true });
		// A file for each configuration: two of them may run side by side.
		const { configFile } = this.ctx.vite.config;
		writeFileSync(
			path.join(STRAY_ERRORS, `${path.parse(configFile ?? "none").name}.json`),
			JSON.stringify({ reason, errors: stray }),
		);
	}

	override printTestModule(module: TestModule): void {
		if (!module.ok()) {
			super.printTestModule(module);
			const beganAt = this.#beganAt.get(module) ?? 0;
			const meanwhile = this.#heldBack.filter(({ at }) => at >= beganAt).map(({ text }) => text.split("\n", 1)[0]);
			const different = [...new Set(meanwhile)];
			if (different.length > 0) this.log(`What runtimes under test printed meanwhile:\n  ${different.join("\n  ")}`);
		}
		const project = this.#projects.get(module.project.name);
		if (project === undefined) return;
		project.files -= 1;
		if (!module.ok()) project.failed += 1;
		project.tests += [...module.children.allTests()].length;
		if (project.files > 0) return;
		const seconds = ((performance.now() - project.beganAt) / 1_000).toFixed(1);
		const what = project.failed === 0 ? "passed" : `run, ${project.failed} files failed`;
		this.log(`${module.project.name}: ${project.tests} tests ${what}, ${seconds} s`);
	}

	#holdBack(): void {
		const restore = [process.stdout, process.stderr].map((stream) => {
			const write = stream.write;
			const holding = (chunk: Uint8Array | string, ...rest: unknown[]): boolean => {
				const text = String(chunk);
				const provoked = RUNTIME.test(text) && (isLateEvent(text) || PROVOKED.some((pattern) => pattern.test(text)));
				if (!provoked) return Reflect.apply(write, stream, [chunk, ...rest]);
				this.#heldBack.push({ at: performance.now(), text });
				if (this.#heldBack.length > MOST_PIECES) this.#heldBack.shift();
				const written = rest.find((each) => typeof each === "function");
				written?.();
				return true;
			};
			stream.write = holding;
			// The window on a terminal may have been put over it meanwhile.
			return () => {
				if (stream.write === holding) stream.write = write;
			};
		});
		this.#stopHolding = () => {
			for (const each of restore) each();
		};
	}
}
