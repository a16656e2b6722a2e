/**
 * What other processes take of the machine while something is measured. On two cores a test run next door is worth
 * more than any difference that is looked for, so rounds that it disturbed are measured again.
 */

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Context } from "./context.ts";

/** Of one core. Interrupts of the measured connections themselves make up to a tenth. */
const QUIET = 0.25;
/** How long to wait for a quiet moment before a round. */
const PATIENCE_MS = 30_000;
const LOOK_MS = 500;
/** Rounds measured at most, for each that counts. */
const TRIES = 3;
/** The clock of `/proc` ticks so often on every Linux. */
const TICKS_PER_SECOND = 100;

export interface Rounds<T> {
	rounds: T[];
	/** How quiet it was. */
	note: string;
}

/**
 * Measures until there are enough rounds that nobody disturbed, or until it has tried often enough; then the least
 * disturbed count. `pids` are the processes that belong to the measurement, beside this one.
 */
export async function quietRounds<T>(
	{ rounds: wanted, short }: Pick<Context, "rounds" | "short">,
	pids: number[],
	measure: (n: number) => Promise<T>,
): Promise<Rounds<T>> {
	const done: { round: T; others: number }[] = [];
	const isQuiet = ({ others }: { others: number }): boolean => others <= QUIET;
	const tries = short ? wanted : wanted * TRIES;
	for (let n = 0; n < tries && done.filter(isQuiet).length < wanted; n++) {
		if (!short) await untilQuiet(pids);
		const others = startWatch(pids);
		const round = await measure(n);
		done.push({ round, others: others() });
	}
	const best = done.toSorted((a, b) => a.others - b.others).slice(0, wanted);
	const most = Math.max(...best.map(({ others }) => others));
	const left = done.length - best.length;
	return {
		rounds: best.map(({ round }) => round),
		note:
			`other processes took at most ${Math.round(most * 100)} % of a core` +
			(left > 0 ? ` in these rounds, and more in ${left} that do not count` : "") +
			(most > QUIET ? "; that is too much for ratios to be trusted" : ""),
	};
}

async function untilQuiet(pids: number[]): Promise<void> {
	const until = performance.now() + PATIENCE_MS;
	while (performance.now() < until) {
		const others = startWatch(pids);
		await sleep(LOOK_MS);
		if (others() <= QUIET) return;
	}
}

/** Answers, when asked, how much of a core all other processes have used since. */
function startWatch(pids: number[]): () => number {
	const own = [process.pid, ...pids];
	const used = (): number => busyTicks() - own.reduce((sum, pid) => sum + ticksOf(pid), 0);
	const from = used();
	const startedAt = performance.now();
	// The kernel counts whole ticks, so a quiet moment can come out a little below nothing.
	return () => Math.max(0, ((used() - from) * (1_000 / TICKS_PER_SECOND)) / (performance.now() - startedAt));
}

/** The time of the processor that a process has used, in milliseconds. */
export const cpuMs = (pid: number): number => ticksOf(pid) * (1_000 / TICKS_PER_SECOND);

/** Of all cores since the machine started. */
function busyTicks(): number {
	const [line = ""] = readFileSync("/proc/stat", "utf8").split("\n");
	const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = line.trim().split(/\s+/).slice(1).map(Number);
	return user + nice + system + irq + softirq;
}

function ticksOf(pid: number): number {
	const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
	// The name of the program stands in parentheses, and may have any character in it.
	const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
	return Number(fields[11]) + Number(fields[12]);
}
