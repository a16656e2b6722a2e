/** Which limits need a look, over all of them, and the sums of all. */

import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import type { Condition } from "../../src/attention.ts";
import { createLimit } from "../../src/core/limit.ts";
import { newTotals } from "../../src/core/totals.ts";
import type { DeniedKeys, HouseTotals, LimitsPage, WatchEvent } from "../../src/protocol.ts";
import type { PolicySum, Telling } from "../../src/server/contract/directory-calls.ts";
import { Attention } from "../../src/server/directory/attention.ts";
import { ConditionTeller } from "../../src/server/limit/condition-teller.ts";
import {
	acquire,
	bindings,
	call,
	callsOf,
	configure,
	directory,
	expectProblem,
	granted,
	newName,
	openQueued,
	release,
	remove,
	removePolicy,
	reported,
	setPolicy,
	stopClock,
	until,
} from "./support.ts";

const attention = async (prefix: string, count = 100): Promise<LimitsPage & { totals: HouseTotals }> => {
	const { status, body } = await call<LimitsPage>("GET", `/v1/limits?order=attention&prefix=${prefix}&count=${count}`);
	expect(status).toBe(200);
	if (!body.totals) throw new Error("There are no totals.");
	return { ...body, totals: body.totals };
};

const namesOf = ({ limits }: LimitsPage): string[] => limits.map(({ name }) => name);

/** A limit that the directory knows, and so tells it how it stands. */
async function known(name: string, settings: Record<string, unknown>): Promise<string> {
	await configure(name, settings);
	await reported(name);
	return name;
}

describe("GET /v1/limits?order=attention", () => {
	test("of more limits than a page has, the one that needs a look comes first though its name is last", async () => {
		const family = newName();
		const names = Array.from({ length: 105 }, (_, index) => `${family}-${String(index).padStart(3, "0")}`);
		for (let from = 0; from < names.length; from += 20)
			await Promise.all(names.slice(from, from + 20).map((name) => known(name, { limit: 1 })));
		const worst = names.at(-1) as string;
		await granted({ names: worst });
		const waiter = await openQueued({ names: worst });
		await until(async () => (await attention(family)).totals.waiting === 1, "the line is told of");
		const page = await attention(family);
		expect(namesOf(page)).toEqual([worst, ...names.slice(0, 99)]);
		expect(page).toMatchObject({ next: null, totals: { limits: 105, full: 1, waiting: 1 } });
		expect(page.limits[0]).toMatchObject({ waitingCount: 1, activeSlots: 1 });
		expect(namesOf(await attention(family, 1))).toEqual([worst]);
		await waiter.leave();
	});

	test("worst first: paused, with a line, full, denying, nearly full, and then by name", async () => {
		const family = newName();
		const name = (what: string) => `${family}-${what}`;
		await known(name("a-calm"), { limit: 5 });
		await known(name("b-nearly"), { limit: 5 });
		await known(name("c-denying"), { limit: 5 });
		await known(name("d-full"), { limit: 1 });
		await known(name("e-line"), { limit: 1 });
		await known(name("f-paused"), { limit: 0 });
		await known(name("g-off"), { limit: 0, active: false });
		await granted({ names: name("b-nearly"), occupy: 4 });
		const given = await granted({ names: name("c-denying"), occupy: 3 });
		await acquire({ names: name("c-denying"), occupy: 3 });
		await granted({ names: name("d-full") });
		await granted({ names: name("e-line") });
		const waiter = await openQueued({ names: name("e-line") });
		await acquire({ names: name("f-paused") });
		const order = ["f-paused", "e-line", "d-full", "c-denying", "b-nearly", "a-calm", "g-off"].map(name);
		await until(async () => namesOf(await attention(family)).join() === order.join(), "all have told");
		const { totals } = await attention(family);
		expect(totals).toMatchObject({ limits: 7, full: 3, waiting: 1 });
		expect(totals.lastMinute.denied).toBeGreaterThanOrEqual(1);
		await Promise.all([release(given), waiter.leave()]);
	});

	test("a limit that is deleted is forgotten, with its line", async () => {
		const name = await known(newName(), { limit: 1 });
		await granted({ names: name });
		await openQueued({ names: name });
		await until(async () => (await attention(name)).totals.waiting === 1, "the line is told of");
		await remove(name);
		await until(async () => (await attention(name)).totals.limits === 0, "the directory has heard");
		expect(await attention(name)).toEqual({
			...{ limits: [], next: null },
			totals: { limits: 0, full: 0, waiting: 0, lastMinute: { granted: 0, denied: 0 } },
		});
	});

	test("there is no second page, and no other order", async () => {
		expectProblem(await call("GET", "/v1/limits?order=attention&after=a"), 422, "invalid");
		expectProblem(await call("GET", "/v1/limits?order=worst"), 422, "invalid");
	});

	test("a directory that begins anew hears of what happens within a minute, and asks at once for what it wrote down", async () => {
		const name = await known(newName(), { limit: 1 });
		await granted({ names: name });
		await until(async () => (await attention(name)).totals.full === 1, "it is told of");
		await runInDurableObject(directory(), (_, { storage }) => {
			storage.sql.exec("UPDATE attention SET names = ?", JSON.stringify([name, newName()]));
		});
		await evictDurableObject(directory());
		expect((await attention(name)).totals).toMatchObject({ limits: 1, full: 1 });
	});
});

