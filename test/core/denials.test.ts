/**
 * The memory of denials, beside the core that it speaks for: Workers with a memory each, objects that are the real core,
 * and a network that takes its time. Nothing may be denied from memory that its object would have granted, but for
 * a change through another Worker within the last second.
 */

import { describe, expect, test } from "vitest";
import { decide } from "../../src/core/decide.ts";
import { steadyMs } from "../../src/core/forecast.ts";
import { fits } from "../../src/core/granting.ts";
import { createLimit, type Limit, type Request } from "../../src/core/limit.ts";
import type { Answered } from "../../src/server/contract/answers.ts";
import { DENIAL_MAX_MS, type Status } from "../../src/server/contract/outcomes.ts";
import { CHANGES_MAX, DENIALS_MAX, type Deniable, Denials } from "../../src/server/front/denials/denials.ts";
import { Random } from "./random.ts";

const START = 1_000_000;
/** Of a status, what no denial is made of. */
const UNUSED = { limitId: "", deniedSlots: 0, averageHeldMs: 0 };
const deniable = (name: string, slots = 1): Deniable => ({ key: name, names: [[name, slots]], isRated: () => true });

/** What an object answers to a request that it denies. */
function denied(name: string, more: Partial<Status> = {}, retryAfterMs = 10_000, slots = 1): Answered[] {
	const status: Status = {
		...{ name, limit: 5, activeSlots: 5, remaining: 0, enforced: true, slotDecayPerSecond: 0.1 },
		...{ nextSlotMs: retryAfterMs, steadyMs: 1_000, follows: false, ...UNUSED, ...more },
	};
	return [{ slots, status, denied: { kind: "denied", id: "x", code: "denied", position: 1, retryAfterMs } }];
}

/** A memory that was told of one denial, asked and answered at once. */
function remembering(asked = denied("a"), slots = 1): Denials {
	const denials = new Denials();
	denials.note(deniable("a", slots), asked, denials.ticket, START, START);
	return denials;
}

