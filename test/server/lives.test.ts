/**
 * Every life of a limit, from its first use until nothing of it is left to do, by a storage that counts. Time is driven by
 * the alarms themselves, and each of them finds an object that was not in memory.
 */

import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { afterEach, beforeAll, expect, test, vi } from "vitest";
import {
	acquire,
	call,
	configure,
	dump,
	granted,
	inspect,
	limitObject,
	newId,
	newName,
	newNames,
	openQueued,
	release,
	remove,
	removePolicy,
	renew,
	reported,
	setPolicy,
} from "./support.ts";

interface Count {
	/** As they are billed: rows of statements, those of the directory too, and one for each alarm that is moved. */
	rows: number;
	/** Alarms that were set, moved or deleted. */
	moved: number;
	rang: number;
	/** Of those that rang, the ones after which everything was stored as before: to delete them would have cost more. */
	inVain: number;
}

interface Alarm {
	name: string;
	at: number;
}

const restores: (() => void)[] = [];

afterEach(() => {
	for (const restore of restores.splice(0).reverse()) restore();
	vi.useRealTimers();
});

// The objects beside the limits are made before anything is counted.
beforeAll(() => call("GET", "/metrics"));

const FOR_EVER = 50;

/** The storage keeps the alarms of each object, as far off: they ring when they are told to. */
const FAR_MS = 1e12;

/** What an object does so soon, it does before it can be evicted. */
const MOMENT_MS = 1_000;

/** Counts what is written while one limit lives. */
class Counted {
	readonly count: Count = { rows: 0, moved: 0, rang: 0, inVain: 0 };
	/** The second name of a limit is another object. */
	readonly names: string[];
	#counting = true;
	/** What the objects still have to do, beside their answers. */
	readonly #work = new Set<unknown>();
	#forget!: (storage: DurableObjectStorage) => Promise<void>;
	#pause!: () => Promise<void>;

	constructor(name: string) {
		this.names = [name];
	}

	/** From here on everything counts. By the classes of the storage, for an object that wakes has another one. */
	async begin(): Promise<void> {
		const { count } = this;
		const move = (): void => {
			count.moved += 1;
			count.rows += 1;
		};
		this.#watchWork();
		await runInDurableObject(limitObject(this.names[0] as string), (_, state) => {
			const work = this.#work;
			const { waitUntil } = state;
			replace(
				Object.getPrototypeOf(state) as DurableObjectState,
				"waitUntil",
				function (this: DurableObjectState, promise) {
					work.add(promise);
					const done = () => work.delete(promise);
					promise.then(done, done);
					waitUntil.call(this, promise);
				},
			);
			const { storage } = state;
			const disk = Object.getPrototypeOf(storage) as DurableObjectStorage;
			const { getAlarm, setAlarm, deleteAlarm } = disk;
			replace(disk, "getAlarm", async function (this: DurableObjectStorage) {
				const at = await getAlarm.call(this);
				return at === null ? null : at - FAR_MS;
			});
			replace(disk, "setAlarm", function (this: DurableObjectStorage, at) {
				move();
				return setAlarm.call(this, Number(at) + FAR_MS);
			});
			replace(disk, "deleteAlarm", async function (this: DurableObjectStorage) {
				if ((await getAlarm.call(this)) !== null) move();
				return deleteAlarm.call(this);
			});
			this.#forget = (storage) => deleteAlarm.call(storage);
			const sql = Object.getPrototypeOf(storage.sql) as SqlStorage;
			const { exec } = sql;
			const isCounting = () => this.#counting;
			replace(sql, "exec", function (this: SqlStorage, ...args: Parameters<SqlStorage["exec"]>) {
				const cursor = exec.apply(this, args);
				// What the directory writes down of all limits together, twice a minute at most, is of none of them.
				if (isCounting() && !args[0].startsWith("UPDATE attention")) count.rows += cursor.rowsWritten;
				return cursor;
			} as SqlStorage["exec"]);
		});
	}

