/** A limit gets another name: what it holds, who waits and its id go along. */

import { describe, expect, test } from "vitest";
import * as prefect from "./prefect-support.ts";
import {
	acquire,
	call,
	crash,
	directory,
	granted,
	inspect,
	limitObject,
	newLimit,
	newName,
	newNames,
	open,
	openQueued,
	release,
	renew,
	until,
	untilWaiting,
} from "./support.ts";

const rename = async (from: string, to: string): Promise<void> => {
	expect(await prefect.update(from, { name: to })).toMatchObject({ status: 204, body: "" });
};

test("the id, the settings and the leases go along, and nothing is left of the old name", async () => {
	const [a, b] = newNames(2) as [string, string];
	const { id } = await prefect.create(a, { limit: 3, slot_decay_per_second: 0 });
	const lease = await prefect.leased(a, { slots: 2 });
	await prefect.increment(a);
	await prefect.update(a, { name: b, limit: 4 });
	expect(await prefect.shown(b)).toMatchObject({ id, name: b, limit: 4, active_slots: 3, lease_count: 1 });
	expect(await prefect.shown(id)).toMatchObject({ name: b });
	expect((await call("GET", prefect.at(a))).status).toBe(404);
	expect((await inspect(b)).leases).toMatchObject([{ id: lease, slots: 2 }]);
	await until(async () => (await directory().names(a, "", 1)).names.length === 0);
});

test("a lease is renewed and released by its id, and by the old name, also after restarts of both", async () => {
	const [a, b] = newNames(2) as [string, string];
	await prefect.create(a, { limit: 2 });
	const byId = await prefect.leased(a);
	const byName = await granted({ names: a });
	await rename(a, b);
	await crash(a);
	await crash(b);
	expect((await prefect.renew(byId)).status).toBe(204);
	expect((await renew(byName)).status).toBe(200);
	expect((await inspect(b)).activeSlots).toBe(2);
	expect((await prefect.release(byId)).status).toBe(204);
	expect((await release(byName)).body).toEqual({ released: 1 });
	expect((await inspect(b)).activeSlots).toBe(0);
});

test("a new limit of the old name has nothing to do with it", async () => {
	const [a, b] = newNames(2) as [string, string];
	await prefect.create(a);
	const lease = await prefect.leased(a);
	await rename(a, b);
	await prefect.create(a);
	const other = await prefect.leased(a);
	expect((await prefect.release(lease)).status).toBe(204);
	expect(await prefect.shown(a)).toMatchObject({ active_slots: 1 });
	expect(await prefect.shown(b)).toMatchObject({ active_slots: 0 });
	expect((await prefect.renew(other)).status).toBe(204);
});

test("a name that is taken is 409, and the limit stays as it was", async () => {
	const [a, b] = newNames(2) as [string, string];
	for (const name of [a, b]) await prefect.create(name);
	const lease = await prefect.leased(a);
	expect((await prefect.update(a, { name: b, limit: 5 })).status).toBe(409);
	expect(await prefect.shown(a)).toMatchObject({ limit: 1, active_slots: 1 });
	expect((await prefect.renew(lease)).status).toBe(204);
	expect((await prefect.update(a, { name: a, limit: 5 })).status).toBe(204);
	expect((await prefect.update(newName(), { name: newName() })).status).toBe(404);
});

test("the level of a decaying limit goes along with the bands of its leases", async () => {
	const [a, b] = newNames(2) as [string, string];
	await prefect.create(a, { limit: 3, slot_decay_per_second: 0.001 });
	const lease = await prefect.leased(a);
	await prefect.increment(a, { mode: "rate_limit" });
	await rename(a, b);
	expect((await prefect.shown(b)).active_slots).toBe(2);
	await prefect.release(lease);
	expect((await prefect.shown(b)).active_slots).toBe(1);
});

describe("those who wait", () => {
	test("wait on, in their order, by streams, by held calls and over Prefect's wire", async () => {
		const a = await newLimit({ limit: 1 });
		const b = newName();
		const held = await granted({ names: a });
		const order: string[] = [];
		const first = await openQueued({ names: a });
		const second = acquire({ names: a, waitSeconds: 20 }).then(async ({ body }) => {
			order.push("second");
			await release(body);
		});
		await untilWaiting(a, 2);
		const third = prefect.lease(a, {}, { Prefer: "wait=20" }).then(({ body }) => {
			order.push("third");
			expect(body.limits.map(({ name }) => name)).toEqual([b]);
		});
		await untilWaiting(a, 3);
		await rename(a, b);
		await untilWaiting(b, 3);
		await release(held);
		const lease = await first.granted();
		expect(lease.names).toEqual({ [b]: 1 });
		order.push("first");
		await release(lease);
		await Promise.all([second, third]);
		expect(order).toEqual(["first", "second", "third"]);
	});

	test("for several names are granted all of them", async () => {
		const [a, b, c] = newNames(3) as [string, string, string];
		for (const name of [a, c]) await prefect.create(name);
		const held = await prefect.leased(a);
		const waiting = prefect.lease([a, c], {}, { Prefer: "wait=20" });
		await untilWaiting(a, 1);
		await rename(a, b);
		await prefect.release(held);
		const { status, body } = await waiting;
		expect(status).toBe(200);
		expect((await prefect.shown(b)).active_slots).toBe(1);
		expect((await prefect.shown(c)).active_slots).toBe(1);
		expect((await prefect.renew(body.lease_id)).status).toBe(204);
		expect((await prefect.release(body.lease_id)).status).toBe(204);
		expect((await prefect.shown(b)).active_slots).toBe(0);
		expect((await prefect.shown(c)).active_slots).toBe(0);
	});

	test("and those who hold by a stream hold on, and no longer than their stream", async () => {
		const a = await newLimit({ limit: 1 });
		const b = newName();
		const stream = await open({ names: a, hold: true });
		await stream.granted();
		await rename(a, b);
		expect((await inspect(b)).activeSlots).toBe(1);
		const beats = stream.beats;
		await until(() => stream.beats > beats + 1);
		await stream.leave();
		await until(async () => (await inspect(b)).activeSlots === 0);
	});
});

test("a move that was begun before a crash is finished, and nothing is there twice", async () => {
	const [a, b] = newNames(2) as [string, string];
	const { id } = await prefect.create(a);
	const lease = await prefect.leased(a);
	// As if the object had died after the other one took everything, and before it noted so itself.
	const { runInDurableObject } = await import("cloudflare:test");
	await runInDurableObject(limitObject(a), async (_, state) => {
		state.storage.sql.exec("CREATE TABLE moved (id TEXT PRIMARY KEY, name TEXT NOT NULL, until INTEGER NOT NULL)");
		state.storage.sql.exec("CREATE TABLE moving (name TEXT NOT NULL)");
		state.storage.sql.exec("INSERT INTO moving VALUES (?)", b);
	});
	await crash(a);
	expect((await prefect.renew(lease)).status).toBe(204);
	expect(await prefect.shown(b)).toMatchObject({ id, active_slots: 1 });
	expect((await call("GET", prefect.at(a))).status).toBe(404);
	await crash(a);
	await prefect.release(lease);
	expect((await prefect.shown(b)).active_slots).toBe(0);
});