describe("a denial that is remembered", () => {
	test("is given again for a second, with what is left to wait, and then asked for anew", () => {
		const denials = remembering();
		expect(denials.find(deniable("a"), START + 400)?.answered[0]?.denied?.retryAfterMs).toBe(9_600);
		expect(denials.find(deniable("a"), START + 999)).not.toBeNull();
		expect(denials.find(deniable("a"), START + 1_000)).toBeNull();
		expect(denials.find(deniable("a"), START + 500)).toBeNull(); // Forgotten by then.
	});

	test("is not given again at the announced moment, nor after the limit may change by itself", () => {
		expect(remembering(denied("a", {}, 300)).find(deniable("a"), START + 299)).not.toBeNull();
		expect(remembering(denied("a", {}, 300)).find(deniable("a"), START + 300)).toBeNull();
		expect(remembering(denied("a", { steadyMs: 200 })).find(deniable("a"), START + 200)).toBeNull();
		expect(remembering(denied("a", { steadyMs: 0 })).find(deniable("a"), START)).toBeNull();
	});

	test("is for as many slots or more, and never for fewer, nor for more than the limit has", () => {
		const denials = remembering(denied("a", {}, 10_000, 2), 2);
		expect(denials.find(deniable("a", 1), START)).toBeNull();
		expect(denials.find(deniable("a", 2), START)?.answered[0]?.denied?.retryAfterMs).toBe(10_000);
		expect(denials.find(deniable("a", 4), START)?.answered[0]).toMatchObject({
			slots: 4,
			denied: { retryAfterMs: 30_000 },
		});
		expect(denials.find(deniable("a", 6), START)).toBeNull();
	});

	test("shows the slots that came back meanwhile", () => {
		const denials = remembering(denied("a", { slotDecayPerSecond: 10, nextSlotMs: 50 }, 500, 5), 5);
		const at = (ms: number) => denials.find(deniable("a", 5), START + ms)?.answered[0]?.status;
		expect(at(49)).toMatchObject({ activeSlots: 5, remaining: 0, nextSlotMs: 1 });
		expect(at(50)).toMatchObject({ activeSlots: 4, remaining: 1, nextSlotMs: 100 });
		expect(at(450)).toMatchObject({ activeSlots: 0, remaining: 5, nextSlotMs: null });
	});

	test("is not given across a change, nor remembered when one came while it was on its way", () => {
		const denials = remembering();
		denials.changed("b");
		expect(denials.find(deniable("a"), START)).not.toBeNull();
		denials.changed("a");
		expect(denials.find(deniable("a"), START)).toBeNull();
		const { ticket } = denials;
		denials.changed("a");
		denials.note(deniable("a"), denied("a"), ticket, START, START);
		expect(denials.find(deniable("a"), START)).toBeNull();
		denials.note(deniable("a"), denied("a"), denials.ticket, START, START);
		expect(denials.find(deniable("a"), START)).not.toBeNull();
		denials.changedAll();
		expect(denials.find(deniable("a"), START)).toBeNull();
	});

	test("counts from before it was asked for, however long the answer took", () => {
		const denials = new Denials();
		denials.note(deniable("a"), denied("a"), denials.ticket, START, START + 700);
		expect(denials.find(deniable("a"), START + 999)).not.toBeNull();
		expect(denials.find(deniable("a"), START + 1_000)).toBeNull();
		denials.note(deniable("a"), denied("a"), denials.ticket, START, START + 1_000);
		expect(denials.find(deniable("a"), START + 1_000)).toBeNull();
	});

	test("is dropped by a clock that was set back", () => {
		expect(remembering().find(deniable("a"), START - 1)).toBeNull();
	});

	test("of several names rests on the one that is empty: changes of the others do not count", () => {
		const denials = new Denials();
		const several: Deniable = {
			key: "\nab",
			names: [
				["a", 1],
				["b", 1],
			],
			isRated: () => true,
		};
		const free = denied("a").map((each) => ({ ...each, denied: null }));
		denials.note(several, [...free, ...denied("b")], denials.ticket, START, START);
		denials.changed("a");
		expect(denials.find(several, START)?.answered).toHaveLength(2);
		denials.changed("b");
		expect(denials.find(several, START)).toBeNull();
	});

	test("is none that a name held in the same request was denied by, nor one that no waiting would mend", () => {
		const held = { ...deniable("a"), isRated: () => false };
		const denials = new Denials();
		denials.note(held, denied("a"), denials.ticket, START, START);
		expect(denials.find(held, START)).toBeNull();
		const [never] = denied("b") as [Answered];
		if (never.denied?.kind === "denied") never.denied = { ...never.denied, code: "exceeds_limit" };
		denials.note(deniable("b"), [never], denials.ticket, START, START);
		expect(denials.find(deniable("b"), START)).toBeNull();
	});

	test("is told to its limit once, with all that were given", () => {
		const denials = remembering();
		expect(denials.find(deniable("a"), START + 100)?.tell).toEqual({ name: "a", afterMs: 900 });
		for (let n = 0; n < 9; n += 1) expect(denials.find(deniable("a"), START + 200)?.tell).toBeNull();
		expect(denials.take("a")).toBe(10);
		expect(denials.take("a")).toBe(0);
	});

	test("that is given after its limit was told, a moment too early, is told as well", () => {
		const denials = remembering();
		denials.find(deniable("a"), START + 100);
		expect(denials.take("a")).toBe(1);
		expect(denials.find(deniable("a"), START + 999)?.tell).toEqual({ name: "a", afterMs: 1 });
		expect(denials.find(deniable("a"), START + 999)?.tell).toBeNull();
		expect(denials.take("a")).toBe(2);
	});

	test("is one of a bounded number, of which the oldest is forgotten first", () => {
		const denials = remembering();
		for (let n = 0; n < DENIALS_MAX; n += 1) {
			denials.note(deniable(`n${n}`), denied(`n${n}`), denials.ticket, START, START);
		}
		expect(denials.size).toBe(DENIALS_MAX);
		expect(denials.find(deniable("a"), START)).toBeNull();
		expect(denials.find(deniable("n0"), START)).not.toBeNull();
	});

	test("is not given across a change that so many others followed that it was forgotten", () => {
		const denials = remembering();
		const { ticket } = denials;
		denials.changed("a");
		for (let n = 0; n < CHANGES_MAX; n += 1) denials.changed(`n${n}`);
		expect(denials.find(deniable("a"), START)).toBeNull();
		denials.note(deniable("a"), denied("a"), ticket, START, START);
		expect(denials.find(deniable("a"), START)).toBeNull();
	});
});

// ------------------------------------------------------------------------------------------------ the model

/** What a run came to. */
interface Run {
	/** Denied from memory though the object would have granted, and nobody else had changed it. */
	wrong: string[];
	/** Denied from memory, rightly. */
	right: number;
	/** Denied from memory though another Worker's change had made room within the last second. */
	late: number;
	granted: number;
	asked: number;
}

/** A change of an object, as the model remembers it. */
interface Change {
	worker: number;
	/** When the object made it, and when its Worker had the answer. */
	at: number;
	answeredAt: number;
}

/** Makes a memory that may be at fault, so that the model can be seen to notice. */
type Make = () => Denials;

