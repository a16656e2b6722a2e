/**
 * What one operation costs beside more and more of everything: leases of the limit, waiters in its line, limits of the server. It
 * is counted in processor time of the server, which other programs of the machine bend less than any clock.
 */

import { fork } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import { freshServer } from "../test/support/server.ts";
import type { Context } from "./context.ts";
import type { Crowd } from "./crowd.ts";
import { Connection, once, request } from "./http.ts";
import type { Load } from "./load.ts";
import { cpuMs } from "./neighbours.ts";
import { median, times } from "./numbers.ts";
import type { Report } from "./report.ts";
import { newsOf } from "./waiters.ts";

const SIZES = {
	full: {
		leases: [10, 100, 1_000, 10_000, 100_000],
		waiters: [10, 100, 1_000, 8_000],
		limits: [10, 100, 1_000, 10_000, 100_000],
	},
	short: { leases: [10, 100], waiters: [10, 50], limits: [10, 50] },
};
type Of = keyof (typeof SIZES)["full"];

const WARM_UP_MS = 300;
const BATCH = 100;
const CALLERS = 16;
/** No operation may cost more than this many times what it costs beside the fewest. */
const MOST = 2;
const plots = path.join(import.meta.dirname, "../docs/reliability");

interface Point {
	of: Of;
	count: number;
	/** Microseconds of the server's processor, at the median of the rounds. */
	us: number;
	/** Beside the same of the fewest. */
	ratio: number;
}

export async function growth(context: Context): Promise<Report> {
	const { leases, waiters, limits } = context.short ? SIZES.short : SIZES.full;
	const sizes = {
		leases,
		waiters: waiters.filter((count) => count <= context.waiters),
		limits: limits.filter((count) => count <= context.keys),
	};
	const points = [
		...(await againstLeases(context, sizes.leases)),
		...(await againstWaiters(context, sizes.waiters)),
		...(await againstLimits(context, sizes.limits)),
	];
	if (!context.short) await draw(points);
	return {
		title: "What an operation costs beside more of everything",
		notes: [
			"An acquire and its release beside so many leases of the same limit; an acquire that is denied beside so many waiters in its line; " +
				"an acquire and its release beside so many other limits, which have been used and are out of memory or on their way. One caller. " +
				`Processor time of the server, without what it spends on those who wait anyway: the median of ${context.rounds} rounds.`,
		],
		head: ["beside", "processor time", "against the fewest"],
		rows: points.map(({ of, count, us, ratio }) => [
			`${count.toLocaleString("en")} ${of}`,
			`${us.toFixed(0)} µs`,
			times(ratio),
		]),
		targets: (["leases", "waiters", "limits"] as const).map((of) => {
			const most = Math.max(...points.filter((point) => point.of === of).map(({ ratio }) => ratio));
			return {
				what: `${of}: the dearest`,
				aim: `at most ${MOST} × the fewest`,
				measured: times(most),
				met: most <= MOST,
			};
		}),
	};
}

/** Processor time of each load, in turns; what the server does anyway (it beats for those who wait) is no part of it. */
async function measured(
	context: Context,
	of: Of,
	loads: { count: number; load: Load; pid: number }[],
): Promise<Point[]> {
	const { generator, rounds, sliceMs, progress } = context;
	const seen: number[][] = loads.map(() => []);
	for (let round = 0; round < rounds; round += 1) {
		progress(`${of}: round ${round + 1} of ${rounds}`);
		for (const [at, { load, pid }] of loads.entries()) {
			// An object that was out of memory reads all that it has, once: that is the cost of waking, and not of a turn.
			await once(load.url, "GET", `/v1/limits/${load.calls[0]?.body.names}`);
			const [idleFrom, idleAt] = [cpuMs(pid), performance.now()];
			await sleep(sliceMs / 2);
			const idle = (cpuMs(pid) - idleFrom) / (performance.now() - idleAt);
			const [from, startedAt] = [cpuMs(pid), performance.now()];
			const { turns } = await generator.run(load);
			const busyMs = cpuMs(pid) - from - idle * (performance.now() - startedAt);
			seen[at]?.push((busyMs * 1_000) / turns);
		}
	}
	const fewest = seen[0] as number[];
	return loads.map(({ count }, at) => {
		const us = seen[at] as number[];
		return { of, count, us: median(us), ratio: median(us) / median(fewest) };
	});
}

const turn = (names: string) => ["/v1/acquire", "/v1/release"].map((path) => ({ path, body: { id: "{id}", names } }));

