/**
 * What lending makes of one object, from 1,000 to 1,000,000 requests a second: writes docs/scale.md between its marks, and the
 * plots beside it. The same seed gives the same numbers.
 *
 *     npm run simulate [words of the sections to simulate]
 */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import { Random } from "../test/core/random.ts";
import { type Result, type Scenario, World } from "./simulate/world.ts";

const SEED = 12;
const document = `${import.meta.dirname}/../docs/scale.md`;
const plots = `${import.meta.dirname}/../docs/scale`;

const USUAL: Scenario = {
	...{ isolates: 300, perSecond: 10_000, demand: "even", lendSeconds: 5, supply: 1.25, holdsSeconds: 1, answers: 500 },
	...{ latencyMs: { least: 5, most: 300 }, seconds: 40, warmUpSeconds: 25 },
};

interface Section {
	name: string;
	/** What is varied, as it is told. */
	head: string[];
	rows: { label: string[]; scenario: Partial<Scenario> }[];
	plot?: (rows: Row[]) => TopLevelSpec;
}

type Row = Result & { label: string[]; scenario: Scenario };

const many = (count: number): string => count.toLocaleString("en");
const line = { mark: { type: "line", point: true }, width: 420, height: 240, background: "white" } as const;
const CEILING = {
	mark: { type: "rule" as const, strokeDash: [4, 4] },
	encoding: { y: { datum: USUAL.answers } },
};

const SECTIONS: Section[] = [
	{
		name: "isolates",
		head: ["isolates", "`lendSeconds`"],
		rows: [0, 1, 5, 10].flatMap((lendSeconds) =>
			[10, 100, 300, 1_000, 3_000, 20_000].map((isolates) => ({
				label: [many(isolates), String(lendSeconds)],
				scenario: { isolates, lendSeconds },
			})),
		),
		plot: (rows) => ({
			...{ background: "white", width: 420, height: 240 },
			title: "Calls that reach the object, of 10,000 requests a second",
			data: { values: rows.map(({ scenario, sent }) => ({ ...scenario, sent: Math.max(1, sent) })) },
			layer: [
				{
					mark: line.mark,
					encoding: {
						x: { field: "isolates", type: "quantitative", scale: { type: "log" }, title: "isolates" },
						y: { field: "sent", type: "quantitative", scale: { type: "log" }, title: "calls a second" },
						color: { field: "lendSeconds", type: "nominal", title: "lendSeconds" },
					},
				},
				CEILING,
			],
		}),
	},
	{
		name: "demand",
		head: ["requests a second", "demand"],
		rows: [
			...[1_000, 10_000, 100_000, 1_000_000].flatMap((perSecond) =>
				(["even", "skewed"] as const).map((demand) => ({
					label: [many(perSecond), demand],
					scenario: { perSecond, demand },
				})),
			),
		],
		plot: (rows) => ({
			...line,
			title: "Share of the grants that are given without a hop",
			data: { values: rows.map(({ scenario, unasked }) => ({ ...scenario, unasked })) },
			encoding: {
				x: { field: "perSecond", type: "quantitative", scale: { type: "log" }, title: "requests a second" },
				y: {
					field: "unasked",
					type: "quantitative",
					title: "without a hop",
					axis: { format: "%" },
					scale: { domain: [0, 1] },
				},
				color: { field: "demand", type: "nominal", title: "demand" },
			},
		}),
	},
	{
		name: "length",
		head: ["`lendSeconds`", "latency"],
		rows: [5, 50, 300].flatMap((latencyMs) =>
			[0.1, 0.3, 1, 3, 10].map((lendSeconds) => ({
				label: [String(lendSeconds), `${latencyMs} ms`],
				scenario: { isolates: 100, lendSeconds, latencyMs: { least: latencyMs, most: latencyMs } },
			})),
		),
		plot: (rows) => ({
			...line,
			title: "Price of a million grants, calls and rows of the object",
			data: {
				values: rows.map(({ scenario, usd }) => ({ ...scenario, latency: `${scenario.latencyMs.most} ms`, usd })),
			},
			encoding: {
				x: { field: "lendSeconds", type: "quantitative", scale: { type: "log" }, title: "lendSeconds" },
				y: { field: "usd", type: "quantitative", scale: { type: "log" }, title: "USD" },
				color: { field: "latency", type: "nominal", title: "latency" },
			},
		}),
	},
	{
		name: "holds",
		head: ["isolates", "holds what comes in"],
		rows: [300, 1_000].flatMap((isolates) =>
			[0.5, 1, 2, 4].map((holdsSeconds) => ({
				label: [many(isolates), `${holdsSeconds} s`],
				scenario: { isolates, holdsSeconds, lendSeconds: 10 },
			})),
		),
	},
	{
		name: "scarce",
		head: ["supply", "isolates"],
		rows: [0.5, 0.8, 0.95, 1.25].flatMap((supply) =>
			[10, 100].map((isolates) => ({ label: [`${supply} × demand`, many(isolates)], scenario: { supply, isolates } })),
		),
	},
];

const HEAD = ["calls/s sent", "without a hop", "use", "latest", "USD a million", "most, of what may be"];

const cells = ({ sent, unasked, use, latestSeconds, usd, most }: Result): string[] => [
	many(Math.round(sent)),
	`${(unasked * 100).toFixed(1)} %`,
	use.toFixed(2),
	`${latestSeconds.toFixed(1)} s`,
	usd.toFixed(3),
	most.toFixed(2),
];

async function main(): Promise<void> {
	const wanted = process.argv.slice(2);
	mkdirSync(plots, { recursive: true });
	for (const { name, head, rows, plot } of SECTIONS) {
		if (wanted.length > 0 && !wanted.includes(name)) continue;
		const done = rows.map(({ label, scenario }): Row => {
			const whole = { ...USUAL, ...scenario };
			const result = new World(whole, new Random(SEED)).run();
			process.stderr.write(`${name}: ${label.join(", ")}: ${cells(result).join(", ")}\n`);
			return { label, scenario: whole, ...result };
		});
		const over = done.filter(({ most }) => most > 1 + 1e-9);
		if (over.length > 0) throw new Error(`More was granted than may be: ${over.map(({ label }) => label).join("; ")}`);
		if (plot) {
			const svg = await new View(parse(compile(plot(done)).spec), { renderer: "none" }).toSVG();
			writeFileSync(`${plots}/${name}.svg`, `${svg}\n`);
		}
		write(name, [[...head, ...HEAD], ...done.map((row) => [...row.label, ...cells(row)])]);
	}
}

/** Replaces a table of the document, which stands between two comments that name it. */
function write(name: string, [head = [], ...rows]: string[][]): void {
	const text = readFileSync(document, "utf8");
	const [begin, end] = [`<!-- simulated: ${name} -->`, `<!-- end: ${name} -->`];
	const [from, to] = [text.indexOf(begin), text.indexOf(end)];
	if (from < 0 || to < from) throw new Error(`${document} has no place for it: ${begin} … ${end}`);
	const row = (each: string[]): string => `| ${each.join(" | ")} |`;
	const table = [row(head), row(head.map(() => "---")), ...rows.map(row)].join("\n");
	writeFileSync(document, `${text.slice(0, from)}${begin}\n\n${table}\n\n${text.slice(to)}`);
}

await main();