function simulate(seed: number, make: Make): Run {
	const random = new Random(seed);
	const run: Run = { wrong: [], right: 0, late: 0, granted: 0, asked: 0 };
	const names = ["a", "b"];
	const limits = new Map<string, Limit>();
	const changes = new Map<string, Change[]>();
	const leases: { name: string; id: string; worker: number }[] = [];
	for (const name of names) {
		const settings = { limit: random.int(1, 6), slotDecayPerSecond: random.pick([0.5, 2, 10, 50]), active: true };
		limits.set(
			name,
			createLimit(settings, START, () => undefined),
		);
		changes.set(name, []);
	}
	const workers = [make(), make()];
	let clock = START;
	let ids = 0;
	const due: { at: number; work: (at: number) => void }[] = [];
	const soon = (at: number, ms: number, work: (at: number) => void): void => {
		due.push({ at: at + ms, work });
	};
	const limitOf = (name: string): Limit => limits.get(name) as Limit;
	const request = (slots: number, mode: Request["mode"], leaseMs = 1_000): Request => ({
		...{ id: `r${ids++}`, slots, mode, leaseMs, waitMs: 0, ifBusy: "deny", holder: null },
		...{ held: false, print: "", remember: false },
	});
	const statusOf = (name: string): Status => {
		const limit = limitOf(name);
		const active = Number((limit.level.total + 10n ** 18n - 1n) / 10n ** 18n) + limit.sums.reserved;
		const { settings } = limit;
		return {
			...{ name, limit: settings.limit, activeSlots: active, remaining: Math.max(0, settings.limit - active) },
			...{
				enforced: true,
				slotDecayPerSecond: settings.slotDecayPerSecond,
				nextSlotMs: null,
				follows: false,
				...UNUSED,
			},
			steadyMs: steadyMs(limit, DENIAL_MAX_MS),
		};
	};

	/** One request by rate through a Worker: from memory, or to the object and back. */
	const ask = (at: number, worker: number, name: string, slots: number): void => {
		const denials = workers[worker] as Denials;
		const asked = deniable(name, slots);
		const again = denials.find(asked, at);
		if (again) {
			const limit = limitOf(name);
			decide(limit, { kind: "inspect" }, at);
			const would = slots <= limit.settings.limit && limit.sums.inTurn === 0 && fits(limit, slots);
			if (!would) {
				run.right += 1;
				return;
			}
			const own = (changes.get(name) ?? []).filter((change) => change.worker === worker && change.answeredAt <= at);
			const foreign = (changes.get(name) ?? []).filter(
				(change) => (change.worker !== worker || change.answeredAt > at) && change.at > at - DENIAL_MAX_MS,
			);
			if (foreign.length === 0)
				run.wrong.push(`${name}: ${slots} at ${at - START}, after ${own.length} changes of its own`);
			else run.late += 1;
			return;
		}
		run.asked += 1;
		const { ticket } = denials;
		soon(at, random.int(0, 30), (decidedAt) => {
			const { events } = decide(limitOf(name), { kind: "acquire", request: request(slots, "rate_limit") }, decidedAt);
			const answer = events.at(-1);
			if (events.some(({ kind }) => kind === "granted")) run.granted += 1;
			if (answer?.kind !== "denied") return;
			const given: Answered[] = [{ slots, status: statusOf(name), denied: answer }];
			soon(decidedAt, random.int(0, 30), (answeredAt) => denials.note(asked, given, ticket, at, answeredAt));
		});
	};

	/** Something that may free slots, through a Worker. */
	const change = (at: number, worker: number, name: string, work: (decidedAt: number) => void): void => {
		const denials = workers[worker] as Denials;
		denials.changed(name);
		soon(at, random.int(0, 30), (decidedAt) => {
			work(decidedAt);
			const made: Change = { worker, at: decidedAt, answeredAt: Number.POSITIVE_INFINITY };
			changes.get(name)?.push(made);
			soon(decidedAt, random.int(0, 30), (answeredAt) => {
				denials.changed(name);
				made.answeredAt = answeredAt;
			});
		});
	};

	const step = (at: number): void => {
		const worker = random.int(0, 1);
		const name = random.pick(names);
		const limit = limitOf(name);
		switch (random.weighted({ ask: 30, lease: 2, reserve: 2, release: 2, configure: 1, byHand: 1 })) {
			case "ask":
				return ask(at, worker, name, random.int(1, 3));
			case "lease":
				return soon(at, random.int(0, 30), (decidedAt) => {
					const asked = request(1, "concurrency", random.int(1_000, 3_000));
					const { events } = decide(limit, { kind: "acquire", request: asked }, decidedAt);
					if (events.some(({ kind }) => kind === "granted")) leases.push({ name, id: asked.id, worker });
				});
			case "reserve": {
				// One of several names, that is denied because of another and cancelled, or lapses.
				const asked = request(random.int(1, 2), "rate_limit");
				soon(at, random.int(0, 30), (decidedAt) => void decide(limit, { kind: "reserve", request: asked }, decidedAt));
				if (random.chance(0.5)) return;
				return soon(at, random.int(31, 200), (later) =>
					change(
						later,
						worker,
						name,
						(decidedAt) => void decide(limit, { kind: "cancel", id: asked.id, keepPlace: false }, decidedAt),
					),
				);
			}
			case "release": {
				const lease = leases.shift();
				if (!lease) return;
				return change(
					at,
					worker,
					lease.name,
					(decidedAt) => void decide(limitOf(lease.name), { kind: "release", id: lease.id, by: "caller" }, decidedAt),
				);
			}
			case "configure": {
				const settings = { limit: random.int(1, 6), slotDecayPerSecond: random.pick([0.5, 2, 10, 50]) };
				return change(at, worker, name, (decidedAt) => void decide(limit, { kind: "configure", settings }, decidedAt));
			}
			case "byHand": {
				const activeSlots = random.int(0, 6);
				return change(
					at,
					worker,
					name,
					(decidedAt) => void decide(limit, { kind: "configure", activeSlots }, decidedAt),
				);
			}
		}
	};

	for (let n = 0; n < 400; n += 1) {
		clock += random.int(0, 40);
		soon(clock, 0, step);
	}
	while (due.length > 0) {
		due.sort((a, b) => a.at - b.at);
		const next = due.shift() as { at: number; work: (at: number) => void };
		next.work(next.at);
	}
	return run;
}

