/** The object of a limit across restarts, alarms, a directory that fails, and disks that do. */

import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { LimitsPage } from "../../src/protocol.ts";
import { checkClock, withRightClock } from "../../src/server/contract/clock.ts";
import { RULING_MAX_MS } from "../../src/server/contract/policies.ts";
import { migrate } from "../../src/server/contract/schema.ts";
import { SCHEMA_VERSION } from "../../src/server/limit/store.ts";
import {
	acquire,
	alter,
	bindings,
	call,
	configure,
	crash,
	directory,
	expectProblem,
	found,
	fromNow,
	granted,
	inspect,
	limitObject,
	newId,
	newLimit,
	newName,
	open,
	openQueued,
	patch,
	path,
	release,
	remove,
	removePolicy,
	renew,
	rewrite,
	setPolicy,
	stopClock,
	stored,
	storedLimit,
	until,
	untilWaiting,
} from "./support.ts";

const evict = (name: string): Promise<void> => evictDurableObject(limitObject(name));

const SLOT = 10n ** 18n;

/** Makes a limit believe that it was last used so long ago. */
const lastUsed = (name: string, msAgo: number) => alter(name, () => ({ usedAt: Date.now() - msAgo }));

/** Names that the directory has. */
async function listed(name: string): Promise<boolean> {
	const { body } = await call<LimitsPage>("GET", `/v1/limits?prefix=${encodeURIComponent(name)}`);
	return body.limits.length > 0;
}

const DAY = 86_400_000;

