/** Limits whose slots come back by the calendar, or each so long after it was taken. */

import { describe, expect, test } from "vitest";
import type { Window } from "../../src/core/calendar.ts";
import { activeSlots, type Settings } from "../../src/core/limit.ts";
import { MOMENTS, Sliding } from "../../src/core/sliding.ts";
import { SLOT } from "../../src/core/usage.ts";
import { Random } from "./random.ts";
import { open, scene } from "./scene.ts";

const window = (every: Window["every"], changed: Partial<Window> = {}): Window => ({
	...{ every, timeZone: "UTC", at: "00:00", startsOn: null, sliding: false },
	...changed,
});
const calendar = (limit: number, every: Window["every"] = "minute", changed: Partial<Window> = {}) => ({
	...{ limit, window: window(every, changed) },
});
const sliding = (limit: number, every: Window["every"] = 60) => ({ limit, window: window(every, { sliding: true }) });

describe("a calendar window", () => {
	scene("gives everything back at the end of its period, and nothing before", calendar(3))`
		0     acquire a x2 rate => granted a x2
		59999 acquire b x2 rate => denied b, retry 1
		59999 acquire c rate    => granted c
		59999 used?             => 3
		60000 used?             => 0
		60000 acquire d x3 rate => granted d x3
		60001 acquire e rate    => denied e, retry 59999
	`;
	scene("says the end of the period in which a request fits, those ahead counted", calendar(2))`
		0     acquire a x2 rate           => granted a x2
		1000  acquire b x2 rate wait=ever => queued b at 1
		1000  acquire c rate wait=ever    => queued c at 2
		1000  acquire d rate              => denied d, retry 119000
		1000  acquire e x2 rate           => denied e, retry 179000
	`;
	scene("hands over at the end of the period, to as many as fit", calendar(2))`
		0      acquire a x2 rate        => granted a x2
		0      acquire b rate wait=ever => queued b at 1
		0      acquire c rate wait=ever => queued c at 2
		0      acquire d rate wait=ever => queued d at 3
		0      wake?                    => 60000
		60000  tick                     => granted b after 60000, granted c after 60000
		60000  wake?                    => 120000
		120000 tick                     => granted d after 120000
	`;
	scene("counts no denial: a caller that asks too often is not held back for longer", calendar(1))`
		0     acquire a rate     => granted a
		30000 acquire b rate     => denied b, retry 30000
		59999 acquire c rate     => denied c, retry 1
		60000 acquire d rate     => granted d
	`;
	scene("loses nothing to a large request that was denied", calendar(5))`
		0 acquire a x3 rate => granted a x3
		1 acquire b x4 rate => denied b, retry 59999
		2 acquire c x2 rate => granted c x2
	`;
	scene("is for what is taken by rate alone", calendar(5))`
		0 acquire a         => no_lease a
		0 acquire b x6 rate => exceeds_limit b
	`;
	scene("takes a reservation that lapses for nothing", calendar(2))`
		0     reserve a x2 rate => reserved a x2
		1     acquire b rate    => denied b, retry 5000
		10000 tick              => released a x2 by lapse
		10001 acquire c x2 rate => granted c x2
	`;
	scene("gives back in the same period what was committed and then undone", calendar(2))`
		0 reserve a x2 rate => reserved a x2
		1 commit a          => granted a x2
		2 acquire b rate    => denied b, retry 59998
		3 resolve a no      => released a x2 by abort
		4 acquire c x2 rate => granted c x2
	`;
	scene("and nothing once that period is over", calendar(2))`
		59000 reserve a x2 rate => reserved a x2
		59500 commit a          => granted a x2
		60000 acquire b rate    => granted b
		60001 resolve a no      => released a x0 by abort
		60002 used?             => 1
	`;
	scene("nor after a restart", calendar(2))`
		59000 reserve a x2 rate => reserved a x2
		59500 commit a          => granted a x2
		60000 acquire b rate    => granted b
		60001 restart           => nothing
		60001 resolve a no      => released a x0 by abort
		60002 used?             => 1
	`;
	scene("gives back nothing of what was set by hand, nor after a restart", calendar(3))`
		0 reserve a x2 rate => reserved a x2
		1 commit a          => granted a x2
		2 configure slots=3 => configured
		3 restart           => nothing
		4 resolve a no      => released a x0 by abort
		5 used?             => 3
	`;
	scene("whose clock jumps back over a boundary stays in its period, and gives no slot twice", calendar(1))`
		59000  acquire a rate => granted a
		60000  acquire b rate => granted b
		59500  acquire c rate => denied c, retry 60500
		60001  acquire d rate => denied d, retry 59999
		119999 acquire e rate => denied e, retry 1
		120000 acquire f rate => granted f
	`;
	scene("stays in its period through a restart before its beginning", calendar(2))`
		60000  acquire a rate => granted a
		59500  acquire b rate => granted b
		59600  restart        => nothing
		60001  acquire c rate => denied c, retry 59999
		120000 acquire d rate => granted d
	`;
	scene("whose clock jumps forward over three gives the slots of one", calendar(1))`
		0      acquire a rate           => granted a
		0      acquire b rate wait=ever => queued b at 1
		0      acquire c rate wait=ever => queued c at 2
		200000 tick                     => granted b after 200000
		200000 acquire d rate           => denied d, retry 100000
	`;
	scene("survives a restart, and one across a boundary", calendar(2))`
		0     acquire a rate    => granted a
		10    restart           => nothing
		11    acquire b x2 rate => denied b, retry 59989
		11    acquire c rate    => granted c
		59999 restart           => nothing
		59999 acquire d rate    => denied d, retry 1
		60000 restart           => nothing
		60000 acquire e x2 rate => granted e x2
	`;
	scene("waits at a capacity of 0 for an operator", calendar(0))`
		0 acquire a rate => denied a, retry 30000
	`;

	test("holds a period to its end, whatever its zone is by then", () => {
		const day = (timeZone: string) => ({ limit: 2, window: window("day", { timeZone }) });
		const { subject, run } = open(day("UTC"));
		expect(run("0 acquire a rate")).toBe("granted a");
		const change = (settings: Partial<Settings>, at: number) => subject.decide({ kind: "configure", settings }, at);
		// It is a day earlier there: the period that it is in now ends five hours later, and what was granted counts in it.
		change(day("America/New_York"), 3_600_000);
		expect(run("3600000 acquire b x2 rate")).toMatch(/^denied b/);
		expect(run("3600000 acquire c rate")).toBe("granted c");
		expect(run("17999999 acquire d rate")).toBe("denied d, retry 1");
		expect(run("18000000 acquire d x2 rate")).toBe("granted d x2");
	});

	test.each<[string, Partial<Settings>]>([
		["a larger limit", { limit: 4 }],
		["another period", calendar(3, "hour")],
		["a sliding window", sliding(3)],
		["decay", { window: null, slotDecayPerSecond: 0.001 }],
	])("gives no fresh quota with a change to %s", (_, settings) => {
		const { subject, run } = open(calendar(3));
		run("0 acquire a x3 rate");
		subject.decide({ kind: "configure", settings }, 1_000);
		expect(activeSlots(subject.limit)).toBe(3);
		subject.decide({ kind: "configure", settings: { ...calendar(3), slotDecayPerSecond: 0 } }, 2_000);
		expect(activeSlots(subject.limit)).toBe(3);
		expect(run("3000 acquire b rate")).toMatch(/^denied b/);
	});

	test("is emptied by hand, and by hand alone", () => {
		const { subject, run } = open(calendar(3));
		run("0 acquire a x3 rate");
		subject.decide({ kind: "configure", activeSlots: 1 }, 1_000);
		expect(run("1000 acquire b x2 rate")).toBe("granted b x2");
	});

	test("takes over what leases hold, and gives it back with them", () => {
		const { subject, run } = open({ limit: 3 });
		run("0 acquire a x2");
		subject.decide({ kind: "configure", settings: calendar(3) }, 1_000);
		expect(run("1000 acquire b x2 rate")).toMatch(/^denied b/);
		expect(run("2000 release a")).toBe("released a x2 by caller");
		expect(run("3000 acquire c x3 rate")).toBe("granted c x3");
	});
});

