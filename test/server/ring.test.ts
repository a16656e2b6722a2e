/** What a limit stores: commits that fail anywhere, rows that are torn, and data of earlier versions. */

import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { Command } from "../../src/core/commands.ts";
import { decide } from "../../src/core/decide.ts";
import { createLimit, type Limit, type Request } from "../../src/core/limit.ts";
import { REMEMBER_MS } from "../../src/core/patience.ts";
import { saveEntry, saveLimit } from "../../src/core/saved.ts";
import { BOUNDS } from "../../src/protocol.ts";
import { type Identity, LimitStore, type Stored } from "../../src/server/limit/store.ts";
import { Random } from "../core/random.ts";
import {
	acquire,
	alter,
	call,
	directory,
	expectProblem,
	found,
	granted,
	inspect,
	limitObject,
	newId,
	newLimit,
	newName,
	path,
	release,
	stored,
} from "./support.ts";
import { VERSION_3, VERSION_3_AT } from "./version-3.ts";

afterEach(() => vi.useRealTimers());

type Storage = ConstructorParameters<typeof LimitStore>[0];

class NoDisk extends Error {}

/** A storage whose disk fails from some statement on. */
class Disk {
	readonly storage: Storage;
	#left = Number.POSITIVE_INFINITY;

	constructor({ sql, ...storage }: Pick<DurableObjectStorage, "sql" | "transactionSync">) {
		const exec: SqlStorage["exec"] = (...args) => {
			this.#left -= 1;
			if (this.#left < 0) throw new NoDisk();
			return sql.exec(...args);
		};
		this.storage = {
			sql: new Proxy(sql, { get: (of, key) => (key === "exec" ? exec : Reflect.get(of, key)) }),
			transactionSync: storage.transactionSync,
		};
	}

	failAfter(statements: number): void {
		this.#left = statements;
	}
}

const plain = (storage: DurableObjectStorage): Storage => ({
	sql: storage.sql,
	transactionSync: (work) => storage.transactionSync(work),
});

/** Everything that is to be found again, once time has run to now. */
function all(store: LimitStore, { identity, limit, usedAt }: Stored, now: number): unknown {
	decide(limit, { kind: "tick" }, now);
	const ended = store.remembered().filter(({ until }) => until > now);
	return {
		...{ identity, usedAt, limit: saveLimit(limit) },
		entries: [...limit.entries.values()].map((entry) => saveEntry(limit, entry)),
		ended: ended.sort((a, b) => (a.id < b.id ? -1 : 1)),
		history: store.history.samples(now, { limit: 0, activeSlots: 0, waiting: 0, slotDecayPerSecond: 0 }),
	};
}

function loaded(storage: Storage, now: number): { store: LimitStore; found: Stored } {
	const store = new LimitStore(storage);
	const stored = store.load(now);
	if (!stored || stored instanceof Error) throw stored ?? new Error("Nothing is stored.");
	return { store, found: stored };
}

const IDENTITY: Identity = {
	...{ name: "ring", id: "ring", origin: "configured", policy: null, version: 1, idleMs: null, updatedBy: null },
	...{ createdAt: 0, updatedAt: 0, alive: true, listed: true, reported: true, region: null },
};

class Life {
	readonly #random: Random;
	readonly #ids: string[] = [];
	#count = 0;

	constructor(seed: number) {
		this.#random = new Random(seed);
	}

