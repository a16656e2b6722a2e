/**
 * A flood against an empty bucket: a Worker that remembers denials beside one that asks the limit each time. Both are
 * the same Worker, with a limit that counts how often it is asked.
 */

import type { RunningServer } from "../src/cli/serve.ts";
import { freshServer } from "../test/support/server.ts";
import type { Context } from "./context.ts";
import { once } from "./http.ts";
import type { LoadResult } from "./load.ts";
import { cpuMs, quietRounds } from "./neighbours.ts";
import { medianOf, milliseconds, perSecond, times } from "./numbers.ts";
import type { Report } from "./report.ts";

const CALLERS = [32, 256];
/** Empty for as long as the run takes: a slot takes three years to come back. */
const EMPTY = { limit: 1, slotDecayPerSecond: 1e-8 };
const WARM_UP_MS = 500;
const config = `${import.meta.dirname}/counting/wrangler.toml`;

interface Measured extends LoadResult {
	/** Calls that reached the object, a second. */
	reached: number;
	cpuUs: number;
}

interface Round {
	memory: Measured;
	none: Measured;
}

export async function denials(context: Context): Promise<Report> {
	const { rounds, sliceMs, generator, progress } = context;
	await using memory = await freshServer({ config });
	await using none = await freshServer({ config, env: { HEADGATE_DENIAL_MEMORY: "off" } });
	const body = { names: "empty", mode: "rate_limit" };
	for (const { url } of [memory, none]) {
		await once(url, "PUT", "/v1/limits/empty", EMPTY);
		await once(url, "POST", "/v1/acquire", body);
	}
	const load = { warmUpMs: WARM_UP_MS, ms: sliceMs, status: 429, calls: [{ path: "/v1/acquire", body }] };
	const measure = async ({ url, pid }: RunningServer, callers: number): Promise<Measured> => {
		await once(url, "GET", "/calls/empty");
		const before = cpuMs(pid);
		const result = await generator.run({ url, callers, ...load });
		const { calls } = await once<{ calls: number }>(url, "GET", "/calls/empty");
		const seconds = (WARM_UP_MS + sliceMs) / 1_000;
		return { ...result, reached: calls / seconds, cpuUs: ((cpuMs(pid) - before) * 1_000) / result.turns };
	};
	const measured = new Map<number, Round[]>();
	const quiet: string[] = [];
	for (const callers of CALLERS) {
		const done = await quietRounds(context, [memory.pid, none.pid, generator.pid], async (n): Promise<Round> => {
			progress(`round ${n + 1}, ${callers} callers`);
			if (n % 2 === 0) return { memory: await measure(memory, callers), none: await measure(none, callers) };
			const first = await measure(none, callers);
			return { memory: await measure(memory, callers), none: first };
		});
		measured.set(callers, done.rounds);
		quiet.push(`With ${callers} callers ${done.note}.`);
	}
	return {
		title: "A flood against an empty bucket, with and without the memory of denials",
		notes: [`Medians of ${rounds} interleaved rounds of ${sliceMs / 1_000} s. ${quiet.join(" ")}`],
		head: ["callers", "", "denied/s", "reach the limit/s", "p50", "p99", "CPU a call"],
		rows: [...measured].flatMap(([callers, done]) => {
			const row = (label: string, pick: (round: Round) => Measured): string[] => [
				String(callers),
				label,
				perSecond(medianOf(done, (round) => pick(round).perSecond)),
				medianOf(done, (round) => pick(round).reached).toFixed(1),
				milliseconds(medianOf(done, (round) => pick(round).p50)),
				milliseconds(medianOf(done, (round) => pick(round).p99)),
				`${medianOf(done, (round) => pick(round).cpuUs).toFixed(0)} µs`,
			];
			return [row("from memory", (round) => round.memory), row("asked each time", (round) => round.none)];
		}),
		targets: [...measured].flatMap(([callers, done]) => {
			const ratio = medianOf(done, (round) => round.memory.perSecond / round.none.perSecond);
			// A caller may ask while the first answer of a second is on its way; then there is one call each.
			const reached = medianOf(done, (round) => round.memory.reached);
			return [
				{
					what: `${callers} callers: denied/s`,
					aim: "at least 1.5 × asked each time",
					measured: times(ratio),
					met: ratio >= 1.5,
				},
				{
					what: `${callers} callers: calls that reach the limit`,
					aim: `at most ${callers + 1} a second`,
					measured: reached.toFixed(1),
					met: reached <= callers + 1,
				},
			];
		}),
	};
}
