/**
 * `npm run bench`: Headgate's speed on workerd itself, on this machine. Absolute numbers are the machine's; what
 * counts are the ratios, each taken within one run, side by side.
 */

import { createRequire } from "node:module";
import { cpus, totalmem } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { attention } from "./attention.ts";
import { batch } from "./batch.ts";
import { capacity } from "./capacity.ts";
import type { Context } from "./context.ts";
import { costs } from "./costs.ts";
import { denials } from "./denials.ts";
import { Generator } from "./generator.ts";
import { growth } from "./growth.ts";
import { hotName } from "./hot-name.ts";
import { inversion } from "./inversion.ts";
import { keys } from "./keys.ts";
import { leases } from "./leases.ts";
import { lending } from "./lending.ts";
import { peers } from "./peers/index.ts";
import { type Report, toText, write } from "./report.ts";
import { timing } from "./timing.ts";
import { turns } from "./turns.ts";
import { waiters } from "./waiters.ts";

const SECTIONS: Record<string, (context: Context) => Promise<Report | Record<string, Report>>> = {
	"hot-name": hotName,
	leases,
	waiters,
	timing,
	denials,
	lending,
	batch,
	keys,
	attention,
	turns,
	inversion,
	costs,
	peers,
	capacity,
	growth,
};
/** It installs what it measures beside Headgate, so it runs only when it is named. */
const ONLY_BY_NAME = "peers";
/** Figures that are no times have a page of their own. */
const DOCUMENTS: Record<string, string> = { costs: "costs.md", capacity: "reliability.md", growth: "reliability.md" };

const FULL = { rounds: 5, seconds: 2, waiters: 8_000, keys: 100_000 };
const SHORT = { rounds: 1, seconds: 0.3, waiters: 200, keys: 100 };

const HELP = `Usage: npm run bench -- [options] [section ...]

Sections: ${Object.keys(SECTIONS).join(", ")} (all but ${ONLY_BY_NAME} when none is named)

  --rounds <n>    interleaved rounds, of which the medians count (default ${FULL.rounds})
  --seconds <n>   how long each thing is measured in each round (default ${FULL.seconds})
  --waiters <n>   waiters on one limit (default ${FULL.waiters})
  --keys <n>      keys of a policy that are used once each (default ${FULL.keys})
  --check         only what a caller can time (section timing), judged by controls of the same rounds
  --short         a moment of each, to see that it still runs; nothing is judged
  --write         put the numbers into docs/benchmarks.md, costs into docs/costs.md, capacity and growth into docs/reliability.md
  --help          this text
`;

const documentOf = (section: string): string =>
	path.resolve(import.meta.dirname, "../docs", DOCUMENTS[section] ?? "benchmarks.md");

function machine(): string {
	const wrangler = createRequire(import.meta.url).resolve("wrangler/package.json");
	const { version } = createRequire(wrangler)("workerd/package.json") as { version: string };
	const all = cpus();
	const memory = Math.round(totalmem() / 2 ** 30);
	const today = new Date().toISOString().slice(0, 10);
	return `${all[0]?.model.trim()}, ${all.length} cores, ${memory} GB, workerd ${version}, Node ${process.versions.node}, ${today}`;
}

function numeric(text: string, option: string): number {
	const value = Number(text);
	if (!(value > 0)) throw new Error(`--${option} takes a number above 0, and not "${text}".`);
	return value;
}

async function main(args: string[]): Promise<void> {
	const { values, positionals } = parseArgs({
		args,
		allowPositionals: true,
		options: {
			rounds: { type: "string" },
			seconds: { type: "string" },
			waiters: { type: "string" },
			keys: { type: "string" },
			check: { type: "boolean", default: false },
			short: { type: "boolean", default: false },
			write: { type: "boolean", default: false },
			help: { type: "boolean", default: false },
		},
	});
	if (values.help) {
		process.stdout.write(HELP);
		return;
	}
	const all = values.check ? ["timing"] : Object.keys(SECTIONS).filter((name) => name !== ONLY_BY_NAME);
	const names = positionals.length > 0 ? positionals : all;
	const unknown = names.filter((name) => !(name in SECTIONS));
	if (unknown.length > 0) throw new Error(`No such section: ${unknown.join(", ")}.\n\n${HELP}`);

	if (values.short && values.write) throw new Error("Figures of the short form are none: leave --write out.");
	const sizes = values.short ? SHORT : FULL;
	const size = (option: keyof typeof FULL): number => {
		const text = values[option];
		return text === undefined ? sizes[option] : numeric(text, option);
	};

	await using generator = new Generator();
	let missed = 0;
	for (const name of names) {
		const context: Context = {
			short: values.short,
			rounds: Math.ceil(size("rounds")),
			sliceMs: size("seconds") * 1_000,
			waiters: Math.ceil(size("waiters")),
			keys: Math.ceil(size("keys")),
			generator,
			progress: (doing) => process.stderr.write(`${name}: ${doing}\n`),
		};
		const made = await (SECTIONS[name] as (typeof SECTIONS)[string])(context);
		const reports = "rows" in made ? { [name]: made as Report } : (made as Record<string, Report>);
		const how = `\`npm run bench -- ${["--write", ...args.filter((arg) => arg !== "--write" && !names.includes(arg)), name].join(" ")}\``;
		for (const [part, report] of Object.entries(reports)) {
			process.stdout.write(`\n${toText(values.short ? { ...report, targets: [] } : report)}\n\n`);
			if (values.write) {
				write(documentOf(name), part, report, `Measured with ${how} on ${machine()}.`);
				await report.draw?.();
			}
			missed += report.targets.filter(({ met }) => !met).length;
		}
	}
	const verdict = values.short ? "Everything ran." : missed === 0 ? "All targets met." : `${missed} missed.`;
	process.stdout.write(`${machine()}\n${verdict}\n`);
	process.exitCode = values.short || missed === 0 ? 0 : 1;
}

try {
	await main(process.argv.slice(2));
} catch (error) {
	const { message, cause } = error instanceof Error ? error : { message: String(error) };
	process.stderr.write(`${message}${cause instanceof Error ? `: ${cause.message}` : ""}\n`);
	// What a section left open, a stream of one who waits, would keep the program alive for ever.
	process.exit(2);
}
