/**
 * Grants by rate from what a Worker has borrowed, beside the same Worker whose limit lends nothing: how many, how soon, and
 * how many calls and rows of them reach the object. And what several Workers make of one limit that is asked for more than it has.
 */

import type { RunningServer } from "../src/cli/serve.ts";
import { freshServer } from "../test/support/server.ts";
import type { Context } from "./context.ts";
import { Connection, once, request } from "./http.ts";
import { isolates } from "./isolates.ts";
import type { LoadResult } from "./load.ts";
import { cpuMs, quietRounds } from "./neighbours.ts";
import { medianOf, milliseconds, perSecond, times } from "./numbers.ts";
import type { Report, Target } from "./report.ts";

const CALLERS = [1, 32, 256];
/** Never empty. */
const PLENTY = { limit: 10_000_000, slotDecayPerSecond: 1_000_000 };
/** Less than is asked for, and enough for each Worker to borrow. */
const SCARCE = { limit: 200, slotDecayPerSecond: 500, lendSeconds: 1 };
const WARM_UP_MS = 500;
const SPREADS = [2, 8];
const SPREAD_CALLERS = 32;
const config = `${import.meta.dirname}/costs/wrangler.toml`;

interface Counts {
	requests: number;
	rows: number;
	alarms: number;
}

interface Measured extends LoadResult {
	/** Of all turns, the share that came to a call of an object, and to a row. */
	called: number;
	written: number;
	cpuUs: number;
}

interface Round {
	lent: Measured;
	asked: Measured;
}

export async function lending(context: Context): Promise<Report> {
	const { rounds, sliceMs, generator, progress } = context;
	await using server = await freshServer({ config });
	await once(server.url, "PUT", "/v1/limits/lent", { ...PLENTY, lendSeconds: 1 });
	await once(server.url, "PUT", "/v1/limits/asked", PLENTY);
	const measure = async ({ url, pid }: RunningServer, names: string, callers: number): Promise<Measured> => {
		await once(url, "POST", "/counts");
		const before = cpuMs(pid);
		const calls = [{ path: "/v1/acquire", body: { names, mode: "rate_limit" } }];
		const result = await generator.run({ url, callers, warmUpMs: WARM_UP_MS, ms: sliceMs, calls });
		const { requests, rows, alarms } = await once<Counts>(url, "POST", "/counts");
		const { turns } = result;
		const cpuUs = ((cpuMs(pid) - before) * 1_000) / turns;
		return { ...result, called: requests / turns, written: (rows + alarms) / turns, cpuUs };
	};
	const measured = new Map<number, Round[]>();
	const quiet: string[] = [];
	for (const callers of CALLERS) {
		const done = await quietRounds(context, [server.pid, generator.pid], async (n): Promise<Round> => {
			progress(`round ${n + 1}, ${callers} callers`);
			if (n % 2 === 0) {
				return { lent: await measure(server, "lent", callers), asked: await measure(server, "asked", callers) };
			}
			const asked = await measure(server, "asked", callers);
			return { lent: await measure(server, "lent", callers), asked };
		});
		measured.set(callers, done.rounds);
		quiet.push(`With ${callers} callers ${done.note}.`);
	}
	const shares: Share[] = [];
	for (const count of SPREADS) {
		progress(`${count} Workers on one limit`);
		shares.push(await shareOf(count, Math.max(1_000, 2 * sliceMs)));
	}
	return {
		title: "Grants by rate from a loan, and by asking each time",
		notes: [
			`Medians of ${rounds} interleaved rounds of ${sliceMs / 1_000} s, \`lendSeconds\` 1 and 0. ${quiet.join(" ")}`,
			`Several Workers are services of one workerd, each in an isolate of its own, on one limit of ${SCARCE.limit} slots and ` +
				`${SCARCE.slotDecayPerSecond} a second, with ${SPREAD_CALLERS} callers that do not pause: ` +
				`${shares.map(sentence).join("; ")}.`,
		],
		head: ["callers", "", "granted/s", "p50", "p99", "calls a grant", "rows a grant", "CPU a grant"],
		rows: [...measured].flatMap(([callers, done]) => rowsOf(callers, done)),
		targets: [
			...[...measured].flatMap(([callers, done]) => targetsOf(callers, done)),
			...shares.flatMap(targetsOfShare),
		],
	};
}

