/**
 * What a caller can time from outside: the rate at which a line is served by decay, the hand-off of a slot, and how soon
 * a slot is with the next one when its holder has gone. Each stands beside a control that was measured in the same
 * round: a bucket of this process's own timers, and calls to an idle Worker. A round in which the controls themselves
 * stalled says nothing of Headgate, and is measured again.
 */

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { AcquireRequest, Lease, StreamEvent } from "../src/protocol.ts";
import { type FreshServer, freshServer } from "../test/support/server.ts";
import type { Context } from "./context.ts";
import { once } from "./http.ts";
import { ascending, median, medianOf, milliseconds, percentile, times } from "./numbers.ts";
import type { Report, Target } from "./report.ts";

/** With room for a slot besides the one that is due, a grant that is late costs the next one nothing. */
const RATES = [
	{ limit: 10, perSecond: 20 },
	{ limit: 20, perSecond: 200 },
	{ limit: 2, perSecond: 50 },
];
const HAND_OFFS = 50;
/** Waiters in line during the hand-offs. */
const IN_LINE = 8;
const DEPARTURES = 5;
/** A caller that has gone is noticed at the second line of its stream, and those come twice a second. */
const GONE_MS = 2_000;
/** A machine that holds a bare timer up for so long is not what is to be measured. */
const STALLED_MS = 100;
/** Rounds measured at most, for each that counts. */
const TRIES = 3;

/** Of the rate that the same bucket reaches by bare timers. */
const LEAST_SHARE = 0.97;
/** A hand-off is two calls that each write to the disk, and a line to the next caller. */
const MOST_HAND_OFF = 4;

interface Round {
	rates: { share: number; bare: number }[];
	handOff: number[];
	handOffOfTwo: number[];
	call: number[];
	departures: number[];
	stalledMs: number;
}

export async function timing({ rounds: wanted, short, progress }: Context): Promise<Report> {
	await using server = await freshServer();
	await using bare = await freshServer({ config: `${import.meta.dirname}/bare/wrangler.toml` });
	const all: Round[] = [];
	const isSound = ({ stalledMs }: Round): boolean => stalledMs < STALLED_MS;
	const most = short ? wanted : wanted * TRIES;
	while (all.length < most && all.filter(isSound).length < wanted) {
		progress(`round ${all.length + 1}`);
		all.push(await measure(server, bare, short));
	}
	const rounds = all.toSorted((a, b) => a.stalledMs - b.stalledMs).slice(0, wanted);
	const left = all.length - rounds.length;
	const stalledMs = Math.max(...rounds.map((round) => round.stalledMs));
	const sound = rounds.filter(isSound).length;
	return {
		title: "What a caller can time, beside bare timers and calls",
		notes: [
			`Medians of ${wanted} rounds. A bare timer of this process was at most ${milliseconds(stalledMs)} late in them` +
				`${left > 0 ? `; ${left} with more do not count` : ""}. ` +
				`${sound < wanted ? `In ${wanted - sound} of them the machine stalled for ${STALLED_MS} ms or more, so nothing is said of Headgate by what it missed there. ` : ""}` +
				`The bucket of bare timers grants the same line in the benchmark's own process; a call is one durable UPDATE of the bare counter. ` +
				`A departure is from the moment that a holder's connection is closed to the grant of the next in line, by a stream with \`hold\`.`,
		],
		head: ["", "Headgate", "control", "ratio"],
		rows: rowsOf(rounds),
		targets: sound < wanted && !short ? [] : targetsOf(rounds),
	};
}

async function measure(server: FreshServer, bare: FreshServer, short: boolean): Promise<Round> {
	const stalls = watchStalls();
	const rates: Round["rates"] = [];
	for (const rate of RATES) {
		const seconds = short ? 0.5 : 2;
		const [share, control] = await Promise.all([served(server.url, rate, seconds), servedByTimers(rate, seconds)]);
		rates.push({ share, bare: control });
	}
	const count = short ? 5 : HAND_OFFS;
	const call = await calls(bare.url, count);
	const handOff = await handOffs(server.url, [`handed-${randomUUID()}`], count);
	const handOffOfTwo = await handOffs(server.url, [`handed-a-${randomUUID()}`, `handed-b-${randomUUID()}`], count);
	const departures = await depart(server.url, short ? 1 : DEPARTURES);
	return { rates, handOff, handOffOfTwo, call, departures, stalledMs: stalls() };
}

