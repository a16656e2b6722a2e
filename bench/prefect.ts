/**
 * `npm run bench:prefect`: the same Prefect client, as published, against Prefect's own server and against Headgate, on
 * this machine and one after the other. Headgate twice: polled, as an unchanged client does, and with the header that
 * lets it wait in line. Then the same program with Headgate's own Python client in its place. And once against next to
 * nothing, which shows what Prefect's client itself takes.
 */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { cpus, totalmem } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { pythonWith } from "../scripts/python.ts";
import { freshServer } from "../test/support/server.ts";
import { temporaryFolder } from "../test/support/temporary.ts";
import { handoffs } from "./handoffs.ts";
import { type Report, toText, write } from "./report.ts";

const document = path.resolve(import.meta.dirname, "../docs/benchmarks.md");
const program = path.resolve(import.meta.dirname, "prefect/worker.py");
const clients = path.resolve(import.meta.dirname, "../clients/python/src");

/** Each loads Prefect, which takes most of the time of the short form. */
const PROCESSES_OF = { full: 4, short: 2 };
const WAITERS = 20;
const LIMIT = 2;
const RATE = 10;
/** Processes of Python take this long to be ready. */
const START_SECONDS = { full: 12, short: 6 };
/** What is left out at the begin, while the bucket that was full at first empties. */
const SETTLE_SECONDS = 2;
/** Calls below the rate. */
const BELOW = { full: 80, short: 8 };
/** Long jobs end seldom, so several limits like the first are measured at once; each has its own waiters. */
const SCENES = [
	{ workSeconds: 0.1, limits: 1, seconds: 15 },
	{ workSeconds: 1, limits: 1, seconds: 25 },
	{ workSeconds: 10, limits: 4, seconds: 60 },
	{ workSeconds: 30, limits: 8, seconds: 100 },
];
type Scene = (typeof SCENES)[number];
const RATE_SECONDS = { full: 12, short: 3 };
/** In the short form only the shortest jobs, for so long. */
const SHORT_SECONDS = 3;

const { values } = parseArgs({
	options: {
		/** Lengths of jobs in seconds, with commas between them. */
		jobs: { type: "string", default: SCENES.map(({ workSeconds }) => workSeconds).join() },
		/** A moment of each, to see that it still runs. */
		short: { type: "boolean", default: false },
		write: { type: "boolean", default: false },
	},
});
if (values.short && values.write) throw new Error("Figures of the short form are none: leave --write out.");
const form = values.short ? "short" : "full";
const PROCESSES = PROCESSES_OF[form];
const lengths = values.jobs.split(",").map(Number);
const asked = SCENES.filter(({ workSeconds }) => lengths.includes(workSeconds));
const scenes = values.short ? asked.slice(0, 1).map((scene) => ({ ...scene, seconds: SHORT_SECONDS })) : asked;
if (asked.length < lengths.length) {
	throw new Error(
		`--jobs takes some of ${SCENES.map(({ workSeconds }) => workSeconds).join()}, and not "${values.jobs}".`,
	);
}

interface Side {
	name: string;
	api: string;
	env: Record<string, string>;
	/** It has no limits to create, and none by rate. */
	bare?: true;
}

interface Handoffs {
	jobs: number;
	/** In milliseconds, ascending. */
	waits: number[];
	failed: number;
}

interface Rated {
	/** Achieved for each that was configured. */
	rate: number;
	wronglyDenied: number;
	failed: number;
}

class Bench {
	readonly #python: string;
	readonly #home: string;

	constructor(python: string, home: string) {
		this.#python = python;
		this.#home = home;
	}

	async handoffs(side: Side, { workSeconds, limits, seconds }: Scene): Promise<Handoffs> {
		const names = Array.from({ length: limits }, newName);
		if (!side.bare) for (const name of names) await create(side, { name, limit: LIMIT });
		const { start, rows, failed } = await this.#run(side, names, seconds, workSeconds);
		const jobs = rows as Job[];
		const waits = names.flatMap((name) => {
			const own = jobs.filter(([of]) => of === name);
			return handoffs(
				own.map(([, began, ended]) => ({ began: began * 1_000, ended: ended * 1_000 })),
				LIMIT,
			);
		});
		// A job that began in time may end after it.
		const inTime = jobs.filter(([, , ended]) => ended <= start + seconds);
		if (waits.length === 0 && form === "full") throw new Error(`${side.name} handed nothing over within ${seconds} s.`);
		return { jobs: inTime.length / seconds, waits: waits.sort((a, b) => a - b), failed };
	}

	async rate(side: Side): Promise<Rated> {
		const name = newName();
		await create(side, { name, limit: RATE, slot_decay_per_second: RATE });
		const { start, rows, failed } = await this.#run(side, [name], RATE_SECONDS[form]);
		const from = start + SETTLE_SECONDS;
		const counted = rows.filter(([, at]) => (at as number) >= from && (at as number) < start + RATE_SECONDS[form]);
		const rate = counted.length / (RATE * (RATE_SECONDS[form] - SETTLE_SECONDS));
		return { rate, wronglyDenied: await belowTheRate(side), failed };
	}