	/** What is put off for a moment is as much to be done as what runs: a real object is not evicted within it. */
	#watchWork(): void {
		const work = this.#work;
		const { setTimeout, clearTimeout } = globalThis;
		replace(globalThis, "setTimeout", ((run: () => void, ms = 0) => {
			const timer = setTimeout(() => {
				work.delete(timer);
				run();
			}, ms);
			if (ms <= MOMENT_MS) work.add(timer);
			return timer;
		}) as typeof globalThis.setTimeout);
		replace(globalThis, "clearTimeout", ((timer) => {
			work.delete(timer);
			clearTimeout(timer ?? null);
		}) as typeof globalThis.clearTimeout);
		this.#pause = () => new Promise((resolve) => setTimeout(resolve, 1));
	}

	async #settled(): Promise<void> {
		while (this.#work.size > 0) await this.#pause();
	}

	async evict(name: string): Promise<void> {
		await this.#settled();
		await evictDurableObject(limitObject(name));
	}

	/** Lets time pass, and what falls due in it. */
	async pass(ms: number): Promise<void> {
		const endsAt = Date.now() + ms;
		for (;;) {
			const next = await this.#next();
			if (!next || next.at > endsAt) break;
			await this.#ring(next);
		}
		vi.setSystemTime(endsAt);
	}

	async ringToTheEnd(): Promise<void> {
		const before = this.count.rang;
		for (let next = await this.#next(); next; next = await this.#next()) {
			await this.#ring(next);
			if (this.count.rang > before + FOR_EVER) throw new Error(`It rings for ever: ${JSON.stringify(this.count)}`);
		}
	}

	/** The alarm that is the next to ring. */
	async #next(): Promise<Alarm | undefined> {
		const alarms: Alarm[] = [];
		for (const name of this.names) {
			const at = await runInDurableObject(limitObject(name), (_, { storage }) => storage.getAlarm());
			if (at !== null) alarms.push({ name, at });
		}
		return alarms.sort((a, b) => a.at - b.at)[0];
	}

	async #ring({ name, at }: Alarm): Promise<void> {
		await this.#settled();
		const before = await this.#tables(name);
		await this.evict(name);
		vi.setSystemTime(Math.max(at, Date.now()));
		await runInDurableObject(limitObject(name), async (object, { storage }) => {
			await this.#forget(storage);
			await object.alarm();
		});
		await this.#settled();
		this.count.rang += 1;
		if ((await this.#tables(name)) === before) this.count.inVain += 1;
	}

	async #tables(name: string): Promise<string> {
		this.#counting = false;
		const { tables } = await runInDurableObject(limitObject(name), (_, state) => dump(state));
		this.#counting = true;
		return JSON.stringify(tables);
	}
}

/** Puts another method into a class, until the test is over. */
function replace<T extends object, K extends keyof T & string>(of: T, method: K, by: T[K]): void {
	const was = of[method];
	Object.assign(of, { [method]: by });
	restores.push(() => Object.assign(of, { [method]: was }));
}

/** As the library does: with an id of its own, which is remembered for five minutes. */
const useOnce = async (name: string) => release(await granted({ names: name, id: newId() }));

/** The directory hears of it while it is in use: one move of the alarm fewer, where a release comes before that. */
const useNewName = async (name: string) => {
	const lease = await granted({ names: name, id: newId() });
	await reported(name);
	await release(lease);
};

const make = async (name: string) => {
	await configure(name, { limit: 1 });
	await reported(name);
};

/** Answers its second name, whose object is counted from here on too. */
async function rename(name: string, counted: Counted): Promise<string> {
	const to = `${name}-b`;
	counted.names.push(to);
	await call("PATCH", `/api/v2/concurrency_limits/${name}`, { name: to });
	await reported(to);
	return to;
}

interface Life {
	life: string;
	/** The policy that the limit follows. */
	policy?: Record<string, unknown>;
	live(name: string, counted: Counted): Promise<unknown>;
	count: Count;
}

