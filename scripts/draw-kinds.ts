/**
 * Draws how each kind of limit lets the same callers in, by the core itself: `docs/kinds/admissions.svg`.
 *
 *     node scripts/draw-kinds.ts
 */

import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import { decide } from "../src/core/decide.ts";
import { createLimit, type Request, type Settings } from "../src/core/limit.ts";

/** Of each kind: sixty a minute, or sixty at once that are held for a minute. */
const LIMIT = 60;
const minute = { every: "minute", timeZone: "UTC", at: "00:00", startsOn: null } as const;
const usual = { limit: LIMIT, slotDecayPerSecond: 0, active: true };
const KINDS: { kind: string; settings: Settings; mode: Request["mode"] }[] = [
	{ kind: "lease of a minute", settings: usual, mode: "concurrency" },
	{ kind: "decay, 60/min", settings: { ...usual, slotDecayPerSecond: 1 }, mode: "rate_limit" },
	{ kind: "sliding minute", settings: { ...usual, window: { ...minute, sliding: true } }, mode: "rate_limit" },
	{ kind: "calendar minute", settings: { ...usual, window: { ...minute, sliding: false } }, mode: "rate_limit" },
];

const SECONDS = 180;
/** Nobody for half a minute, then twice what the limit gives. */
const BEGIN_SECONDS = 30;
const PER_SECOND = 2;

interface Admitted {
	kind: string;
	second: number;
	/** Granted until then. */
	granted: number;
}

function play({ kind, settings, mode }: (typeof KINDS)[number]): Admitted[] {
	const limit = createLimit(settings, 0, () => undefined);
	const rest = { holder: null, held: false, remember: false, waitMs: 0, ifBusy: "deny", leaseMs: 60_000 } as const;
	const admitted: Admitted[] = [];
	let granted = 0;
	for (let second = 0; second <= SECONDS; second += 1) {
		for (let n = 0; second >= BEGIN_SECONDS && n < PER_SECOND; n += 1) {
			const id = `${second}.${n}`;
			const request: Request = { ...rest, id, print: id, slots: 1, mode };
			const { events } = decide(limit, { kind: "acquire", request }, second * 1_000);
			if (events.some((event) => event.kind === "granted")) granted += 1;
		}
		admitted.push({ kind, second, granted });
	}
	return admitted;
}

const spec: TopLevelSpec = {
	...{ width: 520, height: 260, background: "white", mark: { type: "line", interpolate: "step-after" } },
	data: { values: KINDS.flatMap(play) },
	encoding: {
		x: { field: "second", type: "quantitative", title: "seconds; two callers a second from 30 on" },
		y: { field: "granted", type: "quantitative", title: "granted so far" },
		color: { field: "kind", type: "nominal", title: null, sort: null },
	},
};

const folder = path.join(import.meta.dirname, "../docs/kinds");
mkdirSync(folder, { recursive: true });
const svg = await new View(parse(compile(spec).spec), { renderer: "none" }).toSVG();
writeFileSync(path.join(folder, "admissions.svg"), `${svg}\n`);