describe.concurrent("promise 6: what was said is there after a restart", () => {
	test("leases, slots taken by hand, settings and totals", async () => {
		const name = await newLimit({ limit: 20 });
		const lease = await granted({ names: name, occupy: 3, holder: "a" });
		const other = await granted({ names: name, occupy: 2, leaseSeconds: 300 });
		await release(await granted({ names: name }));
		await acquire({ names: name, occupy: 19 });
		await patch(name, { activeSlots: 9, limit: 18 });
		const before = await inspect(name);
		expect(before).toMatchObject({
			activeSlots: 9,
			leaseCount: 2,
			totals: { grantedAtOnce: 3, denied: 1, released: 1 },
		});
		await evict(name);
		expect(await inspect(name)).toEqual(before);
		const renewedAt = Date.now();
		const renewed = await renew({ ...lease, leaseSeconds: 900 });
		expect(Date.parse(renewed.body.expiresAt)).toBeGreaterThanOrEqual(renewedAt + 900_000);
		await evict(name);
		expect((await inspect(name)).leases[0]?.expiresAt).toBe(renewed.body.expiresAt);
		expect((await release(lease)).body).toEqual({ released: 3 });
		await evict(name);
		expect((await release(lease)).body).toEqual({ released: 0 });
		expect((await inspect(name)).leases.map(({ id }) => id)).toEqual([other.id]);
		expect((await inspect(name)).activeSlots).toBe(6);
	});

	test("a limit that was switched off, and what it granted", async () => {
		const name = await newLimit({ limit: 2 });
		const held = await granted({ names: name });
		await patch(name, { active: false });
		const unheld = await granted({ names: name, occupy: 2 });
		await evict(name);
		expect((await renew(unheld)).status).toBe(200);
		await patch(name, { active: true });
		await evict(name);
		expect((await inspect(name)).activeSlots).toBe(1);
		expect((await release(unheld)).body).toEqual({ released: 0 });
		expect((await release(held)).body).toEqual({ released: 1 });
	});

	test("promise 8: the level of a decaying limit, to the last fraction, with the bands of its leases", async () => {
		const name = await newLimit({ limit: 100, slotDecayPerSecond: 0.01 });
		const perMs = 10n ** 13n;
		let before = { at: 0, total: "0", top: "0" };
		/** Fails unless the level is what it was, less the time that ran, plus the slots that came. */
		const expectAdded = async (slots: number) => {
			const { level } = await storedLimit(name);
			const drained = BigInt(level.at - before.at) * perMs;
			const left = BigInt(before.total) - drained;
			expect(BigInt(level.total)).toBe((left > 0n ? left : 0n) + BigInt(slots) * SLOT);
			before = level;
			await evict(name);
		};
		const first = await granted({ names: name, occupy: 5 });
		await expectAdded(5);
		await granted({ names: name, occupy: 3, mode: "rate_limit" });
		await expectAdded(3);
		const second = await granted({ names: name, occupy: 4 });
		await expectAdded(4);
		for (let times = 0; times < 3; times += 1) {
			await acquire({ names: name, occupy: 100, mode: "rate_limit" });
			await evict(name);
		}
		await renew(second);
		await expectAdded(0);
		// Only the oldest band has drained by now, so what is left without it is a whole number.
		expect((await release(first)).body).toEqual({ released: 4 });
		const { level } = await storedLimit(name);
		expect(BigInt(level.total)).toBe(7n * SLOT);
		before = level;
		await evict(name);
		expect((await release(second)).body).toEqual({ released: 4 });
		const last = (await storedLimit(name)).level;
		expect(BigInt(last.total)).toBe(3n * SLOT - BigInt(last.at - before.at) * perMs);
	});

	test("a level set by hand: the leases of that moment give nothing back, restarted or not", async () => {
		const name = await newLimit({ limit: 50, slotDecayPerSecond: 0.0001 });
		const before = await granted({ names: name, occupy: 9 });
		await patch(name, { activeSlots: 4 });
		await evict(name);
		const after = await granted({ names: name, occupy: 6 });
		await evict(name);
		expect((await release(before)).body).toEqual({ released: 0 });
		await evict(name);
		expect((await inspect(name)).activeSlots).toBe(10);
		expect((await release(after)).body).toEqual({ released: 6 });
		expect((await inspect(name)).activeSlots).toBe(4);
	});

	test("leases of a limit that began to decay, or ceased to", async () => {
		const name = await newLimit({ limit: 50 });
		const first = await granted({ names: name, occupy: 7 });
		await patch(name, { slotDecayPerSecond: 0.0001 });
		await evict(name);
		const second = await granted({ names: name, occupy: 8 });
		expect((await inspect(name)).activeSlots).toBe(15);
		await patch(name, { slotDecayPerSecond: 0 });
		await evict(name);
		expect((await inspect(name)).activeSlots).toBe(15);
		expect((await release(first)).body).toEqual({ released: 7 });
		await evict(name);
		expect((await release(second)).body).toEqual({ released: 8 });
		expect((await inspect(name)).activeSlots).toBe(0);
	});

	test("promise 11: ids that were used", async () => {
		const name = await newLimit({ limit: 20, slotDecayPerSecond: 0.0001 });
		const ended = { names: name, id: newId() };
		const live = { names: name, id: newId(), occupy: 2 };
		const receipt = { names: name, id: newId(), occupy: 3, mode: "rate_limit" };
		const forestalled = { names: name, id: newId() };
		await release(await granted(ended));
		const lease = await granted(live);
		await granted(receipt);
		await release(forestalled);
		const { activeSlots } = await inspect(name);
		await evict(name);
		expectProblem(await acquire(ended), 409, "id_in_use");
		expectProblem(await acquire(forestalled), 409, "id_in_use");
		expect((await granted(live)).expiresAt).toBe(lease.expiresAt);
		expect((await granted(receipt)).names).toEqual({ [name]: 3 });
		expectProblem(await acquire({ ...live, occupy: 1 }), 409, "id_in_use");
		expectProblem(await acquire({ ...receipt, occupy: 1 }), 409, "id_in_use");
		expect((await inspect(name)).activeSlots).toBe(activeSlots);
	});

	test("after a crash under load, every lease that was answered, and no other slot", async () => {
		const name = await newLimit({ limit: 500 });
		const held = new Set<string>();
		const ended = new Set<string>();
		let asked = 0;
		const load = async () => {
			for (let times = 0; times < 25; times += 1) {
				asked += 1;
				const { status, body } = await acquire({ names: name });
				if (status !== 200) expect(status).toBe(503);
				else if (times % 3 !== 0) held.add(body.id);
				// Answered with a failure, it may have been carried out or not.
				else if ((await release(body)).status === 200) ended.add(body.id);
			}
		};
		const loads = Promise.all(Array.from({ length: 12 }, load));
		await until(() => asked > 60);
		await crash(name);
		await until(() => asked > 160);
		await crash(name);
		await loads;
		const page = await limitObject(name).leases(0, 1_000);
		const found = new Set(page?.leases.map(({ id }) => id));
		expect([...held].filter((id) => !found.has(id))).toEqual([]);
		expect([...ended].filter((id) => found.has(id))).toEqual([]);
		expect((await inspect(name)).activeSlots).toBe(found.size);
	});
});

