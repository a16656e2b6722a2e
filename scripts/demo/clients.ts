/** Starts clients as processes, lets them loose all at once, and collects what they report. */

import { type ChildProcess, fork } from "node:child_process";
import path from "node:path";
import type { Assignment, ClientNews, JobReport } from "./client.ts";
import { monotonicMs } from "./clock.ts";

export interface Outcome {
	jobs: JobReport[];
	startedAt: number;
	/** The last client has done its last job and given its slots back. */
	endedAt: number;
}

/** Runs all clients to their end. Rejects when one of them fails, or when they are not done in time. */
export async function runClients(
	assignments: Assignment[],
	patienceMs: number,
	onJob: (done: number) => void,
): Promise<Outcome> {
	const children = assignments.map(() => fork(path.join(import.meta.dirname, "client.ts")));
	try {
		await Promise.all(
			children.map((child, index) => {
				const ready = heard(child, "ready", () => undefined);
				child.send(assignments[index] as Assignment);
				return ready;
			}),
		);
		const jobs: JobReport[] = [];
		const finished = children.map((child) =>
			heard(child, "finished", (job) => {
				jobs.push(job);
				onJob(jobs.length);
			}),
		);
		const startedAt = monotonicMs();
		for (const child of children) child.send("go");
		await inTime(Promise.all(finished), patienceMs, () => `${jobs.length} jobs were done by then`);
		return { jobs, startedAt, endedAt: monotonicMs() };
	} finally {
		for (const child of children) child.kill("SIGKILL");
	}
}

/** Resolves when a client says so; its jobs until then go to `onJob`. */
function heard(child: ChildProcess, wanted: ClientNews["news"], onJob: (job: JobReport) => void): Promise<void> {
	return new Promise((resolve, reject) => {
		child.on("message", (message: ClientNews) => {
			if (message.news === "job") onJob(message.job);
			else if (message.news === "failed") reject(new Error(`A client failed: ${message.why}`));
			else if (message.news === wanted) resolve();
		});
		child.once("exit", (code, signal) => reject(new Error(`A client ended with ${signal ?? code}.`)));
	});
}

async function inTime<T>(work: Promise<T>, ms: number, state: () => string): Promise<T> {
	let timer: ReturnType<typeof setTimeout> | undefined;
	const late = new Promise<never>((_, reject) => {
		timer = setTimeout(() => reject(new Error(`The clients were not done after ${ms / 1_000} s; ${state()}.`)), ms);
	});
	try {
		return await Promise.race([work, late]);
	} finally {
		clearTimeout(timer);
	}
}
