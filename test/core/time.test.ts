/** What comes back, and when exactly: promises 5 and 7 to 9. */

import { describe, expect, test } from "vitest";
import type { Settings } from "../../src/core/limit.ts";
import { PLAYED_MAX } from "../../src/core/order.ts";
import { Random } from "./random.ts";
import { open, RATE, scene } from "./scene.ts";

describe("promise 5: the dead give back", () => {
	scene("a lease ends, if it is not renewed", { limit: 1 })`
		0    acquire a lease=1000 => granted a
		999  renew a              => renewed a to 1999
		1998 tick                 => nothing
		1999 tick                 => released a by expiry
	`;
	scene("a renewal may ask for another length", { limit: 1 })`
		0 acquire a lease=1000 => granted a
		1 renew a 5000         => renewed a to 5001
	`;
	scene("a lease that is over cannot be renewed: there is one winner", { limit: 1 })`
		0    acquire a lease=1000 => granted a
		1000 renew a              => released a by expiry, gone a
		1001 renew a              => gone a
	`;
	scene("a held lease ends with its connection, another does not", { limit: 2 })`
		0 acquire a held => granted a
		0 acquire b      => granted b
		5 detach a       => released a by caller
		5 detach b       => nothing
		5 used?          => 1
	`;
	scene("a held lease that was asked for again ends with its last connection too", { limit: 1 })`
		0 acquire a held => granted a
		1 acquire a held => granted a again
		5 detach a       => released a by caller
	`;
	scene("a reservation lapses by itself, counted from when it was last heard of", { limit: 1 })`
		0    reserve a => reserved a
		4999 touch a   => nothing
		5000 tick      => nothing
		9998 reserve a => reserved a
		14998 tick     => released a by lapse
		14998 commit a => gone a
	`;
	scene("a reservation steps back only for as long", { limit: 1 })`
		0    reserve a wait=ever => reserved a
		0    park a              => parked a at 1
		4000 touch a             => nothing
		9000 tick                => left a gone
	`;
	scene("a lease that its peers do not know gives back", { limit: 1 })`
		0    reserve a   => reserved a
		0    commit a    => granted a
		3000 tick        => doubted a
		6000 tick        => doubted a
		6001 resolve a no => released a by abort
		6002 renew a     => gone a
	`;
	scene("a lease that its peers know is doubted no more", { limit: 1 })`
		0    reserve a lease=9000 => reserved a
		0    commit a             => granted a
		3000 tick                 => doubted a
		3001 resolve a yes         => nothing
		8999 tick                 => nothing
		9000 tick                 => released a by expiry
	`;
	scene("a renewal tells that all had committed", { limit: 1 })`
		0    reserve a lease=9000 => reserved a
		0    commit a             => granted a
		10   renew a 9000         => renewed a to 9010
		8000 tick                 => nothing
	`;
	scene("who was asked whether it committed and did not, never will", { limit: 1 })`
		0 reserve a => reserved a
		1 vouch a   => left a cancelled, vouched a no
		2 commit a  => gone a
		3 reserve a => id_in_use a
		4 vouch b   => vouched b no
		5 reserve b => id_in_use b
	`;
	scene("who committed says so, also when it is over", { limit: 1 })`
		0 reserve a    => reserved a
		0 commit a     => granted a
		1 vouch a      => vouched a yes
		2 release a    => released a by caller
		3 vouch a      => vouched a yes
	`;
	scene("a receipt of several names is vouched for, whoever made its id", RATE)`
		0    reserve a rate once => reserved a
		0    commit a            => granted a
		3000 tick                => doubted a
		3000 resolve a yes        => nothing
		3001 vouch a             => vouched a yes
	`;
	scene("also when the limit was inactive", { limit: 1, active: false })`
		0 reserve a rate once => reserved a unenforced
		0 commit a            => granted a unenforced
		1 vouch a             => vouched a yes
	`;
});