// ------------------------------------------------------------------------------------------------ by rate

interface Rate {
	limit: number;
	perSecond: number;
}

/** The share of the configured rate at which a line is served, once the bucket that was empty is full. */
async function served(url: string, { limit, perSecond }: Rate, seconds: number): Promise<number> {
	const name = `line-${randomUUID()}`;
	await once(url, "PUT", `/v1/limits/${name}`, { limit, slotDecayPerSecond: perSecond });
	const waiting = Math.round(perSecond * seconds);
	const grants = await Promise.all(
		Array.from({ length: limit + waiting }, async () => {
			using stream = new Stream(url, { names: name, mode: "rate_limit" });
			await stream.granted;
			return performance.now();
		}),
	);
	return shareOf(grants, { limit, perSecond }, waiting);
}

/** The same line, granted by timers of this process. */
async function servedByTimers({ limit, perSecond }: Rate, seconds: number): Promise<number> {
	const waiting = Math.round(perSecond * seconds);
	const startedAt = performance.now();
	let level = limit;
	let at = startedAt;
	const grants = Array.from({ length: limit }, () => startedAt);
	while (grants.length < limit + waiting) {
		const now = performance.now();
		level = Math.max(0, level - ((now - at) * perSecond) / 1_000);
		at = now;
		for (; level + 1 <= limit && grants.length < limit + waiting; level += 1) grants.push(now);
		await sleep(Math.max(1, ((level + 1 - limit) * 1_000) / perSecond));
	}
	return shareOf(grants, { limit, perSecond }, waiting);
}

function shareOf(grants: number[], { limit, perSecond }: Rate, waiting: number): number {
	const sorted = ascending(grants);
	const tookMs = (sorted.at(-1) ?? Number.NaN) - (sorted[limit - 1] ?? Number.NaN);
	return (waiting * 1_000) / tookMs / perSecond;
}

// ----------------------------------------------------------------------------------------------- handing on

/** From the moment that a release is sent to the moment that the next in line reads its grant. */
async function handOffs(url: string, names: string[], count: number): Promise<number[]> {
	for (const name of names) await once(url, "PUT", `/v1/limits/${name}`, { limit: 1 });
	let lease = await once<Lease>(url, "POST", "/v1/acquire", { names, leaseSeconds: 600 });
	const line: Stream[] = [];
	const join = async (): Promise<void> => {
		const stream = new Stream(url, { names, leaseSeconds: 600 });
		line.push(stream);
		await stream.queued;
	};
	for (let joined = 0; joined < IN_LINE; joined += 1) await join();
	const taken: number[] = [];
	for (let done = 0; done < count; done += 1) {
		const next = line.shift() as Stream;
		const releasedAt = performance.now();
		const released = once(url, "POST", "/v1/release", { id: lease.id, names });
		lease = await next.granted;
		taken.push(performance.now() - releasedAt);
		await released;
		next[Symbol.dispose]();
		await join();
	}
	for (const stream of line) stream[Symbol.dispose]();
	return taken;
}

/** What a single durable call to an object takes by the same means. */
async function calls(url: string, count: number): Promise<number[]> {
	const taken: number[] = [];
	for (let done = 0; done < count; done += 1) {
		const sentAt = performance.now();
		await once(url, "POST", "/v1/acquire", { names: "control", occupy: 1, mode: "rate_limit" });
		taken.push(performance.now() - sentAt);
	}
	return taken;
}

/** From the close of a holder's connection to the grant of the next in line. */
async function depart(url: string, count: number): Promise<number[]> {
	const taken: number[] = [];
	for (let done = 0; done < count; done += 1) {
		const name = `left-${randomUUID()}`;
		await once(url, "PUT", `/v1/limits/${name}`, { limit: 1 });
		const holder = new Stream(url, { names: name, hold: true });
		await holder.granted;
		using next = new Stream(url, { names: name, hold: true });
		await next.queued;
		const leftAt = performance.now();
		holder[Symbol.dispose]();
		await next.granted;
		taken.push(performance.now() - leftAt);
	}
	return taken;
}

/** A streamed request; disposing closes its connection. */
class Stream implements Disposable {
	readonly granted: Promise<Lease>;
	readonly queued: Promise<void>;
	readonly #gone = new AbortController();