function rowsOf(callers: number, done: Round[]): string[][] {
	const row = (label: string, pick: (round: Round) => Measured): string[] => [
		String(callers),
		label,
		perSecond(medianOf(done, (round) => pick(round).perSecond)),
		milliseconds(medianOf(done, (round) => pick(round).p50)),
		milliseconds(medianOf(done, (round) => pick(round).p99)),
		medianOf(done, (round) => pick(round).called).toFixed(4),
		medianOf(done, (round) => pick(round).written).toFixed(4),
		`${medianOf(done, (round) => pick(round).cpuUs).toFixed(0)} µs`,
	];
	return [row("from a loan", (round) => round.lent), row("asked each time", (round) => round.asked)];
}

function targetsOf(callers: number, done: Round[]): Target[] {
	const faster = medianOf(done, ({ lent, asked }) => lent.perSecond / asked.perSecond);
	const sooner = medianOf(done, ({ lent, asked }) => lent.p50 / asked.p50);
	const called = medianOf(done, ({ lent, asked }) => lent.called / asked.called);
	const label = `${callers} ${callers === 1 ? "caller" : "callers"}`;
	return [
		...(callers === 1
			? []
			: [
					{
						what: `${label}: granted/s`,
						aim: "at least 2 × asked each time",
						measured: times(faster),
						met: faster >= 2,
					},
				]),
		{ what: `${label}: p50`, aim: "at most half", measured: times(sooner), met: sooner <= 0.5 },
		{ what: `${label}: calls of the object`, aim: "at most a twentieth", measured: times(called), met: called <= 0.05 },
	];
}

// ------------------------------------------------------------------------------------- several Workers

interface Share {
	count: number;
	/** Grants, beside what the limit gave in the same time. */
	ofRate: number;
	/** The most that was granted beside what may be, from the beginning to any moment. */
	most: number;
	calls: number;
	asked: number;
}

const sentence = ({ count, calls, asked }: Share): string =>
	`${count} Workers sent ${calls.toLocaleString("en")} calls to it for ${asked.toLocaleString("en")} requests`;

/** What becomes of a limit that several Workers are asked for, by more than it has. */
async function shareOf(count: number, ms: number): Promise<Share> {
	await using server = await isolates(count, config);
	await once(server.url, "PUT", "/v1/limits/scarce", SCARCE);
	const bytes = request("POST", "/v1/acquire", { names: "scarce", mode: "rate_limit" });
	const connections = await Promise.all(Array.from({ length: SPREAD_CALLERS }, () => Connection.open(server.url)));
	const grants: { sentAt: number; heardAt: number }[] = [];
	let asked = 0;
	const until = performance.now() + WARM_UP_MS + ms;
	await once(server.url, "POST", "/counts");
	const caller = async (connection: Connection): Promise<void> => {
		for (let sentAt = performance.now(); sentAt < until; sentAt = performance.now()) {
			const { status } = await connection.call(bytes);
			asked += 1;
			if (status === 200) grants.push({ sentAt, heardAt: performance.now() });
		}
	};
	const startedAt = performance.now();
	await Promise.all(connections.map(caller));
	const { requests } = await once<Counts>(server.url, "POST", "/counts");
	for (const connection of connections) connection.close();
	const from = startedAt + WARM_UP_MS;
	const counted = grants.filter(({ heardAt }) => heardAt >= from && heardAt < until).length;
	// What was heard by a moment was granted before it, and at the earliest as the first was sent.
	const byMoment = grants.map(({ heardAt }) => heardAt).sort((a, b) => a - b);
	const { limit, slotDecayPerSecond } = SCARCE;
	const most = byMoment.map(
		(heardAt, index) => (index + 1) / (limit + (slotDecayPerSecond * (heardAt - startedAt)) / 1_000),
	);
	const ofRate = counted / ((slotDecayPerSecond * (until - from)) / 1_000);
	return { count, ofRate, most: Math.max(...most), calls: requests, asked };
}

const targetsOfShare = ({ count, ofRate, most }: Share): Target[] => [
	{
		...{ what: `${count} Workers: granted, of the rate`, aim: "at least 0.95" },
		...{ measured: times(ofRate), met: ofRate >= 0.95 },
	},
	{
		...{ what: `${count} Workers: granted, of what may be`, aim: "never more" },
		...{ measured: times(most), met: most <= 1 },
	},
];
