/** Loans, by scenes, and what Workers make of them. */

import { afterAll, describe, expect, test } from "vitest";
import { LOANS_MAX } from "../../src/core/lending.ts";
import { LOAN_GRACE_MS } from "../../src/core/patience.ts";
import { BOUNDS } from "../../src/protocol.ts";
import type { Status } from "../../src/server/contract/outcomes.ts";
import { Loans, NAMES_MAX } from "../../src/server/front/lending/loans.ts";
import { Isolates, type World } from "./isolates.ts";
import { Random } from "./random.ts";
import { open, scene } from "./scene.ts";
import type { Outcomes } from "./simulation.ts";

const LENDS = { limit: 100, slotDecayPerSecond: 1, lendSeconds: 1 };

scene("a loan counts from the moment it is made, and what was used of it drains from when that is said", LENDS)`
	0     borrow ~a x40                    => lent ~a 40 for 1000
	0     used?                            => 40
	500   used?                            => 40
	500   borrow ~a x40 used=30            => lent ~a 65 for 1000
	500   used?                            => 65
	1500  used?                            => 64
	1500  repay ~a used=35                 => repaid ~a 30 by borrower
	1500  used?                            => 34
`;

scene("all loans have at most half of what nobody uses", { ...LENDS, limit: 21 })`
	0     borrow ~a x100       => lent ~a 10 for 1000
	0     borrow ~b x100       => lent ~b 0 for 0
	0     acquire c x11 rate   => granted c x11
	0     borrow ~a x100       => lent ~a 10 for 0
	0     acquire d rate       => denied d, retry 1000
	0     repay ~a used=4      => repaid ~a 6 by borrower
	0     used?                => 15
	0     borrow ~b x100       => lent ~b 3 for 1000
`;

scene("what may be lent is shared by the root of what is wanted", { ...LENDS, limit: 1_000 })`
	0     borrow ~a x100             => lent ~a 100 for 1000
	0     borrow ~b x10000           => lent ~b 400 for 1000
	0     borrow ~a x100 used=50     => lent ~a 100 for 1000
	0     borrow ~a x100 used=90     => lent ~a 131 for 1000
	0     borrow ~b x10000 used=300  => lent ~b 564 for 1000
	0     borrow ~c x4               => lent ~c 0 for 0
`;

scene("a loan that is not accounted for is taken for used, after the grace", LENDS)`
	0     borrow ~a x10        => lent ~a 10 for 1000
	${1_000 + LOAN_GRACE_MS - 1}  used?        => 10
	${1_000 + LOAN_GRACE_MS}  tick         => repaid ~a 0 by expiry
	${1_000 + LOAN_GRACE_MS}  used?        => 10
	${2_000 + LOAN_GRACE_MS}  repay ~a used=1  => gone ~a
	${2_000 + LOAN_GRACE_MS}  used?        => 9
	${2_000 + LOAN_GRACE_MS}  borrow ~a x10 used=12  => lent ~a 22 for 1000
`;

scene("what is said twice, or later, counts once", LENDS)`
	0     borrow ~a x10           => lent ~a 10 for 1000
	0     borrow ~a x10 used=6    => lent ~a 16 for 1000
	0     borrow ~a x10 used=6    => lent ~a 16 for 1000
	0     borrow ~a x10 used=2    => lent ~a 16 for 1000
	0     used?                   => 16
	0     repay ~a used=9         => repaid ~a 7 by borrower
	0     repay ~a used=9         => gone ~a
	0     used?                   => 9
`;

scene("nothing is lent while a waiter has a turn, and what is repaid is for the line", { ...LENDS, limit: 10 })`
	0     borrow ~a x5             => lent ~a 5 for 1000
	0     acquire b x8 wait=5000   => queued b at 1
	0     borrow ~a x5 used=1      => lent ~a 5 for 0
	0     borrow ~c x5             => lent ~c 0 for 0
	0     repay ~a used=1          => repaid ~a 4 by borrower, granted b x8
	0     used?                    => 9
`;

