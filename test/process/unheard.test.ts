/** Promises 6 and 10 for plain answers after a wait: who had gone before it takes nothing, who read it holds the lease. */

import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { caller, report, startOne, until, within } from "./support.ts";

startOne();

/** Leases here are sixty times longer: what comes back sooner was not left to its end. */
const ANSWER_MS = 45_000;
/** A departure is noticed within this. */
const GONE_MS = 2_000;

describe.each<[string, (name: string) => { path: string; body: object; stream?: boolean }]>([
	[
		"a held response",
		(name: string) => ({ path: "/v1/acquire", body: { names: name, waitSeconds: 60, leaseSeconds: 600 } }),
	],
	[
		"a held response for two names",
		(name: string) => ({
			path: "/v1/acquire",
			body: { names: [name, `${name}-b`], waitSeconds: 60, leaseSeconds: 600 },
		}),
	],
	["a stream", (name: string) => ({ path: "/v1/acquire", body: { names: name, leaseSeconds: 600 }, stream: true })],
	[
		"a stream for two names",
		(name: string) => ({ path: "/v1/acquire", body: { names: [name, `${name}-b`], leaseSeconds: 600 }, stream: true }),
	],
	[
		"an increment of Prefect's with Prefer: wait",
		(name: string) => ({
			path: "/api/v2/concurrency_limits/increment-with-lease",
			body: { names: [name], slots: 1, lease_duration: 600 },
		}),
	],
])("%s whose caller closed its connection (FIN)", (_, ask) => {
	test.each([
		[1, 1],
		[2, 1],
		[1, 100],
	])("promise 10: %i before it on each of %i limits are passed over as their turn comes", async (before, count) => {
		const lateness = await Promise.all(
			(await caller.fresh(count)).map(async (name) => {
				const lease = await caller.take({ names: name, leaseSeconds: 600 });
				for (let place = 1; place <= before; place += 1) {
					const { path, body, stream } = ask(name);
					const headers = { Prefer: "wait=60", ...(stream && { accept: "application/x-ndjson" }) };
					const { request, response } = caller.send("POST", path, body, headers);
					response.catch(() => undefined);
					await until("a place in line", ANSWER_MS, async () => (await caller.inspect(name)).waitingCount === place);
					request.destroy();
				}
				const next = caller.stream({ names: name });
				await within("a place behind", ANSWER_MS, next.queued);
				const freedAt = performance.now();
				await caller.release(lease);
				await within("the hand-off", ANSWER_MS, next.granted);
				next.close();
				return next.grantedAt - freedAt;
			}),
		);
		report(`${before} gone in front on ${count} limits: slots with the next after`, lateness);
	});
});

test.each([1, 2])(
	"promise 11: who asked again for %i names keeps the lease, though its first caller had gone",
	async (count) => {
		const kept = await Promise.all(
			(await caller.fresh(20)).map(async (name, index) => {
				const lease = await caller.take({ names: name, leaseSeconds: 600 });
				const names = count === 1 ? name : [name, `${name}-b`];
				const body = { names, id: `again-${count}-${index}`, waitSeconds: 60 };
				const gone = caller.send("POST", "/v1/acquire", body);
				gone.response.catch(() => undefined);
				await until("a place in line", ANSWER_MS, async () => (await caller.inspect(name)).waitingCount === 1);
				gone.request.destroy();
				const again = caller.acquire(body);
				// Nothing outside tells of a second caller: this is the time that a request takes to arrive, many times over.
				await sleep(200);
				await caller.release(lease);
				const { status, body: granted } = await within("the grant", ANSWER_MS, again);
				expect([status, granted]).toEqual([200, expect.objectContaining({ id: body.id })]);
				return { name, id: body.id };
			}),
		);
		await sleep(GONE_MS);
		for (const { name, id } of kept) expect((await caller.inspect(name)).leases).toMatchObject([{ id }]);
	},
);

test.each([
	["a held response", "/v1/acquire"],
	["an increment of Prefect's", "/api/v2/concurrency_limits/increment-with-lease"],
])("promise 6: %s that was read is kept, however soon its caller closes the connection", async (_, path) => {
	const kept = await Promise.all(
		(await caller.fresh(20)).map(async (name) => {
			const lease = await caller.take({ names: name, leaseSeconds: 600 });
			const body = { names: [name], ...(path === "/v1/acquire" ? { waitSeconds: 60 } : { slots: 1 }) };
			const { request, response } = caller.send("POST", path, body, { Prefer: "wait=60" });
			await until("a place in line", ANSWER_MS, async () => (await caller.inspect(name)).waitingCount === 1);
			await caller.release(lease);
			const answer = await response;
			let text = "";
			// Some readers of JSON stop at its end, and not at that of the answer.
			for await (const chunk of answer.setEncoding("utf8")) {
				text += chunk;
				if (text.trim().endsWith("}")) break;
			}
			request.destroy();
			const { id, lease_id } = JSON.parse(text) as { id?: string; lease_id?: string };
			return { name, id: id ?? lease_id };
		}),
	);
	// Longer than it takes to notice a departure.
	await sleep(GONE_MS);
	for (const { name, id } of kept) expect((await caller.inspect(name)).leases).toMatchObject([{ id }]);
});
