/**
 * Priority inversion: a request of priority 0 for two names, among callers of priority 5 that want one of them each. While it waits
 * for the second name it may hold the first, and then a high one waits for a low one. How long each waits, beside the same callers
 * without it.
 */

import { Headgate } from "../src/client/index.ts";
import { freshServer } from "../test/support/server.ts";
import type { Context } from "./context.ts";
import { once } from "./http.ts";
import { ascending, medianOf, milliseconds, percentile, times } from "./numbers.ts";
import type { Report } from "./report.ts";

const HIGH = 4;
const HOLD_MS = 20;
const STARVE_SECONDS = [0, 1];
/** Long enough for what starves to be served a few times. */
const SLICES = 4;

interface Waits {
	high: number[];
	low: number[];
}

async function measure(url: string, ms: number, starveAfterSeconds: number, withLow: boolean): Promise<Waits> {
	for (const name of ["a", "b"]) await once(url, "PUT", `/v1/limits/${name}`, { limit: 1, starveAfterSeconds });
	const gate = new Headgate({ url });
	const over = new AbortController();
	const waits: Waits = { high: [], low: [] };
	const again = async (names: string[], priority: number, kept: number[]): Promise<void> => {
		while (!over.signal.aborted) {
			const askedAt = performance.now();
			try {
				await gate.concurrency(names, { priority, signal: over.signal }, async () => {
					kept.push(performance.now() - askedAt);
					await new Promise((resolve) => setTimeout(resolve, HOLD_MS));
				});
			} catch (error) {
				if (!over.signal.aborted) throw error;
			}
		}
	};
	const all = ["a", "b"].flatMap((name) => Array.from({ length: HIGH }, () => again([name], 5, waits.high)));
	if (withLow) all.push(again(["a", "b"], 0, waits.low));
	await new Promise((resolve) => setTimeout(resolve, ms));
	over.abort();
	await Promise.all(all);
	return waits;
}

export async function inversion({ rounds, sliceMs, progress }: Context): Promise<Report> {
	await using server = await freshServer();
	const cases = STARVE_SECONDS.flatMap((starve) =>
		[false, true].map((withLow) => ({ starve, withLow, done: [] as Waits[] })),
	);
	for (let round = 0; round < rounds; round += 1) {
		progress(`round ${round + 1}`);
		for (const each of cases) each.done.push(await measure(server.url, SLICES * sliceMs, each.starve, each.withLow));
	}
	const at = (done: Waits[], of: keyof Waits, part: number): number =>
		medianOf(done, (waits) => percentile(ascending(waits[of]), part));
	const shown = (ms: number): string => (Number.isNaN(ms) ? "never served" : milliseconds(ms));
	const longest = (starve: number, withLow: boolean): number =>
		at(cases.find((each) => each.starve === starve && each.withLow === withLow)?.done ?? [], "high", 1);
	return {
		title: "Priority inversion",
		notes: [
			`${HIGH} callers of priority 5 for each of two limits of one slot, held for ${HOLD_MS} ms, and one of priority 0 for both. Medians of ${rounds} rounds of ${(SLICES * sliceMs) / 1_000} s.`,
		],
		head: ["`starveAfterSeconds`", "a low one for both", "high: p50", "high: longest", "low: p50", "low: longest"],
		rows: cases.map(({ starve, withLow, done }) => [
			String(starve),
			withLow ? "yes" : "no",
			...[shown(at(done, "high", 0.5)), shown(at(done, "high", 1))],
			...(withLow ? [shown(at(done, "low", 0.5)), shown(at(done, "low", 1))] : ["–", "–"]),
		]),
		targets: STARVE_SECONDS.map((starve) => ({
			what: `longest wait of a high one, starving after ${starve} s`,
			aim: "as without the low one, and what that holds",
			measured: times(longest(starve, true) / longest(starve, false)),
			met: longest(starve, true) <= longest(starve, false) + 1_000 * Math.max(1, starve) + 10 * HOLD_MS,
		})),
	};
}
