/**
 * As many waiters and held streams on one server as it may have: what each costs, what others notice of them, and what is left when
 * they are gone; a line that is full; twenty thousand names; and a long mixed load.
 */

import { execFileSync, fork } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { BOUNDS, type LimitSummary } from "../src/protocol.ts";
import { freshServer } from "../test/support/server.ts";
import type { Bundles } from "./bundles.ts";
import type { Context } from "./context.ts";
import type { Crowd } from "./crowd.ts";
import { Connection, once, request } from "./http.ts";
import { ascending, milliseconds, percentile, perSecond, seconds } from "./numbers.ts";
import { Probe, residentKb } from "./probe.ts";
import type { Report } from "./report.ts";
import { newsOf } from "./waiters.ts";

/** One holds for four that wait; who holds comes a hundred to a connection, for want of descriptors. */
const HELD_EACH = 1 / 4;
/** workerd uses two descriptors for a connection, and refuses callers from this share of what it may have on. */
const DESCRIPTORS_EACH = 2;
const DESCRIPTORS_WANTED = 65_536;
const WAIT_MS = 10_000;
const CALLERS = 16;
const REFUSALS = 200;
/** As many names as are asked for, and no more than this. */
const NAMES_MOST = 20_000;
/** The mixed load lasts for so many of the stretches for which other things are measured: ten minutes, where they last two seconds. */
const MIXED_SLICES = 300;
const MIXED_SHORT_MS = 2_000;
const MIXED_NAMES = 60;
/** Nothing that works takes as long. */
const PATIENCE_MS = 180_000;

type Row = string[];

export async function capacity(context: Context): Promise<Report> {
	const descriptors = raise();
	const { short, progress } = context;
	await using server = await freshServer({ config: `${import.meta.dirname}/bundle/wrangler.toml` });
	await using bare = await freshServer({ config: `${import.meta.dirname}/bare/wrangler.toml` });
	const room = Math.floor((descriptors * BOUNDS.descriptorShare) / DESCRIPTORS_EACH) - 500;
	const waiting = Math.min(context.waiters, room);
	const held = Math.floor(waiting * HELD_EACH);
	const megabytes = (): string => `${Math.round(residentKb(server.pid) / 1_024)} MB`;
	const probes = { health: await Probe.start(server.url), bare: await Probe.start(bare.url) };
	const rows: Row[] = [];
	const seen = (what: string, took: number): void => {
		const [health, idle] = [probes.health.take(), probes.bare.take()];
		const shown = [health, idle].map((times) => milliseconds(percentile(times, 0.99)));
		rows.push([what, seconds(took), shown[0] as string, shown[1] as string, megabytes()]);
	};
	const timed = async (what: string, work: () => Promise<unknown>): Promise<void> => {
		progress(what);
		const startedAt = performance.now();
		await work();
		seen(what, performance.now() - startedAt);
	};
	try {
		await once(server.url, "PUT", "/v1/limits/held", { limit: 1_000_000 });
		await once(server.url, "PUT", "/v1/limits/crowded", { limit: 1 });
		await once(server.url, "POST", "/v1/acquire", { names: "crowded", leaseSeconds: 86_400 });
		await timed("nobody", () => sleep(short ? 100 : 5_000));
		const before = residentKb(server.pid);
		const each: number[] = [];
		const peaks: number[] = [];
		for (const time of ["", ", once more"]) {
			const [waiters, holders] = [fork(`${import.meta.dirname}/crowd.ts`), fork(`${import.meta.dirname}/bundles.ts`)];
			try {
				await timed(`${held.toLocaleString("en")} held streams come${time}`, async () => {
					const news = newsOf(holders);
					holders.send({ url: server.url, name: "held", count: held, as: "holder" } satisfies Bundles);
					await news("joined");
				});
				const withHeld = residentKb(server.pid);
				await timed(`and ${waiting.toLocaleString("en")} waiters${time}`, async () => {
					const news = newsOf(waiters);
					waiters.send({ url: server.url, name: "crowded", count: waiting, as: "stream" } satisfies Crowd);
					await news("joined");
				});
				await timed(`all of them are there${time}`, () => sleep(short ? 100 : WAIT_MS));
				each.push((residentKb(server.pid) - withHeld) / waiting);
				peaks.push(residentKb(server.pid));
			} finally {
				waiters.kill("SIGKILL");
				holders.kill("SIGKILL");
			}
			await timed(`killed, until all have left${time}`, () => untilEmpty(server.url));
			await timed(`half a minute later${time}`, () => sleep(short ? 100 : 30_000));
		}
		const after = residentKb(server.pid);
		const full = short ? "" : await fullLine(server.url, progress, seen);
		const names = Math.min(NAMES_MOST, context.keys);
		await timed(`${names.toLocaleString("en")} names of a policy, used once each`, () => useNames(server.url, names));
		await timed("half a minute later", () => sleep(short ? 100 : 30_000));
		const mixed = await mixedLoad(context, server.url, () => residentKb(server.pid));
		seen("a mixed load", mixed.ms);
		const kb = (value: number): string => `${Math.round(value / 1_024)} MB`;
		return {
			title: "Load",
			notes: [
				`The server may have ${descriptors.toLocaleString("en")} descriptors, of which a connection takes two. A waiter has a connection of its own; streams that hold, and the line that is full, come a hundred to a connection, each as a request of its own.`,
				`A waiter took ${each.map((value) => `${value.toFixed(0)} kB`).join(", and the second time ")}. ` +
					`With all of them the server had ${peaks.map(kb).join(" and then ")}; before the first ${kb(before)}, after the last ${kb(after)}: ` +
					`the second crowd ${((100 * ((peaks[1] ?? 0) - (peaks[0] ?? 0))) / (peaks[0] ?? 1)).toFixed(0)} % more than the first. ` +
					"What they leave resident is the allocator's, which has it ready for the next.",
				...(full === "" ? [] : [full]),
				`The mixed load: ${perSecond((mixed.turns / mixed.ms) * 1_000)} turns a second of ${CALLERS} callers (an acquire and a release, or one by rate, over ${MIXED_NAMES} names), ` +
					`${mixed.turns.toLocaleString("en")} in all; resident memory at each tenth of it: ${mixed.levels.map(kb).join(", ")}.`,
			],
			head: ["phase", "took", "p99 of /health", "of an idle Worker's beside it", "resident at its end"],
			rows,
			targets: [],
		};
	} finally {
		probes.health.stop();
		probes.bare.stop();
	}
}

