/**
 * Rate-limit acquire on one name, beside a bare Worker that calls an object with one durable UPDATE a call. Both run
 * the whole time; in each round one is measured right after the other, in alternating order.
 */

import type { RunningServer } from "../src/cli/serve.ts";
import { freshServer } from "../test/support/server.ts";
import type { Context } from "./context.ts";
import { once } from "./http.ts";
import type { LoadResult } from "./load.ts";
import { cpuMs, quietRounds } from "./neighbours.ts";
import { medianOf, milliseconds, perSecond, times } from "./numbers.ts";
import type { Report, Target } from "./report.ts";

const CALLERS = [1, 32, 256];
/** A limit that never refuses: what is measured is the grant. */
const ENDLESS = { limit: 2 ** 31 - 1, slotDecayPerSecond: 1e9 };
/** The compiler of JavaScript has settled by then. */
const WARM_UP_MS = 500;

interface Measured extends LoadResult {
	/** What workerd used of the processor for each call. */
	cpuUs: number;
}

interface Round {
	headgate: Measured;
	bare: Measured;
}

export async function hotName(context: Context): Promise<Report> {
	const { rounds, sliceMs, generator, progress } = context;
	await using headgate = await freshServer();
	await using bare = await freshServer({ config: `${import.meta.dirname}/bare/wrangler.toml` });
	await once(headgate.url, "PUT", "/v1/limits/hot", ENDLESS);

	const body = { names: "hot", occupy: 1, mode: "rate_limit" };
	const load = { warmUpMs: WARM_UP_MS, ms: sliceMs, calls: [{ path: "/v1/acquire", body }] };
	const measure = async ({ url, pid }: RunningServer, callers: number): Promise<Measured> => {
		const before = cpuMs(pid);
		const result = await generator.run({ url, callers, ...load });
		return { ...result, cpuUs: ((cpuMs(pid) - before) * 1_000) / result.turns };
	};
	const measured = new Map<number, Round[]>();
	const quiet: string[] = [];
	for (const callers of CALLERS) {
		const done = await quietRounds(context, [headgate.pid, bare.pid, generator.pid], async (n): Promise<Round> => {
			progress(`round ${n + 1}, ${callers} callers`);
			// Whoever comes second may find the machine warmer, so they take turns.
			if (n % 2 === 0) return { headgate: await measure(headgate, callers), bare: await measure(bare, callers) };
			const first = await measure(bare, callers);
			return { headgate: await measure(headgate, callers), bare: first };
		});
		measured.set(callers, done.rounds);
		quiet.push(`With ${callers} ${callers === 1 ? "caller" : "callers"} ${done.note}.`);
	}
	const busiest = Math.max(...[...measured.values()].flat().map(({ headgate }) => headgate.generatorCpu));
	return {
		title: "Rate-limit acquire on one hot name, beside a bare durable counter",
		notes: [
			`Medians of ${rounds} interleaved rounds of ${sliceMs / 1_000} s; ratios are medians of the rounds' own. ` +
				`The load generator used at most ${Math.round(busiest * 100)} % of a core. ${quiet.join(" ")}`,
		],
		head: ["callers", "", "calls/s", "p50", "p99", "CPU a call"],
		rows: [...measured].flatMap(([callers, done]) => rowsOf(callers, done)),
		targets: [...measured].flatMap(([callers, done]) => targetsOf(callers, done)),
	};
}

function rowsOf(callers: number, done: Round[]): string[][] {
	const row = (label: string, pick: (round: Round) => Measured): string[] => [
		String(callers),
		label,
		perSecond(medianOf(done, (round) => pick(round).perSecond)),
		milliseconds(medianOf(done, (round) => pick(round).p50)),
		milliseconds(medianOf(done, (round) => pick(round).p99)),
		`${medianOf(done, (round) => pick(round).cpuUs).toFixed(0)} µs`,
	];
	return [row("Headgate", (round) => round.headgate), row("bare", (round) => round.bare)];
}

function targetsOf(callers: number, done: Round[]): Target[] {
	const latency = medianOf(done, ({ headgate, bare }) => headgate.p50 / bare.p50);
	const throughput = medianOf(done, ({ headgate, bare }) => headgate.perSecond / bare.perSecond);
	const label = `${callers} ${callers === 1 ? "caller" : "callers"}`;
	if (callers === 1) {
		const aim = "at most 1.3 × the bare one";
		return [{ what: `${label}: p50`, aim, measured: times(latency), met: latency <= 1.3 }];
	}
	const least = callers < 256 ? 1.5 : 2;
	const aim = `at least ${least} × the bare one`;
	return [
		{ what: `${label}: calls/s`, aim, measured: times(throughput), met: throughput >= least },
		{ what: `${label}: p50`, aim: "below the bare one", measured: times(latency), met: latency < 1 },
	];
}
