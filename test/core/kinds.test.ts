/** Limits that only watch, and estimates that are settled. */

import { describe, expect, test } from "vitest";
import type { Totals } from "../../src/core/totals.ts";
import { Random } from "./random.ts";
import { open, RATE, scene } from "./scene.ts";

describe("a limit that only watches", () => {
	const WATCH = { limit: 2, enforce: false };

	scene("grants what it would deny, at once, and holds nothing of it", WATCH)`
		0 acquire a x2        => granted a x2
		1 acquire b           => granted b though it would deny
		2 acquire c wait=ever => granted c though it would deny
		3 used?               => 2
		4 release b           => released b x0 by caller
		5 used?               => 2
		6 release a           => released a x2 by caller
		7 acquire d           => granted d
	`;
	scene("grants what could never fit, and what could not be taken by rate", WATCH)`
		0 acquire a x3   => granted a x3 though it would deny
		1 acquire b rate => granted b though it would deny
		2 used?          => 0
	`;
	scene("answers the same id the same", { ...RATE, enforce: false })`
		0 acquire a x10 rate => granted a x10
		0 acquire b rate     => granted b though it would deny
		1 acquire b rate     => granted b again though it would deny
		2 restart            => nothing
		3 acquire b rate     => granted b again though it would deny
	`;
	scene("lets its line go when it is told to watch, and denies again when it is told to enforce", { limit: 1 })`
		0 acquire a              => granted a
		1 acquire b wait=ever    => queued b at 1
		2 acquire c x2           => exceeds_limit c
		3 configure enforce=no   => configured, granted b after 2 though it would deny
		4 configure enforce=yes  => configured
		5 acquire d              => denied d, retry 30000
	`;
	scene("of several names reserves nothing that it would deny", { limit: 1, enforce: false })`
		0 acquire a            => granted a
		0 reserve b wait=ever  => reserved b though it would deny
		1 park b               => parked b at 1
		2 reserve b wait=ever  => reserved b though it would deny
		3 commit b             => granted b after 2 though it would deny
	`;
	scene("would deny in a pause", { limit: 5, enforce: false })`
		0    pause 1000 => configured
		1    acquire a  => granted a though it would deny
		1000 acquire b  => granted b
	`;

	test("counts the same as the same load enforced, those denied having gone away", () => {
		for (let seed = 1; seed <= 10; seed += 1) {
			const random = new Random(seed);
			const settings = { limit: random.int(1, 6), slotDecayPerSecond: random.pick([0, 0, 0.5, 3]) };
			const [enforced, watched] = [open(settings), open({ ...settings, enforce: false })];
			const granted: string[] = [];
			for (let at = 0, step = 0; step < 200; step += 1) {
				at += random.int(0, 900);
				const both = (words: string): [string, string] => [
					enforced.run(`${at} ${words}`),
					watched.run(`${at} ${words}`),
				];
				if (granted.length > 0 && random.chance(0.4)) {
					const id = granted.splice(random.int(0, granted.length - 1), 1)[0];
					// What it would have denied ends by itself, and holds nothing.
					const [one, other] = both(`release ${id}`).map((said) => said.replaceAll(/released \S+ x0 by expiry, /g, ""));
					expect(other).toBe(one);
					continue;
				}
				const slots = random.int(1, settings.limit);
				const mode = settings.slotDecayPerSecond > 0 && random.chance(0.5) ? " rate" : "";
				const [one, other] = both(`acquire r${step} x${slots} lease=${random.int(100, 4_000)}${mode}`);
				if (one.includes("granted") && !one.includes("denied")) granted.push(`r${step}`);
				expect(other.includes("though it would deny")).toBe(one.includes("denied"));
				expect(watched.run(`${at} used?`)).toBe(enforced.run(`${at} used?`));
			}
			const of = ({ denied, wouldDeny, ...rest }: Totals) => ({ ...rest, refused: denied + wouldDeny });
			const totals = [enforced.subject.limit.totals, watched.subject.limit.totals] as const;
			expect(of(totals[1])).toEqual(of(totals[0]));
			expect([totals[0].wouldDeny, totals[1].denied]).toEqual([0, 0]);
			expect(totals[1].wouldDeny).toBeGreaterThan(0);
		}
	});
});

