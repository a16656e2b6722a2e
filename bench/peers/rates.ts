/** What limits a rate: how fast it grants, what it costs, what it lets in, what a denial spends, and what a `kill -9` does to it. */

import { setTimeout as sleep } from "node:timers/promises";
import type { Context } from "../context.ts";
import { type Answer, Connection, request } from "../http.ts";
import { medianOf, milliseconds, perSecond } from "../numbers.ts";
import type { Report } from "../report.ts";
import { type Deployment, PROFILES, type ProfileName, REDIS_DOWN_MS } from "./deployments.ts";
import { type Bar, plot } from "./plot.ts";
import { against, inRounds, inWords, type Spread, spreadOf } from "./rounds.ts";

/** The compiler of JavaScript has settled by then. */
const WARM_UP_MS = 500;
const own = (name: string): boolean => name.startsWith("Headgate");

let keys = 0;
/** Unlike any other of this run. */
const newKey = (): string => {
	keys += 1;
	return `k${keys}`;
};

const bytesOf = (deployment: Deployment, profile: ProfileName, key: string, cost: number): string => {
	const { path, body } = deployment.take(profile, key, cost);
	return request("POST", path, body);
};

/** Asks for the same again and again, by a new connection where the last one was closed. */
class Caller {
	readonly #deployment: Deployment;
	readonly #bytes: string;
	#connection: Connection | null = null;

	constructor(deployment: Deployment, profile: ProfileName, key: string) {
		this.#deployment = deployment;
		this.#bytes = bytesOf(deployment, profile, key, 1);
	}

	async open(): Promise<void> {
		this.#connection ??= await Connection.open(this.#deployment.url);
	}