describe("promise 7: exact give-back", () => {
	scene("released twice, it frees once", { limit: 2 })`
		0 acquire a    => granted a
		0 acquire b    => granted b
		1 release a    => released a by caller
		1 release a    => released a x0 by caller
		1 used?        => 1
	`;
	scene("released after its end, it frees nothing", { limit: 1 })`
		0    acquire a lease=1000 => granted a
		1000 acquire b            => released a by expiry, granted b
		1001 release a            => released a x0 by caller
		1001 used?                => 1
	`;
	scene("released twice at a limit that decays", RATE)`
		0    acquire a x2 => granted a x2
		0    acquire b x2 => granted b x2
		500  release a    => released a by caller
		500  release a    => released a x0 by caller
		500  used?        => 2
	`;
	scene("released after its end, in the same moment", { limit: 2 })`
		0    acquire a lease=1000 => granted a
		1000 release a            => released a by expiry, released a x0 by caller
		1000 used?                => 0
	`;
	scene("with the limit switched off and on in between", { limit: 2 })`
		0 acquire a             => granted a
		1 configure active=no   => configured
		2 acquire b             => granted b unenforced
		3 configure active=yes  => configured
		4 used?                 => 1
		5 release b             => released b x0 by caller
		6 release a             => released a by caller
		7 used?                 => 0
	`;
	scene("with decay switched on and off in between", { limit: 4 })`
		0    acquire a x3            => granted a x3
		0    configure decay=1       => configured
		1000 used?                   => 2
		1000 configure decay=0       => configured
		1000 used?                   => 3
		1000 release a               => released a x3 by caller
		1000 used?                   => 0
	`;
	scene("a reset by hand frees no slot that somebody holds", { limit: 3 })`
		0 acquire a            => granted a
		0 configure slots=3    => configured
		0 used?                => 3
		0 configure slots=0    => configured
		0 used?                => 1
		0 release a            => released a by caller
		0 used?                => 0
	`;
	scene("with decay a reset sets the level, and leases of that moment give back nothing", RATE)`
		0 acquire a x4         => granted a x4
		0 configure slots=2    => configured
		0 used?                => 2
		0 release a            => released a x0 by caller
		0 used?                => 2
	`;
	scene("an operator's release of what is unknown is no news", { limit: 1 })`
		0 force a   => released a x0 by operator
		0 acquire a => granted a
	`;
	scene("an answer that was not heard takes nothing from who asked again", { limit: 1 })`
		0 acquire a => granted a
		1 acquire a => granted a again
		2 unheard a => released a x0 by unheard
		2 used?     => 1
	`;
	scene("when a limit is deleted, all of it ends", { limit: 1 })`
		0 acquire a           => granted a
		0 acquire b wait=ever => queued b at 1
		1 close               => released a by operator, unknown_limit b
		1 used?               => 0
	`;
});