describe.concurrent("promise 3: a line keeps its order across a restart", () => {
	test("those who come back are served in the order of their first arrival", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const ids = [newId(), newId(), newId()];
		const broken = [];
		for (const id of ids) broken.push(await openQueued({ names: name, id }));
		await crash(name);
		await Promise.all(broken.map((stream) => stream.ended));
		expect(broken.map(({ state }) => state)).toEqual(["broken", "broken", "broken"]);
		expect((await inspect(name)).waiting.map(({ id }) => id)).toEqual(ids);
		const back = new Map<string, Awaited<ReturnType<typeof open>>>();
		for (const id of [...ids].reverse()) back.set(id, await openQueued({ names: name, id }));
		await release(lease);
		for (const [index, id] of ids.entries()) {
			const stream = back.get(id);
			await stream?.granted();
			expect((await inspect(name)).waiting.map((waiter) => waiter.id)).toEqual(ids.slice(index + 1));
			await release({ id, names: name });
		}
	});

	test("the line waits for those who may come back, and not for ever", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const [gone, present] = [newId(), newId()];
		await Promise.all([await openQueued({ names: name, id: gone }), await openQueued({ names: name, id: present })]);
		await crash(name);
		await release(lease);
		const back = await openQueued({ names: name, id: present });
		expect((await inspect(name)).activeSlots).toBe(0);
		expectProblem(await acquire({ names: name }), 429, "denied");
		await back.granted();
		expectProblem(await renew({ id: gone, names: name }), 410, "lease_gone");
	});

	test("promise 5: a lease that lived by its connection ends with a crash", async () => {
		const name = await newLimit();
		const held = await open({ names: name, hold: true });
		await held.granted();
		const next = await openQueued({ names: name, id: newId() });
		await crash(name);
		await Promise.all([held.ended, next.ended]);
		expect((await inspect(name)).leaseCount).toBe(0);
	});
});