	/** Null where there was no answer. */
	async ask(): Promise<Answer | null> {
		try {
			await this.open();
			return await (this.#connection as Connection).call(this.#bytes);
		} catch {
			this.close();
			return null;
		}
	}

	close(): void {
		this.#connection?.close();
		this.#connection = null;
	}
}

/** Of the one that ratios are taken to, which is the first. */
function reference<T>(measured: Map<Deployment, T[]>, [first]: Deployment[]): T[] {
	const own = measured.get(first as Deployment);
	if (own === undefined) throw new Error("Headgate itself failed.");
	return own;
}

const failures = (failed: Map<Deployment, string>): string[][] =>
	[...failed].map(([{ name }, why]) => [name, `failed: ${why}`]);

// ---------------------------------------------------------------------------------- grants on one hot name

const CALLERS = [1, 32];

interface Load {
	perSecond: number;
	p50: number;
	p99: number;
	cpuUs: number;
}

export async function hotKey(all: Deployment[], { rounds, sliceMs, generator, progress }: Context): Promise<Report> {
	const { measured, failed } = await inRounds(all, rounds, async (deployment, round) => {
		const key = newKey();
		await deployment.prepare("endless", key);
		const { path, body } = deployment.take("endless", key, 1);
		const loads: (Load | null)[] = [];
		for (const callers of CALLERS) {
			progress(`grants, round ${round + 1}, ${callers} callers, ${deployment.name}`);
			const before = deployment.cpuMs();
			const load = { url: deployment.url, callers, warmUpMs: WARM_UP_MS, ms: sliceMs, calls: [{ path, body }] };
			const result = await generator.run(load).catch(() => null);
			loads.push(result && { ...result, cpuUs: ((deployment.cpuMs() - before) * 1_000) / result.turns });
		}
		return loads;
	});
	const last = CALLERS.length - 1;
	/** Of the rounds in which nothing failed. */
	const at = (loads: (Load | null)[][], index: number, of: (load: Load) => number): number[] =>
		loads.flatMap((each) => (each[index] ? [of(each[index])] : []));
	const ofHeadgate = reference(measured, all);
	const bars = (of: (load: Load) => number): Bar[] =>
		[...measured].flatMap(([{ name }, loads]) => {
			const values = at(loads, last, of);
			return values.length === 0 ? [] : [{ name, own: own(name), ...spreadOf(values) }];
		});
	return {
		title: "Grants on one hot name",
		notes: [
			`Medians of ${rounds} rounds of ${sliceMs / 1_000} s; ratios are to the first kind of Headgate in the same round, with the least and the most of them. Where there are none, calls were answered with an error.`,
		],
		head: ["", ...["1 caller: grants/s", "p50", "32 callers: grants/s", "p50", "p99", "CPU a grant"], ...RATIOS],
		rows: [...measured]
			.map(([{ name }, loads]) => {
				const middle = (index: number, of: (load: Load) => number, text: (value: number) => string): string => {
					const values = at(loads, index, of);
					return values.length === 0 ? "–" : text(spreadOf(values).median);
				};
				const ratio = (of: (load: Load) => number): string => {
					const pairs = loads.flatMap((each, round) => {
						const [one, other] = [each[last], ofHeadgate[round]?.[last]];
						return one && other ? [of(one) / of(other)] : [];
					});
					return pairs.length === 0 ? "–" : inWords(spreadOf(pairs));
				};
				return [
					name,
					...[middle(0, (load) => load.perSecond, perSecond), middle(0, (load) => load.p50, milliseconds)],
					...[middle(last, (load) => load.perSecond, perSecond), middle(last, (load) => load.p50, milliseconds)],
					middle(last, (load) => load.p99, milliseconds),
					middle(
						last,
						(load) => load.cpuUs,
						(value) => `${value.toFixed(0)} µs`,
					),
					...[ratio((load) => load.perSecond), ratio((load) => load.cpuUs)],
				];
			})
			.concat(failures(failed)),
		targets: [],
		draw: async () => {
			await plot(
				"grants",
				"grants a second on one name, 32 callers",
				bars((load) => load.perSecond),
			);
			await plot(
				"processor",
				"processor time a grant, µs, 32 callers",
				bars((load) => load.cpuUs),
			);
		},
	};
}

const RATIOS = ["grants/s, of Headgate's", "CPU, of Headgate's"];

// --------------------------------------------------------------------------------- achieved and admitted

/** Ten times what is allowed, in calls a second. */
const ASKED = 10 * PROFILES.second.limit;
const CONNECTIONS = 16;
const STEADY_MS = { full: 5_000, short: 1_000 };
/** A flood has begun by then. */
const SETTLE_MS = 500;
/** Into a window so far a flood begins, and so long it lasts, of its length. */
const [FLOOD_AT, FLOOD_FOR] = [0.85, 0.5];

interface Grant {
	sentAt: number;
	heardAt: number;
}

/** Asks so often, whatever becomes of it, as far as answers come in time. */
async function flood(deployment: Deployment, key: string, ms: number): Promise<{ grants: Grant[]; deniedAt: number }> {
	const callers = Array.from({ length: CONNECTIONS }, () => new Caller(deployment, "second", key));
	await Promise.all(callers.map((caller) => caller.open()));
	const grants: Grant[] = [];
	let deniedAt = Number.POSITIVE_INFINITY;
	const from = performance.now();
	const stepMs = 1_000 / ASKED;
	const asks = async (caller: Caller, index: number): Promise<void> => {
		for (let next = from + index * stepMs; next < from + ms; next += CONNECTIONS * stepMs) {
			await sleep(Math.max(0, next - performance.now()));
			const sentAt = performance.now();
			if (sentAt >= from + ms) break;
			const answer = await caller.ask();
			if (answer === null) continue;
			const heardAt = performance.now();
			if (deployment.granted(answer)) grants.push({ sentAt, heardAt });
			else deniedAt = Math.min(deniedAt, heardAt);
		}
	};
	await Promise.all(callers.map(asks));
	for (const caller of callers) caller.close();
	return { grants, deniedAt };
}

/** The most that was surely granted within a second: sent after its begin, and heard of before its end. */
const mostInASecond = (grants: Grant[]): number =>
	Math.max(
		0,
		...grants.map(
			({ sentAt: from }) =>
				grants.filter(({ sentAt, heardAt }) => sentAt >= from && heardAt <= from + PROFILES.second.windowMs).length,
		),
	);

/** Some begin their windows with a second of the clock, and all others with the first call. */
const untilSecond = (): Promise<void> => sleep(1_020 - (Date.now() % 1_000));

interface Admitted {
	achieved: number;
	most: number;
}

export async function achieved(all: Deployment[], { rounds, progress, short }: Context): Promise<Report> {
	const steadyMs = STEADY_MS[short ? "short" : "full"];
	const { measured, failed } = await inRounds(all, rounds, async (deployment, round): Promise<Admitted> => {
		progress(`rate, round ${round + 1}, ${deployment.name}`);
		const key = newKey();
		await deployment.prepare("second", key);
		await untilSecond();
		const startedAt = performance.now();
		const { grants: steady, deniedAt } = await flood(deployment, key, 2 * SETTLE_MS + steadyMs);
		// What was there at first is gone with the first denial.
		const from = Math.min(Math.max(startedAt + SETTLE_MS, deniedAt), startedAt + 2 * SETTLE_MS);
		const inTime = steady.filter(({ heardAt }) => heardAt >= from && heardAt < from + steadyMs);
		// One call opens a window, and a flood crosses its end.
		const { limit, windowMs } = PROFILES.second;
		const other = newKey();
		await deployment.prepare("second", other);
		const first = new Caller(deployment, "second", other);
		await first.open();
		await untilSecond();
		const openedAt = performance.now();
		await first.ask();
		first.close();
		await sleep(openedAt + FLOOD_AT * windowMs - performance.now());
		const { grants: crossing } = await flood(deployment, other, FLOOD_FOR * windowMs);
		return {
			achieved: inTime.length / ((limit * steadyMs) / 1_000),
			most: Math.max(mostInASecond(steady), mostInASecond(crossing)),
		};
	});
	const { limit } = PROFILES.second;
	const spread = (each: Admitted[], of: (one: Admitted) => number): Spread => spreadOf(each.map(of));
	const range = ({ median, least, most }: Spread, digits: number): string =>
		`${median.toFixed(digits)} (${least.toFixed(digits)}–${most.toFixed(digits)})`;
	const reference_ = reference(measured, all);
	return {
		title: "What is let in of ten times too much",
		notes: [
			`Each limit is ${limit} a second, and asked ${ASKED} times a second by ${CONNECTIONS} connections, as far as it answers, for ${steadyMs / 1_000} s. For the most in any second, one call opens a window and the same flood crosses its end; counted is what was sent after a second's begin and heard of before its end. ${rounds} rounds; of the most, the largest.`,
		],
		head: ["", "achieved, of the configured rate", "most in a second", "of the limit", "achieved, of Headgate's"],
		rows: [
			...[...measured].map(([{ name }, each]) => {
				const { most } = spread(each, (one) => one.most);
				return [
					...[
						name,
						range(
							spread(each, (one) => one.achieved),
							3,
						),
						String(most),
						`${(most / limit).toFixed(2)} ×`,
					],
					inWords(
						against(
							each.map((one) => one.achieved),
							reference_.map((one) => one.achieved),
						),
					),
				];
			}),
			...failures(failed),
		],
		targets: [],
		draw: () =>
			plot(
				"admitted",
				`most that was granted within one second, of a limit of ${limit}`,
				[...measured].map(([{ name }, each]) => ({
					...{ name, own: own(name) },
					...spread(each, (one) => one.most),
				})),
			),
	};
}

// ------------------------------------------------------------------------------------ what a denial spends

const DENIALS = { full: 500, short: 20 };

interface Denied {
	/** Whether two that were left are still granted after five were denied; null where a request takes one. */
	left: boolean | null;
	bytes: number;
	cpuUs: number;
}

export async function denials(all: Deployment[], { rounds, progress, short }: Context): Promise<Report> {
	const times = DENIALS[short ? "short" : "full"];
	const { measured, failed } = await inRounds(all, rounds, async (deployment, round): Promise<Denied> => {
		progress(`denials, round ${round + 1}, ${deployment.name}`);
		const connection = await Connection.open(deployment.url);
		const key = newKey();
		await deployment.prepare("minute", key);
		const ask = async (cost: number): Promise<boolean> =>
			deployment.granted(await connection.call(bytesOf(deployment, "minute", key, cost)));
		const expect = async (cost: number, granted: boolean): Promise<void> => {
			if ((await ask(cost)) !== granted)
				throw new Error(`${cost} were ${granted ? "denied" : "granted"} in the beginning`);
		};
		for (let n = 0; n < PROFILES.minute.limit - 2; n += 1) await expect(1, true);
		let left: boolean | null = null;
		if (deployment.hasCost) {
			await expect(5, false);
			left = await ask(2);
		}
		while (await ask(1)) {}
		const [written, cpu] = [deployment.written(), deployment.cpuMs()];
		const bytes = bytesOf(deployment, "minute", key, 1);
		for (let n = 0; n < times; n += 1) await connection.call(bytes);
		connection.close();
		return {
			left,
			bytes: (deployment.written() - written) / times,
			cpuUs: ((deployment.cpuMs() - cpu) * 1_000) / times,
		};
	});
	const reference_ = reference(measured, all);
	return {
		title: "What a denial spends",
		notes: [
			`Of ten, eight are taken, then five are asked for, and denied, then two. Bytes and processor time are those of all processes of a deployment for ${times} denials one after the other, each; medians of ${rounds} rounds.`,
		],
		head: [
			"",
			"two that were left, after five were denied",
			"bytes written a denial",
			"CPU a denial",
			"CPU, of Headgate's",
		],
		rows: [
			...[...measured].map(([{ name }, each]) => {
				const lost = each.filter(({ left }) => left === false).length;
				const words =
					each[0]?.left === null ? "a call takes one" : lost === 0 ? "granted" : `denied in ${lost} of ${each.length}`;
				return [
					...[name, words, perSecond(medianOf(each, ({ bytes }) => bytes))],
					`${medianOf(each, ({ cpuUs }) => cpuUs).toFixed(0)} µs`,
					inWords(
						against(
							each.map(({ cpuUs }) => cpuUs),
							reference_.map(({ cpuUs }) => cpuUs),
						),
					),
				];
			}),
			...failures(failed),
		],
		targets: [],
		draw: () =>
			plot(
				"denials",
				"bytes written for a denial",
				[...measured].map(([{ name }, each]) => ({
					...{ name, own: own(name) },
					...spreadOf(each.map(({ bytes }) => bytes)),
				})),
			),
	};
}

// ---------------------------------------------------------------------------------- the store is killed

const ASKING = 8;
/** Long enough for a kill to come into the middle of it. */
const PAUSE_MS = 40;
/** So many are granted when it comes. */
const BEFORE_KILL = 40;
/** Answers after it, until nothing more is expected. */
const ANSWERS_AFTER = 150;

interface Killed {
	granted: number;
	whileDown: number;
	failedCalls: number;
}

export async function killedStore(all: Deployment[], { rounds, progress }: Context): Promise<Report> {
	const { limit } = PROFILES.lasting;
	const { measured, failed } = await inRounds(all, rounds, async (deployment, round): Promise<Killed> => {
		progress(`the store is killed, round ${round + 1}, ${deployment.name}`);
		const key = newKey();
		await deployment.prepare("lasting", key);
		const counts = { granted: 0, whileDown: 0, failedCalls: 0, after: 0 };
		let phase: "before" | "down" | "after" = "before";
		const halfway = Promise.withResolvers<void>();
		const done = Promise.withResolvers<void>();
		let ended = false;
		const take = (answer: Answer | null): void => {
			if (answer === null || answer.status >= 500) counts.failedCalls += 1;
			else if (deployment.granted(answer)) {
				counts.granted += 1;
				if (phase === "down") counts.whileDown += 1;
			}
			if (counts.granted >= BEFORE_KILL) halfway.resolve();
			if (phase === "after") counts.after += 1;
			if (counts.after >= ANSWERS_AFTER) done.resolve();
		};
		const asks = async (): Promise<void> => {
			const caller = new Caller(deployment, "lasting", key);
			while (!ended) {
				take(await caller.ask());
				await sleep(PAUSE_MS);
			}
			caller.close();
		};
		const callers = Array.from({ length: ASKING }, asks);
		await halfway.promise;
		await deployment.killStore(() => {
			phase = "down";
		});
		phase = "after";
		await done.promise;
		ended = true;
		await Promise.all(callers);
		return counts;
	});
	return {
		title: "What keeps the counts is killed",
		notes: [
			`A limit of ${limit} of which nothing comes back within an hour, asked by ${ASKING} callers without an end. After ${BEFORE_KILL} grants what keeps the counts is killed with \`kill -9\`: workerd, Redis, gubernator, Prefect's server. A Redis is started again after ${REDIS_DOWN_MS / 1_000} s, all others at once. Of ${rounds} rounds each column shows the worst.`,
		],
		head: [
			"",
			`granted of ${limit}, most`,
			"too many",
			"lost, most",
			"granted from the kill until it answered",
			"calls that failed",
		],
		rows: [
			...[...measured].map(([{ name }, each]) => {
				const most = Math.max(...each.map(({ granted }) => granted));
				const least = Math.min(...each.map(({ granted }) => granted));
				return [
					...[name, String(most), String(Math.max(0, most - limit)), String(Math.max(0, limit - least))],
					String(Math.max(...each.map(({ whileDown }) => whileDown))),
					String(Math.max(...each.map(({ failedCalls }) => failedCalls))),
				];
			}),
			...failures(failed),
		],
		targets: [],
		draw: () =>
			plot(
				"killed",
				`granted of ${limit}, when what keeps the counts is killed`,
				[...measured].map(([{ name }, each]) => ({
					...{ name, own: own(name) },
					...spreadOf(each.map(({ granted }) => granted)),
				})),
			),
	};
}