const SLOTS = { limit: 5, idleSeconds: 10 };
const RATE = { limit: 5, slotDecayPerSecond: 1, idleSeconds: 10 };

/*
 * Of the rows of each life, two are its table and one is the limit. One is what the directory is told, at each end of a limit
 * that it knows; one is what a key tells the sums of its policy before it goes.
 */
const lives: Life[] = [
	{
		life: "a key, asked once by rate",
		policy: RATE,
		live: (name) => acquire({ names: name, mode: "rate_limit" }),
		count: { rows: 5, moved: 1, rang: 1, inVain: 0 },
	},
	{
		life: "a key, asked once by rate, with an id",
		policy: { ...RATE, idleSeconds: 5 },
		live: (name) => acquire({ names: name, mode: "rate_limit", id: newId() }),
		count: { rows: 5, moved: 1, rang: 1, inVain: 0 },
	},
	{
		life: "a key, asked once by rate for an estimate, which is settled",
		policy: RATE,
		live: async (name) => {
			const { id } = await granted({ names: name, mode: "rate_limit", occupy: 3, settleSeconds: 60 });
			await call("POST", "/v1/settle", { id, actual: { [name]: 1 } });
		},
		count: { rows: 7, moved: 2, rang: 1, inVain: 0 },
	},
	{
		life: "a key, asked once by rate for an estimate, which stands, beyond the idle time",
		policy: RATE,
		live: (name) => granted({ names: name, mode: "rate_limit", occupy: 3, settleSeconds: 60 }),
		count: { rows: 16, moved: 3, rang: 3, inVain: 0 },
	},
	{
		life: "a key, used once by the library",
		policy: SLOTS,
		live: useOnce,
		count: { rows: 7, moved: 2, rang: 1, inVain: 0 },
	},
	{
		life: "a key that is idle as long as its ids are remembered",
		policy: { ...SLOTS, idleSeconds: 300 },
		live: useOnce,
		count: { rows: 7, moved: 2, rang: 1, inVain: 0 },
	},
	{
		life: "a key, used every five seconds for a while",
		policy: SLOTS,
		live: async (name, counted) => {
			for (let times = 0; times < 20; times += 1) {
				await useOnce(name);
				await counted.pass(5_000);
			}
		},
		count: { rows: 59, moved: 9, rang: 2, inVain: 1 },
	},
	{
		life: "a key whose lease is left to its end, beyond the idle time",
		policy: SLOTS,
		live: (name) => granted({ names: name, id: newId(), leaseSeconds: 3_600 }),
		count: { rows: 16, moved: 3, rang: 3, inVain: 0 },
	},
	{
		life: "a key that holds slots of nobody, beyond the idle time",
		policy: SLOTS,
		live: async (name) => {
			await useOnce(name);
			await limitObject(name).takeBack(0, null);
			await call("PATCH", `/v1/limits/${name}`, { activeSlots: 2 });
		},
		count: { rows: 13, moved: 3, rang: 1, inVain: 0 },
	},
	{
		life: "a name of nobody's, used once",
		live: useNewName,
		count: { rows: 14, moved: 3, rang: 1, inVain: 0 },
	},
	{
		life: "a name of nobody's, looked at for an hour",
		live: async (name, counted) => {
			await useNewName(name);
			for (let times = 0; times < 60; times += 1) {
				await counted.pass(60_000);
				await counted.evict(name);
				await inspect(name);
			}
		},
		count: { rows: 14, moved: 3, rang: 1, inVain: 0 },
	},
	{ life: "a limit, configured", live: make, count: { rows: 8, moved: 1, rang: 1, inVain: 1 } },
	{
		life: "a limit, configured and used once",
		live: async (name) => {
			await make(name);
			await useOnce(name);
		},
		count: { rows: 11, moved: 2, rang: 1, inVain: 1 },
	},
	{
		life: "a limit that remembers ids and is asked nothing more",
		live: async (name, counted) => {
			await make(name);
			for (let times = 0; times < 5; times += 1) await useOnce(name);
			await counted.pass(86_400_000);
		},
		count: { rows: 19, moved: 2, rang: 1, inVain: 1 },
	},
	{
		life: "a limit, used every ten seconds for an hour",
		live: async (name, counted) => {
			await make(name);
			for (let times = 0; times < 360; times += 1) {
				await useOnce(name);
				await counted.pass(10_000);
			}
		},
		count: { rows: 818, moved: 91, rang: 1, inVain: 1 },
	},
	{
		life: "a limit whose lease is renewed for a day",
		live: async (name, counted) => {
			await make(name);
			const lease = await granted({ names: name, leaseSeconds: 900 });
			for (let times = 0; times < 288; times += 1) {
				await counted.pass(300_000);
				await renew(lease);
			}
			await release(lease);
		},
		count: { rows: 443, moved: 146, rang: 1, inVain: 1 },
	},
	{
		life: "a limit that is waited for",
		live: async (name) => {
			await make(name);
			const lease = await granted({ names: name });
			const waiter = await openQueued({ names: name, waitSeconds: 30 });
			await release(lease);
			const next = await waiter.granted();
			await waiter.ended;
			await release(next);
		},
		count: { rows: 14, moved: 3, rang: 1, inVain: 1 },
	},
	{
		life: "a limit, deleted",
		live: async (name) => {
			await make(name);
			await useOnce(name);
			await remove(name);
			await reported(name);
		},
		count: { rows: 16, moved: 4, rang: 1, inVain: 0 },
	},
	{
		life: "a limit, renamed while nothing of it is in use",
		live: async (name, counted) => {
			await make(name);
			await rename(name, counted);
		},
		count: { rows: 26, moved: 3, rang: 2, inVain: 1 },
	},
	{
		life: "a limit, renamed while a lease is held, which its holder renews and releases by the name before",
		live: async (name, counted) => {
			await make(name);
			const lease = await granted({ names: name, id: newId(), leaseSeconds: 900 });
			const to = await rename(name, counted);
			await counted.pass(300_000);
			await renew(lease);
			await release(lease);
			expect((await inspect(to)).activeSlots).toBe(0);
		},
		count: { rows: 36, moved: 6, rang: 3, inVain: 2 },
	},
];