describe("promise 9: a clock that jumps back", () => {
	afterEach(() => {
		vi.useRealTimers();
	});

	const HOUR = 3_600_000;

	/** Sets the clock of the object, which stands still from then on. */
	const clock = (at: number): void => void vi.setSystemTime(at);

	test("neither frees the slots of a lease nor makes it longer", async () => {
		const start = Date.now();
		clock(start);
		const name = await newLimit();
		const lease = await granted({ names: name, leaseSeconds: 100 });
		clock(start + 40_000);
		expect((await inspect(name)).activeSlots).toBe(1);
		clock(start - HOUR);
		expect((await inspect(name)).activeSlots).toBe(1);
		await evict(name);
		clock(start - HOUR + 59_000);
		expect((await inspect(name)).activeSlots).toBe(1);
		clock(start - HOUR + 60_000);
		expect((await inspect(name)).activeSlots).toBe(0);
		expectProblem(await renew(lease), 410, "lease_gone");
	});

	test("neither refills nor freezes a limit that decays", async () => {
		const start = Date.now();
		clock(start);
		const name = await newLimit({ limit: 5, slotDecayPerSecond: 0.5 });
		await granted({ names: name, occupy: 5, mode: "rate_limit" });
		clock(start - HOUR);
		const { status, body } = await acquire({ names: name, mode: "rate_limit" });
		expect({ status, after: body.retryAfterSeconds }).toEqual({ status: 429, after: 2 });
		await evict(name);
		clock(start - HOUR + 1_999);
		expect((await acquire({ names: name, mode: "rate_limit" })).status).toBe(429);
		clock(start - HOUR + 2_000);
		expect((await acquire({ names: name, mode: "rate_limit" })).status).toBe(200);
		expect((await acquire({ names: name, mode: "rate_limit" })).status).toBe(429);
	});

	test("an object whose clock is far from a Worker's is made anew, and once a minute at most", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const wasSet = async (workerAt: number) => limitObject(name).clockWasSet(workerAt);
		const isMadeAnew = async (workerAt: number) => {
			const happened = await runInDurableObject(limitObject(name), (_, state) => abortLater(state));
			expect(await failureOf(wasSet(workerAt))).toContain("The clock was set");
			await until(happened);
		};
		const farOff = Date.now() + HOUR;
		await isMadeAnew(farOff);
		// It is the Worker's that is wrong.
		for (const later of [0, 59_000]) {
			await wasSet(farOff + later);
			expect(await limitObject(name).renew(lease.id, null)).toMatchObject({ event: { kind: "renewed" } });
		}
		await isMadeAnew(farOff + 60_000);
		expect((await inspect(name)).leases.map(({ id }) => id)).toEqual([lease.id]);
	});

	test("a call that was sent at another time decides nothing, and by itself throws nothing away", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		for (const sentAt of [Date.now() - 6_000, Date.now() + HOUR]) {
			expect(await failureOf(limitObject(name).release(lease.id, "caller", sentAt))).toContain("The clocks are apart");
		}
		expect((await inspect(name)).leases.map(({ id }) => id)).toEqual([lease.id]);
		// It is the same object: none of this was within the minute of a reset.
		const happened = await runInDurableObject(limitObject(name), (_, state) => abortLater(state));
		expect(await failureOf(limitObject(name).clockWasSet(Date.now() + HOUR))).toContain("The clock was set");
		await until(happened);
	});

	test("a call that waits when its object is made anew is made once more", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const waits = acquire({ names: name, waitSeconds: 20, id: "waits" });
		await untilWaiting(name, 1);
		const happened = await runInDurableObject(limitObject(name), (_, state) => abortLater(state));
		expect(await failureOf(limitObject(name).clockWasSet(Date.now() - HOUR))).toContain("The clock was set");
		await until(happened);
		await untilWaiting(name, 1);
		await release(lease);
		expect(await waits).toMatchObject({ status: 200, body: { id: "waits" } });
	});

	/** What a Worker does at `workerAt` about an object whose clock shows `objectAt`, in milliseconds from now. */
	const righted = async (objectAt: number, workerAt: number, answeredAt: number) => {
		const start = Date.now();
		const resets: number[] = [];
		const calls: (number | undefined)[] = [];
		clock(start + workerAt);
		const call = async (sentAt?: number) => {
			calls.push(sentAt && sentAt - start);
			if (sentAt === undefined) return "decided";
			clock(start + answeredAt);
			checkClock(sentAt, start + objectAt);
			return "decided at once";
		};
		const answer = await withRightClock(call, async (at) => void resets.push(at - start));
		return { answer, calls, resets };
	};

	test.each([
		["a call that is answered at once", 0, 10, { answer: "decided at once", calls: [0], resets: [] }],
		["a call that took 6 s to its object", 6_000, 6_010, { answer: "decided", calls: [0, undefined], resets: [] }],
		["a call that took an hour", HOUR, HOUR, { answer: "decided", calls: [0, undefined], resets: [] }],
		["a clock that was set back", HOUR, 10, { answer: "decided", calls: [0, undefined], resets: [10] }],
		["a clock that was set forward", -HOUR, 10, { answer: "decided", calls: [0, undefined], resets: [10] }],
		[
			"a late call, and a clock that was set back",
			HOUR,
			6_010,
			{ answer: "decided", calls: [0, undefined], resets: [6_010] },
		],
	] as const)("%s", async (_, objectAt, answeredAt, expected) => {
		expect(await righted(objectAt, 0, answeredAt)).toEqual(expected);
	});

	test("shows moments as the clock of those who read them", async () => {
		const start = Date.now();
		clock(start);
		const name = await newLimit({ limit: 2 });
		await granted({ names: name });
		clock(start - HOUR);
		const { expiresAt } = await granted({ names: name, leaseSeconds: 60 });
		expect(Date.parse(expiresAt)).toBe(start - HOUR + 60_000);
		expect((await inspect(name)).leases.map((lease) => Date.parse(lease.expiresAt))).toEqual([
			start - HOUR + 60_000,
			start - HOUR + 60_000,
		]);
	});
});

