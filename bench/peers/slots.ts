/** What holds slots: how soon a freed one is used again, in which order, and what becomes of slots when a client or the store is killed. */

import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import type { Context } from "../context.ts";
import { handoffs, type Job } from "../handoffs.ts";
import { once } from "../http.ts";
import { ascending, milliseconds, percentile } from "../numbers.ts";
import type { Report } from "../report.ts";
import { npmStart, type RedisMode, redisServer, startPrefect } from "./deployments.ts";
import { type Holder, holder, type LimitOf, type Program } from "./holders.ts";
import type { Installed } from "./installed.ts";
import { plot } from "./plot.ts";
import { against, filled, inRounds, inWords, spreadOf } from "./rounds.ts";

/** How one peer's slots are held, and where. */
interface Way {
	name: string;
	kind: string;
	address: string;
	program: Program;
	create(limit: LimitOf): Promise<void>;
	killStore(): Promise<void>;
	/** Only killed: another way of one that is timed, or another Redis under it. */
	untimed?: true;
	/** A killed client's slots come back sooner than that; the short form waits for them. */
	soon?: true;
}

const PROCESSES = 5;
const TASKS = 25;
const LIMIT = 2;
const WORK_MS = 100;
const LOOP_MS = { full: 6_000, short: 2_000 };
/** What processes need to have heard of a moment that lies ahead. */
const AHEAD_MS = 300;
const WARM_UP_MS = 60_000;
const JOIN_EVERY_MS = 60;
/** After it, those who were not served count as served last. */
const SERVE_MS = { full: 15_000, short: 5_000 };
/** Of slots whose client was killed: who waits longer than this is said to wait for ever. */
const LOST_AFTER_MS = { full: 150_000, short: 20_000 };
/** What is asked of a store that was killed, and is back. */
const PATIENCE_MS = { full: 8_000, short: 1_500 };
const DOWN_MS = 500;

let limits = 0;
const newLimit = (limit: number): LimitOf => {
	limits += 1;
	return { name: `slots${limits}`, limit };
};
const now = (): number => performance.timeOrigin + performance.now();

export async function slots(
	{ redis, prefect, missing }: Installed,
	context: Context,
): Promise<Record<"peers-slots" | "peers-lost", Report>> {
	const { progress, short } = context;
	await using stack = new AsyncDisposableStack();
	const ways = await waysOf(redis, missing.libraries === undefined, prefect, stack, progress);
	const node = await several("node", stack);
	const python = ways.find(({ program }) => program !== "node")?.program;
	const groups = new Map<Program, Holder[]>([["node", node]]);
	if (python !== undefined) groups.set(python, await several(python, stack));
	const holders = ({ program }: Way): Holder[] => groups.get(program) as Holder[];
	const why = { redis: missing.libraries ?? missing.redis, prefect: missing.prefect };
	const notHere = [
		...(why.redis === undefined ? [] : [["Bottleneck; a Redis list", why.redis]]),
		...(why.prefect === undefined ? [] : [["Prefect", why.prefect]]),
		[
			"rate-limiter-flexible; `@upstash/ratelimit`; express-rate-limit; gubernator; hono-rate-limiter",
			"they hold no slots",
		],
	];
	const timed = await timedReport(ways, holders, context);
	const lost = await lostReport(ways, holders, progress, short);
	for (const { head, rows } of [timed, lost]) rows.push(...notHere.map((row) => filled(row, head)));
	return { "peers-slots": timed, "peers-lost": lost };
}

async function several(program: Program, stack: AsyncDisposableStack): Promise<Holder[]> {
	const all = await Promise.all(Array.from({ length: PROCESSES }, () => holder(program)));
	for (const each of all) stack.defer(() => each.kill());
	return all;
}

