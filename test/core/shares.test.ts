/** Promise 15: keys share by weight, over random arrivals, sizes, leavings and restarts, beside a fluid. */

import { describe, expect, test } from "vitest";
import { Order, type Waiter } from "../../src/core/order.ts";
import { Random } from "./random.ts";
import { Arena, meanWaitMs, type Served, type Share, shareOf, type Tenant } from "./tenants.ts";

const SEEDS = Array.from({ length: Number(process.env.HEADGATE_SHARES ?? 4) }, (_, seed) => seed + 1);
const SECONDS = 1_000;

/**
 * What two keys were given, by weight, may part by one request of each while both always want slots, and so in every such interval:
 * what a fluid would give them is between.
 */
class Fair {
	readonly #cost: (served: Served) => number;
	readonly #given = new Map<Tenant, number>();
	readonly #largest = new Map<Tenant, number>();
	readonly #apart = new Map<string, { low: number; high: number }>();
	worst = 0;

	constructor(cost: (served: Served) => number) {
		this.#cost = cost;
	}

	see(served: Served[], tenants: Tenant[], arena: Arena): void {
		for (const each of served) {
			const { tenant } = each;
			const cost = this.#cost(each) / (tenant.weight ?? 1);
			this.#given.set(tenant, (this.#given.get(tenant) ?? 0) + cost);
			this.#largest.set(tenant, Math.max(this.#largest.get(tenant) ?? 0, cost));
		}
		const wants = tenants.filter((tenant) => arena.waiting(tenant) > 0);
		for (const [index, a] of tenants.entries()) {
			for (const b of tenants.slice(index + 1)) this.#compare(a, b, wants.includes(a) && wants.includes(b));
		}
	}

