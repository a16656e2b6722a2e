/**
 * Plays tenants that share a limit, by the core itself, and writes what each waits: the tables of `docs/fairness.md`, and
 * `docs/fairness/waits.svg`.
 *
 *     node scripts/draw-fairness.ts
 */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import { Random } from "../test/core/random.ts";
import { Arena, meanWaitMs, type Served, shareOf, type Tenant } from "../test/core/tenants.ts";

const SLOTS = 10;
const MINUTES = 10;
const endMs = MINUTES * 60_000;
const mode = "concurrency";

const random = new Random(1);
/** A thousand requests that always wait, each for a slot of about a second. */
const bulk: Tenant = {
	name: "bulk",
	key: "bulk",
	waiting: 1_000,
	slots: () => 1,
	holdMs: () => random.int(500, 1_500),
};
/** One request after the other, with two seconds between them. */
const small: Tenant = { ...bulk, name: "small", key: "small", waiting: 1, pauseMs: () => random.int(1_000, 3_000) };
const many = (of: Tenant, count: number): Tenant[] =>
	Array.from({ length: count }, (_, index) => ({ ...of, name: `${of.name}-${index}`, key: `${of.key}-${index}` }));
const keyless = (tenant: Tenant): Tenant => ({ ...tenant, key: null });

interface Way {
	way: string;
	tenants: Tenant[];
	/** Slots of each group that shares a limit of its own; left out: one limit for all. */
	caps?: [slots: number, tenants: Tenant[]][];
}

const split = many({ ...bulk, waiting: 50 }, 20);
const urgent = { ...small, priority: 1 };
const ways: Way[] = [
	{ way: "first come, first served (no key)", tenants: [keyless(bulk), keyless(small)] },
	{
		way: "half of the slots for each, as two limits",
		tenants: [],
		caps: [
			[5, [bulk]],
			[5, [small]],
		],
	},
	{ way: "a key for each", tenants: [bulk, small] },
	{ way: "a key for each, the small one of weight 9", tenants: [bulk, { ...small, weight: 9 }] },
	{ way: "the flooder under twenty keys", tenants: [...split, small] },
	{ way: "no key, and the small one of priority 1", tenants: [keyless(bulk), keyless(urgent)] },
];

function played({ tenants, caps }: Way): Served[] {
	const limits = caps ?? [[SLOTS, tenants] as [number, Tenant[]]];
	return limits.flatMap(([limit, those]) => new Arena({ settings: { limit }, tenants: those, endMs, mode }).run());
}

const isSmall = ({ name }: Tenant): boolean => name === "small";
const seconds = (ms: number): string =>
	Number.isNaN(ms) ? "never served" : `${(ms / 1_000).toFixed(ms < 10_000 ? 2 : 0)} s`;
const waitMs = ({ grantedAt, arrivedAt }: Served): number => grantedAt - arrivedAt;
const longest = (all: Served[]): number => all.reduce((most, each) => Math.max(most, waitMs(each)), 0);

/** In steps of two percent. */
function shares(waits: number[]): { wait: number; percent: number }[] {
	const sorted = [...waits].sort((a, b) => a - b);
	return Array.from({ length: 51 }, (_, step) => {
		const at = Math.min(sorted.length - 1, Math.floor((step * sorted.length) / 50));
		return { wait: sorted[at] ?? 0, percent: 2 * step };
	});
}

function rowOf(way: Way): { row: string; waits: { way: string; wait: number; percent: number }[] } {
	const served = played(way);
	const own = served.filter(({ tenant }) => isSmall(tenant));
	const [tenant] = own.map((each) => each.tenant);
	const mean = tenant ? meanWaitMs(served, tenant) : Number.NaN;
	const used =
		served.reduce((sum, { holdMs, grantedAt }) => sum + Math.min(holdMs, endMs - grantedAt), 0) / (SLOTS * endMs);
	const worst = tenant ? seconds(longest(own)) : "–";
	return {
		row: `| ${way.way} | ${seconds(mean)} | ${worst} | ${own.length} | ${Math.round(100 * used)} % |`,
		waits: shares(own.map((each) => Math.max(0.01, waitMs(each) / 1_000))).map((each) => ({ way: way.way, ...each })),
	};
}

const rows = ways.map(rowOf);

const high: Tenant = { ...bulk, name: "high", key: null, priority: 9, waiting: 50 };
const low: Tenant = { ...high, name: "low", priority: 0, waiting: 20 };
const starving = [0, 60, 10].map((starveAfterSeconds) => {
	const served = new Arena({ settings: { limit: SLOTS, starveAfterSeconds }, tenants: [high, low], endMs, mode }).run();
	const own = served.filter(({ tenant }) => tenant === low);
	const share = Math.round(100 * shareOf(served, low, mode));
	const waited = own.length > 0 ? `${seconds(meanWaitMs(served, low))} | ${seconds(longest(own))}` : "never served | –";
	const patience = starveAfterSeconds === 0 ? "0: strict" : `${starveAfterSeconds}`;
	return `| ${patience} | ${seconds(meanWaitMs(served, high))} | ${waited} | ${share} % |`;
});

const tables: Record<string, string[]> = {
	waits: [
		"| | mean wait of the small one | longest | served | slots in use |",
		"| --- | --- | --- | --- | --- |",
		...rows.map(({ row }) => row),
	],
	starving: [
		"| `starveAfterSeconds` | mean wait, priority 9 | mean wait, priority 0 | longest | share of priority 0 |",
		"| --- | --- | --- | --- | --- |",
		...starving,
	],
};

const docs = path.join(import.meta.dirname, "../docs");
const page = path.join(docs, "fairness.md");
let text = readFileSync(page, "utf8");
for (const [name, lines] of Object.entries(tables)) {
	const place = new RegExp(`(<!-- played: ${name} -->\n)[^]*?(<!-- end -->)`);
	if (!place.test(text)) throw new Error(`docs/fairness.md has no place for ${name}.`);
	text = text.replace(place, (_, begin: string, end: string) => `${begin}${lines.join("\n")}\n${end}`);
}
writeFileSync(page, text);

const spec: TopLevelSpec = {
	...{ width: 520, height: 260, background: "white", mark: { type: "line", interpolate: "step-after" } },
	data: { values: rows.flatMap(({ waits }) => waits) },
	config: { aria: false },
	encoding: {
		x: {
			field: "wait",
			type: "quantitative",
			scale: { type: "log" },
			title: "seconds that a request of the small one waited",
		},
		y: { field: "percent", type: "quantitative", title: "of its requests, percent that waited no longer" },
		color: { field: "way", type: "nominal", title: null, sort: null, legend: { labelLimit: 300 } },
	},
};
mkdirSync(path.join(docs, "fairness"), { recursive: true });
const svg = await new View(parse(compile(spec).spec), { renderer: "none" }).toSVG();
writeFileSync(path.join(docs, "fairness/waits.svg"), `${svg}\n`);
