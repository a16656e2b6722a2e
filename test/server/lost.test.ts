/** Data that is gone: of a limit, which is refused and not made anew, and of the directory, which is told again. */

import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { describe, expect, test } from "vitest";
import type { LimitsPage } from "../../src/protocol.ts";
import {
	acquire,
	alter,
	call,
	configure,
	directory,
	expectProblem,
	granted,
	inspect,
	limitObject,
	newId,
	newLimit,
	newName,
	patch,
	path,
	release,
	remove,
	removePolicy,
	renew,
	reported,
	setPolicy,
	stored,
	until,
} from "./support.ts";

const isListed = async (name: string): Promise<boolean> => (await directory().idOf(name)) !== null;

/** A limit that the directory knows, and whose storage is as that of an empty file. */
async function lose(name: string): Promise<void> {
	await until(() => isListed(name));
	await reported(name);
	await runInDurableObject(limitObject(name), async (_, { storage }) => {
		await storage.deleteAlarm();
		await storage.deleteAll();
	});
	await evictDurableObject(limitObject(name));
}

describe("a limit whose data is lost", () => {
	test("is refused by every call, and nothing is made in its place", async () => {
		const name = await newLimit({ limit: 3 });
		const lease = await granted({ names: name });
		await lose(name);
		const stream = { Accept: "application/x-ndjson" };
		const calls: (() => ReturnType<typeof call>)[] = [
			() => acquire({ names: name }),
			() => acquire({ names: name, waitSeconds: 1 }),
			() => acquire({ names: name, strict: true }),
			() => acquire({ names: name, createIfMissing: false }),
			() => acquire({ names: [name, newName()] }),
			() => call("POST", "/v1/acquire", { names: name }, stream),
			() => renew(lease),
			() => release(lease),
			() => call("GET", path(name)),
			() => call("GET", `${path(name)}/leases`),
			() => call("PUT", path(name), { limit: 3 }),
			() => patch(name, { limit: 3 }),
			() => call("DELETE", `${path(name)}/leases/${lease.id}`),
		];
		for (const each of calls) {
			const problem = expectProblem(await each(), 503, "damaged_data");
			expect(problem.detail).toContain(`"${name}"`);
			expect(problem.detail).toMatch(/restore .* or delete/i);
		}
		const wire = await call("POST", "/api/v2/concurrency_limits/increment", { names: [name], slots: 1 });
		expect(wire).toMatchObject({ status: 503, body: { exception_detail: expect.stringContaining("lost") } });
		expect((await stored(name)).tables).toEqual({});
		const { body } = await call<LimitsPage>("GET", `/v1/limits?prefix=${name}`);
		expect(body).toMatchObject({ limits: [], unavailable: [name] });
	});

	test("is let go by DELETE, and then is a name like any other", async () => {
		const name = await newLimit({ limit: 3 });
		await lose(name);
		expect((await remove(name)).status).toBe(204);
		expectProblem(await call("GET", path(name)), 404, "unknown_limit");
		await configure(name, { limit: 2 });
		expect(await inspect(name)).toMatchObject({ limit: 2, activeSlots: 0 });
		await until(() => isListed(name));
	});

	test("does not vouch for a lease, and does not deny it either", async () => {
		const name = await newLimit();
		await lose(name);
		await expect(async () => limitObject(name).vouch([newId()])).rejects.toThrow("lost");
	});

	test("is in the way of one that would take its name", async () => {
		const [name, other] = [await newLimit(), await newLimit()];
		await lose(name);
		const answer = await call("PATCH", `/api/v2/concurrency_limits/${other}`, { name });
		expect(answer.status).toBe(409);
		expect(await inspect(other)).toMatchObject({ limit: 1 });
	});

	test("is no limit that was deleted, at once or after its storage went", async () => {
		const name = await newLimit();
		await until(() => isListed(name));
		await remove(name);
		expectProblem(await call("GET", path(name)), 404, "unknown_limit");
		await granted({ names: name });
		await remove(name);
		await until(async () => !(await isListed(name)));
		await reported(name);
		await alter(name, ({ identity }) => ({ identity: { ...identity, updatedAt: 1 } }));
		await runDurableObjectAlarm(limitObject(name));
		expect((await stored(name)).tables).toEqual({});
		await granted({ names: name });
	});
});

describe("a directory whose data is lost", () => {
	/** As if its file were gone: it begins anew, later than before, and no other test finds it in between. */
	async function loseDirectory(): Promise<void> {
		const stopped = runInDurableObject(directory(), async (_, state) => {
			await state.storage.deleteAll();
			await state.storage.sync();
			state.abort("crashed by a test");
		});
		await stopped.catch(() => undefined);
		// What this Worker knows is of the old one; the policies tell it of the new.
		await setPolicy(newName(), { limit: 1 });
	}

	test("lists a limit again that is used", async () => {
		const [used, waitedFor] = [await newLimit({ limit: 2 }), await newLimit()];
		for (const name of [used, waitedFor]) await until(() => isListed(name));
		await loseDirectory();
		expect(await isListed(used)).toBe(false);
		await granted({ names: used });
		await until(() => isListed(used));
		expect(await directory().nameOf((await inspect(used)).id)).toBe(used);
		await granted({ names: [used, waitedFor] });
		await until(() => isListed(waitedFor));
	});

	test("lists a limit again that is configured", async () => {
		const name = await newLimit();
		await until(() => isListed(name));
		await loseDirectory();
		await configure(name, { limit: 5 });
		await until(() => isListed(name));
	});

	test("leaves keys as the policy said that was lost, until one is set again", async () => {
		const start = newName();
		await setPolicy(`${start}:*`, { limit: 7 });
		const name = `${start}:a`;
		await granted({ names: name });
		await loseDirectory();
		await granted({ names: name });
		expect(await inspect(name)).toMatchObject({ limit: 7, active: true, origin: "policy" });
		await setPolicy(`${start}:*`, { limit: 8 });
		await granted({ names: name });
		expect(await inspect(name)).toMatchObject({ limit: 8, origin: "policy" });
		await removePolicy(`${start}:*`);
		await granted({ names: name });
		expect(await inspect(name)).toMatchObject({ active: false, origin: "default" });
	});
});
