/**
 * What Cloudflare bills for each thing that Headgate does, counted by objects that count (`costs/worker.ts`) and not timed, and what
 * typical months come to. `n` callers are n calls that are on their way at once: what they share of commits is what a commit that
 * takes no time at all lets them share, so a real one, which takes milliseconds, costs no more.
 */

import { freshServer } from "../test/support/server.ts";
import type { Context } from "./context.ts";
import { once } from "./http.ts";
import type { Report } from "./report.ts";

/** USD, as read on this day on the pages that `SOURCES` names. */
export const READ_ON = "2026-11-26";
export const PRICES = {
	/** For one. The plan includes the first so many of a month. */
	row: { each: 1 / 1e6, included: 50e6 },
	objectRequest: { each: 0.15 / 1e6, included: 1e6 },
	workerRequest: { each: 0.3 / 1e6, included: 10e6 },
	/** Of a second in memory: an object counts 128 MB. */
	second: { each: (12.5 / 1e6) * 0.128, included: 400_000 / 0.128 },
	plan: 5,
	upstashCommand: 0.2 / 100_000,
	/** Of 4 GB, whatever it is used for and as far as it carries. */
	machine: 24,
	/** Of 1 GB. */
	database: 15,
} as const;
export const SOURCES =
	"developers.cloudflare.com/durable-objects/platform/pricing, developers.cloudflare.com/workers/platform/pricing, upstash.com/pricing/redis and upstash.com/docs/redis/sdks/ratelimit-ts/costs";

/** Of each call that an object answers: it is billed from its first millisecond to its last, commit included. */
export const CALL_SECONDS = 0.01;

/** What is billed of one operation. */
export interface Bill {
	rows: number;
	alarms: number;
	objectRequests: number;
	workerRequests: number;
	seconds: number;
}

interface Operation {
	name: string;
	/** Settings of the limit; with `policy`, of its keys. */
	settings: Record<string, unknown>;
	/** Makes what is not counted, and answers what is. */
	prepare?: (url: string, name: string) => Promise<unknown>;
	/** Requests of a caller, one after the other. */
	calls: (name: string, caller: number, prepared: unknown) => Step[];
	/** So long an operation keeps its object in memory beside its calls. */
	waitSeconds?: number;
	names?: number;
	callers?: number[];
	/** Operations that each caller makes by its calls. Default 1. */
	times?: number;
	policy?: true;
	/** What is counted is not done once before: a limit that is in use has its tables and its alarm. */
	cold?: true;
	/** What makes the calls go on. Answers how many calls of the object are not theirs. */
	meanwhile?: (url: string, name: string, callers: number, prepared: unknown) => Promise<number>;
}

type Step = (before: unknown) => { path: string; body: unknown; status?: number };

const acquire =
	(body: Record<string, unknown>, status?: number): Step =>
	() => ({ path: "/v1/acquire", body, ...(status !== undefined && { status }) });
const release: Step = (lease) => ({ path: "/v1/release", body: lease });
const ROOM = { limit: 1_000_000 };
const RATE = { limit: 1_000_000, slotDecayPerSecond: 1_000 };

const OPERATIONS: Operation[] = [
	{
		name: "acquire and release",
		settings: ROOM,
		calls: (name) => [acquire({ names: name }), release],
	},
	{
		name: "grant by rate",
		settings: RATE,
		calls: (name) => [acquire({ names: name, mode: "rate_limit" })],
	},
	{
		name: "grant by rate, with an id",
		settings: RATE,
		calls: (name) => [acquire({ names: name, mode: "rate_limit", id: crypto.randomUUID() })],
	},
	{
		name: "renew",
		settings: ROOM,
		prepare: (url, name) =>
			Promise.all(Array.from({ length: 256 }, () => once(url, "POST", "/v1/acquire", { names: name }))),
		calls: (_, caller, leases) => [() => ({ path: "/v1/renew", body: (leases as unknown[])[caller] })],
	},
	{
		name: "two names: acquire and release",
		settings: ROOM,
		names: 2,
		calls: (name) => [acquire({ names: [`${name}-0`, `${name}-1`] }), release],
	},
	{
		name: "denial by rate, one of a flood",
		settings: { limit: 1, slotDecayPerSecond: 1e-6 },
		prepare: (url, name) => call(url, "/v1/acquire", { names: name, mode: "rate_limit" }),
		calls: (name) => [acquire({ names: name, mode: "rate_limit" }, 429)],
		callers: [256],
		cold: true,
	},
	{
		name: "wait of a second in line, with release",
		settings: { limit: 256 },
		prepare: (url, name) => call(url, "/v1/acquire", { names: name, occupy: 256 }),
		calls: (name) => [acquire({ names: name, waitSeconds: 30 }), release],
		// What they wait for comes back when all of them wait. Looking is a call of the object, and is not counted.
		meanwhile: async (url, name, callers, lease) => {
			let looks = 0;
			for (let waiting = 0; waiting < callers; looks += 1) {
				waiting = (await once<{ waitingCount: number }>(url, "GET", `/v1/limits/${name}`)).waitingCount;
			}
			await call(url, "/v1/release", lease);
			return looks;
		},
		waitSeconds: 1,
		cold: true,
	},
	{
		name: "key of a policy, used once, its end included",
		settings: { ...RATE, idleSeconds: 1 },
		policy: true,
		cold: true,
		calls: (name, caller) => [acquire({ names: `${name}:${caller}`, mode: "rate_limit" })],
	},
	{
		name: "batch of 32 grants by rate, each",
		settings: RATE,
		calls: (name) => [
			() => ({
				path: "/v1/acquire/batch",
				body: { requests: Array.from({ length: 32 }, () => ({ names: name, mode: "rate_limit" })) },
			}),
		],
		times: 32,
	},
];
const CALLERS = [1, 32, 256];
/** Enough that each of the eight objects that keep sums has heard of one. */
const WARM_KEYS = 64;

