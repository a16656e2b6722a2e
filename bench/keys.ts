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
const IDLE_SECONDS = 30;
const POLICY = { limit: 5, slotDecayPerSecond: 100_000, idleSeconds: IDLE_SECONDS };
/** First uses that are timed one after the other. */
const TIMED = 500;
const CALLERS = 16;
/** An object is put out of memory after ten idle seconds; its files are at their smallest then. */
const GONE_WITHIN_MS = 300_000;
/** What workerd leaves on its disk of an object that deleted everything: an empty file. */
const EMPTY_BYTES = 4_096;

export async function keys({ keys: count, progress }: Context): Promise<Report> {
	await using server = await freshServer();
	await once(server.url, "PUT", "/v1/policies/key:*", POLICY);
	await once(server.url, "PUT", "/v1/limits/configured", POLICY_SETTINGS);

	progress(`${TIMED} first uses, one after the other`);
	const warmUp = await useInTurn(server, (n) => `key:warm-up-${n}`);
	const cold = await useInTurn(server, (n) => `key:cold-${n}`);
	const warm = await useInTurn(server, () => "key:cold-1");
	const configured = await useInTurn(server, () => "configured");
	void warmUp;

	progress(`${count} keys, used once each`);
	const directoryBefore = bytesOf(server, "DirectoryObject").total;
	const startedAt = performance.now();
	await useAll(server, count);
	const usedMs = performance.now() - startedAt;
	const atPeak = bytesOf(server, "LimitObject");

	progress("until they are gone");
	const left = await untilGone(server);
	const goneMs = performance.now() - startedAt - usedMs;
	const directoryAfter = bytesOf(server, "DirectoryObject").total;
	const listed = await once<{ limits: unknown[] }>(server.url, "GET", "/v1/limits?prefix=key:");

	const ratio = cold.p50 / warm.p50;
	const row = (label: string, { p50, p99, writes, bytes }: Turns): string[] => [
		...[label, milliseconds(p50), milliseconds(p99), writes.toFixed(1), bytes.toFixed(0)],
	];
	return {
		title: "Keys of a policy",
		notes: [
			`${count.toLocaleString("en")} keys by ${CALLERS} callers took ${seconds(usedMs)}: ${perSecond((count / usedMs) * 1_000)} a second. ` +
				`At the last of them the limits had ${megabytes(atPeak.total)} on disk in ${atPeak.live.toLocaleString("en")} databases that were not empty; some were gone already. ` +
				`${seconds(goneMs)} later all had deleted themselves (idle time ${IDLE_SECONDS} s; ${CALLERS} callers' keys and those of the first table alike). ` +
				`What is left is workerd's own: an empty file of ${EMPTY_BYTES.toLocaleString("en")} bytes for each name. ` +
				`The directory had ${kilobytes(directoryBefore)} before and ${kilobytes(directoryAfter)} after: its folder, with the ledgers of the metrics and write-ahead logs; no key has a row.`,
			"Writes are system calls of the whole server that write, HTTP's one included; a first use opens a database, makes its table and sets its alarm.",
		],
		head: ["use", "p50", "p99", "writes", "bytes written"],
		rows: [
			row("first, of a key", cold),
			row("later, of the same key", warm),
			row("of a limit that was configured", configured),
		],
		targets: [
			{ what: "first use: p50", aim: "at most 10 × a later one", measured: times(ratio), met: ratio <= 10 },
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

const { idleSeconds: _, ...POLICY_SETTINGS } = POLICY;

interface Turns {
	p50: number;
	p99: number;
	/** System calls that write, and their bytes, a call. */
	writes: number;
	bytes: number;
}

const use = (name: string): string => request("POST", "/v1/acquire", { names: name, mode: "rate_limit" });

async function useInTurn(server: FreshServer, name: (n: number) => string): Promise<Turns> {
	const connection = await Connection.open(server.url);
	const taken: number[] = [];
	const before = written(server.pid);
	for (let n = 1; n <= TIMED; n += 1) {
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
		writes: (after.calls - before.calls) / TIMED,
		bytes: (after.bytes - before.bytes) / TIMED,
	};
}

async function useAll(server: FreshServer, count: number): Promise<void> {
	let next = 0;
	const caller = async (): Promise<void> => {
		const connection = await Connection.open(server.url);
		while (next < count) {
			next += 1;
			const { status, body } = await connection.call(use(`key:${next}`));
			if (status !== 200) throw new Error(`answered ${status}: ${body}`);
		}
		connection.close();
	};
	await Promise.all(Array.from({ length: CALLERS }, caller));
}

/** Waits until no key has anything stored, and answers how many have. */
async function untilGone(server: FreshServer): Promise<number> {
	const endsAt = performance.now() + GONE_WITHIN_MS;
	for (;;) {
		// The limit that was configured stays.
		const left = bytesOf(server, "LimitObject").live - 1;
		if (left <= 0 || performance.now() > endsAt) return Math.max(0, left);
		await sleep(1_000);
	}
}

/** What the objects of a class have on disk, and how many of them anything at all. */
function bytesOf(server: FreshServer, className: string): { total: number; live: number } {
	const folder = path.join(server.data, "objects", `headgate-${className}`);
	let total = 0;
	let live = 0;
	for (const file of readdirSync(folder)) {
		// A file may go between the two.
		const size = statSync(path.join(folder, file), { throwIfNoEntry: false })?.size ?? 0;
		total += size;
		const isWritten = file.endsWith(".sqlite-wal") ? size > 0 : file.endsWith(".sqlite") && size > EMPTY_BYTES;
		if (isWritten && !file.startsWith("metadata")) live += 1;
	}
	return { total, live };
}

function written(pid: number): { calls: number; bytes: number } {
	const text = readFileSync(`/proc/${pid}/io`, "utf8");
	const of = (field: string): number => Number(new RegExp(`^${field}: (\\d+)$`, "m").exec(text)?.[1]);
	return { calls: of("syscw"), bytes: of("wchar") };
}

const megabytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MB`;
const kilobytes = (bytes: number): string => `${(bytes / 2 ** 10).toFixed(0)} kB`;
