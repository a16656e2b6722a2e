/** Bars, one for each peer, for light and dark pages: `docs/benchmarks/<name>.svg`. */

import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import type { Spread } from "./rounds.ts";

export interface Bar extends Spread {
	name: string;
	/** Whether it is Headgate's. */
	own: boolean;
}

const folder = path.resolve(import.meta.dirname, "../../docs/benchmarks");
/** Ink and lines in the colours of the page around them. */
const SCHEMES = `<style>
text { fill: #1f2328 } .role-axis line { stroke: #818b98 } .role-axis-grid line { stroke: #e6eaef }
@media (prefers-color-scheme: dark) { text { fill: #f0f6fc } .role-axis line { stroke: #9198a1 } .role-axis-grid line { stroke: #262c36 } }
</style>`;

const COMMON = {
	background: "transparent",
	config: { view: { stroke: null }, font: "system-ui, sans-serif" },
} as const;

/** Names are written for Markdown. */
const plain = (name: string): string => name.replaceAll("`", "");

async function drawn(name: string, spec: TopLevelSpec): Promise<void> {
	const svg = await new View(parse(compile(spec).spec), { renderer: "none" }).toSVG();
	mkdirSync(folder, { recursive: true });
	writeFileSync(path.join(folder, `${name}.svg`), `${svg.replace(/(<svg[^>]*>)/, `$1${SCHEMES}`)}\n`);
}

/** Medians as bars, with lines from the least to the most of the rounds. Logarithmic where one is a hundred times another. */
export async function plot(name: string, title: string, bars: Bar[]): Promise<void> {
	const values = bars.map(({ median }) => median).filter((value) => value > 0);
	const type = Math.max(...values) > 100 * Math.min(...values) && values.length === bars.length ? "log" : "linear";
	const y = { field: "name", type: "nominal", title: null, sort: null, axis: { labelLimit: 0 } } as const;
	await drawn(name, {
		...COMMON,
		...{ width: 420, height: { step: 20 }, data: { values: bars.map((bar) => ({ ...bar, name: plain(bar.name) })) } },
		layer: [
			{
				mark: { type: "bar" },
				encoding: {
					y,
					x: { field: "median", type: "quantitative", title, scale: { type } },
					...(type === "log" && { x2: { datum: Math.min(...values) / 2 } }),
					color: {
						field: "own",
						type: "nominal",
						legend: null,
						scale: { domain: [true, false], range: ["#3b82f6", "#8b949e"] },
					},
				},
			},
			{
				mark: { type: "rule", strokeWidth: 2, color: "#f97316" },
				encoding: { y, x: { field: "least", type: "quantitative" }, x2: { field: "most" } },
			},
		],
	});
}

/** Lines, both axes logarithmic. */
export async function linesOf(
	name: string,
	[x, y]: [string, string],
	lines: { name: string; points: { x: number; y: number }[] }[],
): Promise<void> {
	// Lines that lie on each other are one, by all their names.
	const series = [...Map.groupBy(lines, ({ points }) => JSON.stringify(points)).values()].map((same) => {
		const names = same.map(({ name }) => plain(name)).join("; ");
		return same[0]?.points.map((point) => ({ name: names, ...point })) ?? [];
	});
	await drawn(name, {
		...COMMON,
		...{ width: 420, height: 320, data: { values: series.flat() } },
		mark: { type: "line", point: true },
		encoding: {
			x: { field: "x", type: "quantitative", title: x, scale: { type: "log" }, axis: { tickCount: 4 } },
			y: { field: "y", type: "quantitative", title: y, scale: { type: "log" }, axis: { tickCount: 4 } },
			color: {
				...{ field: "name", type: "nominal", title: null, sort: null, scale: { scheme: "tableau10" } },
				legend: { labelLimit: 0, orient: "bottom", columns: 1 },
			},
		},
	});
}