interface Counts {
	rows: number;
	alarms: number;
	rang: number;
	requests: number;
}

async function call(url: string, path: string, body: unknown, status = 200): Promise<unknown> {
	const headers = { "Content-Type": "application/json" };
	const answer = await fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) });
	const text = await answer.text();
	if (answer.status !== status) throw new Error(`${path} answered ${answer.status}: ${text}`);
	return JSON.parse(text);
}

const counted = (url: string): Promise<Counts> => once<Counts>(url, "POST", "/counts");

function add(sum: Counts, more: Counts): void {
	for (const key of ["rows", "alarms", "rang", "requests"] as const) sum[key] += more[key];
}

/** What is counted until nothing is any more: some things are written and told in the background. */
async function settled(url: string): Promise<Counts> {
	const sum: Counts = { rows: 0, alarms: 0, rang: 0, requests: 0 };
	for (let quiet = 0; quiet < QUIET_LOOKS; ) {
		await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
		const more = await counted(url);
		quiet = more.rows + more.alarms + more.rang + more.requests > 0 ? 0 : quiet + 1;
		add(sum, more);
	}
	return sum;
}
/** A limit tells the directory, and its counters its disk, within a second. */
const QUIET_LOOKS = 3;
const LOOK_MS = 500;

async function bill(url: string, operation: Operation, callers: number): Promise<Bill> {
	const { settings, names = 1, times = 1, waitSeconds = 0, policy, cold, meanwhile } = operation;
	const name = `${operation.name.replaceAll(/[^a-z]+/g, "-")}-${callers}`;
	if (policy) await once(url, "PUT", `/v1/policies/${name}:*`, settings);
	else if (names === 1) await once(url, "PUT", `/v1/limits/${name}`, settings);
	else for (let n = 0; n < names; n += 1) await once(url, "PUT", `/v1/limits/${name}-${n}`, settings);
	const prepared = await operation.prepare?.(url, name);
	const inTurn = async (all: Step[]): Promise<number> => {
		let before: unknown;
		for (const step of all) {
			const { path, body, status } = step(before);
			before = await call(url, path, body, status);
		}
		return all.length;
	};
	if (!cold) await inTurn(operation.calls(name, 0, prepared));
	// The objects that add up what keys counted are made by the first of them.
	if (policy) {
		await Promise.all(
			Array.from({ length: WARM_KEYS }, (_, key) => inTurn(operation.calls(`${name}:warm`, key, null))),
		);
		for (let rang = 0; rang < WARM_KEYS; ) rang += (await settled(url)).rang;
	}
	await settled(url);
	const steps = Array.from({ length: callers }, (_, caller) => operation.calls(name, caller, prepared));
	// Those of one step are on their way at once.
	const [looks = 0, ...made] = await Promise.all([meanwhile?.(url, name, callers, prepared), ...steps.map(inTurn)]);
	const workerRequests = made.reduce((all, calls) => all + calls, 0);
	const sum = await settled(url);
	// A key ends by its alarm; of all others the alarms ring later, for what others do meanwhile too.
	while (policy && sum.rang < callers) add(sum, await settled(url));
	sum.requests -= looks;
	const each = callers * times;
	return {
		rows: (sum.rows + sum.alarms) / each,
		alarms: sum.alarms / each,
		objectRequests: (sum.requests + sum.rang) / each,
		workerRequests: workerRequests / each,
		// A line of many waits in one object at once, and is billed once.
		seconds: (waitSeconds + CALL_SECONDS * (sum.requests / callers)) / (waitSeconds > 0 ? each : times),
	};
}