describe("GET /v1/watch?order=attention", () => {
	test("a limit that comes to need a look is followed, and the sums are told", async () => {
		const family = newName();
		const first = await known(`${family}-a`, { limit: 1 });
		const last = await known(`${family}-z`, { limit: 1 });
		const url = `http://headgate.test/v1/watch?order=attention&count=1&prefix=${family}`;
		const { heard, stop } = await hear(url);
		await until(() => heard.length > 0, "a first line");
		expect(heard[0]).toMatchObject({ event: "limits", limits: [{ name: first }], totals: { limits: 2, waiting: 0 } });
		await granted({ names: last });
		const waiter = await openQueued({ names: last });
		await until(
			() =>
				heard.some((event) => event.event === "limit" && event.limit.name === last && event.limit.waitingCount === 1),
			"it is followed",
		);
		await until(() => heard.some((event) => event.event === "totals" && event.totals.waiting === 1), "the sums");
		await Promise.all([stop(), waiter.leave()]);
	});

	test("those that need a look do not wait for those at rest, which follow, each once", async () => {
		const family = newName();
		const names: string[] = [];
		for (const end of ["a", "b", "c", "d"]) names.push(await known(`${family}-${end}`, { limit: 1 }));
		const worst = names[3] as string;
		await granted({ names: worst });
		const waiter = await openQueued({ names: worst });
		await until(async () => (await attention(family)).totals.waiting === 1, "the line is told of");
		const { heard, stop } = await hear(`http://headgate.test/v1/watch?order=attention&count=3&prefix=${family}`);
		await until(() => heard.filter(({ event }) => event === "limit").length === 2, "the others");
		expect(heard[0]).toMatchObject({ event: "limits", following: 2, totals: { limits: 4, waiting: 1 } });
		const [first, ...rest] = heard.filter((each) => each.event === "limits" || each.event === "limit");
		expect(first?.event === "limits" && first.limits.map(({ name }) => name)).toEqual([worst]);
		expect(rest.map((each) => each.event === "limit" && each.limit.name).sort()).toEqual(names.slice(0, 2));
		await Promise.all([stop(), waiter.leave()]);
	});
});

/** Reads the lines of a stream until it is told to stop. */
async function hear(url: string): Promise<{ heard: WatchEvent[]; stop(): Promise<void> }> {
	const response = await exports.default.fetch(new Request(url));
	const lines = (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream()).getReader();
	const heard: WatchEvent[] = [];
	const reading = (async () => {
		let rest = "";
		for (;;) {
			const { done, value } = await lines.read();
			if (done) return;
			const whole = (rest + value).split("\n");
			rest = whole.pop() ?? "";
			heard.push(...whole.map((line) => JSON.parse(line) as WatchEvent));
		}
	})().catch(() => undefined);
	return {
		heard,
		async stop() {
			await lines.cancel();
			await reading;
		},
	};
}