/** Lets this process, and what it starts, have more descriptors where that may be; how many there are. */
function raise(): number {
	try {
		const limit = `--nofile=${DESCRIPTORS_WANTED}:${DESCRIPTORS_WANTED}`;
		execFileSync("prlimit", ["--pid", String(process.pid), limit], { stdio: "ignore" });
	} catch {
		// Then with what there is, which is told.
	}
	const line = /Max open files\s+(\S+)/.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
	return Number(line ?? 1_024);
}

async function untilEmpty(url: string): Promise<void> {
	const deadline = performance.now() + PATIENCE_MS;
	for (;;) {
		const { waitingCount } = await once<LimitSummary>(url, "GET", "/v1/limits/crowded");
		const { leaseCount } = await once<LimitSummary>(url, "GET", "/v1/limits/held");
		if (waitingCount === 0 && leaseCount === 0) return;
		if (performance.now() > deadline) throw new Error(`${waitingCount} still wait, and ${leaseCount} hold.`);
		await sleep(100);
	}
}

/** What callers are told whose line is full, and how soon. */
async function fullLine(
	url: string,
	progress: Context["progress"],
	seen: (what: string, took: number) => void,
): Promise<string> {
	const count = BOUNDS.queueLength;
	const crowd = fork(`${import.meta.dirname}/bundles.ts`);
	try {
		progress("a full line");
		const startedAt = performance.now();
		const news = newsOf(crowd);
		crowd.send({ url, name: "crowded", count, as: "waiter" } satisfies Bundles);
		await news("joined");
		seen(`a full line of ${count.toLocaleString("en")}`, performance.now() - startedAt);
		const times: number[] = [];
		const connection = await Connection.open(url);
		for (let at = 0; at < REFUSALS; at += 1) {
			const sentAt = performance.now();
			const { status, body } = await connection.call(
				request("POST", "/v1/acquire", { names: "crowded", waitSeconds: 30 }),
			);
			if (status !== 503 || !body.includes("queue_full")) throw new Error(`A full line is answered ${status}: ${body}`);
			times.push(performance.now() - sentAt);
		}
		connection.close();
		const sorted = ascending(times);
		const [p50, p99] = [0.5, 0.99].map((part) => milliseconds(percentile(sorted, part)));
		return `With ${count.toLocaleString("en")} in line, who would wait too is told \`queue_full\` in ${p50} (p50; p99 ${p99}).`;
	} finally {
		crowd.kill("SIGKILL");
		await untilEmpty(url);
	}
}

async function useNames(url: string, count: number): Promise<void> {
	await once(url, "PUT", "/v1/policies/name:*", { limit: 5, slotDecayPerSecond: 1 });
	let next = 0;
	await Promise.all(
		Array.from({ length: CALLERS }, async () => {
			const connection = await Connection.open(url);
			for (let at = next++; at < count; at = next++) {
				const bytes = request("POST", "/v1/acquire", { names: `name:${at}`, mode: "rate_limit" });
				const { status, body } = await connection.call(bytes);
				if (status !== 200) throw new Error(`The first use of a name is answered ${status}: ${body}`);
			}
			connection.close();
		}),
	);
}

async function mixedLoad({ short, sliceMs, progress }: Context, url: string, resident: () => number) {
	const lengthMs = short ? MIXED_SHORT_MS : sliceMs * MIXED_SLICES;
	for (let at = 0; at < MIXED_NAMES; at += 1) {
		await once(url, "PUT", `/v1/limits/mixed-${at}`, { limit: 100, slotDecayPerSecond: at % 3 === 0 ? 1_000 : 0 });
	}
	const startedAt = performance.now();
	const levels: number[] = [];
	let turns = 0;
	const left = (): number => startedAt + lengthMs - performance.now();
	await Promise.all([
		...Array.from({ length: CALLERS }, async (_, caller) => {
			let connection = await Connection.open(url);
			for (let at = caller; left() > 0; at += 7) {
				const names = `mixed-${at % MIXED_NAMES}`;
				const id = `${caller}-${at}`;
				const mode = (at % MIXED_NAMES) % 3 === 0 ? "rate_limit" : "concurrency";
				const { status, body } = await connection.call(request("POST", "/v1/acquire", { names, id, mode }));
				if (status !== 200 && status !== 429) throw new Error(`A mixed load is answered ${status}: ${body}`);
				if (status === 200 && mode === "concurrency")
					await connection.call(request("POST", "/v1/release", { names, id }));
				turns += 1;
				// Callers come and go.
				if (turns % 100 !== 0) continue;
				connection.close();
				connection = await Connection.open(url);
			}
			connection.close();
		}),
		(async () => {
			for (let tenth = 1; tenth <= 10; tenth += 1) {
				await sleep(Math.max(0, left() - lengthMs * (1 - tenth / 10)));
				levels.push(resident());
				progress(`a mixed load, ${tenth} tenths: ${Math.round(resident() / 1_024)} MB`);
			}
		})(),
	]);
	return { ms: performance.now() - startedAt, turns, levels };
}
