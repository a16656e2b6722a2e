/** Promise 9, from outside: a server whose clock is set back, by a shim beneath the runtime, while objects are in use. */

import { execFileSync } from "node:child_process";
import { closeSync, openSync, writeFileSync, writeSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Lease, Problem } from "../../src/protocol.ts";
import { type FreshServer, freshServer } from "../support/server.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/temporary.ts";
import { Caller, until, within } from "./support.ts";

const HOUR_SECONDS = 3_600;
const ANSWER_MS = 45_000;

let folder: TemporaryFolder;
let offset: number;
let server: FreshServer;
let caller: Caller;
const printed: string[] = [];

/** Sets the server's clock to so many seconds beside the right one. */
function setClock(seconds: number): void {
	const bytes = Buffer.alloc(8);
	bytes.writeBigInt64LE(BigInt(seconds));
	writeSync(offset, bytes, 0, 8, 0);
}

beforeAll(async () => {
	folder = await temporaryFolder();
	const shim = path.join(folder.path, "clock.so");
	execFileSync("gcc", ["-shared", "-fPIC", "-O1", "-o", shim, path.join(import.meta.dirname, "../support/clock.c")]);
	const file = path.join(folder.path, "offset");
	writeFileSync(file, Buffer.alloc(8));
	offset = openSync(file, "r+");
	Object.assign(process.env, { LD_PRELOAD: shim, CLOCK_OFFSET: file });
	try {
		server = await freshServer({ onLine: (line) => printed.push(line) });
	} finally {
		delete process.env.LD_PRELOAD;
		delete process.env.CLOCK_OFFSET;
	}
	caller = new Caller(server.url);
});

afterAll(async () => {
	caller?.close();
	await server?.[Symbol.asyncDispose]();
	closeSync(offset);
	await folder?.[Symbol.asyncDispose]();
});

test("promise 9: a clock that is set back freezes nothing: leases end, waits end, slots decay, who waits is served", async () => {
	const seconds = async () =>
		(Date.parse((await caller.call<{ time: string }>("GET", "/health")).body.time) - Date.now()) / 1_000;
	await caller.limit("held", 1);
	await caller.limit("given-up", 1);
	await caller.limit("drained", 1, 0.5);
	const [held, kept] = [
		await caller.take({ names: "held", leaseSeconds: 2 }),
		await caller.take({ names: "given-up", leaseSeconds: 600 }),
	];
	await caller.take({ names: "drained", mode: "rate_limit" });
	const served = caller.acquire({ names: "held", waitSeconds: 30, id: "waits" });
	const gaveUp = caller.acquire({ names: "given-up", waitSeconds: 3 });
	for (const name of ["held", "given-up"]) {
		await until("a place in line", ANSWER_MS, async () => (await caller.inspect(name)).waitingCount === 1);
	}

	setClock(-HOUR_SECONDS);
	await until("the server's clock is set back", ANSWER_MS, async () => (await seconds()) < -HOUR_SECONDS + 60);

	// The lease is not over before its time, and then its slot is the waiter's, though its object stood still.
	const { leases } = await caller.inspect("held");
	expect(leases.map(({ id }) => id)).toEqual([held.id]);
	const { status, body } = await within("the hand-off when the lease ends", ANSWER_MS, served);
	expect([status, (body as Lease).id]).toEqual([200, "waits"]);

	await caller.inspect("given-up");
	const { body: denied } = await within("the end of the wait", ANSWER_MS, gaveUp);
	expect((denied as Problem).code).toBe("denied");
	expect((await caller.inspect("given-up")).leases.map(({ id }) => id)).toEqual([kept.id]);

	const granted = await until("the slot has decayed", ANSWER_MS, async () => {
		const asked = await caller.acquire({ names: "drained", mode: "rate_limit" });
		if (asked.status === 200) return true;
		await sleep(((asked.body as Problem).retryAfterSeconds ?? 0) * 1_000);
		return false;
	});
	expect(granted).toBe(true);
	expect(printed.filter((line) => line.includes("The clock was set"))).toHaveLength(3);
	expect(printed.filter((line) => line.includes("The clock of a Worker is wrong"))).toEqual([]);
});
