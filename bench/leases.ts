/** Acquire and release with few and with many live leases in one limit: the cost must not grow with what is held. */

import { startServer } from "../src/cli/serve.ts";
import type { LimitSummary } from "../src/protocol.ts";
import { type FreshServer, freshServer } from "../test/support/server.ts";
import type { Context } from "./context.ts";
import { Connection, once, request } from "./http.ts";
import type { LoadResult } from "./load.ts";
import { quietRounds } from "./neighbours.ts";
import { median, medianOf, milliseconds, perSecond, times } from "./numbers.ts";
import type { Report, Target } from "./report.ts";

const FEW = 10;
const MANY = 10_000;
const CALLERS = [1, 32];
const WARM_UP_MS = 500;
const FILLERS = 32;
/** No more than this much dearer with many leases. */
const MOST = 1.5;

interface Round {
	few: LoadResult;
	many: LoadResult;
}

export async function leases(context: Context): Promise<Report> {
	const { rounds, sliceMs, generator, progress } = context;
	await using server = await freshServer();
	progress(`taking ${MANY} leases`);
	for (const [name, count] of [
		["few", FEW],
		["many", MANY],
	] as const) {
		await once(server.url, "PUT", `/v1/limits/${name}`, { limit: 1_000_000 });
		await fill(server.url, name, count);
	}

	const measure = (name: string, callers: number): Promise<LoadResult> => {
		const calls = ["/v1/acquire", "/v1/release"].map((path) => ({ path, body: { id: "{id}", names: name } }));
		return generator.run({ url: server.url, callers, warmUpMs: WARM_UP_MS, ms: sliceMs, calls });
	};
	const measured = new Map<number, Round[]>();
	const quiet: string[] = [];
	for (const callers of CALLERS) {
		const done = await quietRounds(context, [server.pid, generator.pid], async (n): Promise<Round> => {
			progress(`round ${n + 1}, ${callers} callers`);
			if (n % 2 === 0) return { few: await measure("few", callers), many: await measure("many", callers) };
			const first = await measure("many", callers);
			return { few: await measure("few", callers), many: first };
		});
		measured.set(callers, done.rounds);
		quiet.push(`With ${callers} ${callers === 1 ? "caller" : "callers"} ${done.note}.`);
	}
	await expectLeases(server.url, "few", FEW);
	await expectLeases(server.url, "many", MANY);

	progress("waking the objects");
	const wakeMs = await wakeAll(server);
	return {
		title: `Acquire and release with ${FEW} and with ${MANY.toLocaleString("en")} live leases in one limit`,
		notes: [
			`Medians of ${rounds} interleaved rounds of ${sliceMs / 1_000} s; a turn is an acquire and a release, each a call. ` +
				`First call after a restart of the server: ${milliseconds(wakeMs.few)} with ${FEW}, ` +
				`${milliseconds(wakeMs.many)} with ${MANY.toLocaleString("en")} leases. ${quiet.join(" ")}`,
		],
		head: ["callers", "live leases", "turns/s", "p50", "p99"],
		rows: [...measured].flatMap(([callers, done]) => rowsOf(callers, done)),
		targets: [...measured].flatMap(([callers, done]) => targetsOf(callers, done)),
	};
}

/** Takes leases that outlive the measurement. */
async function fill(url: string, name: string, count: number): Promise<void> {
	const bytes = request("POST", "/v1/acquire", { names: name, leaseSeconds: 86_400, holder: "the benchmark" });
	let left = count;
	const filler = async (): Promise<void> => {
		const connection = await Connection.open(url);
		while (left-- > 0) {
			const { status, body } = await connection.call(bytes);
			if (status !== 200) throw new Error(`A lease to begin with was answered with ${status}: ${body}`);
		}
		connection.close();
	};
	await Promise.all(Array.from({ length: FILLERS }, filler));
	await expectLeases(url, name, count);
}

async function expectLeases(url: string, name: string, count: number): Promise<void> {
	const { leaseCount } = await once<LimitSummary>(url, "GET", `/v1/limits/${name}`);
	if (leaseCount !== count) throw new Error(`"${name}" has ${leaseCount} leases and not ${count}.`);
}

/** How long the first call of each takes when its object has to be rebuilt from storage. */
async function wakeAll(server: FreshServer): Promise<{ few: number; many: number }> {
	await server.stop();
	const again = await startServer({ port: 0, data: server.data });
	try {
		// The first call of all also loads code, which is the same however many leases there are.
		await once(again.url, "PUT", "/v1/limits/other", { limit: 1 });
		await wake(again.url, "other");
		return { few: await wake(again.url, "few"), many: await wake(again.url, "many") };
	} finally {
		await again.stop();
	}
}

async function wake(url: string, name: string): Promise<number> {
	const connection = await Connection.open(url);
	const startedAt = performance.now();
	const { status, body } = await connection.call(request("POST", "/v1/acquire", { names: name }));
	const ms = performance.now() - startedAt;
	connection.close();
	if (status !== 200) throw new Error(`The first call was answered with ${status}: ${body}`);
	return ms;
}

function rowsOf(callers: number, done: Round[]): string[][] {
	const row = (count: number, pick: (round: Round) => LoadResult): string[] => [
		String(callers),
		count.toLocaleString("en"),
		perSecond(medianOf(done, (round) => pick(round).perSecond)),
		milliseconds(medianOf(done, (round) => pick(round).p50)),
		milliseconds(medianOf(done, (round) => pick(round).p99)),
	];
	return [row(FEW, (round) => round.few), row(MANY, (round) => round.many)];
}

function targetsOf(callers: number, done: Round[]): Target[] {
	const latency = medianOf(done, ({ few, many }) => many.p50 / few.p50);
	const slowdown = median(done.map(({ few, many }) => few.perSecond / many.perSecond));
	const label = `${callers} ${callers === 1 ? "caller" : "callers"}`;
	const aim = `at most ${MOST} × with ${FEW}`;
	return [
		{ what: `${label}: p50 with many leases`, aim, measured: times(latency), met: latency <= MOST },
		{ what: `${label}: time a turn with many leases`, aim, measured: times(slowdown), met: slowdown <= MOST },
	];
}
