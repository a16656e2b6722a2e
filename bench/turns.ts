/**
 * What one decision costs in a long line: to join it and leave it, to serve it as a lease ends, with a lease of the next one, and
 * to deny one by a limit that decays, which is told when its turn would come; in the core alone, and the first two by a real call
 * of the object on workerd too, with what it writes.
 */

import { decide } from "../src/core/decide.ts";
import type { Request } from "../src/core/limit.ts";
import { createLimit, type Limit } from "../src/core/limit.ts";
import { freshServer } from "../test/support/server.ts";
import type { Context } from "./context.ts";
import { once } from "./http.ts";
import { cpuMs } from "./neighbours.ts";
import { median, medianOf, times } from "./numbers.ts";
import type { Report } from "./report.ts";

const WAITERS = [10, 10_000];
/** Whose turns: nobody says a key, a hundred keys, and a key for each waiter; with four priorities. */
const LINES: { line: string; whose: (index: number) => Pick<Request, "key" | "priority"> }[] = [
	{ line: "no keys", whose: () => ({}) },
	{ line: "100 keys", whose: (index) => ({ key: `tenant-${index % 100}` }) },
	{ line: "a key each", whose: (index) => ({ key: `tenant-${index}` }) },
	{ line: "100 keys, 4 priorities", whose: (index) => ({ key: `tenant-${index % 100}`, priority: index % 4 }) },
];
const USUAL = {
	slots: 1,
	mode: "concurrency",
	leaseMs: 3_600_000,
	waitMs: Number.POSITIVE_INFINITY,
	ifBusy: "wait",
} as const;
const REST = { holder: null, held: false, print: "", remember: false } as const;

class Line {
	readonly limit: Limit = createLimit({ limit: 1, slotDecayPerSecond: 0, active: true }, 0, () => undefined);
	/** Of one whose slots come back by themselves. */
	readonly #decaying: Limit = createLimit({ limit: 2, slotDecayPerSecond: 1, active: true }, 0, () => undefined);
	readonly #whose: (index: number) => Pick<Request, "key" | "priority">;
	#next = 0;
	#held: string;

	constructor(count: number, whose: (index: number) => Pick<Request, "key" | "priority">) {
		this.#whose = whose;
		this.#held = this.join();
		for (let index = 0; index < count; index += 1) this.join();
		for (let index = 0; index < count + 2; index += 1) this.#ask(this.#decaying, 0, "wait");
	}