async function waysOf(
	redis: string | null,
	libraries: boolean,
	prefect: string | null,
	stack: AsyncDisposableStack,
	progress: Context["progress"],
): Promise<Way[]> {
	const headgate = await npmStart();
	stack.use(headgate);
	const own = {
		...{ address: headgate.url, program: "node" as const, killStore: () => headgate.killRuntime(() => undefined) },
		create: async ({ name, limit }: LimitOf) => {
			await once(headgate.url, "PUT", `/v1/limits/${name}`, { limit });
		},
	};
	const ways: Way[] = [
		{ name: "Headgate, its library", kind: "headgate", ...own },
		{ name: "Headgate, a stream that holds", kind: "stream", ...own, untimed: true, soon: true },
	];
	if (redis !== null && libraries) {
		const { Redis } = createRequire(import.meta.url)("ioredis");
		for (const mode of ["everysec", "always", "as it comes"] as RedisMode[]) {
			const server = await redisServer(redis, mode);
			stack.use(server);
			const client = new Redis({ host: "127.0.0.1", port: server.port });
			client.on("error", () => undefined);
			stack.defer(() => client.disconnect());
			const on = { address: String(server.port), program: "node" as const, killStore: () => server.restart(DOWN_MS) };
			const only = mode === "as it comes" ? ({ untimed: true } as const) : {};
			ways.push(
				{ name: `Bottleneck, Redis ${mode}`, kind: "bottleneck", ...on, ...only, create: async () => undefined },
				{
					...{ name: `a Redis list, ${mode}`, kind: "list", ...on, ...only },
					create: async ({ name, limit }) => {
						await client.rpush(name, ...Array.from({ length: limit }, (_, token) => `t${token}`));
					},
				},
			);
		}
	}
	if (prefect !== null) {
		progress("starting Prefect's server");
		const server = await startPrefect(prefect);
		stack.use(server);
		const env = { PREFECT_API_URL: server.api, PREFECT_HOME: server.home, PREFECT_LOGGING_LEVEL: "CRITICAL" };
		ways.push({
			...{ name: "Prefect", kind: "prefect", address: server.api, program: { program: prefect, env } },
			create: async (body) => {
				await once(server.api, "POST", "/v2/concurrency_limits/", body);
			},
			killStore: () => server.restart(),
		});
	}
	return ways;
}

// --------------------------------------------------------------------------------- hand-off, order, use

interface Timed {
	p50: number;
	p99: number;
	use: number;
	inversions: number;
	unserved: number;
	failed: number;
}

async function timedReport(ways: Way[], holders: (way: Way) => Holder[], context: Context): Promise<Report> {
	const { rounds, progress, short } = context;
	const waiters = short ? 10 : TASKS;
	const form = short ? "short" : "full";
	const timed = ways.filter(({ untimed }) => !untimed);
	const { measured, failed } = await inRounds(timed, rounds, async (way, round): Promise<Timed> => {
		progress(`slots, round ${round + 1}, ${way.name}`);
		const busy = await loop(way, holders(way), LOOP_MS[form]);
		return { ...busy, ...(await inOrder(way, holders(way), waiters, SERVE_MS[form])) };
	});
	const reference = measured.get(timed[0] as Way);
	if (reference === undefined) throw new Error(`Headgate itself failed: ${failed.get(timed[0] as Way)}`);
	const middle = (each: Timed[], of: (one: Timed) => number): number => spreadOf(each.map(of)).median;
	return {
		title: "A freed slot's way, and the order of those who wait",
		notes: [
			`A limit of ${LIMIT}, jobs of ${WORK_MS} ms, a fifth more or less, by ${TASKS} tasks in ${PROCESSES} processes that ask again at once; hand-off is from the end of a job to the first line of the next on its slot. Order: ${waiters} ask one after the other, ${JOIN_EVERY_MS} ms apart and each in another process than the last, for one slot that is held until all have asked; an inversion is a pair of them that was served the other way round, of ${(waiters * (waiters - 1)) / 2}. Medians of ${rounds} rounds.`,
		],
		head: HEAD,
		rows: [
			...[...measured].map(([{ name }, each]) => [
				...[name, handedOver(middle(each, ({ p50 }) => p50)), handedOver(middle(each, ({ p99 }) => p99))],
				...[middle(each, ({ use }) => use).toFixed(3), String(middle(each, ({ inversions }) => inversions))],
				String(middle(each, ({ unserved }) => unserved)),
				String(each.reduce((sum, one) => sum + one.failed, 0)),
				inWords(
					against(
						each.map(({ p50 }) => p50),
						reference.map(({ p50 }) => p50),
					),
				),
			]),
			...[...failed].map(([{ name }, why]) => filled([name, `failed: ${why}`], HEAD)),
		],
		targets: [],
		draw: async () => {
			const bars = (of: (one: Timed) => number) =>
				[...measured].map(([{ name }, each]) => ({
					...{ name, own: name.startsWith("Headgate") },
					...spreadOf(each.map(of)),
				}));
			await plot(
				"handoff",
				"ms from the end of a job to the next on its slot, median",
				bars(({ p50 }) => p50),
			);
			await plot(
				"order",
				`pairs of ${waiters} waiters that were served the other way round`,
				bars(({ inversions }) => inversions),
			);
			await plot(
				"use",
				"share of the time that slots are held while there is always demand",
				bars(({ use }) => use),
			);
		},
	};
}