/** Adds up many runs, each of its own seed. */
function runs(count: number, make: Make): Run {
	const sum: Run = { wrong: [], right: 0, late: 0, granted: 0, asked: 0 };
	for (let seed = 1; seed <= count; seed += 1) {
		const { wrong, right, late, granted, asked } = simulate(seed, make);
		sum.wrong.push(...wrong.map((each) => `seed ${seed}: ${each}`));
		sum.right += right;
		sum.late += late;
		sum.granted += granted;
		sum.asked += asked;
	}
	return sum;
}

describe("beside the core", () => {
	test("nothing is denied that the object would have granted, but for another's change within the second", () => {
		const { wrong, right, late, granted, asked } = runs(200, () => new Denials());
		expect(wrong.slice(0, 5)).toEqual([]);
		// Every outcome is reached, many times.
		for (const [what, count] of Object.entries({ right, late, granted, asked })) {
			expect(count, what).toBeGreaterThan(200);
		}
	});

	test.each<[string, Make]>([
		[
			"changes are not heeded",
			() =>
				new (class extends Denials {
					override changed(): void {}
				})(),
		],
		[
			"a smaller request is denied too",
			() =>
				new (class extends Denials {
					override find(asked: Deniable, now: number) {
						return super.find({ ...asked, names: [[asked.key, 3]] }, now);
					}
				})(),
		],
		[
			"the announced moment is not heeded",
			() =>
				new (class extends Denials {
					override note(asked: Deniable, given: Answered[], ...rest: [number, number, number]): void {
						const longer = given.map((each) => ({
							...each,
							denied: each.denied && { ...each.denied, retryAfterMs: 5_000 },
						}));
						super.note(asked, longer, ...rest);
					}
				})(),
		],
		[
			"ends of leases and reservations are not heeded",
			() =>
				new (class extends Denials {
					override note(asked: Deniable, given: Answered[], ...rest: [number, number, number]): void {
						const steady = given.map((each) => ({ ...each, status: { ...each.status, steadyMs: DENIAL_MAX_MS } }));
						super.note(asked, steady, ...rest);
					}
				})(),
		],
		[
			"a change while the answer is on its way is not heeded",
			() =>
				new (class extends Denials {
					override note(asked: Deniable, given: Answered[], _: number, ...rest: [number, number]): void {
						super.note(asked, given, this.ticket, ...rest);
					}
				})(),
		],
		[
			"a denial counts from its answer",
			() =>
				new (class extends Denials {
					override note(asked: Deniable, given: Answered[], ticket: number, _: number, now: number): void {
						super.note(asked, given, ticket, now, now);
					}
				})(),
		],
	])("a memory at fault is noticed: %s", (_, make) => {
		expect(runs(100, make).wrong).not.toEqual([]);
	});
});
