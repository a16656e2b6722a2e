/**
 * Keys of a policy: what the first use of a name costs beside a later one, and a hundred thousand names that are used
 * once each, from their first use until nothing is left of them.
 */

import { readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type FreshServer, freshServer } from "../test/support/server.ts";
import type { Context } from "./context.ts";
import { Connection, once, request } from "./http.ts";
import { ascending, milliseconds, percentile, perSecond, seconds, times } from "./numbers.ts";
import type { Report } from "./report.ts";

/** How long a key is kept once it is idle and empty. */
const IDLE_SECONDS = { full: 30, short: 2 };
const SETTINGS = { limit: 5, slotDecayPerSecond: 100_000 };
/** First uses that are timed one after the other. */
const TIMED = { full: 500, short: 20 };
const CALLERS = 16;
/** An object is put out of memory after ten idle seconds; its files are at their smallest then. The short form has no time for it. */
const GONE_WITHIN_MS = { full: 600_000, short: 0 };
/** How often it is said how far the many have come. */
const PROGRESS_MS = 30_000;
/** How often it is looked whether they are gone: looking reads a folder of a file a key. */
const LOOK_MS = 2_000;
/** What workerd leaves on its disk of an object that deleted everything: an empty file. */
const EMPTY_BYTES = 4_096;

export async function keys({ keys: count, short, progress }: Context): Promise<Report> {
	const form = short ? "short" : "full";
	const idleSeconds = IDLE_SECONDS[form];
	const timed = TIMED[form];
	await using server = await freshServer();
	await using bare = await freshServer({ config: `${import.meta.dirname}/bare/wrangler.toml` });
	await once(server.url, "PUT", "/v1/policies/key:*", { ...SETTINGS, idleSeconds });
	await once(server.url, "PUT", "/v1/limits/configured", SETTINGS);

	progress(`${timed} first uses, one after the other`);
	await useInTurn(server, timed, (n) => `key:warm-up-${n}`);
	await useInTurn(bare, timed, (n) => `warm-up-${n}`);
	const cold = await useInTurn(server, timed, (n) => `key:cold-${n}`);
	const bareCold = await useInTurn(bare, timed, (n) => `cold-${n}`);
	const warm = await useInTurn(server, timed, () => "key:cold-1");
	const bareWarm = await useInTurn(bare, timed, () => "cold-1");
	const configured = await useInTurn(server, timed, () => "configured");

	progress(`${count} keys, used once each`);
	const directoryBefore = bytesOf(server, "DirectoryObject");
	const startedAt = performance.now();
	const peak = { total: 0, live: 0 };
	const look = setInterval(() => {
		const { total, live } = bytesOf(server, "LimitObject");
		if (live > peak.live) Object.assign(peak, { total, live });
	}, PROGRESS_MS);
	await useAll(server, count, progress);
	const usedMs = performance.now() - startedAt;

	progress("until they are gone");
	const left = await untilGone(server, GONE_WITHIN_MS[form]);
	clearInterval(look);
	const goneMs = performance.now() - startedAt - usedMs;
	const directoryAfter = bytesOf(server, "DirectoryObject");
	const listed = await once<{ limits: unknown[] }>(server.url, "GET", "/v1/limits?prefix=key:");

	const row = (label: string, { p50, p99, writes, bytes }: Turns): string[] => [
		...[label, milliseconds(p50), milliseconds(p99), writes.toFixed(1), bytes.toFixed(0)],
	];
	return {
		title: "Keys of a policy",
		notes: [
			`${count.toLocaleString("en")} keys by ${CALLERS} callers took ${seconds(usedMs)}: ${perSecond((count / usedMs) * 1_000)} a second. ` +
				`They go while others come: at most ${peak.live.toLocaleString("en")} were seen on disk at once, with ${megabytes(peak.total)}. ` +
				`${seconds(goneMs)} after the last of them ${left === 0 ? "all" : `all but ${left}`} had deleted themselves (idle time ${idleSeconds} s; those of the first table too). ` +
				`What is left is workerd's own: an empty file of ${EMPTY_BYTES.toLocaleString("en")} bytes for each name. ` +
				`The databases of the directory and of the metrics' sums had ${kilobytes(directoryBefore.databases)} before and ${kilobytes(directoryAfter.databases)} after, ` +
				`with their write-ahead logs ${kilobytes(directoryBefore.total)} and ${kilobytes(directoryAfter.total)}: no key has a row.`,
			"Writes are system calls of the whole server that write, HTTP's one included; a first use opens a database, makes its table and sets its alarm.",
			"The bare counter is the one of the first section: an object with one table of one row, and no alarm.",
		],
		head: ["use", "p50", "p99", "writes", "bytes written"],
		rows: [
			row("first, of a key", cold),
			row("later, of the same key", warm),
			row("of a limit that was configured", configured),
			row("first, of a bare counter", bareCold),
			row("later, of the same counter", bareWarm),
		],
		targets: [
			{
				what: "first use: p50",
				aim: "at most 10 × a later one",
				measured: times(cold.p50 / warm.p50),
				met: cold.p50 <= 10 * warm.p50,
			},
			{
				what: "first use: p50",
				aim: "at most 2 × a bare counter's",
				measured: times(cold.p50 / bareCold.p50),
				met: cold.p50 <= 2 * bareCold.p50,
			},
			{ what: "keys left after their idle time", aim: "none", measured: String(left), met: left === 0 },
			{
				what: "keys in the directory",
				aim: "none",
				measured: String(listed.limits.length),
				met: listed.limits.length === 0,
			},
		],
	};
}