describe.concurrent("alarms", () => {
	test("promise 5: a lease ends at its time though nobody calls", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name, leaseSeconds: 1 });
		// An object that is awake has a timer; the alarm is there for one that is not.
		expect((await stored(name)).alarm).not.toBeNull();
		await until(async () => (await storedLimit(name)).entries.length === 0);
		expect(fromNow(lease.expiresAt)).toBeLessThanOrEqual(0);
		expect((await inspect(name)).totals.expired).toBe(1);
	});

	test("promise 5: a lease of an object that was evicted ends at its time", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name, leaseSeconds: 60 });
		await evict(name);
		const { alarm } = await stored(name);
		expect(alarm as number).toBeLessThanOrEqual(Date.parse(lease.expiresAt));
		await alter(name, ({ limit }) => {
			for (const entry of limit.entries.values()) entry.expiresAt = entry.until = Date.now() - 1;
			return undefined;
		});
		expect(await runDurableObjectAlarm(limitObject(name))).toBe(true);
		expect((await storedLimit(name)).entries).toEqual([]);
		expect((await inspect(name)).totals.expired).toBe(1);
	});

	test("an alarm that comes too early ends nothing, and is set again", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name, leaseSeconds: 30 });
		await runDurableObjectAlarm(limitObject(name));
		const { alarm } = await stored(name);
		expect((await storedLimit(name)).entries).toHaveLength(1);
		expect(Math.abs((alarm as number) - Date.parse(lease.expiresAt))).toBeLessThan(5_001);
		expect((await renew(lease)).status).toBe(200);
	});

	test("ids that are no longer remembered are ids like any other, and are not stored again", async () => {
		const name = await newLimit({ limit: 5 });
		const id = newId();
		await release(await granted({ names: name, id }));
		await evict(name);
		expectProblem(await acquire({ names: name, id }), 409, "id_in_use");
		await alter(name, ({ ended }) => ({ ended: ended.map((record) => ({ ...record, until: 1 })) }));
		expect((await granted({ names: name, id })).id).toBe(id);
		await release({ id, names: name });
		await evict(name);
		expectProblem(await acquire({ names: name, id }), 409, "id_in_use");
		expect((await storedLimit(name)).ended.filter((record) => record.until > 1)).toHaveLength(1);
	});
});

describe("schema", () => {
	const steps: ((sql: SqlStorage) => void)[] = [
		(sql) => void sql.exec("CREATE TABLE thing (a TEXT)"),
		(sql) => void sql.exec("ALTER TABLE thing ADD COLUMN b TEXT NOT NULL DEFAULT 'new'"),
	];

	test("an object that nobody used stores nothing", async () => {
		const name = newName();
		expectProblem(await call("GET", path(name)), 404, "unknown_limit");
		expectProblem(await acquire({ names: name, strict: true }), 404, "unknown_limit");
		await release({ id: newId(), names: name });
		expect(await stored(name)).toEqual({ tables: {}, alarm: null });
	});

	test("a database is brought from nothing, or from an older version, to the newest, and its rows stay", async () => {
		await runInDurableObject(bindings.DIRECTORY.getByName(newName()), (_, { storage: { sql } }) => {
			sql.exec("DROP TABLE schema");
			expect(migrate(sql, steps.slice(0, 1), false)).toBe(false);
			expect(migrate(sql, steps.slice(0, 1), true)).toBe(true);
			sql.exec("INSERT INTO thing (a) VALUES ('old')");
			expect(migrate(sql, steps, false)).toBe(true);
			expect(migrate(sql, steps, false)).toBe(true);
			expect(sql.exec("SELECT a, b FROM thing").toArray()).toEqual([{ a: "old", b: "new" }]);
			expect(sql.exec("SELECT version FROM schema").toArray()).toEqual([{ version: 2 }]);
			expect(() => migrate(sql, steps.slice(0, 1), true)).toThrow(/version 2/);
		});
	});

	test("data of a newer version is refused with a clear message and left alone, until the code is back", async () => {
		const name = await newLimit({ limit: 4 });
		const lease = await granted({ names: name, occupy: 3 });
		await rewrite(name, "UPDATE schema SET version = 99");
		const before = await stored(name);
		const calls: (() => ReturnType<typeof call>)[] = [
			() => call("GET", path(name)),
			() => call("PUT", path(name), { limit: 1 }),
			() => call("PATCH", path(name), { limit: 1 }),
			() => call("DELETE", path(name)),
			() => call("GET", `${path(name)}/leases`),
			() => call("DELETE", `${path(name)}/leases/${lease.id}`),
			() => acquire({ names: name }),
			() => acquire({ names: name, waitSeconds: 1 }),
			() => acquire({ names: name, strict: true }),
			() => acquire({ names: [name, newName()] }),
			() => acquire({ names: name, createIfMissing: false }),
			() => renew(lease),
			() => release(lease),
		];
		for (const each of calls) {
			const problem = expectProblem(await each(), 503, "newer_data");
			expect(problem.detail).toContain("99");
			expect(problem.detail).toContain("left alone");
		}
		expect((await stored(name)).tables).toEqual(before.tables);
		await runDurableObjectAlarm(limitObject(name));
		expect((await stored(name)).tables).toEqual(before.tables);
		expect((await stored(name)).alarm).not.toBeNull();
		await rewrite(name, `UPDATE schema SET version = ${SCHEMA_VERSION}`);
		expect(await inspect(name)).toMatchObject({ limit: 4, activeSlots: 3 });
		expect((await release(lease)).body).toEqual({ released: 3 });
	});

	test("newer data over a stream is refused with its status", async () => {
		const name = await newLimit();
		await rewrite(name, "UPDATE schema SET version = 99");
		const answer = await call("POST", "/v1/acquire", { names: name }, { Accept: "application/x-ndjson" });
		expectProblem(answer, 503, "newer_data");
	});

	test("one limit with newer data does not hide the others from the list", async () => {
		const prefix = newName();
		const names = ["a", "b", "c"].map((end) => prefix + end);
		await Promise.all(names.map((name) => configure(name, { limit: 1 })));
		await until(async () => (await call<LimitsPage>("GET", `/v1/limits?prefix=${prefix}`)).body.limits.length === 3);
		await rewrite(names[1] as string, "UPDATE schema SET version = 99");
		const { status, body } = await call<LimitsPage>("GET", `/v1/limits?prefix=${prefix}`);
		expect(status).toBe(200);
		expect(body.limits.map(({ name }) => name)).toEqual([names[0], names[2]]);
		expect(body.unavailable).toEqual([names[1]]);
	});
});