test.each(lives)("what it writes, and how often it is woken: $life", async ({ policy, live, count }) => {
	vi.useFakeTimers({ toFake: ["Date"], now: Date.now() });
	const name = newName();
	if (policy) await setPolicy(`${name}*`, policy);
	const counted = new Counted(name);
	await counted.begin();
	await live(name, counted);
	await counted.ringToTheEnd();
	expect(counted.count).toEqual(count);
	if (policy) await removePolicy(`${name}*`);
});

const RUNS = 40;

/** As often as it is asked for again, each in a commit of its own, once the limits are there and have an alarm. */
test.each<[what: string, rows: number, run: (names: [string, string], lease: object) => Promise<unknown>]>([
	["acquire and release", 2, ([name]) => useOnce(name)],
	["acquire by rate with an id", 1, ([, rate]) => granted({ names: rate, id: newId(), mode: "rate_limit" })],
	["renew", 1, (_, lease) => renew(lease)],
	["acquire and release of two names", 4, async (names) => release(await granted({ names, id: newId() }))],
])("promise 14: one row a commit: %s", async (_, rows, run) => {
	const names = newNames(2) as [string, string];
	await configure(names[0], { limit: 1_000 });
	await configure(names[1], { limit: 1_000, slotDecayPerSecond: 1_000 });
	for (const name of names) await reported(name);
	const lease = await granted({ names: names[0] });
	await run(names, lease);
	const counted = new Counted(names[0]);
	await counted.begin();
	for (let times = 0; times < RUNS; times += 1) await run(names, lease);
	const { count } = counted;
	expect(count.rows - count.moved).toBe(rows * RUNS);
});