	commands(): Command[] {
		return Array.from({ length: this.#random.int(1, 6) }, () => this.#command());
	}

	#command(): Command {
		const random = this.#random;
		const id = this.#ids.length > 0 ? random.pick(this.#ids) : "none";
		if (random.chance(0.3)) return { kind: "release", id, by: "caller" };
		if (random.chance(0.2)) return { kind: "renew", id, leaseMs: random.int(1_000, 900_000) };
		this.#count += 1;
		const isNew = `request-${this.#count}`;
		this.#ids.push(isNew);
		if (this.#ids.length > 60) this.#ids.shift();
		const mode = random.chance(0.5) ? "concurrency" : "rate_limit";
		const request: Request = {
			...{ id: isNew, slots: random.int(1, 3), mode, leaseMs: random.int(1_000, 900_000), waitMs: 0, ifBusy: "deny" },
			...{ holder: random.chance(0.5) ? "é".repeat(40) : null, held: false, print: mode, remember: true },
		};
		return { kind: "acquire", request };
	}
}

/** Answers whether anything was written. */
function carryOut(store: LimitStore, limit: Limit, commands: Command[], now: number): boolean {
	return store.together(() => {
		const events = commands.flatMap((command) => {
			const decided = decide(limit, command, now).events;
			store.remember(decided);
			const reading = {
				limit: limit.settings.limit,
				activeSlots: limit.sums.leases,
				waiting: 0,
				slotDecayPerSecond: 3,
			};
			store.history.note(now, reading, limit.totals);
			return decided;
		});
		return store.write(limit, events, now);
	});
}

describe("promise 6: a commit is there as a whole, or not at all", () => {
	const COMMITS = 220;

	test("whichever of its statements fails, through many rounds of the ring", async () => {
		const seed = crypto.getRandomValues(new Uint32Array(1))[0] as number;
		console.log(`ring: seed ${seed}`);
		const life = new Life(seed);
		await runInDurableObject(limitObject(newName()), (_, { storage }) => {
			let now = 1_000_000;
			const first = new LimitStore(plain(storage));
			const limit = createLimit({ limit: 1_000, slotDecayPerSecond: 3, active: true }, now, first.recall);
			first.together(() => first.create(IDENTITY, limit, now));
			let failures = 0;
			for (let commits = 0; commits < COMMITS; commits += 1) {
				now += commits % 7 === 0 ? 4_000 : 20;
				const commands = life.commands();
				const is = loaded(plain(storage), now);
				const before = all(is.store, is.found, now);
				for (let statements = 0; ; statements += 1) {
					const disk = new Disk(plain(storage));
					const { store, found } = loaded(disk.storage, now);
					disk.failAfter(statements);
					let [failed, written] = [false, false];
					try {
						written = carryOut(store, found.limit, commands, now);
					} catch (error) {
						if (!(error instanceof NoDisk)) throw error;
						failed = true;
					}
					const next = loaded(plain(storage), now);
					const { usedAt } = next.found;
					const ought = !written ? before : all(store, { ...found, usedAt }, now);
					expect(all(next.store, next.found, now), `commit ${commits}, statement ${statements}`).toEqual(ought);
					if (!failed) break;
					failures += 1;
				}
			}
			expect(failures).toBeGreaterThanOrEqual(COMMITS / 2);
			// Slots are written over: without that there were a row for each commit.
			const { rows } = storage.sql.exec<{ rows: number }>("SELECT count(*) AS rows FROM schema").one();
			expect(rows).toBeLessThan(COMMITS / 2);
		});
	});
});

describe("a commit stops the object for no longer than it takes to say a bounded part again", () => {
	const LEASES = 10_000;
	const IDS = 60_000;
	const COMMITS = 4_000;
	const BLOCK = 50;
	/** Requests of one commit: a batch. */
	const AT_ONCE = 100;
	/** What is said again at most, twice what the commit adds, what it adds, and the request in the middle of which that is reached. */
	const MOST = 32_768 + 3 * 700 + 1_000;
	/** Ids that a commit takes out of memory at most, and the rest of those that ended alike. */
	const FORGOTTEN = 1_000 + 100;

	test(`with ${LEASES} leases and ${IDS} ids that are remembered`, async () => {
		await runInDurableObject(limitObject(newName()), (_, { storage }) => {
			let now = 1_000_000;
			let length = 0;
			const exec: SqlStorage["exec"] = (statement, ...values) => {
				for (const value of values) if (typeof value === "string") length += value.length;
				return storage.sql.exec(statement, ...values);
			};
			const sql = new Proxy(storage.sql, { get: (of, key) => (key === "exec" ? exec : Reflect.get(of, key)) });
			const store = new LimitStore({ ...plain(storage), sql });
			const limit = createLimit({ limit: 1_000_000, slotDecayPerSecond: 0, active: true }, now, store.recall);
			store.together(() => store.create(IDENTITY, limit, now));
			const acquired = (id: string): Command => ({
				kind: "acquire",
				request: {
					...{ id, slots: 1, mode: "concurrency", leaseMs: 3_600_000, waitMs: 0, ifBusy: "deny", remember: true },
					...{ holder: "somebody", held: false, print: "print" },
				},
			});
			const used = (id: string): Command[] => [acquired(id), { kind: "release", id, by: "caller" }];
			const ids = (count: number): string[] => Array.from({ length: count }, () => crypto.randomUUID());
			for (let done = 0; done < LEASES; done += AT_ONCE) carryOut(store, limit, ids(AT_ONCE).map(acquired), now);
			for (let done = 0; done < IDS; done += AT_ONCE) carryOut(store, limit, ids(AT_ONCE).flatMap(used), now);
			length = 0;
			const renewed = [...limit.entries.keys()].map((id): Command => ({ kind: "renew", id, leaseMs: null }));
			// Until the ring is as long as it gets, and what is true of its oldest rows is said again.
			for (let [done, plainly] = [0, 0]; plainly === 0 || length < 2 * plainly; done += AT_ONCE) {
				plainly = plainly || length;
				length = 0;
				now += 1;
				carryOut(store, limit, renewed.slice(done % LEASES, (done % LEASES) + AT_ONCE), now);
				if (done > 50 * LEASES) throw new Error(`Nothing was said again: ${length}, ${plainly}.`);
			}

			storage.sql.exec("CREATE TABLE bare (slot INTEGER PRIMARY KEY, text TEXT NOT NULL)");
			const bare = (text: string, slot: number) =>
				storage.transactionSync(() => {
					storage.sql.exec("INSERT OR REPLACE INTO bare VALUES (?, ?)", slot, text);
				});
			const lengths: number[] = [];
			const forgotten: number[] = [];
			/** Of so many commits after each other, for the clock here has whole milliseconds; and of bare rows as long. */
			const blocks: { tookMs: number; bareMs: number; slowestMs: number }[] = [];
			for (let commits = 0; commits < COMMITS; commits += BLOCK) {
				const texts: string[] = [];
				let [slowestMs, lastAt] = [0, performance.now()];
				const startedAt = lastAt;
				for (let each = commits; each < commits + BLOCK; each += 1) {
					// In the middle all ids are forgotten at once: most of the ring is out of date.
					now += each === COMMITS / 2 ? REMEMBER_MS : 1;
					length = 0;
					const before = store.inMemory;
					carryOut(store, limit, used(`used-${each}`), now);
					forgotten.push(before + 1 - store.inMemory);
					lengths.push(length);
					slowestMs = Math.max(slowestMs, performance.now() - lastAt);
					lastAt = performance.now();
				}
				const tookMs = performance.now() - startedAt;
				for (const each of lengths.slice(-BLOCK)) texts.push("x".repeat(each));
				const bareAt = performance.now();
				for (const [slot, text] of texts.entries()) bare(text, slot);
				if (commits === COMMITS / 2) {
					// What is over is recalled no more, though some of it is still to be taken out of memory.
					expect(store.inMemory).toBeGreaterThan(BLOCK);
					const ids = Array.from({ length: BLOCK }, (_, at) => `used-${commits + at}`);
					expect(store.remembered().map(({ id }) => id)).toEqual(ids);
					expect(store.recall(`used-${commits - 1}`)).toBeUndefined();
				}
				// An object that wakes between the commits that say one long row again finds everything.
				if (commits % (COMMITS / 8) === 0) {
					const woken = loaded(plain(storage), now);
					expect(woken.found.limit.entries.size).toBe(LEASES);
					expect(woken.store.remembered().filter(({ until }) => until > now).length).toBe(store.remembered().length);
				}
				blocks.push({ tookMs, bareMs: performance.now() - bareAt, slowestMs });
			}
			const middle = blocks[COMMITS / 2 / BLOCK] as (typeof blocks)[number];
			const quiet = blocks.toSorted((a, b) => a.tookMs - b.tookMs)[Math.floor(blocks.length / 2)] as typeof middle;
			console.log(
				`${BLOCK} commits that forget and say again: ${middle.tookMs} ms, the slowest ${middle.slowestMs} ms; as many that do not: ` +
					`${quiet.tookMs} ms; bare rows as long as the first: ${middle.bareMs} ms; most characters of a commit: ${Math.max(...lengths)}, ` +
					`most ids: ${Math.max(...forgotten)}`,
			);
			const of = (all: number[], part: number): number =>
				all.toSorted((a, b) => a - b)[Math.floor((all.length - 1) * part)] as number;
			// Both are there: commits that say something again, and a bound to it.
			expect(of(lengths, 1)).toBeLessThan(MOST);
			expect(of(lengths, 1)).toBeGreaterThan(MOST / 2);
			expect(Math.max(...forgotten)).toBeLessThan(FORGOTTEN);
			expect(limit.entries.size).toBe(LEASES);
		});
	});
});

describe("data that does not fit together is refused and left alone", () => {
	/** A limit that was used, with its rows harmed. */
	async function harmed(statement: string): Promise<string> {
		const name = await newLimit({ limit: 5 });
		for (let times = 0; times < 5; times += 1) await granted({ names: name, id: newId() });
		await runInDurableObject(limitObject(name), (_, { storage }) => {
			storage.sql.exec(statement);
		});
		await evictDurableObject(limitObject(name));
		return name;
	}

	test.each([
		["a row that is missing", "DELETE FROM schema WHERE number = 3", /row 3 of 1 to \d is missing/],
		["a row that is cut off", "UPDATE schema SET changes = substr(changes, 1, 20) WHERE number = 3", /row 3 is broken/],
		["numbers that are cut off", "UPDATE schema SET state = substr(state, 1, 20)", /row \d is broken/],
		["no row that says whose it is", "UPDATE schema SET changes = '{}'", /whose it is/],
	])("%s", async (_, statement, why) => {
		const name = await harmed(statement);
		const { tables } = await stored(name);
		for (const answer of [await call("GET", path(name)), await acquire({ names: name })]) {
			expect(expectProblem(answer, 503, "damaged_data").detail).toMatch(why);
		}
		expect((await stored(name)).tables).toEqual(tables);
	});
});

describe("data of earlier versions", () => {
	const write = ({ sql }: DurableObjectStorage, statements: string): void => {
		for (const statement of statements.split(";\n")) if (statement.trim() !== "") sql.exec(statement);
	};

	/** The object of a name has stored this, and is not in memory. */
	async function install(name: string, statements: string): Promise<void> {
		vi.useFakeTimers({ toFake: ["Date"], now: VERSION_3_AT });
		await runInDurableObject(limitObject(name), (_, { storage }) => write(storage, statements));
		await evictDurableObject(limitObject(name));
		await directory().register({ name, id: "89ce4db7-e2e6-4580-b992-7c896301fdb1", own: true });
	}

	test("of version 3 is one row of the ring once its object wakes, and nothing of it is lost", async () => {
		// The name is part of what makes two requests the same.
		const name = "fixture";
		await install(name, VERSION_3);
		const before = await inspect(name);
		expect(before).toMatchObject({ limit: 5, slotDecayPerSecond: 0.5, leaseCount: 2, waitingCount: 2 });
		expect(before.totals).toMatchObject({ grantedAtOnce: 4, released: 1, denied: 1 });
		expect(Object.keys((await stored(name)).tables)).toEqual(["schema"]);
		expect((await stored(name)).tables.schema).toHaveLength(1);
		await evictDurableObject(limitObject(name));
		expect(await inspect(name)).toEqual(before);
		const { samples } = (await call<{ samples: { activeSlots: number }[] }>("GET", `${path(name)}/history`)).body;
		expect(Math.max(...samples.map(({ activeSlots }) => activeSlots))).toBe(4);
		expectProblem(await acquire({ names: name, id: "given-back" }), 409, "id_in_use");
		const again = await acquire({ names: name, id: "receipt", mode: "rate_limit" });
		expect(again.status, JSON.stringify(again.body)).toBe(200);
		expect((await release({ names: name, id: "lease-of-two" })).status).toBe(200);
		expect((await inspect(name)).leases.map(({ id }) => id)).toEqual(["lease-of-one"]);
	});

	test("of version 1, before there was a history and what was remembered", async () => {
		const name = newName();
		const state = /INSERT INTO itself .*/.exec(VERSION_3)?.[0].replace(/,"sample":\[[^\]]*\]/, "");
		await install(
			name,
			"CREATE TABLE schema (version INTEGER NOT NULL);\nINSERT INTO schema VALUES (1);\n" +
				`CREATE TABLE itself (identity TEXT NOT NULL, state TEXT NOT NULL, used_at INTEGER NOT NULL);\n${state}`,
		);
		expect(await inspect(name)).toMatchObject({ limit: 5, leaseCount: 0 });
		expect((await call<{ samples: unknown[] }>("GET", `${path(name)}/history`)).body.samples).toHaveLength(1);
	});

	test("is as it was when the move into the ring fails, at whichever statement", async () => {
		await runInDurableObject(limitObject(newName()), (_, { storage }) => {
			write(storage, VERSION_3);
			const tables = (): unknown => storage.sql.exec("SELECT name FROM sqlite_master ORDER BY name").toArray();
			const before = tables();
			let failures = 0;
			for (let statements = 0; ; statements += 1) {
				const disk = new Disk(plain(storage));
				disk.failAfter(statements);
				try {
					new LimitStore(disk.storage).load(VERSION_3_AT);
					break;
				} catch (error) {
					if (!(error instanceof NoDisk)) throw error;
					failures += 1;
					expect(tables()).toEqual(before);
				}
			}
			expect(failures).toBeGreaterThan(10);
			expect(found(storage).entries.map(({ id }) => id)).toEqual([
				"lease-of-two",
				"lease-of-one",
				"waiter",
				"waiter-2",
			]);
		});
	});
});

test("promise 12: a limit that remembers as many ids as it may refuses what it could not remember, and forgets no id for it", async () => {
	const name = await newLimit({ limit: 10, slotDecayPerSecond: 1_000 });
	const id = newId();
	const lease = await granted({ names: name });
	await granted({ names: name, id, mode: "rate_limit" });
	await alter(name, ({ identity, ended }) => {
		const [record] = ended.filter((each) => each.id === id);
		if (!record) throw new Error(`Nothing is remembered of ${id} by ${identity.name}.`);
		const others = Array.from({ length: BOUNDS.rememberedIds }, (_, index) => ({ ...record, id: `other-${index}` }));
		return { ended: [record, ...others] };
	});
	for (const asked of [{ id: newId(), mode: "rate_limit" }, { id: newId() }, {}]) {
		const answer = await acquire({ names: name, ...asked });
		expect(expectProblem(answer, 503, "overloaded").retryAfterSeconds).toBe(1);
	}
	expect((await acquire({ names: name, id, mode: "rate_limit" })).status).toBe(200);
	expect((await acquire({ names: name, mode: "rate_limit" })).status).toBe(200);
	expect((await release(lease)).status).toBe(200);
	expect((await release({ names: name, id: newId() })).status).toBe(200);
	await alter(name, ({ ended }) => ({ ended: ended.slice(0, 10) }));
	expect((await acquire({ names: name, id: newId() })).status).toBe(200);
});
