/**
 * `npm run bench`: Headgate's speed on workerd itself, on this machine. Absolute numbers are the machine's; what
 * counts are the ratios, each taken within one run, side by side.
 */

import { createRequire } from "node:module";
import { cpus, totalmem } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import type { Context } from "./context.ts";
import { denials } from "./denials.ts";
import { Generator } from "./generator.ts";
import { hotName } from "./hot-name.ts";
import { keys } from "./keys.ts";
import { leases } from "./leases.ts";
import { type Report, toText, write } from "./report.ts";
import { waiters } from "./waiters.ts";

const SECTIONS: Record<string, (context: Context) => Promise<Report>> = {
	"hot-name": hotName,
	leases,
	waiters,
	denials,
	keys,
};

const HELP = `Usage: npm run bench -- [options] [section ...]

Sections: ${Object.keys(SECTIONS).join(", ")} (all when none is named)

  --rounds <n>    interleaved rounds, of which the medians count (default 5)
  --seconds <n>   how long each thing is measured in each round (default 2)
  --waiters <n>   waiters on one limit (default 8000)
  --keys <n>      keys of a policy that are used once each (default 100000)
  --write         put the numbers into docs/benchmarks.md
  --help          this text
`;

const document = path.resolve(import.meta.dirname, "../docs/benchmarks.md");

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
			rounds: { type: "string", default: "5" },
			seconds: { type: "string", default: "2" },
			waiters: { type: "string", default: "8000" },
			keys: { type: "string", default: "100000" },
			write: { type: "boolean", default: false },
			help: { type: "boolean", default: false },
		},
	});
	if (values.help) {
		process.stdout.write(HELP);
		return;
	}
	const names = positionals.length > 0 ? positionals : Object.keys(SECTIONS);
	const unknown = names.filter((name) => !(name in SECTIONS));
	if (unknown.length > 0) throw new Error(`No such section: ${unknown.join(", ")}.\n\n${HELP}`);

	await using generator = new Generator();
	let missed = 0;
	for (const name of names) {
		const context: Context = {
			rounds: Math.ceil(numeric(values.rounds, "rounds")),
			sliceMs: numeric(values.seconds, "seconds") * 1_000,
			waiters: Math.ceil(numeric(values.waiters, "waiters")),
			keys: Math.ceil(numeric(values.keys, "keys")),
			generator,
			progress: (doing) => process.stderr.write(`${name}: ${doing}\n`),
		};
		const report = await (SECTIONS[name] as (typeof SECTIONS)[string])(context);
		process.stdout.write(`\n${toText(report)}\n\n`);
		const how = `\`npm run bench -- ${["--write", ...args.filter((arg) => arg.startsWith("--") && arg !== "--write"), name].join(" ")}\``;
		if (values.write) write(document, name, report, `Measured with ${how} on ${machine()}.`);
		missed += report.targets.filter(({ met }) => !met).length;
	}
	process.stdout.write(`${machine()}\n${missed === 0 ? "All targets met." : `${missed} missed.`}\n`);
	process.exitCode = missed === 0 ? 0 : 1;
}

try {
	await main(process.argv.slice(2));
} catch (error) {
	process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
	process.exitCode = 2;
}