describe("promise 8: exact decay", () => {
	scene("a lease gives back only what has not come back by itself", RATE)`
		0    acquire a x4  => granted a x4
		2500 release a     => released a by caller
		2500 used?         => 0
	`;
	scene("the oldest drains first", RATE)`
		0    acquire a x4 => granted a x4
		0    acquire b x4 => granted b x4
		5000 release b    => released b x3 by caller
		5000 release a    => released a x0 by caller
		5000 used?        => 0
	`;
	scene("what lies above a lease that ended sinks by as much", RATE)`
		0    acquire a x4 => granted a x4
		0    acquire b x4 => granted b x4
		1000 release a    => released a x3 by caller
		2000 used?        => 3
		2000 release b    => released b x3 by caller
	`;
	scene("a grant of several names that was committed later lies above those before it", RATE)`
		0    reserve r x4 => reserved r x4
		0    acquire a x4 => granted a x4
		0    commit r     => granted r x4
		2000 renew a      => renewed a to 62000
		2000 restart      => nothing
		2000 release r    => released r x4 by caller
		2000 release a    => released a x2 by caller
	`;
	scene("a restart loses nothing of what had drained", { limit: 1, slotDecayPerSecond: 0.7 })`
		0    acquire a    => granted a
		1000 restart      => nothing
		1000 acquire b    => denied b, retry 429
		1428 restart      => nothing
		1428 acquire b    => denied b, retry 1
		1429 acquire b    => granted b
	`;
	scene("reading loses nothing", { limit: 1, slotDecayPerSecond: 3 })`
		0   acquire a rate => granted a
		111 used?          => 1
		222 used?          => 1
		333 used?          => 1
		333 acquire b rate => denied b, retry 1
		334 acquire b rate => granted b
	`;
	scene("a new rate counts from its moment on", RATE)`
		0    acquire a x10 rate  => granted a x10
		1000 configure decay=0.5 => configured
		3000 used?               => 8
	`;
	scene("what nobody owns does not stay when decay is switched off", RATE)`
		0 acquire a x2 rate   => granted a x2
		0 acquire b x2        => granted b x2
		0 configure decay=0   => configured
		0 used?               => 2
	`;
	scene("a rate of a thousandth of a millionth keeps its place in time", { limit: 1, slotDecayPerSecond: 1e-9 })`
		0 acquire a rate => granted a
		0 acquire b rate => denied b, retry 1000000000000
	`;

	test("a denial that comes late announces from then on, and not from its own moment", () => {
		const { run } = open({ limit: 5, slotDecayPerSecond: 1 });
		run("0 acquire a x5 rate");
		run("0 reserve b x3 wait=100 park");
		expect(run("1500 tick")).toBe("denied b, retry 1500");
	});

	/** Each: what was asked before, and what is then asked and denied. */
	const denials: [string, Partial<Settings>, string][] = [
		["of a full level", RATE, "0 acquire a x10 rate"],
		["of a level between two slots", { limit: 3, slotDecayPerSecond: 7 }, "0 acquire a x3 rate\n100 tick"],
		["of a rate with no end of decimals", { limit: 2, slotDecayPerSecond: 1 / 3 }, "0 acquire a x2 rate"],
		["behind a line", RATE, "0 acquire a x10 rate\n0 acquire b x4 rate wait=ever\n0 acquire c x3 wait=ever"],
		[
			"behind one that empties the level",
			{ limit: 1, slotDecayPerSecond: 3 },
			"0 acquire a rate\n0 acquire b rate wait=ever",
		],
		["beside a reservation", { limit: 10, slotDecayPerSecond: 1000 }, "0 reserve a x10"],
		["behind a reservation in line", { limit: 1, slotDecayPerSecond: 1 }, "0 acquire a rate\n0 reserve b wait=ever"],
		[
			"while the line waits for those of before a restart",
			{ limit: 1, slotDecayPerSecond: 1 },
			"0 acquire a rate\n0 acquire b rate wait=ever\n500 restart",
		],
		[
			"after a waiter gave up late",
			{ limit: 5, slotDecayPerSecond: 1 },
			"0 acquire a x5 rate\n0 acquire b rate wait=100\n120 tick\n121 acquire c x5 rate",
		],
		["after the clock jumped back", RATE, "5000 acquire a x10 rate\n4000 tick"],
	];
	test.each(denials)("a retry at exactly retryAfter is granted: a denial %s", (_, settings, setup) => {
		const { subject, run } = open(settings);
		let at = 0;
		for (const line of setup.split("\n")) {
			run(line);
			at = Number(line.split(" ")[0]);
		}
		const denial = run(`${at} acquire x`);
		expect(denial).toMatch(/^denied x, retry \d+$/);
		const retryAt = at + Number(denial.split(" ").at(-1));
		let wakeAt = subject.decide({ kind: "tick" }, at).wakeAt;
		while (wakeAt !== null && wakeAt < retryAt) wakeAt = subject.decide({ kind: "tick" }, wakeAt).wakeAt;
		expect(run(`${retryAt} acquire x`)).toContain("granted x");
	});

	/** When a request that was denied is granted, if it joins the line at once and nothing else happens. */
	function grantedAt({ subject, run }: ReturnType<typeof open>, at: number, asks: string): number {
		run(`${at} acquire x ${asks} wait=ever`);
		for (let { wakeAt } = subject.decide({ kind: "tick" }, at); wakeAt !== null; ) {
			const decided = subject.decide({ kind: "tick" }, wakeAt);
			if (decided.events.some((event) => event.kind === "granted" && event.id === "x")) return wakeAt;
			wakeAt = decided.wakeAt;
		}
		throw new Error("Nothing is left to wait for.");
	}

	test.each(["of one slot each", "of many sizes"])("a denial behind a line %s is told when its turn comes", (sizes) => {
		for (let seed = 1; seed <= 300; seed += 1) {
			const random = new Random(seed);
			const limit = random.pick([1, 2, 3, 10, 1_000]);
			const decay = () => random.pick([0.3, 1, 7, 1_500, limit / 60]);
			const opened = open({ limit, slotDecayPerSecond: decay() });
			const most = sizes === "of many sizes" ? limit : 1;
			const asks = () => `${random.chance(0.3) ? `key=k${random.int(1, 4)} ` : ""}x${random.int(1, most)}`;
			opened.run(`0 acquire first x${limit} rate`);
			const at = random.int(0, 1_000);
			if (random.chance(0.5)) opened.run(`${at} configure decay=${decay()}`);
			for (let index = random.int(0, 40); index > 0; index -= 1)
				opened.run(`${at} acquire r${index} ${asks()} rate wait=ever`);
			const asked = asks();
			const denial = opened.run(`${at} acquire x ${asked}`);
			if (denial.startsWith("granted")) continue;
			const slotsBefore = opened.subject.limit.sums.inTurnSlots;
			const told = at + Number(denial.split(" ").at(-1));
			const late = told - grantedAt(opened, at, asked);
			expect(late, `seed ${seed}: ${denial}`).toBeGreaterThanOrEqual(0);
			// A waiter that takes the whole limit may leave less than a millisecond of decay unused.
			expect(late, `seed ${seed}: ${denial}`).toBeLessThanOrEqual(most > 1 ? Math.floor(slotsBefore / limit) : 0);
		}
	});

	test("waiters of a higher priority that left are not waited for", () => {
		const { run } = open({ limit: 10, slotDecayPerSecond: 1 });
		run("0 acquire a x10 rate");
		run("0 acquire b x4 rate wait=ever priority=1");
		run("0 acquire c rate wait=ever priority=1");
		run("0 cancel b");
		expect(run("0 acquire x rate")).toBe("denied x, retry 2000");
	});

	const LONG = PLAYED_MAX + 500;
	const MINUTE = { every: "minute", timeZone: "UTC", at: "00:00", startsOn: null, sliding: false } as const;
	test("a calendar's denial behind a long line is told the very period", () => {
		const opened = open({ limit: 7, window: MINUTE });
		for (let index = 0; index < LONG; index += 1) opened.run(`0 acquire r${index} rate wait=ever`);
		const told = Number(opened.run("0 acquire x rate").split(" ").at(-1));
		expect(told).toBe(grantedAt(opened, 0, "rate"));
	});

	test("a sliding window's denial behind a long line is told by a window late at most", () => {
		const opened = open({ limit: 7, window: { ...MINUTE, every: 60, sliding: true } });
		for (let index = 0; index < LONG; index += 1) opened.run(`${10 * index} acquire r${index} rate wait=ever`);
		const at = 10 * LONG;
		const told = at + Number(opened.run(`${at} acquire x rate`).split(" ").at(-1));
		const late = told - grantedAt(opened, at, "rate");
		expect(late).toBeGreaterThanOrEqual(0);
		expect(late).toBeLessThanOrEqual(60_000);
	});
	test("what is set aside counts as used in a denial behind a long line", () => {
		const opened = open({ limit: 7, slotDecayPerSecond: 7 });
		opened.run("0 reserve part x2");
		for (let index = 0; index < LONG; index += 1) opened.run(`0 acquire r${index} rate wait=ever`);
		const told = Number(opened.run("0 acquire x rate").split(" ").at(-1));
		opened.run("0 commit part");
		expect(told).toBe(grantedAt(opened, 0, "rate"));
	});

	test("without decay the estimate is at least 0 and at most 30 s", () => {
		const { run } = open({ limit: 1 });
		run("0 acquire a lease=86400000");
		expect(run("0 acquire b")).toBe("denied b, retry 30000");
		run("100 release a");
		run("100 acquire c");
		expect(run("100 acquire b")).toBe("denied b, retry 100");
		run("100 acquire d wait=ever");
		expect(run("100 acquire b")).toBe("denied b, retry 200");
	});

	test("a limit of 1 a second refills each second", () => {
		const { run } = open({ limit: 1, slotDecayPerSecond: 1 });
		for (let second = 0; second < 100; second += 1) {
			expect(run(`${second * 1000} acquire r${second} rate`)).toBe(`granted r${second}`);
			expect(run(`${second * 1000 + 999} acquire x rate`)).toBe("denied x, retry 1");
		}
	});

	test("under ten times the load, at least 99 % of the rate is used", () => {
		const { subject, run } = open({ limit: 10, slotDecayPerSecond: 7 });
		run("0 acquire x x10 rate");
		for (let index = 0; index < 4_200; index += 1) run(`0 acquire r${index} rate wait=ever`);
		let granted = 0;
		for (let at = 0; at <= 60_000; ) {
			const { events, wakeAt } = subject.decide({ kind: "tick" }, at);
			granted += events.filter(({ kind }) => kind === "granted").length;
			at = wakeAt ?? Number.POSITIVE_INFINITY;
		}
		expect(granted).toBeGreaterThanOrEqual(0.99 * 420);
		expect(granted).toBeLessThanOrEqual(420);
	});
});

