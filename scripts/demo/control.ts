/**
 * What this machine does meanwhile without any limit: how late a bare timer is, and what a durable call to an object that
 * nobody else uses takes. What is judged by the clock is judged beside these, so that a slow or busy machine ends well.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { Headgate } from "../../src/client/index.ts";
import { monotonicMs } from "./clock.ts";
import { percentile } from "./show.ts";

const EVERY_MS = 50;
/** A hand-off is two calls that each write to the disk, and a line to the next caller; the benchmarks hold it to this. */
const CALLS_A_HAND_OFF = 4;

/** A machine that holds a bare timer up for so long is busy with other things, and nothing that the clock says counts. */
const STALLED_MS = 100;

export interface Control {
	/** What a timer and a hand-off may add to a job, on average. */
	overheadMs: number;
	/** The same in the middle of all, and at its worst. */
	middleMs: number;
	worstMs: number;
	/** A call, in the middle of all. */
	callMs: number;
	stalled: boolean;
}

/** Whether a target by the clock was met; nothing is said of it where the machine stalled. */
export const judged = ({ stalled }: Control, met: boolean): boolean | "stalled" => (stalled ? "stalled" : met);

/** Measures for as long as `work` runs. */
export async function beside<T>(url: string, work: () => Promise<T>): Promise<[T, Control]> {
	const gate = new Headgate({ url });
	await gate.configure("control", { limit: 1 });
	const late: number[] = [];
	const calls: number[] = [];
	let over = false;
	const measuring = (async () => {
		while (!over) {
			const dueAt = monotonicMs() + EVERY_MS;
			await sleep(EVERY_MS);
			late.push(Math.max(0, monotonicMs() - dueAt));
			const askedAt = monotonicMs();
			await gate.update("control", { limit: 1 + (calls.length % 2) });
			calls.push(monotonicMs() - askedAt);
		}
	})();
	try {
		const result = await work();
		over = true;
		await measuring;
		const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
		const at = (part: number): number => percentile(late, part) + CALLS_A_HAND_OFF * percentile(calls, part);
		return [
			result,
			{
				overheadMs: mean(late) + CALLS_A_HAND_OFF * mean(calls),
				...{ middleMs: at(0.5), worstMs: at(1), callMs: percentile(calls, 0.5) },
				stalled: Math.max(...late) >= STALLED_MS,
			},
		];
	} finally {
		over = true;
	}
}
