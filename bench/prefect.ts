/**
 * `npm run bench:prefect`: the same Prefect client, as published, against Prefect's own server and against Headgate, on
 * this machine and one after the other. Headgate twice: polled, as an unchanged client does, and with the header that
 * lets it wait in line.
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
import { type Report, toText, write } from "./report.ts";

const document = path.resolve(import.meta.dirname, "../docs/benchmarks.md");
const program = path.resolve(import.meta.dirname, "prefect/worker.py");

const PROCESSES = 4;
const WAITERS = 20;
const LIMIT = 2;
const WORK_MS = 100;
const RATE = 10;
/** Processes of Python take this long to be ready. */
const START_SECONDS = 12;
/** What is left out at the begin, while the bucket that was full at first empties. */
const SETTLE_SECONDS = 2;

const { values } = parseArgs({
	options: { seconds: { type: "string", default: "12" }, write: { type: "boolean", default: false } },
});
const SECONDS = Number(values.seconds);

interface Side {
	name: string;
	api: string;
	env: Record<string, string>;
}

interface Measured {
	jobs: number;
	handoffs: number[];
	rate: number;
	wronglyDenied: number;
	failed: number;
}

async function measure(python: string, home: string, { api, env }: Side): Promise<Measured> {
	const unique = Math.random().toString(36).slice(2);
	const create = (body: object) => post(`${api}/v2/concurrency_limits/`, body);
	await create({ name: `hold-${unique}`, limit: LIMIT });
	await create({ name: `rate-${unique}`, limit: RATE, slot_decay_per_second: RATE });
	const run = async (scene: "hold" | "rate", tasks: number) => {
		const start = Date.now() / 1_000 + START_SECONDS;
		const args = [program, scene, `${scene}-${unique}`, String(start), String(SECONDS), String(tasks / PROCESSES)];
		const environment = { PREFECT_API_URL: api, PREFECT_HOME: home, PREFECT_LOGGING_LEVEL: "CRITICAL", ...env };
		const all = await Promise.all(Array.from({ length: PROCESSES }, () => output(python, args, environment)));
		const parsed = all.map((text) => JSON.parse(text) as { rows: number[][]; failed: number });
		return {
			start,
			rows: parsed.flatMap(({ rows }) => rows),
			failed: parsed.reduce((sum, each) => sum + each.failed, 0),
		};
	};
	const hold = await run("hold", WAITERS);
	const rate = await run("rate", WAITERS);
	const counted = rate.rows.filter(([at = 0]) => at >= rate.start + SETTLE_SECONDS && at < rate.start + SECONDS);
	const { wronglyDenied } = await belowTheRate(api, unique);
	return {
		jobs: hold.rows.length / SECONDS,
		handoffs: handoffs(hold.rows as [number, number][]),
		rate: counted.length / (RATE * (SECONDS - SETTLE_SECONDS)),
		wronglyDenied,
		failed: hold.failed + rate.failed,
	};
}

/** From a slot's being given back to the start of the next job on it, for each time that the limit was no longer full. */
function handoffs(jobs: [number, number][]): number[] {
	const edges = jobs.flatMap(([began, ended]) => [
		{ at: began, step: 1 },
		{ at: ended, step: -1 },
	]);
	edges.sort((a, b) => a.at - b.at || a.step - b.step);
	const free: number[] = [];
	const waits: number[] = [];
	let inside = 0;
	for (const { at, step } of edges) {
		inside += step;
		if (step < 0) free.push(at);
		else if (inside <= LIMIT && free.length > 0) waits.push((at - (free.shift() as number)) * 1_000);
	}
	return waits.sort((a, b) => a - b);
}

/** Asks a little less often than slots come back, in uneven steps: nothing of it may be denied. */
async function belowTheRate(api: string, unique: string): Promise<{ wronglyDenied: number }> {
	const name = `below-${unique}`;
	await post(`${api}/v2/concurrency_limits/`, { name, limit: 5, slot_decay_per_second: RATE });
	let wronglyDenied = 0;
	for (let index = 0; index < 80; index += 1) {
		const status = await post(`${api}/v2/concurrency_limits/increment`, {
			names: [name],
			slots: 1,
			mode: "rate_limit",
		});
		if (status === 423) wronglyDenied += 1;
		await sleep(index % 2 === 0 ? 90 : 130);
	}
	return { wronglyDenied };
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
			...{ stdio: ["ignore", "pipe", "ignore"], timeout: 120_000 },
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
	for (let attempt = 0; attempt < 240; attempt += 1) {
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

function report(results: [Side, Measured][]): Report {
	const rows = results.map(([{ name }, { jobs, handoffs, rate, wronglyDenied, failed }]) => [
		...[name, jobs.toFixed(1), ms(quantile(handoffs, 0.5)), ms(quantile(handoffs, 0.99))],
		...[rate.toFixed(3), `${wronglyDenied} of 80`, String(failed)],
	]);
	const [own, , waits] = results.map(([, measured]) => measured) as [Measured, Measured, Measured];
	const p50 = quantile(own.handoffs, 0.5) / quantile(waits.handoffs, 0.5);
	const most = (LIMIT * 1_000) / WORK_MS;
	return {
		title: "Prefect's client, on its own server and on Headgate",
		notes: [
			`${PROCESSES} processes with ${WAITERS / PROCESSES} tasks each. Jobs of ${WORK_MS} ms through a limit of ${LIMIT}: at most ${most} a second could run. A hand-off is from the request that gives a slot back, as it is sent, to the first line of the next job; what the client does before and after, new connections and threads, is its own time and lowers the jobs a second. The rate is that of a limit of ${RATE} slots that decay at ${RATE} a second, asked for by ${WAITERS} tasks without a pause, from ${SETTLE_SECONDS} s on. Below it, one caller asks 9.1 times a second for slots that come back 10 times a second: every denial is wrong. Failed are jobs whose client raised anything but its timeout.`,
		],
		head: ["server", "jobs/s", "hand-off p50", "p99", "achieved / configured rate", "wrongly denied", "failed"],
		rows,
		targets: [
			{
				...{ what: "hand-off p50, waiting in line", aim: "at least 100 times shorter than Prefect's" },
				...{ measured: `${p50.toFixed(0)} × shorter`, met: p50 >= 100 },
			},
			{
				...{ what: "achieved rate, waiting in line", aim: "at least 0.99 of the configured one" },
				...{ measured: waits.rate.toFixed(3), met: waits.rate >= 0.99 },
			},
			{
				...{
					what: "wrongly denied",
					aim: "none",
					measured: String(waits.wronglyDenied),
					met: waits.wronglyDenied === 0,
				},
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
	const own = await prefectServer(python, home.path);
	try {
		const wait = { PREFECT_CLIENT_CUSTOM_HEADERS: '{"Prefer": "wait=30"}' };
		const sides: Side[] = [
			{ name: "Prefect's own", api: own.api, env: {} },
			{ name: "Headgate, polled", api: `${headgate.url}/api`, env: {} },
			{ name: "Headgate, `Prefer: wait`", api: `${headgate.url}/api`, env: wait },
		];
		const results: [Side, Measured][] = [];
		for (const side of sides) {
			process.stderr.write(`${side.name}\n`);
			results.push([side, await measure(python, home.path, side)]);
		}
		const made = report(results);
		process.stdout.write(`\n${toText(made)}\n`);
		const how = `Measured with \`npm run bench:prefect -- --write\` on ${machine(python)}.`;
		if (values.write) write(document, "prefect", made, how);
	} finally {
		own.child.kill("SIGKILL");
	}
}

await main();
