/**
 * Thousands of waiters on one limit: what each costs in memory, how long joining and serving take, and whether the
 * server answers others meanwhile.
 */

import { fork } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Lease, LimitSummary } from "../src/protocol.ts";
import { freshServer } from "../test/support/server.ts";
import type { Context } from "./context.ts";
import type { Crowd, CrowdNews } from "./crowd.ts";
import { once } from "./http.ts";
import { milliseconds, percentile, seconds } from "./numbers.ts";
import { PROBE_MS, Probe, residentKb } from "./probe.ts";
import type { Report, Target } from "./report.ts";

const LIMIT = 8;
/** How long the crowd is left to wait before it is served. */
const WAIT_MS = 5_000;
/** workerd uses two descriptors for a connection, and some for itself. */
const DESCRIPTORS_EACH = 2;
const DESCRIPTORS_OTHER = 500;
/** Longer than any of it takes, even on a busy machine. */
const PATIENCE_MS = 180_000;
const MOST_KB = 100;
const MOST_HEALTH_MS = 50;

type Phase = "joining" | "waiting" | "serving";
const PHASES: Phase[] = ["joining", "waiting", "serving"];

interface Outcome {
	as: Crowd["as"];
	kbEach: number;
	ms: Record<Phase, number>;
	/** Times of `/health`, ascending. */
	health: Record<Phase, number[]>;
	/** Those of a bare Worker on the same machine at the same time: what the machine itself adds. */
	bareHealth: Record<Phase, number[]>;
	overtakes: number;
}

export async function waiters(context: Context): Promise<Report> {
	const { count, note } = affordable(context.waiters);
	const outcomes: Outcome[] = [];
	for (const as of ["stream", "held response"] as const) outcomes.push(await serve(as, count, context));
	return {
		title: `${count.toLocaleString("en")} waiters on one limit`,
		notes: [
			`They wait on a limit of ${LIMIT} and are served one after the other: each gives its slots back when it has ` +
				`heard of them. /health is asked every ${PROBE_MS} ms on a connection of its own, and beside it the /health ` +
				"of an idle bare Worker: what that one loses, the machine took. The longest times are those of garbage " +
				"collections, which stop the server's thread for longer the more connections there are.",
			...(note === null ? [] : [note]),
		],
		head: ["waiters as", "memory each", "phase", "took", "/health p50", "p99", "max", "idle Worker's p99", "max"],
		rows: outcomes.flatMap((outcome) => PHASES.map((phase) => rowOf(outcome, phase))),
		targets: outcomes.flatMap(targetsOf),
	};
}

/** As many waiters as there are file descriptors for. */
function affordable(wanted: number): { count: number; note: string | null } {
	const line = /Max open files\s+(\S+)/.exec(readFileSync("/proc/self/limits", "utf8"))?.[1] ?? "unlimited";
	const most = line === "unlimited" ? wanted : Math.floor((Number(line) - DESCRIPTORS_OTHER) / DESCRIPTORS_EACH);
	if (most >= wanted) return { count: wanted, note: null };
	const note = `Fewer than the ${wanted} waiters asked for: this shell allows ${line} open files (ulimit -n), and workerd needs two for each.`;
	return { count: most, note };
}