scene("a limit that is off, shut, paused, that only watches or is without decay lends nothing", LENDS)`
	0     configure active=no   => configured
	0     borrow ~a x5          => lent ~a 0 for 0
	0     configure active=yes limit=0  => configured
	0     borrow ~a x5          => lent ~a 0 for 0
	0     configure limit=100 lend=0    => configured
	0     borrow ~a x5          => lent ~a 0 for 0
	0     configure lend=1      => configured
	0     borrow ~a x5          => lent ~a 5 for 1000
	0     configure enforce=no  => configured
	0     borrow ~a x9 used=1   => lent ~a 5 for 0
	0     configure enforce=yes => configured
	0     pause 1000            => configured
	0     borrow ~a x9 used=1   => lent ~a 5 for 0
	0     acquire b rate        => denied b, retry 1000
	1000  borrow ~a x9 used=1   => lent ~a 10 for 1000
	1000  configure decay=0     => repaid ~a 0 by expiry, configured
	1000  borrow ~a x5 used=2   => lent ~a 2 for 0
	1000  used?                 => 0
	1000  repay ~a used=2       => gone ~a
`;

scene("slots set by hand are with those that are lent, which stay lent", LENDS)`
	0     borrow ~a x20         => lent ~a 20 for 1000
	0     configure slots=50    => configured
	0     used?                 => 50
	0     configure slots=5     => configured
	0     used?                 => 20
`;

scene("a waiter is served at the end of a loan", { limit: 10, slotDecayPerSecond: 10, lendSeconds: 1 })`
	0     borrow ~a x5             => lent ~a 5 for 1000
	0     acquire b x6 wait=60000  => queued b at 1
	0     wake?                    => ${1_000 + LOAN_GRACE_MS}
	${1_100 + LOAN_GRACE_MS}  tick  => repaid ~a 0 by expiry, granted b x6 after ${1_100 + LOAN_GRACE_MS}
	${1_100 + LOAN_GRACE_MS}  used? => 10
`;

test("promise 12: a limit has as many loans as the bound says", () => {
	expect(LOANS_MAX).toBe(BOUNDS.loans);
	const { run, subject } = open({ limit: 1_000_000, slotDecayPerSecond: 1, lendSeconds: 1 });
	for (let n = 0; n < LOANS_MAX; n += 1) expect(run(`0 borrow ~${n} x1`)).toBe(`lent ~${n} 1 for 1000`);
	expect(run("0 borrow ~more x1")).toBe("lent ~more 0 for 0");
	expect(run("0 borrow ~5 x1 used=1")).toBe("lent ~5 2 for 1000");
	expect(subject.limit.loans.size).toBe(LOANS_MAX);
	expect(run("0 repay ~5 used=1")).toBe("repaid ~5 1 by borrower");
	expect(run("0 borrow ~more x1")).toBe("lent ~more 1 for 1000");
});

// ------------------------------------------------------------------------------------------ the Workers

const status: Status = {
	...{ name: "a", limitId: "", deniedSlots: 0, averageHeldMs: 0, limit: 100, activeSlots: 0, remaining: 100 },
	...{ enforced: true, slotDecayPerSecond: 10, nextSlotMs: null, steadyMs: 0, follows: false, lendMs: 1_000 },
};

/** A Worker that has a loan of so many slots of `a`. */
function borrowed(slots: number, at = 0): Loans {
	let ids = 0;
	const loans = new Loans(() => `~${++ids}`);
	loans.heard("a", 1, status, null, undefined, at);
	for (let n = 0; n < 4; n += 1) loans.take("a", 1, at);
	const borrowing = loans.borrow("a", at);
	expect(borrowing).not.toBeNull();
	loans.heard("a", 1, status, borrowing, { slots, lentMs: 1_000 }, at);
	return loans;
}

