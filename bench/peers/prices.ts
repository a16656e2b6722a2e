/** What a million grants cost with each, by arithmetic: nothing is measured here. */

import { type Bill, CALL_SECONDS, monthOf, PRICES, READ_ON, SOURCES } from "../costs.ts";
import type { Report } from "../report.ts";
import { linesOf } from "./plot.ts";

/** Calls a second in the mean of a month. */
const RATES = [1, 10, 100, 1_000];
const MONTH_SECONDS = 365.25 * 86_400 * (1 / 12);

const cloudflare =
	(rows: number, objectRequests: number) =>
	(calls: number): number => {
		const bill: Bill = { rows, alarms: 0, objectRequests, workerRequests: 1, seconds: objectRequests * CALL_SECONDS };
		return monthOf([[calls, bill]]);
	};
const upstash =
	(commands: number) =>
	(calls: number): number =>
		calls * commands * PRICES.upstashCommand;
const machine =
	(usd: number) =>
	(_calls: number): number =>
		usd;

/** Of each, the price of a month with so many calls, and what it is made of. */
const PEERS: { name: string; month: (calls: number) => number; what: string }[] = [
	{
		name: "Headgate, calls one by one",
		month: cloudflare(1, 1),
		what: "a row, a call of an object, one of the Worker",
	},
	{
		...{ name: "Headgate, 32 calls at once", month: cloudflare(0.19, 1) },
		what: "0.19 rows, a call of an object, one of the Worker",
	},
	{
		...{ name: "Headgate, `lendSeconds`", month: cloudflare(0.002, 0.003) },
		what: "0.002 rows, 0.003 calls of an object, one of the Worker",
	},
	{ name: "hono-rate-limiter", month: cloudflare(1, 1), what: "a row, a call of an object, one of the Worker" },
	{
		...{ name: "a Durable Object, as documented", month: cloudflare(0, 1) },
		what: "a call of an object, one of the Worker; its alarms not counted",
	},
	{ name: "@upstash/ratelimit on Upstash, fixed", month: upstash(2), what: "2 commands" },
	{ name: "@upstash/ratelimit on Upstash, sliding or bucket", month: upstash(4), what: "4 commands" },
	{
		...{ name: "any library on a Redis of one's own", month: machine(PRICES.machine) },
		what: `a machine at ${PRICES.machine} USD a month`,
	},
	{ name: "gubernator", month: machine(PRICES.machine), what: `a machine at ${PRICES.machine} USD a month` },
	{
		...{ name: "Prefect's server", month: machine(PRICES.machine + PRICES.database) },
		what: `a machine and a database at ${PRICES.machine + PRICES.database} USD a month`,
	},
];

export function prices(): Report {
	const million = (month: (calls: number) => number, perSecond: number): number => {
		const calls = perSecond * MONTH_SECONDS;
		return (month(calls) / calls) * 1e6;
	};
	const [{ month: own }] = PEERS as [(typeof PEERS)[number]];
	const usd = (value: number): string => value.toFixed(value < 0.1 ? 3 : 2);
	return {
		title: "What a million grants cost",
		notes: [
			`USD a million, at so many calls a second in the mean of a month; of Cloudflare with the plan of ${PRICES.plan} USD and what it includes, counted as in [costs](costs.md). Prices as of ${READ_ON}: ${SOURCES}. Whether a machine carries so many calls, and what a second one for its failure costs, is not in it.`,
		],
		head: [
			"",
			"of a grant",
			...RATES.map((rate) => `${rate.toLocaleString("en")}/s`),
			"at 100/s, of Headgate's one by one",
		],
		rows: PEERS.map(({ name, month, what }) => [
			...[name, what, ...RATES.map((rate) => usd(million(month, rate)))],
			`${(million(month, 100) / million(own, 100)).toFixed(2)} ×`,
		]),
		targets: [],
		draw: () =>
			linesOf(
				"prices",
				["calls a second, in the mean of a month", "USD a million"],
				PEERS.map(({ name, month }) => ({ name, points: RATES.map((rate) => ({ x: rate, y: million(month, rate) })) })),
			),
	};
}