async function againstLeases(context: Context, counts: number[]): Promise<Point[]> {
	await using server = await freshServer();
	for (const count of counts) {
		context.progress(`${count} leases`);
		const names = `leases-${count}`;
		await once(server.url, "PUT", `/v1/limits/${names}`, { limit: 1_000_000 });
		for (let from = 0; from < count; from += BATCH) {
			const lease = { names, leaseSeconds: 86_400 };
			await once(server.url, "POST", "/v1/acquire/batch", {
				requests: Array(Math.min(BATCH, count - from)).fill(lease),
			});
		}
	}
	const load = (count: number): Load => ({
		...{ url: server.url, callers: 1, warmUpMs: WARM_UP_MS, ms: context.sliceMs, calls: turn(`leases-${count}`) },
	});
	return await measured(
		context,
		"leases",

		counts.map((count) => ({ count, load: load(count), pid: server.pid })),
	);
}

/** Each crowd on a server of its own: workerd has two descriptors for a waiter, and all of them together would need too many. */
async function againstWaiters(context: Context, counts: number[]): Promise<Point[]> {
	const servers = await Promise.all(counts.map(() => freshServer()));
	const crowds = counts.map(() => fork(`${import.meta.dirname}/crowd.ts`));
	try {
		for (const [at, count] of counts.entries()) {
			context.progress(`${count} waiters`);
			const name = `waiters-${count}`;
			const server = servers[at] as (typeof servers)[number];
			await once(server.url, "PUT", `/v1/limits/${name}`, { limit: 1 });
			await once(server.url, "POST", "/v1/acquire", { names: name, leaseSeconds: 86_400 });
			const crowd = crowds[at] as (typeof crowds)[number];
			const news = newsOf(crowd);
			crowd.send({ url: server.url, name, count, as: "stream" } satisfies Crowd);
			await news("joined");
		}
		const load = (count: number, at: number): Load => ({
			...{ url: servers[at]?.url ?? "", callers: 1, warmUpMs: WARM_UP_MS, ms: context.sliceMs, status: 429 },
			calls: [{ path: "/v1/acquire", body: { id: "{id}", names: `waiters-${count}` } }],
		});
		return await measured(
			context,
			"waiters",

			counts.map((count, at) => ({ count, load: load(count, at), pid: servers[at]?.pid ?? 0 })),
		);
	} finally {
		for (const crowd of crowds) crowd.kill("SIGKILL");
		for (const server of servers) await server[Symbol.asyncDispose]();
	}
}

async function againstLimits(context: Context, counts: number[]): Promise<Point[]> {
	const servers = await Promise.all(counts.map(() => freshServer()));
	try {
		for (const [at, count] of counts.entries()) {
			context.progress(`${count} limits`);
			const { url } = servers[at] as (typeof servers)[number];
			let next = 0;
			await Promise.all(
				Array.from({ length: CALLERS }, async () => {
					const connection = await Connection.open(url);
					for (let limit = next++; limit < count; limit = next++) {
						const { status } = await connection.call(request("PUT", `/v1/limits/limit-${limit}`, { limit: 10 }));
						if (status !== 201) throw new Error(`A limit to begin with is answered ${status}.`);
					}
					connection.close();
				}),
			);
		}
		const load = (at: number): Load => ({
			...{ url: (servers[at] as (typeof servers)[number]).url, callers: 1, warmUpMs: WARM_UP_MS, ms: context.sliceMs },
			calls: turn("limit-0"),
		});
		return await measured(
			context,
			"limits",

			counts.map((count, at) => ({ count, load: load(at), pid: servers[at]?.pid ?? 0 })),
		);
	} finally {
		for (const server of servers) await server[Symbol.asyncDispose]();
	}
}

/** One plot for each colour scheme of a reader. */
async function draw(points: Point[]): Promise<void> {
	mkdirSync(plots, { recursive: true });
	for (const [scheme, ink, paper] of [
		["light", "#1f2328", "#ffffff"],
		["dark", "#e6edf3", "#0d1117"],
	] as const) {
		const spec: TopLevelSpec = {
			...{ width: 520, height: 260, background: paper, data: { values: points } },
			config: {
				axis: { labelColor: ink, titleColor: ink, gridColor: `${ink}22`, domainColor: ink, tickColor: ink },
				legend: { labelColor: ink, titleColor: ink },
				view: { stroke: `${ink}44` },
			},
			layer: [
				{
					mark: { type: "line", point: true },
					encoding: {
						x: { field: "count", type: "quantitative", scale: { type: "log" }, title: "so many of them" },
						y: {
							field: "ratio",
							type: "quantitative",
							scale: { domain: [0, 2.5] },
							title: "times what it costs beside the fewest",
						},
						color: { field: "of", type: "nominal", title: "beside" },
					},
				},
				{ mark: { type: "rule", strokeDash: [4, 4], color: ink }, encoding: { y: { datum: MOST } } },
			],
		};
		const svg = await new View(parse(compile(spec).spec), { renderer: "none" }).toSVG();
		writeFileSync(path.join(plots, `growth-${scheme}.svg`), `${svg}\n`);
	}
}