interface Turns {
	p50: number;
	p99: number;
	/** System calls that write, and their bytes, a call. */
	writes: number;
	bytes: number;
}

const use = (name: string): string => request("POST", "/v1/acquire", { names: name, occupy: 1, mode: "rate_limit" });

async function useInTurn(server: FreshServer, count: number, name: (n: number) => string): Promise<Turns> {
	const connection = await Connection.open(server.url);
	const taken: number[] = [];
	const before = written(server.pid);
	for (let n = 1; n <= count; n += 1) {
		const bytes = use(name(n));
		const sentAt = performance.now();
		const { status, body } = await connection.call(bytes);
		taken.push(performance.now() - sentAt);
		if (status !== 200) throw new Error(`answered ${status}: ${body}`);
	}
	const after = written(server.pid);
	connection.close();
	const sorted = ascending(taken);
	return {
		p50: percentile(sorted, 0.5),
		p99: percentile(sorted, 0.99),
		writes: (after.calls - before.calls) / count,
		bytes: (after.bytes - before.bytes) / count,
	};
}

async function useAll(server: FreshServer, count: number, progress: Context["progress"]): Promise<void> {
	let next = 0;
	const said = setInterval(() => progress(`${next.toLocaleString("en")} used`), PROGRESS_MS);
	const caller = async (): Promise<void> => {
		const connection = await Connection.open(server.url);
		while (next < count) {
			next += 1;
			const { status, body } = await connection.call(use(`key:${next}`));
			if (status !== 200) throw new Error(`answered ${status}: ${body}`);
		}
		connection.close();
	};
	try {
		await Promise.all(Array.from({ length: CALLERS }, caller));
	} finally {
		clearInterval(said);
	}
}

/** Waits until no key has anything stored, and answers how many have. */
async function untilGone(server: FreshServer, withinMs: number): Promise<number> {
	const endsAt = performance.now() + withinMs;
	for (;;) {
		// The limit that was configured stays.
		const left = bytesOf(server, "LimitObject").live - 1;
		if (left <= 0 || performance.now() > endsAt) return Math.max(0, left);
		await sleep(LOOK_MS);
	}
}

/** What the objects of a class have on disk, how much of it is no log, and how many of them have anything at all. */
function bytesOf(server: FreshServer, className: string): { total: number; databases: number; live: number } {
	const folder = path.join(server.data, "objects", `headgate-${className}`);
	let total = 0;
	let databases = 0;
	let live = 0;
	for (const file of readdirSync(folder)) {
		// A file may go between the two.
		const size = statSync(path.join(folder, file), { throwIfNoEntry: false })?.size ?? 0;
		total += size;
		if (file.endsWith(".sqlite")) databases += size;
		const isWritten = file.endsWith(".sqlite-wal") ? size > 0 : file.endsWith(".sqlite") && size > EMPTY_BYTES;
		if (isWritten && !file.startsWith("metadata")) live += 1;
	}
	return { total, databases, live };
}

function written(pid: number): { calls: number; bytes: number } {
	const text = readFileSync(`/proc/${pid}/io`, "utf8");
	const of = (field: string): number => Number(new RegExp(`^${field}: (\\d+)$`, "m").exec(text)?.[1]);
	return { calls: of("syscw"), bytes: of("wchar") };
}

const megabytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MB`;
const kilobytes = (bytes: number): string => `${(bytes / 2 ** 10).toFixed(0)} kB`;