describe("a sliding window", () => {
	scene("gives each slot back exactly so long after it was taken", sliding(3))`
		0     acquire a rate    => granted a
		20000 acquire b x2 rate => granted b x2
		30000 acquire c rate    => denied c, retry 30000
		30000 acquire d x3 rate => denied d, retry 50000
		59999 used?             => 3
		60000 acquire e rate    => granted e
		79999 acquire f rate    => denied f, retry 1
		80000 acquire f x2 rate => granted f x2
	`;
	scene("serves the line as slots come back", sliding(2))`
		0     acquire a rate        => granted a
		10000 acquire b rate        => granted b
		11000 acquire c rate wait=ever => queued c at 1
		11000 acquire d x2 rate wait=ever => queued d at 2
		11000 acquire e rate        => denied e, retry 169000
		11000 wake?                 => 60000
		60000 tick                  => granted c after 49000
		60000 wake?                 => 120000
	`;
	scene("is not moved by a clock that jumps back", sliding(1))`
		50000 acquire a rate => granted a
		10000 acquire b rate => denied b, retry 60000
		69999 acquire c rate => denied c, retry 1
		70000 acquire c rate => granted c
	`;
	scene("survives a restart", sliding(2))`
		0     acquire a rate => granted a
		1     acquire b rate => granted b
		2     restart        => nothing
		60000 acquire c rate => granted c
		60000 acquire d rate => denied d, retry 1
	`;
	scene("gives back what was committed and then undone", sliding(2))`
		0    acquire a rate => granted a
		1    reserve b rate => reserved b
		2    commit b       => granted b
		3    restart        => nothing
		4    resolve b no   => released b by abort
		4    acquire c rate => granted c
		4    acquire d rate => denied d, retry 59996
	`;

	scene("gives back nothing of what was set by hand, nor after a restart", sliding(3))`
		0 reserve a x2 rate => reserved a x2
		1 commit a          => granted a x2
		2 configure slots=3 => configured
		3 restart           => nothing
		4 resolve a no      => released a x0 by abort
		5 used?             => 3
	`;

	/** What a caller was granted, moment by moment, and the most that any window of `ms` had of it. */
	class Granted {
		readonly #all: { at: number; slots: number }[] = [];
		#first = 0;
		#sum = 0;
		readonly #ms: number;

		constructor(ms: number) {
			this.#ms = ms;
		}

		add(at: number, slots: number): number {
			this.#all.push({ at, slots });
			this.#sum += slots;
			for (let oldest = this.#all[this.#first]; oldest && oldest.at <= at - this.#ms; oldest = this.#all[this.#first]) {
				this.#sum -= oldest.slots;
				this.#first += 1;
			}
			return this.#sum;
		}

		/** What is in use by now. */
		used(at: number): number {
			return this.add(at, 0);
		}
	}

	test.each([
		[1, 10, 20, 1],
		[10, 1_000, 50, 2],
		[200, 10_000, 20, 40],
		[3_000, 10_000, 2, 4],
	])(
		"promise 1: %d slots in any %d ms are never exceeded, and up to 256 grants none comes back late, in 250,000 steps",
		(limit, windowMs, stepMs, mostSlots) => {
			const random = new Random(limit);
			let usage = new Sliding(windowMs, 0);
			const granted = new Granted(windowMs);
			// No later than this; see `sliding.ts`.
			const late = new Granted(windowMs + (limit <= MOMENTS ? 0 : Math.ceil(windowMs / MOMENTS)));
			let [now, denied, worst] = [0, 0, 0];
			for (let step = 0; step < 250_000; step += 1) {
				now += random.chance(0.5) ? 0 : random.int(0, stepMs);
				// Seldom enough for windows to slide meanwhile.
				if (random.chance(stepMs / windowMs / 20)) now += 2 * windowMs;
				if (random.chance(0.001)) {
					const restarted = new Sliding(windowMs, now);
					restarted.restore([], JSON.parse(JSON.stringify(usage.save())));
					usage = restarted;
				}
				const slots = random.int(1, mostSlots);
				usage.drain(now);
				const used = late.used(now);
				if (usage.total <= BigInt(limit - slots) * SLOT) {
					usage.pour(slots);
					worst = Math.max(worst, granted.add(now, slots));
					late.add(now, slots);
				} else {
					denied += 1;
					if (used + slots <= limit)
						throw new Error(`Late in step ${step}: ${used} of ${limit} are in use, and ${slots} were denied.`);
				}
			}
			expect(worst).toBe(limit);
			expect(denied).toBeGreaterThan(1_000);
		},
	);

	test("of many moments stays small, in memory and in its row", () => {
		const usage = new Sliding(3_600_000, 0);
		let longest = 0;
		for (let step = 0; step < 20_000; step += 1) {
			usage.drain(step * 97);
			usage.pour(1);
			longest = Math.max(longest, usage.save().taken?.length ?? 0);
		}
		expect(longest).toBeLessThanOrEqual(MOMENTS + 64);
		expect(JSON.stringify(usage.save()).length).toBeLessThan(6_000);
	});
});