async function serve(as: Crowd["as"], count: number, { progress }: Context): Promise<Outcome> {
	await using server = await freshServer();
	await using bare = await freshServer({ config: `${import.meta.dirname}/bare/wrangler.toml` });
	const limit = `${server.url}/v1/limits/crowded`;
	await once(server.url, "PUT", "/v1/limits/crowded", { limit: LIMIT });
	const held = { id: "holder", names: { crowded: LIMIT } };
	await once<Lease>(server.url, "POST", "/v1/acquire", { ...held, leaseSeconds: 3_600 });
	const before = residentKb(server.pid);

	const child = fork(`${import.meta.dirname}/crowd.ts`);
	const news = newsOf(child);
	const probe = { health: await Probe.start(server.url), bareHealth: await Probe.start(bare.url) };
	const phases = { ms: {}, health: {}, bareHealth: {} } as Pick<Outcome, "ms" | "health" | "bareHealth">;
	let since = performance.now();
	const endOf = (phase: Phase): void => {
		phases.ms[phase] = performance.now() - since;
		phases.health[phase] = probe.health.take();
		phases.bareHealth[phase] = probe.bareHealth.take();
		since = performance.now();
	};
	try {
		progress(`${count} waiters join, each as a ${as}`);
		child.send({ url: server.url, name: "crowded", count, as } satisfies Crowd);
		await news("joined");
		if (as === "held response") await untilWaiting(server.url, count);
		endOf("joining");
		const { waitingCount } = await once<LimitSummary>(server.url, "GET", "/v1/limits/crowded");
		if (waitingCount !== count) throw new Error(`${waitingCount} wait on ${limit}, and not ${count}.`);

		progress("they wait");
		await sleep(WAIT_MS);
		const kbEach = (residentKb(server.pid) - before) / count;
		endOf("waiting");

		progress("they are served");
		await once(server.url, "POST", "/v1/release", held);
		const { overtakes } = await news("served");
		endOf("serving");
		return { as, kbEach, ...phases, overtakes };
	} finally {
		probe.health.stop();
		probe.bareHealth.stop();
		child.kill();
	}
}

/** Waits for one kind of news from the crowd; a failure, or its end, ends the wait. */
export function newsOf(child: ReturnType<typeof fork>) {
	const heard: CrowdNews[] = [];
	let look = (): void => undefined;
	child.on("message", (news: CrowdNews) => {
		heard.push(news);
		look();
	});
	child.once("exit", (code) => {
		heard.push({ news: "failed", why: `its process ended with ${code}` });
		look();
	});
	return <K extends CrowdNews["news"]>(kind: K): Promise<Extract<CrowdNews, { news: K }>> =>
		new Promise((resolve, reject) => {
			const timer = setTimeout(() => reject(new Error(`The crowd has not ${kind} in time.`)), PATIENCE_MS);
			look = () => {
				const failed = heard.find((each) => each.news === "failed");
				if (failed) reject(new Error(`The crowd failed: ${failed.why}`));
				const found = heard.find((each) => each.news === kind);
				if (found) resolve(found as Extract<CrowdNews, { news: K }>);
				if (failed || found) clearTimeout(timer);
			};
			look();
		});
}

async function untilWaiting(url: string, count: number): Promise<void> {
	const deadline = performance.now() + 60_000;
	while (performance.now() < deadline) {
		const { waitingCount } = await once<LimitSummary>(url, "GET", "/v1/limits/crowded");
		if (waitingCount >= count) return;
		await sleep(20);
	}
	throw new Error("The crowd did not get into the line within a minute.");
}

function rowOf({ as, kbEach, ms, health, bareHealth }: Outcome, phase: Phase): string[] {
	const of = (times: number[], part: number): string => milliseconds(percentile(times, part));
	return [
		as,
		`${kbEach.toFixed(0)} kB`,
		phase,
		seconds(ms[phase]),
		of(health[phase], 0.5),
		of(health[phase], 0.99),
		of(health[phase], 1),
		of(bareHealth[phase], 0.99),
		of(bareHealth[phase], 1),
	];
}

function targetsOf({ as, kbEach, health, overtakes }: Outcome): Target[] {
	const p99 = Math.max(...PHASES.map((phase) => percentile(health[phase], 0.99)));
	const targets = [
		{
			what: `${as}: memory each`,
			aim: `at most ${MOST_KB} kB`,
			measured: `${kbEach.toFixed(0)} kB`,
			met: kbEach <= MOST_KB,
		},
		{
			what: `${as}: p99 of /health in each phase`,
			aim: `below ${MOST_HEALTH_MS} ms`,
			measured: milliseconds(p99),
			met: p99 < MOST_HEALTH_MS,
		},
	];
	// A held response does not tell its place, so nobody knows the order in which they came.
	if (as === "held response") return targets;
	return [...targets, { what: `${as}: overtakes`, aim: "none", measured: String(overtakes), met: overtakes === 0 }];
}