	#ask(limit: Limit, now: number, ifBusy: Request["ifBusy"]): string {
		const index = this.#next++;
		const id = `r${index}`;
		decide(limit, { kind: "acquire", request: { id, ...USUAL, ...REST, ifBusy, ...this.#whose(index) } }, now);
		return id;
	}

	join(): string {
		return this.#ask(this.limit, this.#next, "wait");
	}

	deny(): void {
		this.#ask(this.#decaying, 0, "deny");
	}

	joinAndLeave(): void {
		const id = this.join();
		decide(this.limit, { kind: "cancel", id, keepPlace: false }, this.#next);
	}

	/** The lease ends, the next one is served, and another joins. */
	serve(): void {
		const { events } = decide(this.limit, { kind: "release", id: this.#held, by: "caller" }, this.#next);
		for (const event of events) if (event.kind === "granted") this.#held = event.id;
		this.join();
	}
}

interface Round {
	joinUs: number;
	serveUs: number;
	denyUs: number;
}

function measure(line: Line, ms: number): Round {
	const each = (work: () => void): number => {
		const [startedAt, from] = [performance.now(), process.cpuUsage()];
		let count = 0;
		for (; performance.now() - startedAt < ms; count += 50) for (let n = 0; n < 50; n += 1) work();
		const { user, system } = process.cpuUsage(from);
		return (user + system) / count;
	};
	return {
		joinUs: each(() => line.joinAndLeave()),
		serveUs: each(() => line.serve()),
		denyUs: each(() => line.deny()),
	};
}

/** Lines that are served by real calls: nobody says a key, and a hundred keys. */
const CALLED = [
	{ line: "no keys", keys: 0 },
	{ line: "100 keys", keys: 100 },
];
const TURNS = ["joinAndLeave", "serve"] as const;
const MOST = 1.5;

/** Microseconds of the server's processor for a call that takes such a turn. */
async function called({ short, rounds, sliceMs, generator, progress }: Context) {
	await using server = await freshServer({ config: `${import.meta.dirname}/counting/wrangler.toml` });
	const all = CALLED.flatMap(({ line, keys }) =>
		WAITERS.map((waiters) => ({
			line,
			keys,
			waiters,
			name: `line-${keys}-${waiters}`,
			us: TURNS.map((): number[] => []),
		})),
	);
	for (const { name, waiters, keys } of all) {
		const count = short ? Math.min(waiters, 100) : waiters;
		progress(`${count} waiters, ${keys} keys`);
		await once(server.url, "PUT", `/v1/limits/${name}`, { limit: 1 });
		await once(server.url, "POST", `/line/${name}`, { count, keys });
	}
	for (let round = 0; round < rounds; round += 1) {
		progress(`calls, round ${round + 1}`);
		for (const { name, us } of all) {
			for (const [index, turn] of TURNS.entries()) {
				const before = cpuMs(server.pid);
				const { turns: taken } = await generator.run({
					...{ url: server.url, callers: 1, warmUpMs: 0, ms: sliceMs / 2 },
					calls: [{ path: `/${turn}/${name}`, body: {} }],
				});
				us[index]?.push(((cpuMs(server.pid) - before) * 1_000) / taken);
			}
		}
	}
	return all;
}

export async function turns(context: Context): Promise<Report> {
	const { rounds, sliceMs, progress } = context;
	const all = LINES.flatMap(({ line, whose }) =>
		WAITERS.map((waiters) => ({ line, waiters, made: new Line(waiters, whose), rounds: [] as Round[] })),
	);
	for (const { made } of all) measure(made, sliceMs / 4);
	for (let round = 0; round < rounds; round += 1) {
		progress(`round ${round + 1}`);
		for (const each of all) each.rounds.push(measure(each.made, sliceMs / 4));
	}
	const of = (line: string, waiters: number): Round[] =>
		all.find((each) => each.line === line && each.waiters === waiters)?.rounds ?? [];
	const calls = await called(context);
	const callRatio = (line: string, turn: number): number => {
		const [few = Number.NaN, many = Number.NaN] = calls
			.filter((each) => each.line === line)
			.map(({ us }) => median(us[turn] ?? []));
		return many / few;
	};
	const microseconds = (us: number): string => `${us.toFixed(1)} µs`;
	const ratio = (line: string, pick: (round: Round) => number): number => {
		const [few = 0, many = 0] = WAITERS;
		const less = of(line, few);
		return medianOf(
			of(line, many).map((round, index) => pick(round) / pick(less[index] ?? round)),
			(each) => each,
		);
	};
	return {
		title: "Long lines",
		notes: [
			`Medians of ${rounds} interleaved rounds of ${sliceMs / 4} ms, in the core alone; and of as many of ${sliceMs / 2} ms by a call over HTTP whose object ` +
				"takes the same turn, with what it writes. All of it is processor time.",
		],
		head: ["whose turns", "waiters", "join and leave", "serve the next, and join", "deny by decay"],
		rows: [
			...all.map(({ line, waiters, rounds: done }) => [
				line,
				waiters.toLocaleString("en"),
				microseconds(medianOf(done, ({ joinUs }) => joinUs)),
				microseconds(medianOf(done, ({ serveUs }) => serveUs)),
				microseconds(medianOf(done, ({ denyUs }) => denyUs)),
			]),
			...calls.map(({ line, waiters, us }) => [
				`${line}, by a call`,
				waiters.toLocaleString("en"),
				...us.map((each) => microseconds(median(each))),
				"–",
			]),
		],
		targets: [
			...LINES.flatMap(({ line }) => [
				{ line, what: "join and leave", measured: ratio(line, ({ joinUs }) => joinUs) },
				{ line, what: "serve and join", measured: ratio(line, ({ serveUs }) => serveUs) },
				{ line, what: "deny by decay", measured: ratio(line, ({ denyUs }) => denyUs) },
			]),
			...CALLED.flatMap(({ line }) => [
				{ line: `${line}, by a call`, what: "join and leave", measured: callRatio(line, 0) },
				{ line: `${line}, by a call`, what: "serve and join", measured: callRatio(line, 1) },
			]),
		].map(({ line, what, measured }) => ({
			what: `${what}, ${line}: 10,000 waiters`,
			aim: `at most ${MOST} × 10`,
			measured: times(measured),
			met: measured <= MOST,
		})),
	};
}