const HEAD = [
	"",
	"hand-off p50",
	"p99",
	"use of a full limit",
	"inversions",
	"not served in time",
	"failed",
	"p50, of Headgate's",
];

/** In so short a time nothing may have been. */
const handedOver = (ms: number): string => (Number.isNaN(ms) ? "–" : milliseconds(ms));

async function loop(way: Way, all: Holder[], ms: number): Promise<Pick<Timed, "p50" | "p99" | "use" | "failed">> {
	const limit = newLimit(LIMIT);
	await way.create(limit);
	const order = { kind: way.kind, address: way.address, limit };
	// A holder connects, and loads what it needs, before it is timed.
	await Promise.all(all.map((each) => each.order("take", { ...order, count: 1, timeoutMs: WARM_UP_MS })));
	const startAt = now() + AHEAD_MS;
	const answers = await Promise.all(
		all.map((each) =>
			each.order("loop", {
				...order,
				...{ tasks: TASKS / PROCESSES, startAt, ms, workMs: WORK_MS },
			}),
		),
	);
	const rows = answers.flatMap(({ rows }) => rows as [number, number][]);
	const jobs = rows.map(([began, ended]): Job => ({ began, ended }));
	// A sixth for those who connect first.
	const [from, until] = [startAt + ms / 6, startAt + ms];
	const waits = ascending(
		handoffs(
			jobs.filter(({ ended, began }) => ended >= from && began <= until),
			LIMIT,
		),
	);
	const held = jobs.reduce(
		(sum, { began, ended }) => sum + Math.max(0, Math.min(ended, until) - Math.max(began, from)),
		0,
	);
	return {
		...{ p50: percentile(waits, 0.5), p99: percentile(waits, 0.99), use: held / (LIMIT * (until - from)) },
		failed: answers.reduce((sum, { failed }) => sum + failed, 0),
	};
}

async function inOrder(
	way: Way,
	all: Holder[],
	waiters: number,
	serveMs: number,
): Promise<Pick<Timed, "inversions" | "unserved">> {
	const limit = newLimit(1);
	await way.create(limit);
	const startAt = now() + AHEAD_MS;
	const joinedMs = JOIN_EVERY_MS * (waiters + 2);
	const plan = Array.from({ length: waiters + 1 }, (_, index) => ({
		...{ index, at: startAt + (index === 0 ? 0 : JOIN_EVERY_MS * (index + 1)) },
		holdMs: index === 0 ? joinedMs + AHEAD_MS : 5,
	}));
	const answers = await Promise.all(
		all.map((each, n) =>
			each.order("join", {
				...{ kind: way.kind, address: way.address, limit, timeoutMs: joinedMs + serveMs },
				plan: plan.filter(({ index }) => index % PROCESSES === n),
			}),
		),
	);
	const served = answers
		.flatMap(({ rows }) => rows as [number, number][])
		.filter(([index]) => index > 0)
		.sort(([, a], [, b]) => a - b)
		.map(([index]) => index);
	const missed = plan.map(({ index }) => index).filter((index) => index > 0 && !served.includes(index));
	const order = [...served, ...missed];
	const inversions = order.reduce((sum, index, at) => sum + order.slice(at).filter((later) => later < index).length, 0);
	return { inversions, unserved: missed.length };
}