describe("a Worker's loans", () => {
	test("are granted as far as they go, until their end", () => {
		const loans = borrowed(6, 100);
		expect(loans.take("a", 2, 100)?.status.remaining).toBe(4);
		expect(loans.take("a", 5, 100)).toBeNull();
		expect(loans.take("a", 1, 1_099)?.status.remaining).toBe(3);
		expect(loans.take("a", 1, 1_100)).toBeNull();
		expect(loans.take("b", 1, 100)).toBeNull();
		expect(loans.ended("a", 1_100)).toEqual({ repay: [{ name: "a", account: { id: "~1", used: 3, grants: 2 } }] });
		expect(loans.ended("a", 1_100)).toEqual({});
	});

	test("are not longer for a clock that was set back", () => {
		const loans = borrowed(6, 100);
		expect(loans.take("a", 1, 99)).toBeNull();
		expect(loans.take("a", 1, 100)).not.toBeNull();
	});

	test("are borrowed on when a quarter is left of them, by one call at a time", () => {
		const loans = borrowed(40);
		let n = 0;
		while (!loans.take("a", 1, 0)?.isDue) n += 1;
		expect(n).toBeGreaterThan(20);
		const borrowing = loans.borrow("a", 0);
		expect(borrowing?.borrow).toMatchObject({ id: "~1", used: n + 1, grants: n + 1 });
		expect(loans.borrow("a", 0)).toBeNull();
		expect(loans.take("a", 1, 0)?.isDue).toBe(false);
		loans.heard("a", 0, status, borrowing, { slots: 80, lentMs: 1_000 }, 500);
		expect(loans.take("a", 1, 999)?.status.remaining).toBe(80 - n - 3);
	});

	test("that were repaid while more was borrowed on the way are repaid once more, and granted no more", () => {
		const loans = borrowed(10);
		loans.take("a", 1, 0);
		const borrowing = loans.borrow("a", 0);
		expect(loans.end("a")).toEqual({ id: "~1", used: 1, grants: 1 });
		expect(loans.take("a", 1, 0)).toBeNull();
		expect(loans.heard("a", 0, status, borrowing, { slots: 20, lentMs: 1_000 }, 0).repay).toHaveLength(1);
		expect(loans.take("a", 1, 0)).toBeNull();
		expect(loans.end("a")).toBeNull();
	});

	test("let one call at a time through while more is borrowed, and more of them only to a limit that answers soon", () => {
		const loans = new Loans(() => "~1");
		loans.heard("a", 1, status, null, undefined, 0);
		const send = (): void => void loans.sends("a");
		const answer = (afterMs: number): void => loans.sent("a", 0, afterMs, true);
		expect(loans.isAwaited("a", 0)).toBe(false);
		send();
		expect(loans.isAwaited("a", 0)).toBe(true);
		answer(100);
		send();
		expect(loans.isAwaited("a", 0)).toBe(false);
		send();
		expect(loans.isAwaited("a", 0)).toBe(true);
		answer(100);
		answer(500);
		send();
		expect(loans.isAwaited("a", 0)).toBe(true);
		loans.sent("a", 0, 10, false);
		expect(loans.isAwaited("a", 0)).toBe(false);
		expect(loans.isAwaited("b", 0)).toBe(false);
	});

	test("that are on their way are taken for lost after a while, and not before", () => {
		const loans = new Loans(() => "~1");
		loans.heard("a", 1, status, null, undefined, 0);
		for (let n = 0; n < 4; n += 1) loans.take("a", 1, 0);
		expect(loans.borrow("a", 0)).not.toBeNull();
		loans.sends("a");
		expect(loans.mayAsk("a", 1_499)).toBe(false);
		expect(loans.mayAsk("a", 1_500)).toBe(true);
		loans.sends("a");
		expect(loans.mayAsk("a", 1_500)).toBe(false);
	});

	test("that are waited for in vain let one call more through at a time, and as many as ever where calls are answered", () => {
		const loans = new Loans(() => "~1");
		expect(loans.mayAsk("a", 10)).toBe(true);
		loans.heard("a", 1, status, null, undefined, 0);
		loans.sends("a");
		expect(loans.isAwaited("a", 0)).toBe(true);
		expect(loans.mayAsk("a", 10)).toBe(true);
		loans.sends("a");
		expect(loans.mayAsk("a", 10)).toBe(false);
		loans.sent("a", 0, 10, true);
		expect(loans.mayAsk("a", 10)).toBe(true);
		// Answered late, it has too much to do.
		loans.sent("a", 0, 2_000, true);
		expect(loans.mayAsk("a", 11_999)).toBe(false);
		expect(loans.mayAsk("a", 12_000)).toBe(true);
	});

	test("are not asked for again soon where they are over when the answer comes", () => {
		const loans = new Loans(() => "~1");
		const near = { ...status, lendMs: 100 };
		loans.heard("a", 1, near, null, undefined, 0);
		for (let n = 0; n < 4; n += 1) loans.take("a", 1, 0);
		const borrowing = loans.borrow("a", 0);
		const { endsAt } = loans.heard("a", 1, near, borrowing, { slots: 10, lentMs: 100 }, 300);
		expect(endsAt).toBe(100);
		expect(loans.ended("a", 100).repay).toHaveLength(1);
		for (let n = 0; n < 4; n += 1) loans.take("a", 1, 400);
		expect(loans.borrow("a", 400)).toBeNull();
	});

	test("that nobody has answered for are given up, and what is answered later is repaid", () => {
		const loans = borrowed(10);
		for (let n = 0; n < 4; n += 1) loans.take("a", 1, 0);
		const lost = loans.borrow("a", 0);
		expect(loans.borrow("a", 9_999)).toBeNull();
		for (let n = 0; n < 4; n += 1) loans.take("a", 1, 10_000);
		const next = loans.borrow("a", 10_000);
		expect(next?.borrow).toMatchObject({ id: "~2", used: 0 });
		expect(loans.heard("a", 0, status, lost, { slots: 20, lentMs: 1_000 }, 10_001).repay).toMatchObject([
			{ account: { id: "~1" } },
		]);
		expect(loans.take("a", 1, 10_001)).toBeNull();
		loans.heard("a", 0, status, next, { slots: 10, lentMs: 1_000 }, 10_002);
		expect(loans.take("a", 1, 10_002)?.status.remaining).toBe(9);
	});

	test("are ended by a limit that lends no more", () => {
		const loans = borrowed(10);
		const { lendMs: _, ...lendsNothing } = status;
		expect(loans.heard("a", 1, lendsNothing, null, undefined, 0).repay).toHaveLength(1);
		expect(loans.size).toBe(0);
	});

	test("are of a bounded number of names, of which those that are asked for stay", () => {
		const loans = borrowed(10);
		for (let n = 0; n < NAMES_MAX + 10; n += 1) {
			loans.heard(`n${n}`, 1, status, null, undefined, n);
			if (n % 1_000 === 0) loans.take("a", 1, n);
		}
		expect(loans.size).toBe(NAMES_MAX);
		expect(loans.endAll((name) => name === "a")).toHaveLength(1);
	});
});