describe("what limits tell", () => {
	test("however many calls come: the first of them, and no second within five seconds", async () => {
		const name = await known(newName(), { limit: 1_000_000 });
		const startedAt = performance.now();
		const told = await callsOf(directory(), ["tell"], async () => {
			for (let round = 0; round < 30; round += 1) await granted({ names: name });
		});
		// A machine that is slow takes more than five seconds for them.
		expect(told).toBeLessThanOrEqual(1 + Math.floor((performance.now() - startedAt) / 5_000));
	});

	/** A teller over a limit that is not there, whose clock is the test's. */
	function tellerOf(origin: "configured" | "policy", pauseMs = 5_000) {
		const clock = stopClock();
		const limit = createLimit({ limit: 10, slotDecayPerSecond: 0, active: true, enforce: true }, 0, () => undefined);
		const counted = { grantedAtOnce: 0, grantedAfterWait: 0, denied: 0, released: 0, expired: 0 };
		const told: Condition[] = [];
		const work: Promise<unknown>[] = [];
		const teller = new ConditionTeller({
			lifecycle: { identity: { name: "n", origin, alive: true, listed: true, reported: true } } as never,
			store: { history: { lastMinute: () => counted } } as never,
			limit: () => limit,
			directory: () =>
				({
					tell: async (_: string, condition: Condition) => {
						told.push(condition);
						return pauseMs;
					},
				}) as never,
			background: (promise) => void work.push(promise),
		});
		/** Calls that come every so many milliseconds. */
		const pass = async (ms: number, every = ms, before: () => void = () => undefined) => {
			for (let passed = 0; passed < ms; passed += every) {
				before();
				teller.after(Date.now());
				await Promise.all(work);
				clock.pass(every);
			}
		};
		return { limit, counted, told, pass };
	}

	test("a limit that is used tells once a minute; one whose counts grew, after five seconds", async () => {
		const { counted, told, pass } = tellerOf("configured");
		await pass(10_000, 100);
		expect(told).toEqual([]);
		counted.grantedAtOnce = 1;
		await pass(59_000, 100);
		expect(told).toHaveLength(1);
		counted.grantedAtOnce = 100;
		await pass(6_000, 100);
		expect(told.map(({ granted }) => granted)).toEqual([1, 100]);
		await pass(50_000, 100);
		expect(told).toHaveLength(2);
		await pass(20_000, 100);
		expect(told).toHaveLength(3);
	});

	test("a key of a policy tells only what needs a look, and that it needs none any more", async () => {
		const { limit, counted, told, pass } = tellerOf("policy");
		counted.grantedAtOnce = 50;
		await pass(10_000);
		expect(told).toEqual([]);
		limit.totals.denied = 3;
		counted.denied = 3;
		await pass(10_000);
		expect(told).toMatchObject([{ denied: 3 }]);
		counted.denied = 0;
		await pass(10_000);
		await pass(70_000);
		expect(told).toMatchObject([{ denied: 3 }, { denied: 0 }]);
	});

	test("as long as the directory says, a limit tells nothing", async () => {
		const { counted, told, pass } = tellerOf("configured", 20_000);
		await pass(40_000, 1_000, () => {
			counted.denied += 10;
		});
		expect(told).toHaveLength(2);
	});
});

