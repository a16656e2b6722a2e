/** Grants by rate on one name: 32 in a call beside one in a call, by as many connections, in the same rounds. */

import { freshServer } from "../test/support/server.ts";
import type { Context } from "./context.ts";
import { once } from "./http.ts";
import { cpuMs, quietRounds } from "./neighbours.ts";
import { medianOf, milliseconds, perSecond, times } from "./numbers.ts";
import type { Report } from "./report.ts";

const CALLERS = [1, 8];
const IN_A_BATCH = 32;
/** A limit that never refuses: what is measured is the grant. */
const ENDLESS = { limit: 2 ** 31 - 1, slotDecayPerSecond: 1e9 };
const WARM_UP_MS = 500;
const REQUEST = { names: "hot", mode: "rate_limit" };

interface Measured {
	/** Grants a second, and the processor time of each. */
	perSecond: number;
	cpuUs: number;
	/** Of a call, however many grants are in it. */
	p50: number;
}

interface Round {
	batch: Measured;
	single: Measured;
}

export async function batch(context: Context): Promise<Report> {
	const { rounds, sliceMs, generator, progress } = context;
	await using server = await freshServer();
	await once(server.url, "PUT", "/v1/limits/hot", ENDLESS);
	const together = { path: "/v1/acquire/batch", body: { requests: Array(IN_A_BATCH).fill(REQUEST) } };
	const alone = { path: "/v1/acquire", body: REQUEST };
	const measure = async (call: typeof alone | typeof together, callers: number): Promise<Measured> => {
		const before = cpuMs(server.pid);
		const load = { url: server.url, callers, warmUpMs: WARM_UP_MS, ms: sliceMs, calls: [call] };
		const result = await generator.run(load);
		const grants = call === together ? IN_A_BATCH : 1;
		return {
			perSecond: result.perSecond * grants,
			cpuUs: ((cpuMs(server.pid) - before) * 1_000) / (result.turns * grants),
			p50: result.p50,
		};
	};
	const measured = new Map<number, Round[]>();
	const quiet: string[] = [];
	for (const callers of CALLERS) {
		const done = await quietRounds(context, [server.pid, generator.pid], async (n): Promise<Round> => {
			progress(`round ${n + 1}, ${callers} callers`);
			if (n % 2 === 0) return { batch: await measure(together, callers), single: await measure(alone, callers) };
			const first = await measure(alone, callers);
			return { batch: await measure(together, callers), single: first };
		});
		measured.set(callers, done.rounds);
		quiet.push(`With ${callers} ${callers === 1 ? "connection" : "connections"} ${done.note}.`);
	}
	return {
		title: "Many grants in one call",
		notes: [`Medians of ${rounds} interleaved rounds of ${sliceMs / 1_000} s. ${quiet.join(" ")}`],
		head: ["connections", "grants in a call", "grants/s", "p50 of a call", "CPU a grant"],
		rows: [...measured].flatMap(([callers, done]) => {
			const row = (grants: number, pick: (round: Round) => Measured): string[] => [
				String(callers),
				String(grants),
				perSecond(medianOf(done, (round) => pick(round).perSecond)),
				milliseconds(medianOf(done, (round) => pick(round).p50)),
				`${medianOf(done, (round) => pick(round).cpuUs).toFixed(0)} µs`,
			];
			return [row(1, ({ single }) => single), row(IN_A_BATCH, (round) => round.batch)];
		}),
		targets: [...measured].map(([callers, done]) => {
			const ratio = medianOf(done, (round) => round.batch.perSecond / round.single.perSecond);
			const what = `${callers} ${callers === 1 ? "connection" : "connections"}: grants/s`;
			return { what, aim: "at least 5 × one by one", measured: times(ratio), met: ratio >= 5 };
		}),
	};
}