describe("an estimate", () => {
	scene("above what it came to gives the rest back, and the line has it in that turn", RATE)`
		0   acquire a x10 rate settle=60000 => granted a x10
		100 acquire w x4 rate wait=ever     => queued w at 1
		100 settle a 5                      => settled a with 5, granted w x4
	`;
	scene("gives back no more than has not come back by itself", RATE)`
		0    acquire a x4 rate settle=60000 => granted a x4
		3000 settle a 1                     => settled a with 1
		3000 used?                          => 0
	`;
	scene("gives back nothing that others took after it", RATE)`
		0    acquire a x4 rate settle=60000 => granted a x4
		0    acquire b x3 rate              => granted b x3
		3000 settle a 1                     => settled a with 1
		3000 used?                          => 3
	`;
	scene("keeps what was taken above it, which drains after it", RATE)`
		0    acquire a x4 rate settle=60000 => granted a x4
		0    acquire b x3 rate              => granted b x3
		1000 settle a 2                     => settled a with 2
		1000 used?                          => 4
		2000 used?                          => 3
	`;
	scene("a settle that throws when use was higher: it is a debt, and nothing is granted until it has come back", RATE)`
		0     acquire a x6 rate settle=60000 => granted a x6
		0     settle a 15                    => settled a with 15
		0     used?                          => 15
		0     acquire b rate                 => denied b, retry 6000
		5999  acquire b rate                 => denied b, retry 1
		6000  acquire b rate                 => granted b
	`;
	scene("is settled once: the same again changes nothing, and another number is told what stands", RATE)`
		0 acquire a x6 rate settle=60000 => granted a x6
		1 settle a 2                     => settled a with 2
		2 settle a 2                     => settled a with 2 again
		3 restart                        => nothing
		4 settle a 5                     => settled a with 2 otherwise
		5 used?                          => 2
	`;
	scene("a cancelled stream leaks its estimate: no longer than it says, and then it stands", RATE)`
		0     acquire a x10 rate settle=5000 => granted a x10
		4999  used?                          => 6
		5000  wake?                          => never
		5001  settle a 0                     => gone a
		5001  used?                          => 5
	`;
	scene("of a request that is not known, that holds, or that was no estimate, is gone", RATE)`
		0 acquire a rate => granted a
		0 acquire b      => granted b
		1 settle a 1     => gone a
		1 settle b 1     => gone b
		1 settle c 1     => gone c
	`;
	scene("is not given back by a release", RATE)`
		0 acquire a x5 rate settle=9000 => granted a x5
		1 release a                     => released a x0 by caller
		2 unheard a                     => released a x0 by unheard
		3 settle a 1                    => settled a with 1
	`;
	scene("of several names may be settled before its peers have answered, and after", RATE)`
		0    reserve a x5 rate settle=60000 => reserved a x5
		1    commit a                       => granted a x5
		2    settle a 2                     => settled a with 2
		2    used?                          => 2
		3    reserve b x5 rate settle=60000 => reserved b x5
		4    commit b                       => granted b x5
		3500 tick                           => doubted b
		3501 resolve b yes                  => nothing
		3502 settle b 1                     => settled b with 1
		3503 vouch b                        => vouched b yes
	`;
	scene("outlives a restart", RATE)`
		0    acquire a x8 rate settle=60000 => granted a x8
		1000 acquire b x2 rate settle=60000 => granted b x2
		1000 restart                        => nothing
		1000 settle a 3                     => settled a with 3
		1000 used?                          => 4
	`;
	scene(
		"an estimate above a small limit denies the first call for ever: with atMost it takes what there could be",
		RATE,
	)`
		0 acquire a x50 rate                     => exceeds_limit a
		0 acquire b x50 rate atmost settle=60000 => granted b x10
		1 settle b 12                            => settled b with 12
		1 used?                                  => 12
	`;
	scene("of a waiter is as large as the limit is then", { limit: 4, slotDecayPerSecond: 1 })`
		0    acquire a x4 rate                => granted a x4
		0    acquire b x9 rate atmost wait=ever => queued b at 1
		1    configure limit=2                => configured
		2    restart                          => nothing
		2    acquire b x9 rate atmost wait=ever => queued b at 1
		4000 tick                             => granted b x2 after 4000
	`;
	scene("of a limit that is switched off, or only watches, is settled like any other, and holds nothing", {
		...RATE,
		active: false,
	})`
		0 acquire a x5 rate settle=60000 => granted a x5 unenforced
		1 settle a 9                     => settled a with 9
		2 configure active=yes enforce=no => configured
		2 acquire b x10 rate settle=60000 => granted b x10
		2 acquire c x5 rate settle=60000 => granted c x5 though it would deny
		3 settle c 9                     => settled c with 9
		3 used?                          => 10
	`;
	scene("loses what it has of a level when decay is switched off", RATE)`
		0 acquire a x5 rate settle=60000 => granted a x5
		1 configure decay=0              => configured
		2 used?                          => 0
		3 settle a 9                     => settled a with 9
		4 configure decay=1              => configured
		5 restart                        => nothing
		5 used?                          => 0
	`;

	test("concurrent calls that all pass before the first settles: while estimates are true maxima their sum is never exceeded", () => {
		for (let seed = 1; seed <= 10; seed += 1) {
			const random = new Random(seed);
			const limit = random.int(5, 30);
			const rate = random.pick([0.5, 2, 7]);
			const { run } = open({ limit, slotDecayPerSecond: rate });
			/** What was really used, counted as if it had been taken at the moment of the grant. */
			const used: { at: number; slots: number }[] = [];
			const inFlight: { id: string; at: number; actual: number }[] = [];
			for (let at = 0, step = 0; step < 200; step += 1) {
				at += random.int(0, 700);
				if (inFlight.length > 0 && random.chance(0.5)) {
					const [{ id, at: since, actual }] = inFlight.splice(random.int(0, inFlight.length - 1), 1) as [
						(typeof inFlight)[0],
					];
					expect(run(`${at} settle ${id} ${actual}`)).toContain(`settled ${id} with ${actual}`);
					used.push({ at: since, slots: actual });
				} else {
					const slots = random.int(1, limit);
					if (!run(`${at} acquire r${step} x${slots} rate settle=3600000`).includes("granted")) continue;
					inFlight.push({ id: `r${step}`, at, actual: random.int(0, slots) });
				}
			}
			used.push(...inFlight.map(({ at, actual }) => ({ at, slots: actual })));
			used.sort((a, b) => a.at - b.at);
			for (let from = 0; from < used.length; from += 1) {
				let sum = 0;
				for (const { at, slots } of used.slice(from)) {
					sum += slots;
					expect(sum).toBeLessThanOrEqual(limit + (rate * (at - (used[from]?.at ?? 0))) / 1_000 + 1e-6);
				}
			}
		}
	});

	test("below what it came to exceeds the limit by no more than what was in flight", () => {
		const { run } = open({ limit: 10, slotDecayPerSecond: 1 });
		for (const id of ["a", "b", "c"]) expect(run(`0 acquire ${id} x3 rate settle=60000`)).toContain("granted");
		for (const id of ["a", "b", "c"]) run(`1 settle ${id} 20`);
		expect(run("1 used?")).toBe("60");
		expect(run("1 acquire d rate")).toContain("denied");
	});

	test("is known by how many there were, and how far off they were on average", () => {
		const { run, subject } = open(RATE);
		for (const [id, actual] of [
			["a", 1],
			["b", 4],
		] as const) {
			run(`0 acquire ${id} x2 rate settle=60000`);
			run(`0 settle ${id} ${actual}`);
		}
		run("1 restart");
		expect(subject.limit.settled).toEqual({ count: 2, ratios: 2.5 });
	});
});