describe("what the directory makes of it", () => {
	const CALM: Condition = {
		...{
			limit: 10,
			active: true,
			paused: false,
			slotDecayPerSecond: 0,
			activeSlots: 0,
			waiting: 0,
			granted: 0,
			denied: 0,
		},
	};

	/** On the storage of a directory that nobody else uses. */
	async function withAttention(
		work: (make: (asked?: (name: string) => Telling | null, sums?: PolicySum[]) => Attention) => unknown,
	): Promise<void> {
		await runInDurableObject(bindings.DIRECTORY.getByName(newName()), (_, { storage: { sql } }) =>
			work(
				(asked = () => null, sums = []) =>
					new Attention({
						...{ sql, ask: async (name) => asked(name), policySums: async () => sums, changed: () => undefined },
					}),
			),
		);
	}

	test("slots drain and minutes pass, though nothing is told", () =>
		withAttention((make) => {
			const all = make();
			const draining = { ...CALM, activeSlots: 10, slotDecayPerSecond: 1, denied: 4, granted: 6 };
			all.tell("n", { condition: draining, isKey: false }, 1_000_000);
			expect(all.totals("", 1, 1_000_000)).toMatchObject({ full: 1, lastMinute: { granted: 6, denied: 4 } });
			expect(all.totals("", 1, 1_002_000)).toMatchObject({ full: 0, lastMinute: { granted: 6, denied: 4 } });
			expect(all.names("", 9, 1_002_000)).toEqual(["n"]);
			expect(all.totals("", 1, 1_070_000)).toMatchObject({ full: 0, lastMinute: { granted: 0, denied: 0 } });
			expect(all.names("", 9, 1_070_000)).toEqual([]);
		}));

	test("what a key of a policy counts is in the sum of its policy alone; a prefix sees its own", () =>
		withAttention(async (make) => {
			const sum = { pattern: "k:*", totals: newTotals(), inUse: 0, waiting: 0, keys: 9, granted: 70, denied: 5 };
			const all = make(undefined, [sum]);
			all.tell("k:a", { condition: { ...CALM, waiting: 2, granted: 7 }, isKey: true }, 1_000_000);
			all.tell("own", { condition: { ...CALM, granted: 1 }, isKey: false }, 1_000_000);
			await all.refresh(1_000_000);
			expect(all.totals("", 2, 1_000_000)).toMatchObject({ waiting: 2, lastMinute: { granted: 71, denied: 5 } });
			expect(all.totals("k:", 1, 1_000_000)).toMatchObject({ waiting: 2, lastMinute: { granted: 70, denied: 5 } });
			expect(all.totals("o", 1, 1_000_000)).toMatchObject({ waiting: 0, lastMinute: { granted: 1, denied: 0 } });
		}));

	test("a limit that is full and tells nothing more is asked, while somebody looks", () =>
		withAttention(async (make) => {
			const asked: string[] = [];
			const all = make((name) => {
				asked.push(name);
				return name === "gone" ? null : { condition: CALM, isKey: false };
			});
			for (const name of ["n", "gone"]) all.tell(name, { condition: { ...CALM, limit: 0 }, isKey: false }, 1_000_000);
			all.tell("calm", { condition: CALM, isKey: false }, 1_000_000);
			await all.refresh(1_014_000);
			expect(asked).toEqual([]);
			await all.refresh(1_015_000);
			await until(() => all.names("", 9, 1_015_000).length === 0);
			expect(asked.sort()).toEqual(["gone", "n"]);
		}));

	test("what lasts is written down, once, and asked for by the next directory", () =>
		withAttention(async (make) => {
			const first = make();
			first.tell("full", { condition: { ...CALM, activeSlots: 10 }, isKey: true }, 1_000_000);
			first.tell("denying", { condition: { ...CALM, denied: 9 }, isKey: false }, 1_000_000);
			first.write(1_000_000);
			const next = make((name) => ({ condition: { ...CALM, activeSlots: 10, waiting: name.length }, isKey: true }));
			expect(next.names("", 9, 1_000_000)).toEqual([]);
			await next.refresh(1_000_000);
			expect(next.names("", 9, 1_000_000)).toEqual(["full"]);
			expect(next.totals("", 1, 1_000_000)).toMatchObject({ full: 1, waiting: 4 });
		}));

	test("when more tell than it takes in a minute, the pause grows, so that they tell as often together", () =>
		withAttention((make) => {
			const all = make();
			let pauseMs = 0;
			for (let index = 0; index < 24_000; index += 1) {
				pauseMs = all.tell(`n${index % 5_000}`, { condition: CALM, isKey: false }, 1_000_000);
			}
			expect(pauseMs).toBe(10_000);
			expect(all.tell("n", { condition: CALM, isKey: false }, 1_130_000)).toBe(5_000);
		}));
});

describe("GET /v1/policies/{pattern}/denied", () => {
	test("the keys that were denied most within the last minute or two", async () => {
		const prefix = newName();
		const pattern = `${prefix}*`;
		await setPolicy(pattern, { limit: 1 });
		const denials = (name: string, denied: number) => ({
			...{ name, inUse: 0, waiting: 0, totals: { ...newTotals(), denied } },
		});
		const told = { [`${prefix}a`]: 3, [`${prefix}b`]: 9, [`${prefix}c`]: 0, [`${prefix}d`]: 4 };
		for (const [name, denied] of Object.entries(told)) await directory().addTotals(pattern, denials(name, denied));
		await bindings.DIRECTORY.getByName("totals:3").addTotals(pattern, denials(`${prefix}e`, 7));
		await bindings.DIRECTORY.getByName("totals:3").addTotals(pattern, denials(`${prefix}a`, 2));
		await bindings.DIRECTORY.getByName("totals:4").addTotals(pattern, denials(`${prefix}a`, 1));
		const { body } = await call<DeniedKeys>("GET", `/v1/policies/${encodeURIComponent(pattern)}/denied`);
		expect(body.keys.map(({ name, denied }) => `${name.slice(prefix.length)} ${denied}`)).toEqual([
			"e 7",
			"a 2",
			"a 1",
		]);
		await removePolicy(pattern);
		expectProblem(await call("GET", `/v1/policies/${encodeURIComponent(pattern)}/denied`), 404, "unknown_policy");
	});
});
