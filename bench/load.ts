/**
 * The load generator, in a process of its own so that it does not share a thread with anything that is measured. It
 * lives for the whole run: a generator that is still being compiled measures its own start.
 */

import { Connection, request } from "./http.ts";
import { percentile } from "./numbers.ts";

/** What to send. Each caller sends its next call when the last was answered. */
export interface Load {
	url: string;
	callers: number;
	/** Not counted. */
	warmUpMs: number;
	ms: number;
	/** The status that every call is answered with. Default 200. */
	status?: number;
	/** The calls of one turn, in this order. `{id}` in a body is replaced by an id that is new in each turn. */
	calls: { path: string; body: Record<string, unknown> }[];
}

export interface LoadResult {
	/** Turns a second. */
	perSecond: number;
	/** Of whole turns, in milliseconds. */
	p50: number;
	p99: number;
	/** Turns in all, those of the warm-up included. */
	turns: number;
	/** How busy the generator itself was, 1 being one core. Near 1 it is what was measured. */
	generatorCpu: number;
}

async function run({ url, callers, warmUpMs, ms, calls, status: expected = 200 }: Load): Promise<LoadResult> {
	const connections = await Promise.all(Array.from({ length: callers }, () => Connection.open(url)));
	const made = calls.map(({ path, body }) => {
		// Ids have one length, so that the bytes can be cut once and glued for each call.
		const parts = request("POST", path, JSON.parse(JSON.stringify(body).replace("{id}", ID_SPACE))).split(ID_SPACE);
		return parts.length === 1 ? () => parts[0] as string : (id: string) => `${parts[0]}${id}${parts[1]}`;
	});
	const times: number[] = [];
	let turns = 0;
	const from = performance.now() + warmUpMs;
	const until = from + ms;
	let lastAt = until;
	let cpu = process.cpuUsage();
	const started = setTimeout(() => {
		cpu = process.cpuUsage();
	}, warmUpMs);
	const caller = async (connection: Connection): Promise<void> => {
		for (;;) {
			const sentAt = performance.now();
			// A machine that stalls may answer nothing in so short a time: at least one turn is measured.
			if (sentAt >= until && times.length > 0) return;
			const id = nextId();
			for (const make of made) {
				const { status, body } = await connection.call(make(id));
				if (status !== expected) throw new Error(`answered ${status}: ${body}`);
			}
			turns += 1;
			const now = performance.now();
			if (sentAt >= from && (now < until || times.length === 0)) {
				times.push(now - sentAt);
				lastAt = Math.max(until, now);
			}
		}
	};
	try {
		await Promise.all(connections.map(caller));
	} finally {
		clearTimeout(started);
		for (const connection of connections) connection.close();
	}
	const { user, system } = process.cpuUsage(cpu);
	times.sort((a, b) => a - b);
	return {
		turns,
		perSecond: (times.length / (lastAt - from)) * 1_000,
		p50: percentile(times, 0.5),
		p99: percentile(times, 0.99),
		generatorCpu: (user + system) / 1_000 / (lastAt - from),
	};
}

const ID_SPACE = "0".repeat(20);
const run36 = Date.now().toString(36);
let ids = 0;

/** Unlike any other of this run or an earlier one. */
const nextId = (): string => {
	ids += 1;
	return `b${run36}`.padEnd(10, "-") + ids.toString(36).padStart(10, "0");
};

process.once("disconnect", () => process.exit());
process.on("message", async (load: Load) => {
	try {
		process.send?.({ result: await run(load) });
	} catch (error) {
		process.send?.({ error: String(error) });
	}
});