// ----------------------------------------------------------------------------------------- the simulation

const ONLY = process.env.HEADGATE_SEED;
const FIRST = Number(ONLY ?? process.env.HEADGATE_FROM ?? 1);
const LIVES = ONLY === undefined ? Number(process.env.HEADGATE_LIVES ?? 40) : 1;

const OUTCOMES = [
	...["granted from a loan", "granted by the limit", "lent", "not lent", "repaid by borrower", "repaid by expiry"],
	...["repaid what was over", "a call was lost", "an answer was lost", "a call came twice", "an isolate died"],
	...[
		"waited for a loan",
		"waited for a loan in vain",
		"the object was restarted",
		"ended by a change",
		"nothing to end by a change",
	],
];

const outcomes: Outcomes = new Map();

/** A world that is drawn from a seed. */
function worldOf(seed: number, isCalm: boolean): World {
	const random = new Random(seed + 1_000_000);
	const slotDecayPerSecond = random.pick([0.7, 5, 20, 100, 333.333333333333]);
	return {
		settings: {
			limit: random.pick([5, 20, 100, 500]),
			slotDecayPerSecond,
			active: true,
			lendSeconds: random.pick([0.1, 1, 5]),
		},
		isolates: random.int(1, 5),
		perSecond: random.pick([10, 50, 200]),
		latencyMs: random.pick([0, 5, 50, 300]),
		isCalm,
	};
}

describe("Workers that borrow", () => {
	test("promises 1 and 16: are granted no more than the limit, whatever happens to them", () => {
		for (let seed = FIRST; seed < FIRST + LIVES; seed += 1) {
			try {
				new Isolates(seed, worldOf(seed, false), outcomes).run(20_000);
			} catch (error) {
				throw new Error(`HEADGATE_SEED=${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
			}
		}
		if (ONLY === undefined) expect(OUTCOMES.filter((outcome) => !outcomes.has(outcome))).toEqual([]);
	});

	test("use what there is to use, less half of what is free at most, and ask seldom", () => {
		let [grants, unasked] = [0, 0];
		for (let seed = FIRST; seed < FIRST + LIVES / 4; seed += 1) {
			const world = worldOf(seed, true);
			const lends = new Isolates(seed, world, new Map());
			lends.run(20_000);
			const asks = new Isolates(seed, { ...world, settings: { ...world.settings, lendSeconds: 0 } }, new Map());
			asks.run(20_000);
			const lost = asks.granted - lends.granted;
			expect(lost, `HEADGATE_SEED=${seed}`).toBeLessThanOrEqual(world.settings.limit / 2);
			if (world.settings.limit === 500 && world.settings.slotDecayPerSecond > 300) {
				grants += lends.grants;
				unasked += lends.unasked;
			}
		}
		// Of a limit that is large enough for its callers.
		if (ONLY === undefined) expect(unasked / grants).toBeGreaterThan(0.9);
	});
});

afterAll(() => {
	console.log([...outcomes].map(([outcome, count]) => `${String(count).padStart(7)}  ${outcome}`).join("\n"));
});