	#compare(a: Tenant, b: Tenant, want: boolean): void {
		const pair = `${a.name}/${b.name}`;
		if (!want) return void this.#apart.delete(pair);
		const apart = (this.#given.get(a) ?? 0) - (this.#given.get(b) ?? 0);
		const { low, high } = this.#apart.get(pair) ?? { low: apart, high: apart };
		this.#apart.set(pair, { low: Math.min(low, apart), high: Math.max(high, apart) });
		const allowed = (this.#largest.get(a) ?? 0) + (this.#largest.get(b) ?? 0);
		const range = Math.max(high, apart) - Math.min(low, apart);
		if (allowed > 0) this.worst = Math.max(this.worst, range / allowed);
	}
}

function tenantsOf(random: Random, more: (random: Random) => Partial<Tenant>): Tenant[] {
	return Array.from({ length: random.int(2, 5) }, (_, index): Tenant => {
		const most = random.int(1, 4);
		return {
			...{ name: `t${index}`, key: random.chance(0.2) ? null : `t${index}`, waiting: random.int(1, 8) },
			slots: () => random.int(1, most),
			holdMs: () => random.int(1, 400),
			...more(random),
		};
	}).filter(({ key }, index, all) => all.findIndex((each) => each.key === key) === index);
}

const weighted = (random: Random): Partial<Tenant> => ({ weight: random.int(1, 5) });
const restless = (random: Random): Partial<Tenant> => ({
	fromMs: random.int(0, 5 * SECONDS),
	untilMs: random.int(20, 60) * SECONDS,
	...(random.chance(0.5) && { pauseMs: () => random.int(0, 800) }),
	...(random.chance(0.5) && { patienceMs: () => random.int(10, 3_000) }),
});

function play(share: Omit<Share, "seen">): Fair {
	const fair = new Fair(({ slots, holdMs }) => (share.mode === "rate_limit" ? slots : slots * holdMs));
	new Arena({ ...share, seen: (_, served, arena) => fair.see(served, share.tenants, arena) }).run();
	return fair;
}

const onlyKeys = (tenant: Tenant): Tenant => (tenant.key === null ? { ...tenant, weight: 1 } : tenant);

describe("between keys that always want slots, what they are given by weight differs by at most one request of each", () => {
	test.each(SEEDS)("of slots that come back by themselves (seed %i)", (seed) => {
		const random = new Random(seed);
		const tenants = tenantsOf(random, weighted).map(onlyKeys);
		const settings = { limit: random.int(4, 8), slotDecayPerSecond: random.int(5, 40) };
		expect(play({ settings, tenants, endMs: 60 * SECONDS, mode: "rate_limit" }).worst).toBeLessThanOrEqual(1.000_001);
	});

	test.each(SEEDS)("while they come and go, lose patience, and the limit is restarted (seed %i)", (seed) => {
		const random = new Random(1_000 + seed);
		const tenants = tenantsOf(random, (each) => ({ ...weighted(each), ...restless(each) })).map(onlyKeys);
		const settings = { limit: random.int(4, 8), slotDecayPerSecond: random.int(5, 40) };
		const restarts = () => random.chance(0.02);
		const fair = play({ settings, tenants, endMs: 60 * SECONDS, mode: "rate_limit", restarts });
		expect(fair.worst).toBeLessThanOrEqual(1.000_001);
	});

	test.each(SEEDS)(
		"of the time that the only slot is held, though nobody knows how long that will be (seed %i)",
		(seed) => {
			const random = new Random(2_000 + seed);
			const tenants = tenantsOf(random, (each) => {
				const longest = each.int(10, 600);
				return { ...weighted(each), slots: () => 1, holdMs: () => each.int(1, longest) };
			}).map(onlyKeys);
			const fair = play({ settings: { limit: 1 }, tenants, endMs: 120 * SECONDS, mode: "concurrency" });
			expect(fair.worst).toBeLessThanOrEqual(2);
		},
	);
});

describe("a fluid would give the same", () => {
	test.each(SEEDS)("of the time of several slots, within two hundredths (seed %i)", (seed) => {
		const random = new Random(3_000 + seed);
		const weights = [1, 2, random.int(1, 5)];
		const tenants = weights.map(
			(weight, index): Tenant => ({
				...{ name: `t${index}`, key: `t${index}`, weight, waiting: 6 },
				slots: () => 1,
				// One holds ten times as long as another.
				holdMs: () => (index === 0 ? random.int(1_000, 3_000) : random.int(100, 300)),
			}),
		);
		const mode = "concurrency";
		const served = new Arena({ settings: { limit: 3 }, tenants, endMs: 1_000 * SECONDS, mode }).run();
		const all = weights.reduce((sum, weight) => sum + weight, 0);
		for (const tenant of tenants) {
			const ought = (tenant.weight ?? 1) / all;
			expect(Math.abs(shareOf(served, tenant, mode) - ought)).toBeLessThan(0.02);
		}
	});

	test("a flooder that calls itself by twenty keys has twenty shares, and no more", () => {
		const one = { waiting: 50, slots: () => 1, holdMs: () => 100 };
		const flood = Array.from({ length: 20 }, (_, index): Tenant => ({ ...one, name: `f${index}`, key: `f${index}` }));
		const other = { ...one, waiting: 1, name: "other", key: "other" };
		const share: Share = {
			settings: { limit: 1 },
			tenants: [...flood, other],
			endMs: 2_000 * SECONDS,
			mode: "concurrency",
		};
		const served = new Arena(share).run();
		expect(shareOf(served, other, share.mode)).toBeCloseTo(1 / 21, 2);
		// Each of its requests waits for one of each other key.
		expect(meanWaitMs(served, other)).toBeLessThanOrEqual(21 * 100);
	});
});

test("the next one of a key waits for at most one request of each other key", () => {
	const random = new Random(7);
	const tenants = Array.from({ length: 8 }, (_, index): Tenant => {
		return { name: `t${index}`, key: `t${index}`, waiting: index === 0 ? 100 : 2, slots: () => 1, holdMs: () => 0 };
	}).map((tenant, index) => (index < 4 ? tenant : { ...tenant, pauseMs: () => random.int(0, 20_000) }));
	const since = new Map<Tenant, Map<Tenant, number>>();
	let waited = 0;
	new Arena({
		...{ settings: { limit: 1, slotDecayPerSecond: 2 }, tenants, endMs: 600 * SECONDS, mode: "rate_limit" },
		seen: (_, served, arena) => {
			for (const { tenant } of served) {
				for (const [other, passed] of since) {
					if (other === tenant) continue;
					passed.set(tenant, (passed.get(tenant) ?? 0) + 1);
					waited = Math.max(waited, passed.get(tenant) ?? 0);
				}
				since.delete(tenant);
			}
			for (const tenant of tenants) {
				if (arena.waiting(tenant) === 0) since.delete(tenant);
				else if (!since.has(tenant)) since.set(tenant, new Map());
			}
		},
	}).run();
	expect(waited).toBe(1);
});

describe("priorities", () => {
	const classes = (starveAfterSeconds: number) => {
		const high: Tenant = { name: "high", key: null, priority: 9, waiting: 20, slots: () => 1, holdMs: () => 100 };
		const low: Tenant = { ...high, name: "low", priority: 0, waiting: 10 };
		const share: Share = {
			...{
				settings: { limit: 1, starveAfterSeconds },
				tenants: [high, low],
				endMs: 600 * SECONDS,
				mode: "concurrency",
			},
		};
		return { high, low, served: new Arena(share).run() };
	};

	test("that nobody may starve of keep their classes apart, and every low one is served in time", () => {
		const { high, low, served } = classes(5);
		const waits = served
			.filter(({ tenant }) => tenant === low)
			.map(({ grantedAt, arrivedAt }) => grantedAt - arrivedAt);
		// The n-th that starves is served within 2n grants, each of a tenth of a second.
		expect(Math.max(...waits)).toBeLessThanOrEqual(5_000 + 2 * 10 * 100);
		expect(meanWaitMs(served, high)).toBeLessThan(meanWaitMs(served, low));
		expect(shareOf(served, high, "concurrency")).toBeGreaterThan(0.5);
	});

	test("that are strict starve the low", () => {
		const { low, served } = classes(0);
		expect(served.filter(({ tenant }) => tenant === low)).toEqual([]);
	});
});

describe("the places of a line are the order in which it is served", () => {
	const newOrder = (random: Random, count: number) => {
		const order = new Order<Waiter>();
		const price = (key: string | null) => (key === "k1" ? 500_000 : key === "k2" ? 333_333 : 1_000_000);
		const priorities = random.chance(0.5) ? 1 : 3;
		const all: Waiter[] = [];
		for (let seq = 1; seq <= count; seq += 1) {
			const waiter = {
				...{ seq, slots: random.int(1, 3), since: seq, tag: null, charge: 0 },
				...{ key: random.chance(0.3) ? null : `k${random.int(1, 4)}`, priority: random.int(0, priorities - 1) },
			};
			order.add(waiter);
			all.push(waiter);
			// Some were served or have left before.
			if (random.chance(0.4)) {
				const gone = random.chance(0.6) ? order.next(seq - 20) : all[random.int(0, all.length - 1)];
				if (!gone) continue;
				if (gone === order.next(seq - 20)) order.charge(gone, price, seq - 20);
				order.remove(gone);
				all.splice(all.indexOf(gone), 1);
			}
		}
		return { order, price, all };
	};

	test.each(SEEDS)("of waiters, and of a request that comes (seed %i)", (seed) => {
		const random = new Random(5_000 + seed);
		for (let round = 0; round < 30; round += 1) {
			const { order, price, all } = newOrder(random, random.int(1, 60));
			for (const before of [Number.NEGATIVE_INFINITY, 20]) {
				const walked = [...order.walk(price, before)];
				expect(walked.map(({ seq }) => seq).sort((a, b) => a - b)).toEqual(all.map(({ seq }) => seq));
				const counted = walked.map((waiter) => order.ahead(waiter, price, before).count);
				expect(counted).toEqual(walked.map((_, index) => index));
				const whose = { key: "k3", priority: 0 };
				const comes = { ...whose, slots: 2, seq: Number.POSITIVE_INFINITY };
				const place = [...order.walk(price, before, comes)].indexOf(comes);
				expect(order.ahead(whose, price, before).count).toBe(place);
				expect(order.isNext(whose, before)).toBe(place === 0);
			}
			const before = random.chance(0.5) ? Number.NEGATIVE_INFINITY : 20;
			const ought = [...order.walk(price, before)].map(({ seq }) => seq);
			const served = [];
			for (let next = order.next(before); next; next = order.next(before)) {
				served.push(next.seq);
				order.charge(next, price, before);
				order.remove(next);
			}
			expect(served).toEqual(ought);
		}
	});
});