// ----------------------------------------------------------------------------- killed clients and stores

interface Lost {
	/** Until another client got the slots of one that was killed; null where none did. */
	clientMs: number | null;
	/** Granted after the store was killed, while the slots were still held. */
	tooMany: number | null;
	/** Of two, after all had been given back. */
	gone: number | null;
}

async function lostReport(
	ways: Way[],
	holders: (way: Way) => Holder[],
	progress: Context["progress"],
	short: boolean,
): Promise<Report> {
	progress("clients are killed, all at once: who waits for their slots");
	const form = short ? "short" : "full";
	const asked = ways.filter(({ soon }) => !short || soon);
	const clients = new Map<Way, number | null>();
	await Promise.all(
		asked.map(async (way) => {
			clients.set(way, await killedClient(way, holders(way)[0] as Holder, LOST_AFTER_MS[form]));
		}),
	);
	const lost = new Map<Way, Lost>();
	for (const way of ways) {
		progress(`the store is killed under ${way.name}`);
		lost.set(way, { clientMs: clients.get(way) ?? null, ...(await killedStore(way, holders(way), PATIENCE_MS[form])) });
	}
	const waited = (way: Way, ms: number | null): string => {
		if (!clients.has(way)) return "–";
		return ms === null ? `not within ${LOST_AFTER_MS[form] / 1_000} s` : `${(ms / 1_000).toFixed(1)} s`;
	};
	return {
		title: "Slots of clients and stores that are killed",
		notes: [
			`Two slots, both held. A client is killed with \`kill -9\`, and another waits for its slots; Prefect's lease is its shortest, of 60 s, and what else there is to set is as it comes. Then the store is killed under clients that live: two more ask while the slots are still held, and two when they were given back, for ${PATIENCE_MS[form] / 1_000} s each.`,
		],
		head: [
			"",
			"slots of a killed client come back after",
			"too many after the store was killed",
			"of two slots, gone for good",
		],
		rows: [...lost].map(([way, { clientMs, tooMany, gone }]) => [
			...[
				way.name,
				waited(way, clientMs),
				tooMany === null ? "–" : String(tooMany),
				gone === null ? "–" : String(gone),
			],
		]),
		targets: [],
		draw: () =>
			plot(
				"killed-clients",
				`seconds until the slots of a killed client are used again (${LOST_AFTER_MS.full / 1_000}: not at all)`,
				[...lost].map(([{ name }, { clientMs }]) => {
					const seconds = (clientMs ?? LOST_AFTER_MS.full) / 1_000;
					return { name, own: name.startsWith("Headgate"), median: seconds, least: seconds, most: seconds };
				}),
			),
	};
}

async function killedClient(way: Way, other: Holder, patienceMs: number): Promise<number | null> {
	const limit = newLimit(LIMIT);
	await way.create(limit);
	const order = { kind: way.kind, address: way.address, limit };
	const client = await holder(way.program);
	try {
		await client.order("hold", { ...order, count: LIMIT });
	} finally {
		await client.kill();
	}
	const killedAt = now();
	const { rows } = await other.order("take", { ...order, count: 1, timeoutMs: patienceMs });
	const [at] = rows as number[];
	return at === undefined ? null : at - killedAt;
}

async function killedStore(
	way: Way,
	[first, second]: Holder[],
	patienceMs: number,
): Promise<Pick<Lost, "tooMany" | "gone">> {
	const limit = newLimit(LIMIT);
	await way.create(limit);
	const order = { kind: way.kind, address: way.address, limit };
	const take = async (): Promise<number> =>
		(await (second as Holder).order("take", { ...order, count: LIMIT, timeoutMs: patienceMs })).rows.length;
	try {
		await (first as Holder).order("hold", { ...order, count: LIMIT });
		await way.killStore();
		const tooMany = await take();
		await (first as Holder).order("letGo", {});
		await sleep(DOWN_MS);
		return { tooMany, gone: LIMIT - (await take()) };
	} catch {
		await (first as Holder).order("letGo", {}).catch(() => undefined);
		return { tooMany: null, gone: null };
	}
}