describe("the directory", () => {
	/** While `work` runs, the directory does not answer to these. */
	async function without(
		methods: ("register" | "unregister" | "match" | "policiesAfter")[],
		work: () => Promise<void>,
	): Promise<void> {
		await runInDurableObject(directory(), (instance) => {
			// A property of the object itself is out of reach of callers, and hides the method that is not.
			for (const method of methods) Object.defineProperty(instance, method, { value: null, configurable: true });
		});
		try {
			await work();
		} finally {
			await runInDurableObject(directory(), (instance) => {
				for (const method of methods) Reflect.deleteProperty(instance, method);
			});
		}
	}

	test("that does not answer is told of a limit again until it has it, and nobody waits for that", async () => {
		const name = newName();
		await without(["register"], async () => {
			await configure(name, { limit: 2 });
			await granted({ names: name });
			await granted({ names: name });
			expect((await storedLimit(name)).identity).toMatchObject({ alive: true, reported: false });
			expect(await listed(name)).toBe(false);
			await evict(name);
			await runDurableObjectAlarm(limitObject(name));
			expect((await storedLimit(name)).identity.reported).toBe(false);
		});
		await until(() => listed(name));
		expect((await storedLimit(name)).identity.reported).toBe(true);
		expect((await inspect(name)).activeSlots).toBe(2);
	});

	test("that does not answer is told of a deletion again", async () => {
		const name = await newLimit();
		await until(() => listed(name));
		await without(["unregister"], async () => {
			expect((await remove(name)).status).toBe(204);
			expectProblem(await call("GET", path(name)), 404, "unknown_limit");
			expect((await storedLimit(name)).identity).toMatchObject({ alive: false, reported: false });
		});
		await until(async () => (await directory().names(name, "", 1)).names.length === 0);
		await until(async () => Object.keys((await stored(name)).tables).length === 0);
	});

	test("is needed for a name never seen before, and for no other", async () => {
		const known = await newLimit({ limit: 2 });
		const unknown = newName();
		// What this Worker knows of the policies is too old to go by.
		stopClock().pass(RULING_MAX_MS + 1);
		await without(["match", "policiesAfter"], async () => {
			expect((await acquire({ names: known })).status).toBe(200);
			const answer = await acquire({ names: unknown });
			expectProblem(answer, 503, "overloaded");
			expect(answer.headers.get("Retry-After")).toMatch(/^\d+$/);
			expectProblem(await acquire({ names: [known, unknown] }), 503, "overloaded");
			expect((await inspect(known)).activeSlots).toBe(1);
			expect((await call("PUT", path(unknown), { limit: 1 })).status).toBe(201);
		});
		expect((await acquire({ names: unknown })).status).toBe(200);
	});

	test("a name that is deleted and used again at once stays in it", async () => {
		const name = await newLimit();
		await until(() => listed(name));
		await remove(name);
		await configure(name, { limit: 3 });
		await until(async () => (await storedLimit(name)).identity.reported);
		expect(await listed(name)).toBe(true);
		expect(await directory().nameOf((await inspect(name)).id)).toBe(name);
	});
});

