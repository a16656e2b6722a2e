/**
 * The pile of jobs of Prefect's issue #23183: 778 runs of 0.12 s under one limit, which there started one by one and
 * up to a minute apart although the limit had room, because a release woke nobody. Here twenty programs share
 * the jobs, each with several workers, so that there is a long line all the time.
 */

import { Headgate } from "../../src/client/index.ts";
import type { Assignment, JobReport } from "./client.ts";
import { runClients } from "./clients.ts";
import { beside, judged } from "./control.ts";
import { LineWatch } from "./line-watch.ts";
import { type Act, ms, type Progress, percentile, s } from "./show.ts";

const JOBS = 778;
const JOB_MS = 120;
const LIMIT = 8;
const CLIENTS = 20;
/** In each program. A hundred in all, for eight slots. */
const WORKERS = 5;
/** Longer than any job stands in line, so that no renewal is part of the picture. */
const LEASE_SECONDS = 60;
const IDEAL_MS = (JOBS * JOB_MS) / LIMIT;
/** Ends what hangs. */
const PATIENCE_MS = 100 * IDEAL_MS;
/** Of jobs that take as long as they do, and hand on as fast as the control says. */
const MOST_WALL = 1.15;
const MOST_HAND_OFF_MS = 10;

export async function pile(url: string, progress: Progress): Promise<Act> {
	progress.begin(`${JOBS} jobs, ${CLIENTS} programs`);
	progress.at("starting the programs");
	await new Headgate({ url }).configure("pile", { limit: LIMIT });
	const assignments = Array.from({ length: CLIENTS }, (_, client): Assignment => {
		const jobs = Math.floor(JOBS / CLIENTS) + (client < JOBS % CLIENTS ? 1 : 0);
		return { url, teams: [{ names: ["pile"], jobs, workers: WORKERS }], jobMs: JOB_MS, leaseSeconds: LEASE_SECONDS };
	});
	const watch = new LineWatch(url, "pile");
	const [{ jobs, startedAt, endedAt }, control] = await beside(url, () =>
		runClients(assignments, PATIENCE_MS, (done) => progress.at(`${done} of ${JOBS} done`)),
	);
	await watch.stop();

	const wallMs = endedAt - startedAt;
	const { inversions, checked } = inversionsIn(jobs, watch.order);
	const most = Math.max(mostAtOnce(jobs), watch.mostSlots);
	const handOffs = handOffsOf(jobs);
	const handOff = percentile(handOffs, 0.5);
	const mostWallMs = (MOST_WALL * JOBS * (JOB_MS + control.overheadMs)) / LIMIT;
	const mostHandOffMs = Math.max(MOST_HAND_OFF_MS, control.middleMs);
	return {
		title: `${JOBS} jobs of ${JOB_MS} ms on a limit of ${LIMIT}, ${CLIENTS} programs (the case of Prefect's issue #23183)`,
		findings: [
			{
				what: "wall time",
				measured: `${s(wallMs)} = ${(wallMs / IDEAL_MS).toFixed(3)} × ideal`,
				aim: `≤ ${s(mostWallMs)} (ideal ${s(IDEAL_MS)}, a call takes ${ms(control.callMs)} here)`,
				met: jobs.length === JOBS && judged(control, wallMs <= mostWallMs),
			},
			{
				what: `order inversions (${checked} jobs in line)`,
				measured: String(inversions),
				aim: "0",
				met: inversions === 0,
			},
			{ what: "highest concurrency", measured: String(most), aim: `≤ ${LIMIT}`, met: most <= LIMIT },
			{
				what: "hand-off p50 / p99",
				measured: `${ms(handOff)} / ${ms(percentile(handOffs, 0.99))}`,
				aim: `p50 ≤ ${ms(mostHandOffMs)}`,
				met: judged(control, handOff <= mostHandOffMs),
			},
		],
	};
}

/**
 * An inversion is a job that was granted later, by the server's clock, than a job that stood behind it in line. Who
 * stood behind whom is what the limit itself showed of its line, and, for jobs in any order there, what their
 * moments of arrival at the limit say. Jobs of the same millisecond were decided together and are in order.
 */
function inversionsIn(jobs: JobReport[], line: string[]): { inversions: number; checked: number } {
	const byId = new Map(jobs.map((job) => [job.id, job]));
	const asShown = line.flatMap((id) => byId.get(id) ?? []);
	const overtaken = new Set<string>();
	// From the end of the line: whoever was granted after someone behind has been overtaken.
	let earliestBehind = Number.POSITIVE_INFINITY;
	for (const { id, grantedAt } of asShown.toReversed()) {
		if (grantedAt > earliestBehind) overtaken.add(id);
		earliestBehind = Math.min(earliestBehind, grantedAt);
	}
	for (const one of jobs) {
		const passed = jobs.some((other) => other.arrivedAt > one.arrivedAt && other.grantedAt < one.grantedAt);
		if (passed) overtaken.add(one.id);
	}
	return { inversions: overtaken.size, checked: asShown.length };
}

/** The most jobs that ran at the same time, as the programs saw it. */
export function mostAtOnce(jobs: JobReport[]): number {
	const steps = jobs.flatMap(({ heardAt, doneAt }) => [
		{ at: heardAt, by: 1 },
		{ at: doneAt, by: -1 },
	]);
	let running = 0;
	let most = 0;
	for (const { by } of steps.sort((a, b) => a.at - b.at || a.by - b.by)) {
		running += by;
		most = Math.max(most, running);
	}
	return most;
}

/**
 * From the moment a program gives slots back to the moment another hears that it has them. The limit is full from
 * the first jobs to the last, so the n-th release makes room for the n-th grant after those that came first.
 */
function handOffsOf(jobs: JobReport[]): number[] {
	const ascending = (times: number[]): number[] => times.sort((a, b) => a - b);
	const released = ascending(jobs.map(({ doneAt }) => doneAt));
	const heard = ascending(jobs.map(({ heardAt }) => heardAt)).slice(LIMIT);
	return heard.map((at, index) => at - (released[index] as number));
}