	constructor(url: string, body: AcquireRequest) {
		const granted = Promise.withResolvers<Lease>();
		const queued = Promise.withResolvers<void>();
		this.granted = granted.promise;
		this.queued = queued.promise;
		this.#read(url, body, (event) => {
			if (event.event === "granted") granted.resolve(event.lease as Lease);
			if (event.event === "denied") throw new Error(event.problem.detail);
			queued.resolve();
		}).catch((error) => {
			// What was settled before stays so; a stream that breaks before its grant ends the run.
			granted.reject(error);
			queued.reject(error);
		});
		for (const promise of [granted.promise, queued.promise]) promise.catch(() => undefined);
	}

	[Symbol.dispose](): void {
		this.#gone.abort();
	}

	async #read(url: string, body: AcquireRequest, hear: (event: StreamEvent) => void): Promise<void> {
		const headers = { "Content-Type": "application/json", Accept: "application/x-ndjson" };
		const answer = await fetch(`${url}/v1/acquire`, {
			...{ method: "POST", headers, body: JSON.stringify(body) },
			signal: this.#gone.signal,
		});
		if (!answer.ok || !answer.body) throw new Error(`${answer.status} ${await answer.text()}`);
		let rest = "";
		for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
			const lines = (rest + chunk).split("\n");
			rest = lines.pop() ?? "";
			for (const line of lines) if (line.trim() !== "") hear(JSON.parse(line) as StreamEvent);
		}
	}
}

// --------------------------------------------------------------------------------------------- the controls

/** How late a timer of this process is at most, until it is asked. */
function watchStalls(): () => number {
	const every = 10;
	let due = performance.now() + every;
	let most = 0;
	const timer = setInterval(() => {
		const now = performance.now();
		most = Math.max(most, now - due);
		due = now + every;
	}, every);
	return () => {
		clearInterval(timer);
		return most;
	};
}

const p50 = (values: number[]): number => percentile(ascending(values), 0.5);

function rowsOf(rounds: Round[]): string[][] {
	const rates = RATES.map(({ limit, perSecond }, index) => {
		const share = median(rounds.map(({ rates }) => rates[index]?.share ?? Number.NaN));
		const bare = median(rounds.map(({ rates }) => rates[index]?.bare ?? Number.NaN));
		return [
			`served of ${perSecond}/s, ${limit} slots`,
			share.toFixed(3),
			`${bare.toFixed(3)} (timers)`,
			times(share / bare),
		];
	});
	const call = medianOf(rounds, (round) => p50(round.call));
	const handed = (label: string, pick: (round: Round) => number[]): string[] => {
		const value = medianOf(rounds, (round) => p50(pick(round)));
		return [label, milliseconds(value), `${milliseconds(call)} (call)`, times(value / call)];
	};
	const departed = medianOf(rounds, ({ departures }) => p50(departures));
	return [
		...rates,
		handed("hand-off, p50", ({ handOff }) => handOff),
		handed("hand-off of two names, p50", ({ handOffOfTwo }) => handOffOfTwo),
		["departure, p50", milliseconds(departed), "", ""],
	];
}

function targetsOf(rounds: Round[]): Target[] {
	const rates = RATES.map(({ limit, perSecond }, index): Target => {
		const ratio = median(rounds.map(({ rates }) => (rates[index]?.share ?? 0) / (rates[index]?.bare ?? Number.NaN)));
		const what = `served of ${perSecond}/s, ${limit} slots`;
		const aim = `at least ${LEAST_SHARE} of what bare timers reach`;
		return { what, aim, measured: ratio.toFixed(3), met: ratio >= LEAST_SHARE };
	});
	const handOff = medianOf(rounds, (round) => p50(round.handOff) / p50(round.call));
	const departed = medianOf(rounds, ({ departures }) => Math.max(...departures));
	return [
		...rates,
		{
			what: "hand-off, p50",
			aim: `at most ${MOST_HAND_OFF} × a call`,
			measured: times(handOff),
			met: handOff <= MOST_HAND_OFF,
		},
		{
			what: "departure, longest",
			aim: `within ${GONE_MS / 1_000} s`,
			measured: milliseconds(departed),
			met: departed <= GONE_MS,
		},
	];
}
