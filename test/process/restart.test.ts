/** A server that is away for a while, as the library's callers meet it. */

import { expect, test } from "vitest";
import { Headgate, type HeadgateOptions, isUnreachableError } from "../../src/client/index.ts";
import { startServer } from "../support/server.ts";
import { temporaryFolder } from "../support/temporary.ts";
import { until } from "./support.ts";

/** How long a test waits for what it knows will come; only to end one that hangs. */
const PATIENCE_MS = 30_000;

/** A server, and a gate to it that counts how often it found nobody. */
async function scene() {
	const folder = await temporaryFolder();
	let server = await startServer({ port: 0, data: folder.path });
	const { url } = server;
	const port = Number(new URL(url).port);
	const found = { nobody: 0 };
	const send: HeadgateOptions["fetch"] = async (target, init) => {
		try {
			return await fetch(target, init);
		} catch (error) {
			found.nobody += 1;
			throw error;
		}
	};
	return {
		gate: new Headgate({ url, fetch: send, onWarning: () => undefined }),
		found,
		stop: () => server.stop(),
		async start() {
			server = await startServer({ port, data: folder.path });
		},
		async [Symbol.asyncDispose]() {
			await server.stop();
			await folder[Symbol.asyncDispose]();
		},
	};
}

test("slots released while the server restarts are free as soon as it is back", async () => {
	await using at = await scene();
	await at.gate.configure("door", { limit: 1 });
	const lease = await at.gate.acquire("door", { leaseSeconds: 3_600 });
	await at.stop();
	const released = lease.release();
	// Four tries were all that there were once, within a second.
	await until("it was tried more than four times", PATIENCE_MS, () => at.found.nobody > 4);
	await at.start();
	await released;
	expect((await at.gate.inspect("door")).activeSlots).toBe(0);
});

test("slots whose release failed come free in the background when the server is back", async () => {
	await using at = await scene();
	await at.gate.configure("door", { limit: 1 });
	const lease = await at.gate.acquire("door", { leaseSeconds: 3_600 });
	await at.stop();
	expect(isUnreachableError(await lease.release().catch((error: unknown) => error))).toBe(true);
	await at.start();
	await until("the slot is free", PATIENCE_MS, async () => (await at.gate.inspect("door")).activeSlots === 0);
});

test("a call, and a caller that wants to wait in line, outlast a restart", async () => {
	await using at = await scene();
	await at.gate.configure("door", { limit: 1 });
	await at.stop();
	const answers = Promise.all([at.gate.inspect("door"), at.gate.concurrency("door", () => "worked")]);
	await until("both were tried more than three times", PATIENCE_MS, () => at.found.nobody > 7);
	await at.start();
	expect(await answers).toMatchObject([{ name: "door" }, "worked"]);
});