describe("names that nobody needs any more", () => {
	/** Lets the time pass in which a deleted limit still answers its peers. */
	async function buried(name: string): Promise<void> {
		expect((await storedLimit(name)).identity.alive).toBe(false);
		await alter(name, ({ identity }) => ({ identity: { ...identity, updatedAt: Date.now() - 60_000 } }));
		await runDurableObjectAlarm(limitObject(name));
	}

	test("a name that a policy made deletes itself when idle, and leaves no storage", async () => {
		const prefix = newName();
		await setPolicy(`${prefix}:*`, { limit: 5, slotDecayPerSecond: 1000 });
		const name = `${prefix}:user`;
		await granted({ names: name, mode: "rate_limit" });
		await lastUsed(name, 299_000);
		await runDurableObjectAlarm(limitObject(name));
		expect((await call("GET", path(name))).status).toBe(200);
		await lastUsed(name, 301_000);
		await runDurableObjectAlarm(limitObject(name));
		expectProblem(await call("GET", path(name)), 404, "unknown_limit");
		expect(await stored(name)).toEqual({ tables: {}, alarm: null });
		expect((await granted({ names: name, mode: "rate_limit" })).limits).toMatchObject([{ limit: 5 }]);
		await removePolicy(`${prefix}:*`);
	});

	test("but not while it holds anything, nor while it is used now and then", async () => {
		const prefix = newName();
		await setPolicy(`${prefix}:*`, { limit: 5 });
		const [holding, used] = [`${prefix}:holding`, `${prefix}:used`];
		const lease = await granted({ names: holding, leaseSeconds: 3_600 });
		await lastUsed(holding, DAY);
		await runDurableObjectAlarm(limitObject(holding));
		expect((await inspect(holding)).activeSlots).toBe(1);
		await release(lease);
		await release(await granted({ names: used }));
		await lastUsed(used, 290_000);
		const id = newId();
		await release(await granted({ names: used, id }));
		await evict(used);
		await runDurableObjectAlarm(limitObject(used));
		expectProblem(await acquire({ names: used, id }), 409, "id_in_use");
		await removePolicy(`${prefix}:*`);
	});

	test("a name that nobody configured is there for a day, for an operator to see, and then deletes itself", async () => {
		const name = newName();
		await granted({ names: name, mode: "rate_limit" });
		await until(() => listed(name));
		await lastUsed(name, DAY - 60_000);
		await runDurableObjectAlarm(limitObject(name));
		expect((await inspect(name)).origin).toBe("default");
		await lastUsed(name, DAY + 1_000);
		await runDurableObjectAlarm(limitObject(name));
		expectProblem(await call("GET", path(name)), 404, "unknown_limit");
		expect(await stored(name)).toEqual({ tables: {}, alarm: null });
		expect(await listed(name)).toBe(false);
	});

	test("a limit that was configured stays, however long nobody uses it", async () => {
		const made = await newLimit();
		const adopted = newName();
		await granted({ names: adopted, mode: "rate_limit" });
		await configure(adopted, { limit: 1 });
		for (const name of [made, adopted]) {
			await lastUsed(name, 400 * DAY);
			await runDurableObjectAlarm(limitObject(name));
			expect((await inspect(name)).origin).toBe("configured");
		}
	});

	test("a deleted limit leaves no storage", async () => {
		const name = await newLimit();
		await granted({ names: name });
		await remove(name);
		await until(async () => (await storedLimit(name)).identity.reported);
		await buried(name);
		expect(await stored(name)).toEqual({ tables: {}, alarm: null });
		await configure(name, { limit: 1 });
		expect(await inspect(name)).toMatchObject({ activeSlots: 0 });
	});
});

/** Why a call failed. A promise of RPC is asked for nothing but that: each property of it would be a call that fails too. */
const failureOf = (call: Promise<unknown>): Promise<string> =>
	call.then(
		() => "it did not",
		(error) => String(error),
	);

/**
 * In a turn of its own: an abort ends whatever runs, and the test runner runs in the same isolate. Answers whether it has
 * happened.
 */