describe("promise 9: a clock that jumps back neither frees nor freezes", () => {
	scene("a lease lives on for as long as it had left", { limit: 1 })`
		9000 acquire a lease=1000 => granted a
		9400 tick                 => nothing
		2000 tick                 => nothing
		2599 tick                 => nothing
		2600 tick                 => released a by expiry
	`;
	scene("a level drains on from where it was", RATE)`
		9000 acquire a x10 rate => granted a x10
		9500 acquire b rate     => denied b, retry 500
		0    acquire b rate     => denied b, retry 500
		499  acquire b rate     => denied b, retry 1
		500  acquire b rate     => granted b
	`;
	scene("a waiter's patience goes on from where it was", { limit: 1 })`
		9000 acquire a          => granted a
		9000 acquire b wait=300 => queued b at 1
		9100 tick               => nothing
		0    tick               => nothing
		199  tick               => nothing
		200  tick               => denied b, retry 30000
	`;
	scene("what is told is of the caller's clock", { limit: 1 })`
		9000 acquire a lease=1000 => granted a
		0    renew a              => renewed a to 1000
	`;
	scene("a restart does not forget it", { limit: 1 })`
		9000 acquire a lease=1000 => granted a
		9400 renew a 1000         => renewed a to 10400
		2000 renew a 1000         => renewed a to 3000
		2000 restart              => nothing
		2999 tick                 => nothing
		3000 tick                 => released a by expiry
	`;
	scene("one that jumps back while the object sleeps does not either", { limit: 1 })`
		9000 acquire a lease=1000 => granted a
		2000 restart              => nothing
		2000 tick                 => nothing
		2999 tick                 => nothing
		3000 tick                 => released a by expiry
	`;
});