	async #run({ api, env }: Side, names: string[], seconds: number, workSeconds?: number) {
		const start = Date.now() / 1_000 + START_SECONDS[form];
		const args = [program, names.join(","), WAITERS / PROCESSES, start, seconds, workSeconds ?? []].flat().map(String);
		const environment = { PREFECT_API_URL: api, PREFECT_HOME: this.#home, PREFECT_LOGGING_LEVEL: "CRITICAL", ...env };
		const all = await Promise.all(Array.from({ length: PROCESSES }, () => output(this.#python, args, environment)));
		const parsed = all.map((text) => JSON.parse(text) as { rows: unknown[][]; failed: number });
		return {
			start,
			rows: parsed.flatMap(({ rows }) => rows),
			failed: parsed.reduce((sum, each) => sum + each.failed, 0),
		};
	}
}

const newName = (): string => Math.random().toString(36).slice(2, 12);

const create = ({ api }: Side, body: object): Promise<number> => post(`${api}/v2/concurrency_limits/`, body);

type Job = [name: string, began: number, ended: number];

/** Asks a little less often than slots come back, in uneven steps: nothing of it may be denied. */
async function belowTheRate(side: Side): Promise<number> {
	const name = newName();
	await create(side, { name, limit: 5, slot_decay_per_second: RATE });
	let wronglyDenied = 0;
	for (let index = 0; index < BELOW[form]; index += 1) {
		const status = await post(`${side.api}/v2/concurrency_limits/increment`, {
			names: [name],
			slots: 1,
			mode: "rate_limit",
		});
		if (status === 423) wronglyDenied += 1;
		await sleep(index % 2 === 0 ? 90 : 130);
	}
	return wronglyDenied;
}

async function post(url: string, body: object): Promise<number> {
	const headers = { "Content-Type": "application/json" };
	const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
	await answer.text();
	return answer.status;
}

function output(file: string, args: string[], env: Record<string, string>): Promise<string> {
	return new Promise((resolve, reject) => {
		const own = Object.entries(process.env).filter(([key]) => !key.startsWith("PREFECT_"));
		const child = spawn(file, args, {
			...{ stdio: ["ignore", "pipe", "ignore"], timeout: 900_000 },
			env: { ...Object.fromEntries(own), ...env },
		});
		let text = "";
		child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
			text += chunk;
		});
		child.once("error", reject);
		child.once("close", (code) => (code === 0 ? resolve(text) : reject(new Error(`${args[1]} ended with ${code}`))));
	});
}

/** Prefect's own server as it comes, with its data in a folder of its own. */
async function prefectServer(python: string, home: string): Promise<{ api: string; child: ChildProcess }> {
	const port = await freePort();
	const prefect = path.join(path.dirname(python), "prefect");
	const env = { ...process.env, PREFECT_HOME: home, PREFECT_SERVER_ANALYTICS_ENABLED: "false" };
	const child = spawn(prefect, ["server", "start", "--host", "127.0.0.1", "--port", String(port)], {
		env,
		stdio: "ignore",
	});
	const api = `http://127.0.0.1:${port}/api`;
	for (let attempt = 0; attempt < 2_400; attempt += 1) {
		const answer = await fetch(`${api}/health`).catch(() => null);
		if (answer?.ok) return { api, child };
		await sleep(250);
	}
	child.kill("SIGKILL");
	throw new Error("Prefect's server did not start.");
}

function freePort(): Promise<number> {
	return new Promise((resolve) => {
		const server = createServer().listen(0, "127.0.0.1", () => {
			const address = server.address();
			server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
		});
	});
}

const quantile = (sorted: number[], q: number): number => sorted[Math.floor(q * (sorted.length - 1))] ?? Number.NaN;
const ms = (value: number): string => `${value < 100 ? value.toFixed(1) : Math.round(value).toLocaleString("en")} ms`;

function handoffReport(results: { scene: Scene; sides: [Side, Handoffs][] }[]): Report {
	const p50 = ({ waits }: Handoffs): number => quantile(waits, 0.5);
	const rows = results.flatMap(({ scene: { workSeconds, limits }, sides }) =>
		sides.map(([{ name }, measured]) => {
			const { jobs, waits, failed } = measured;
			const most = (LIMIT * limits) / workSeconds;
			return [
				...[`${workSeconds} s`, name, `${jobs.toFixed(1)} of ${most.toFixed(1)}`, String(waits.length)],
				...[ms(p50(measured)), ms(quantile(waits, 0.99)), String(failed)],
			];
		}),
	);
	return {
		title: "Prefect's client, on its own server and on Headgate: hand-off",
		notes: [
			`${PROCESSES} processes with ${WAITERS / PROCESSES} tasks each on a limit of ${LIMIT}; jobs of 10 s are measured on 4 such limits at once, and those of 30 s on 8. ` +
				"Jobs take a fifth more or less than their length. A hand-off is from the request that gives a slot back, as it is sent, to the first line of the next job; " +
				"what the client does before and after, new connections and threads, is its own time and lowers the jobs a second. Failed are jobs whose client raised anything but its timeout.",
			"The bare line is an object that hands a slot to the next waiter and does nothing else: no checks, no disk. Its hand-off is the client's own.",
		],
		head: ["jobs of", "server", "jobs/s", "hand-offs", "p50", "p99", "failed"],
		rows,
		targets: results.map(({ scene, sides }) => {
			const [own, , waits] = sides.map(([, measured]) => p50(measured)) as [number, number, number];
			return {
				...{
					what: `jobs of ${scene.workSeconds} s: hand-off p50, waiting in line`,
					aim: "at least 100 times shorter than Prefect's",
				},
				...{ measured: `${(own / waits).toFixed(0)} × shorter`, met: own / waits >= 100 },
			};
		}),
	};
}

function rateReport(results: [Side, Rated][]): Report {
	const [, , waits] = results.map(([, measured]) => measured) as [Rated, Rated, Rated];
	return {
		title: "Prefect's client, on its own server and on Headgate: rate",
		notes: [
			`The rate is that of a limit of ${RATE} slots that decay at ${RATE} a second, asked for by ${WAITERS} tasks without a pause, from ${SETTLE_SECONDS} s on. Below it, one caller asks 9.1 times a second for slots that come back 10 times a second: every denial is wrong.`,
		],
		head: ["server", "achieved / configured rate", "wrongly denied", "failed"],
		rows: results.map(([{ name }, { rate, wronglyDenied, failed }]) => [
			...[name, rate.toFixed(3), `${wronglyDenied} of ${BELOW[form]}`, String(failed)],
		]),
		targets: [
			{
				...{ what: "achieved rate, waiting in line", aim: "at least 0.99 of the configured one" },
				...{ measured: waits.rate.toFixed(3), met: waits.rate >= 0.99 },
			},
			{
				...{ what: "wrongly denied, waiting in line", aim: "none" },
				...{ measured: String(waits.wronglyDenied), met: waits.wronglyDenied === 0 },
			},
		],
	};
}

function machine(python: string): string {
	const wrangler = createRequire(import.meta.url).resolve("wrangler/package.json");
	const { version } = createRequire(wrangler)("workerd/package.json") as { version: string };
	const prefect = execFileSync(python, ["-c", "import importlib.metadata as m; print(m.version('prefect'))"]);
	const all = cpus();
	const memory = Math.round(totalmem() / 2 ** 30);
	const today = new Date().toISOString().slice(0, 10);
	return `${all[0]?.model.trim()}, ${all.length} cores, ${memory} GB, Prefect ${String(prefect).trim()} on SQLite, workerd ${version}, ${today}`;
}

async function main(): Promise<void> {
	const python = pythonWith("test/prefect/requirements.txt");
	await using home = await temporaryFolder();
	await using headgate = await freshServer();
	await using line = await freshServer({ config: `${import.meta.dirname}/line/wrangler.toml` });
	const own = await prefectServer(python, home.path);
	const bench = new Bench(python, home.path);
	try {
		const sides: Side[] = [
			{ name: "Prefect's own", api: own.api, env: {} },
			{ name: "Headgate, polled", api: `${headgate.url}/api`, env: {} },
			{
				...{ name: "Headgate, `Prefer: wait`", api: `${headgate.url}/api` },
				env: { PREFECT_CLIENT_CUSTOM_HEADERS: '{"Prefer": "wait=30"}' },
			},
			{
				...{ name: "Headgate, its own client", api: `${headgate.url}/api` },
				env: { BENCH_CLIENT: "headgate", HEADGATE_URL: headgate.url, PYTHONPATH: clients },
			},
		];
		const bare: Side = { name: "a bare line", api: `${line.url}/api`, env: {}, bare: true };
		const results: { scene: Scene; sides: [Side, Handoffs][] }[] = [];
		for (const scene of scenes) {
			const measured: [Side, Handoffs][] = [];
			for (const side of [...sides, bare]) {
				process.stderr.write(`jobs of ${scene.workSeconds} s, ${side.name}\n`);
				measured.push([side, await bench.handoffs(side, scene)]);
			}
			results.push({ scene, sides: measured });
		}
		const rates: [Side, Rated][] = [];
		for (const side of sides) {
			process.stderr.write(`rate, ${side.name}\n`);
			rates.push([side, await bench.rate(side)]);
		}
		const how = `Measured with \`npm run bench:prefect -- --write\` on ${machine(python)}.`;
		for (const [section, report] of [
			["prefect", handoffReport(results)],
			["prefect-rate", rateReport(rates)],
		] as const) {
			process.stdout.write(`\n${toText(values.short ? { ...report, targets: [] } : report)}\n`);
			if (values.write) write(document, section, report, how);
		}
	} finally {
		own.child.kill("SIGKILL");
	}
}

await main();