function abortLater(state: DurableObjectState): () => boolean {
	const abort = state.abort.bind(state);
	let happened = false;
	state.abort = (reason) => {
		setTimeout(() => {
			happened = true;
			abort(reason);
		}, 0);
	};
	return () => happened;
}

describe("commits", () => {
	test("promise 6: a write that fails throws the object away, and nobody had been told", async () => {
		const name = await newLimit({ limit: 3 });
		const lease = await granted({ names: name });
		const waiter = await openQueued({ names: name, occupy: 3, id: newId() });
		const { tables } = await stored(name);
		await runInDurableObject(limitObject(name), (_, state) => {
			state.storage.transactionSync = () => {
				throw new Error("disk full");
			};
			abortLater(state);
		});
		const answer = await release(lease);
		expectProblem(answer, 503, "overloaded");
		expect(JSON.stringify(answer.body)).not.toContain("disk full");
		await waiter.ended;
		expect({ state: waiter.state, lease: waiter.lease }).toEqual({ state: "broken", lease: null });
		expect((await stored(name)).tables).toEqual(tables);
		expect(await inspect(name)).toMatchObject({ activeSlots: 1, waitingCount: 1 });
		expect((await release(lease)).body).toEqual({ released: 1 });
	});

	test("promise 6: a stream hears of nothing before its commit", async () => {
		const name = await newLimit();
		const lease = await granted({ names: name });
		const waiter = await openQueued({ names: name });
		const gate = Promise.withResolvers<void>();
		let synced = 0;
		await runInDurableObject(limitObject(name), (_, state) => {
			const sync = state.storage.sync.bind(state.storage);
			state.storage.sync = async () => {
				synced += 1;
				await gate.promise;
				await sync();
			};
		});
		const released = release(lease);
		await until(() => synced > 0);
		// The grant is decided and stored; the disk has not confirmed it, however many turns go by.
		expect((await storedLimit(name)).entries).toHaveLength(1);
		for (let turn = 0; turn < 20; turn += 1) await scheduler.wait(1);
		expect(waiter.lease).toBeNull();
		gate.resolve();
		await waiter.granted();
		expect((await released).body).toEqual({ released: 1 });
	});

	test("calls that arrive while a commit is written share the next one", async () => {
		const name = await newLimit({ limit: 1_000 });
		let transactions = 0;
		await runInDurableObject(limitObject(name), (_, state) => {
			const transact = state.storage.transactionSync.bind(state.storage);
			state.storage.transactionSync = (work) => {
				transactions += 1;
				return transact(work);
			};
		});
		const calls = 300;
		await runInDurableObject(limitObject(name), async (instance) => {
			const request = {
				...{ slots: 1, mode: "concurrency" as const, leaseMs: 60_000, waitMs: 0, ifBusy: "deny" as const },
				...{ holder: null, held: false, print: "", remember: false },
			};
			const asks = Array.from({ length: calls }, () =>
				instance.acquire({ request: { ...request, id: newId() }, createIfMissing: false }),
			);
			await Promise.all(asks);
		});
		expect((await inspect(name)).activeSlots).toBe(calls);
		expect(transactions).toBeLessThan(calls / 10);
	});

	test("a denial costs no write", async () => {
		const name = await newLimit();
		await granted({ names: name });
		const before = await storedLimit(name);
		for (let times = 0; times < 3; times += 1) await acquire({ names: name });
		expect((await storedLimit(name)).entries).toEqual(before.entries);
		expect((await inspect(name)).totals.denied).toBe(3);
		// They are written a moment later all the same, so that a restart does not lose them for long.
		await until(async () => {
			const { limit } = await runInDurableObject(limitObject(name), (_, { storage }) => found(storage));
			return limit.totals.denied === 3;
		});
	});

	test("promise 6: many at once on one limit are all told the truth", async () => {
		const name = await newLimit({ limit: 40 });
		const answers = await Promise.all(Array.from({ length: 120 }, () => acquire({ names: name })));
		const leases = answers.filter(({ status }) => status === 200).map(({ body }) => body);
		expect(leases).toHaveLength(40);
		expect(answers.filter(({ status }) => status === 429)).toHaveLength(80);
		await evict(name);
		expect((await inspect(name)).activeSlots).toBe(40);
		const released = await Promise.all(leases.map(release));
		expect(released.every(({ body }) => body.released === 1)).toBe(true);
		expect((await inspect(name)).activeSlots).toBe(0);
		await untilWaiting(name, 0);
	});
});