const priceOf = ({ rows, objectRequests, workerRequests, seconds }: Bill): number =>
	rows * PRICES.row.each +
	objectRequests * PRICES.objectRequest.each +
	workerRequests * PRICES.workerRequest.each +
	seconds * PRICES.second.each;

/** A month by its operations: what the plan includes is not paid for. */
export function monthOf(parts: [times: number, bill: Bill][]): number {
	const sum = (of: (bill: Bill) => number): number => parts.reduce((all, [times, each]) => all + times * of(each), 0);
	const beyond = (amount: number, { each, included }: { each: number; included: number }): number =>
		Math.max(0, amount - included) * each;
	return (
		PRICES.plan +
		beyond(
			sum(({ rows }) => rows),
			PRICES.row,
		) +
		beyond(
			sum(({ objectRequests }) => objectRequests),
			PRICES.objectRequest,
		) +
		beyond(
			sum(({ workerRequests }) => workerRequests),
			PRICES.workerRequest,
		) +
		beyond(
			sum(({ seconds }) => seconds),
			PRICES.second,
		)
	);
}

const amount = (value: number): string => value.toFixed(value !== 0 && value < 0.1 ? 3 : 2).replace(/\.?0+$/, "");
const usd = (value: number): string => value.toFixed(2);

export async function costs({ short, progress }: Context): Promise<Report> {
	await using server = await freshServer({ config: `${import.meta.dirname}/costs/wrangler.toml` });
	const { url } = server;
	const bills = new Map<string, Bill>();
	const rows: string[][] = [];
	for (const operation of OPERATIONS) {
		for (const callers of short ? [1] : (operation.callers ?? CALLERS)) {
			progress(`${operation.name}, ${callers}`);
			const each = await bill(url, operation, callers);
			bills.set(`${operation.name} ${callers}`, each);
			rows.push([
				...[operation.name, String(callers), amount(each.rows), amount(each.alarms), amount(each.objectRequests)],
				...[amount(each.workerRequests), amount(each.seconds), usd(priceOf(each) * 1e6)],
			]);
		}
	}
	const of = (name: string, callers = 1): Bill => bills.get(`${name} ${short ? 1 : callers}`) as Bill;
	/** By a fixed window, and by a token bucket, which is nearer to a limit that decays. */
	const commands = (calls: number): string =>
		[2, 4].map((each) => usd(calls * each * PRICES.upstashCommand)).join(" or ");
	const months: [what: string, headgate: number, upstash: string, note: string][] = [
		[
			"An API, 10 million calls of 10,000 keys a day, each with a quota",
			monthOf([
				[10e6, of("grant by rate")],
				[300_000, of("key of a policy, used once, its end included")],
			]),
			commands(10e6),
			"2 commands a call by a fixed window, 4 by a token bucket",
		],
		[
			"1,000 workers that are always busy, on 50 limits: 4.3 million jobs of ten minutes, each renewed twice",
			monthOf([
				[4.3e6, of("acquire and release")],
				[8.6e6, of("renew")],
			]),
			"–",
			"it holds no slots",
		],
		[
			"A gateway to language models, 5 million calls by two limits each",
			monthOf([[5e6, of("two names: acquire and release")]]),
			commands(10e6),
			"the same twice; what the first took is spent when the second denies",
		],
	];
	const monthly = months.map(
		([what, headgate, upstash, note]) =>
			`- ${what}: ${usd(headgate)} USD; Upstash ${upstash} USD (${note}); Prefect's own server about ${PRICES.machine + PRICES.database} USD, for a machine of 4 GB and a database of 1 GB, as far as they carry.`,
	);
	return {
		title: "What it costs",
		notes: [
			`Each figure is of one operation; the price is of a million of them, with nothing included. Rows are those that statements write and one for each alarm that is set or deleted. Seconds are those of calls, counted as ${CALL_SECONDS * 1_000} ms each, and of waits. Prices as of ${READ_ON}: ${SOURCES}.`,
			`Typical months, the plan of ${PRICES.plan} USD and what it includes counted in:\n\n${monthly.join("\n")}`,
		],
		head: [
			"operation",
			"callers",
			"rows",
			"of these alarms",
			"calls of objects",
			"of the Worker",
			"seconds",
			"USD a million",
		],
		rows,
		targets: [],
	};
}
