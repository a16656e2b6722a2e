/**
 * Many short lives of a limit, each drawn from a seed, each step compared with the model and held to the promises.
 * HEADGATE_SEED=n replays the life of one seed, HEADGATE_FROM=n draws others than usual, HEADGATE_LIVES=n as many as that.
 */

import { afterAll, expect, test } from "vitest";
import type { Request } from "../../src/core/limit.ts";
import { QUEUE_MAX } from "../../src/core/line.ts";
import { type Outcomes, Simulation } from "./simulation.ts";
import { Subject } from "./subject.ts";

const ONLY = process.env.HEADGATE_SEED;
const FIRST = Number(ONLY ?? process.env.HEADGATE_FROM ?? 1);
const LIVES = ONLY === undefined ? Number(process.env.HEADGATE_LIVES ?? 500) : 1;
const STEPS_EACH = 250;

/** Everything that can become of a request, and everything that can happen to the line. */
const OUTCOMES = `
	a resuming head holds the line | a small one waits behind a big head | in use above a lowered limit
	a waiter that is away is passed | a waiter that is parked is passed
	away and back at its place | parked and back at its place
	served as time ran | served by acquire | served by reserve | served by commit | served by cancel | served by touch
	served by renew | served by release | served by detach | served by vouch | served by resolve | served by configure | served by pause
	served at the end of a pause | a pause was made longer | a pause was ended | denied while it is paused | committed while it is paused
	served by settle | settled below its estimate | settled above its estimate | settled at its estimate | settled past the limit | settled below what was left of it, under others
	settled settled | settled again | settled otherwise | gone to settle | nothing -> unsettled | committed -> unsettled | unsettled -> nothing
	granted a lease at once, though it would deny | granted a receipt at once, though it would deny
	granted a lease after a wait, though it would deny | granted a receipt again, though it would deny | as many as the limit could ever grant
	served by inspect | taken back | taken back before the peers answered | clock jumped back | restart | restart with waiters | restart after something fell due
	restart with part of a band drained | released twice | retry at the announced moment
	retry at the announced moment, with loans | retry at the end of a period | retry when a sliding window gives slots back
	a period ended with slots in use | a sliding window gave slots back | clock jumped back, in a period | restart in a later period
	restart with slots in a window | another way with slots in use | a lease gave back to a window | a lease outlived its window
	retry at the announced moment, after others in line | retry at the announced moment, with reservations

	nothing -> present | nothing -> parked | nothing -> reserved | nothing -> leased
	present -> away | present -> parked | present -> reserved | present -> leased | present -> nothing
	resuming -> present | resuming -> away | resuming -> parked | resuming -> reserved | resuming -> leased
	resuming -> nothing | away -> present | away -> parked | away -> reserved | away -> leased | away -> nothing
	parked -> present | parked -> away | parked -> reserved | parked -> leased | parked -> nothing
	reserved -> parked | reserved -> away | reserved -> committed | reserved -> nothing
	committed -> leased | committed -> nothing | leased -> nothing
	present -> resuming, by a restart | away -> resuming, by a restart

	granted a lease at once | granted a lease at once, unenforced | granted a lease after a wait
	granted a lease after a wait, unenforced | granted a lease again | granted a lease again, unenforced
	granted a receipt at once | granted a receipt at once, unenforced | granted a receipt after a wait
	granted a receipt after a wait, unenforced | granted a receipt again | granted a receipt again, unenforced
	reserved | reserved, unenforced | reserved again | reserved again, unenforced | queued | parked
	denied denied | denied by a limit of 0 | denied exceeds_limit | denied no_decay | denied no_lease | denied id_in_use | denied queue_full
	denied a waiter denied | denied a waiter exceeds_limit | denied a waiter no_decay | denied a waiter no_lease | denied a waiter id_in_use
	denied a waiter unknown_limit | left cancelled | left gone
	gone to commit | gone to cancel | gone to touch | gone to renew | renewed
	released by caller | released by caller, nothing | released by operator | released by operator, nothing
	released by unheard | released by unheard, nothing | released by expiry | released by expiry, nothing
	released by abort | released by abort, nothing | released by lapse | released by lapse, nothing
	doubted | vouched true | vouched false | rewritten | configured
	ended lease | ended receipt | ended cancelled
	lent by acquire | lent by borrow | lent again by acquire | lent again by borrow
	lent no more by acquire | lent no more by borrow | lent no more again by acquire | lent no more again by borrow
	repaid by borrower | repaid by borrower, nothing | repaid by expiry, nothing | gone to repay
	nothing -> lent | lent -> nothing
`.split(/[|\n]/);

const outcomes: Outcomes = new Map();

test("a simulation of many limits keeps every promise that lives in the core", () => {
	const startedAt = performance.now();
	let steps = 0;
	for (let life = 0; life < LIVES; life += 1) {
		const simulation = new Simulation(FIRST + life, outcomes);
		simulation.run(STEPS_EACH);
		steps += simulation.steps;
	}
	const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
	console.log(`${steps} steps in ${seconds} s, seeds ${FIRST} to ${FIRST + LIVES - 1}`);
	if (ONLY === undefined) expect(steps).toBeGreaterThan(100_000);
});

test("promise 12: the line is bounded, whoever stands in it", () => {
	const subject = new Subject({ limit: 1, slotDecayPerSecond: 0, active: true }, 0);
	const request = (id: string): Request => ({
		...{ id, slots: 1, mode: "concurrency", leaseMs: 60_000, waitMs: Number.POSITIVE_INFINITY, ifBusy: "wait" },
		...{ holder: null, held: false, print: "", remember: false },
	});
	for (let index = 0; index <= QUEUE_MAX; index += 1) {
		subject.decide({ kind: "acquire", request: request(`r${index}`) }, 0);
	}
	expect(subject.limit.sums.waiting).toBe(QUEUE_MAX);
	const [full] = subject.decide({ kind: "acquire", request: request("one more") }, 0).events;
	expect(full).toMatchObject({ kind: "denied", code: "queue_full" });
	outcomes.set("denied queue_full", 1);
	subject.decide({ kind: "cancel", id: "r5", keepPlace: false }, 0);
	const [queued] = subject.decide({ kind: "acquire", request: request("one more") }, 0).events;
	expect(queued).toMatchObject({ kind: "queued", position: QUEUE_MAX });
});

test("every outcome was reached", () => {
	const wanted = OUTCOMES.map((outcome) => outcome.trim()).filter((outcome) => outcome !== "");
	const missing = wanted.filter((outcome) => !outcomes.has(outcome));
	if (ONLY === undefined) expect(missing).toEqual([]);
});

afterAll(() => {
	const counts = [...outcomes].sort(([a], [b]) => (a < b ? -1 : 1));
	console.log(counts.map(([outcome, count]) => `${String(count).padStart(7)}  ${outcome}`).join("\n"));
});
