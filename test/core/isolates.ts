/**
 * Workers that borrow, with their real logic, from a real limit, over a network that is late, loses and repeats. Some stop
 * for a while, some die; their clocks are apart and run at different speeds. What is granted, here or there, is counted at
 * the moment when it was granted by a bucket that knows nothing of loans.
 */

import type { Borrowing, Command, Event } from "../../src/core/commands.ts";
import { lendMs } from "../../src/core/lending.ts";
import { activeSlots, type Request, type Settings } from "../../src/core/limit.ts";
import { SLOT } from "../../src/core/usage.ts";
import type { Lent, Status } from "../../src/server/contract/outcomes.ts";
import { type BorrowCall, Loans, type Todo } from "../../src/server/front/lending/loans.ts";
import { ONE, unitsOfRate } from "./model.ts";
import { Random } from "./random.ts";
import type { Outcomes } from "./simulation.ts";
import { Subject } from "./subject.ts";

const NAME = "lends";
const START = 1_700_000_000_000;

/** How bad the world is. */
export interface World {
	settings: Settings & { lendSeconds: number };
	isolates: number;
	/** Requests a second at all of them, and by how much the first is asked oftener than the others. */
	perSecond: number;
	/** The longest way of a call, and of its answer. */
	latencyMs: number;
	/** Whether anything fails at all. */
	isCalm: boolean;
}

interface Isolate {
	loans: Loans;
	/** How far its clock is from the true one, and how fast it runs. */
	offsetMs: number;
	speed: number;
	pausedUntil: number;
	isDead: boolean;
}

/** What is to happen, at a moment of the true time. */
interface Planned {
	at: number;
	run: () => void;
}

/** A leaky bucket as plainly as it can be: filled at the true moment of each grant, whoever gave it. */
class Bucket {
	#level = 0n;
	#at = START;
	readonly #rate: bigint;

	constructor(slotDecayPerSecond: number) {
		this.#rate = unitsOfRate(slotDecayPerSecond);
	}

	/** Answers how full it is afterwards. */
	fill(slots: number, at: number): bigint {
		const drained = this.#rate * BigInt(at - this.#at);
		this.#level = (this.#level > drained ? this.#level - drained : 0n) + BigInt(slots) * ONE;
		this.#at = at;
		return this.#level;
	}
}

export class Isolates {
	readonly #world: World;
	readonly #outcomes: Outcomes;
	readonly #random: Random;
	readonly #subject: Subject;
	readonly #bucket: Bucket;
	readonly #isolates: Isolate[];
	/** What is asked for, and when, is the same whatever comes of it. */
	readonly #demands: Random[];
	#now = START;
	readonly #plan: Planned[] = [];
	#nextId = 1;
	/** Slots and requests that were granted. */
	granted = 0;
	grants = 0;
	/** Of the grants, those without a hop. */
	unasked = 0;
	/** Calls that reached the limit. */
	calls = 0;

	constructor(seed: number, world: World, outcomes: Outcomes) {
		this.#world = world;
		this.#outcomes = outcomes;
		this.#random = new Random(seed);
		this.#subject = new Subject(world.settings, START);
		this.#bucket = new Bucket(world.settings.slotDecayPerSecond);
		this.#demands = Array.from({ length: world.isolates }, (_, index) => new Random(seed * 1_000 + index));
		this.#isolates = Array.from({ length: world.isolates }, () => this.#born());
	}

	run(ms: number): void {
		const end = START + ms;
		for (const isolate of this.#isolates.keys()) this.#soon(() => this.#demand(isolate));
		if (!this.#world.isCalm) this.#soon(() => this.#misfortune());
		for (let next = this.#take(); next && next.at <= end; next = this.#take()) {
			this.#now = Math.max(this.#now, next.at);
			next.run();
		}
		this.#now = end;
		this.#tell({ kind: "tick" });
	}

	// ------------------------------------------------------------------------------------------ isolates

	#born(): Isolate {
		const random = this.#random;
		return {
			loans: new Loans(() => `~${this.#nextId++}`),
			offsetMs: this.#world.isCalm ? 0 : random.int(-3_600_000, 3_600_000),
			speed: this.#world.isCalm ? 1 : random.pick([0.95, 0.999, 1, 1, 1.001, 1.05]),
			...{ pausedUntil: START, isDead: false },
		};
	}

	/** What an isolate takes for the time. Now and then it lags behind, as while a Worker computes. */
	#clockOf({ offsetMs, speed }: Isolate): number {
		const lagMs = !this.#world.isCalm && this.#random.chance(0.1) ? this.#random.int(1, 400) : 0;
		return Math.floor(START + (this.#now - START) * speed + offsetMs - lagMs);
	}

	/** A request, and then the next. */
	#demand(index: number): void {
		const isolate = this.#isolates[index] as Isolate;
		const random = this.#demands[index] as Random;
		const { perSecond, isolates } = this.#world;
		const share = index === 0 ? 2 / (isolates + 1) : 1 / (isolates + 1);
		this.#soon(() => this.#demand(index), random.int(0, Math.max(1, Math.round(2_000 / (perSecond * share)))));
		const slots = Number(random.weighted({ "1": 8, "2": 1, "5": 1 }));
		this.#whenAwake(isolate, () => this.#ask(isolate, slots));
	}

	#ask(isolate: Isolate, slots: number, waitedMs = 0): void {
		const now = this.#clockOf(isolate);
		const given = isolate.loans.take(NAME, slots, now, waitedMs > 0);
		if (given) {
			this.#count(slots, true);
			if (given.isDue) this.#borrowOn(isolate);
			return;
		}
		if (isolate.loans.isAwaited(NAME, now)) {
			this.#reach(waitedMs < 2_000 ? "waited for a loan" : "waited for a loan in vain");
			if (waitedMs < 2_000)
				return this.#soon(() => this.#whenAwake(isolate, () => this.#ask(isolate, slots, waitedMs + 20)), 20);
			if (!isolate.loans.mayAsk(NAME, now)) return;
		}
		const borrowing = isolate.loans.borrow(NAME, this.#clockOf(isolate));
		const request: Request = {
			...{ id: `r${this.#nextId++}`, slots, mode: "rate_limit", leaseMs: 0, waitMs: 0, ifBusy: "deny" },
			...{ holder: null, held: false, print: "", remember: false },
		};
		const borrow = borrowing?.borrow;
		const counts = isolate.loans.sends(NAME);
		const sentAt = this.#clockOf(isolate);
		const sent = (isAnswered: boolean): void => {
			if (counts) isolate.loans.sent(NAME, sentAt, this.#clockOf(isolate), isAnswered);
		};
		this.#call(
			isolate,
			() => this.#tell({ kind: "acquire", request, borrow }),
			(events) => {
				sent(true);
				return isolate.loans.heard(NAME, slots, this.#status(), borrowing, lentIn(events), this.#clockOf(isolate));
			},
			() => {
				sent(false);
				return borrowing ? isolate.loans.failed(NAME, borrowing, this.#clockOf(isolate)) : {};
			},
		);
	}

	#borrowOn(isolate: Isolate): void {
		const borrowing = isolate.loans.borrow(NAME, this.#clockOf(isolate));
		if (!borrowing) return;
		this.#borrow(isolate, borrowing, borrowing.borrow);
	}

	#borrow(isolate: Isolate, borrowing: BorrowCall, borrow: Borrowing): void {
		this.#call(
			isolate,
			() => this.#tell({ kind: "borrow", ...borrow }),
			(events) => isolate.loans.heard(NAME, 0, this.#status(), borrowing, lentIn(events), this.#clockOf(isolate)),
			() => isolate.loans.failed(NAME, borrowing, this.#clockOf(isolate)),
		);
	}

	/** The limit is about to be changed through this Worker. */
	#change(isolate: Isolate): void {
		const account = isolate.loans.end(NAME);
		this.#reach(account ? "ended by a change" : "nothing to end by a change");
		if (account) this.#follow(isolate, { repay: [{ name: NAME, account }] });
	}

	#follow(isolate: Isolate, { endsAt, repay = [] }: Todo): void {
		if (endsAt !== undefined) {
			const leftMs = Math.max(0, (endsAt - this.#clockOf(isolate)) / isolate.speed);
			const ended = () => this.#follow(isolate, isolate.loans.ended(NAME, endsAt));
			this.#soon(() => this.#whenAwake(isolate, ended), Math.ceil(leftMs) + this.#random.int(0, 20));
		}
		for (const { account } of repay) {
			const send = () => this.#tell({ kind: "repay", ...account });
			this.#call(
				isolate,
				send,
				() => ({}),
				() => ({}),
			);
		}
	}

	// ------------------------------------------------------------------------------------------- the way

	/** A call and its answer, each of which may be late, lost or, the call, come twice. */
	#call(isolate: Isolate, decide: () => Event[], heard: (events: Event[]) => Todo, failed: () => Todo): void {
		const { isCalm } = this.#world;
		const random = this.#random;
		const answer = (events: Event[] | null): void => {
			const hear = () => this.#follow(isolate, events ? heard(events) : failed());
			this.#soon(() => this.#whenAwake(isolate, hear), this.#wayMs());
		};
		if (!isCalm && random.chance(0.03)) {
			this.#reach("a call was lost");
			return answer(null);
		}
		this.#soon(() => {
			const events = decide();
			const isLost = !isCalm && random.chance(0.03);
			if (isLost) this.#reach("an answer was lost");
			answer(isLost ? null : events);
		}, this.#wayMs());
		if (isCalm || random.chance(0.95)) return;
		this.#reach("a call came twice");
		this.#soon(() => void decide(), this.#wayMs() + random.pick([0, 100, 1_000, 5_000]));
	}

	#wayMs(): number {
		return this.#random.int(0, this.#world.latencyMs);
	}

	/** An isolate that is paused does what it had to do when it goes on; a dead one never does. */
	#whenAwake(isolate: Isolate, work: () => void): void {
		if (isolate.isDead) return;
		if (isolate.pausedUntil <= this.#now) return work();
		this.#soon(() => this.#whenAwake(isolate, work), isolate.pausedUntil - this.#now);
	}

	#misfortune(): void {
		const random = this.#random;
		const index = random.int(0, this.#isolates.length - 1);
		const isolate = this.#isolates[index] as Isolate;
		switch (random.weighted({ pause: 6, die: 2, restart: 2, change: 3, wait: 3, lend: 1 })) {
			case "pause":
				isolate.pausedUntil = this.#now + random.pick([50, 500, 2_000, 8_000]);
				break;
			case "die":
				isolate.isDead = true;
				this.#isolates[index] = this.#born();
				this.#reach("an isolate died");
				break;
			case "restart":
				this.#subject.restart(this.#now);
				this.#reach("the object was restarted");
				break;
			case "change":
				this.#whenAwake(isolate, () => this.#change(isolate));
				break;
			case "wait":
				this.#waitInLine();
				break;
			case "lend":
				this.#tell({
					kind: "configure",
					settings: { lendSeconds: random.pick([0, 0.5, this.#world.settings.lendSeconds]) },
				});
				break;
		}
		this.#soon(() => this.#misfortune(), random.int(1, 3_000));
	}

	#waitInLine(): void {
		const slots = this.#random.int(1, Math.max(1, this.#world.settings.limit >> 1));
		this.#tell({
			kind: "acquire",
			request: {
				...{ id: `r${this.#nextId++}`, slots, mode: "rate_limit", leaseMs: 0, waitMs: 5_000, ifBusy: "wait" },
				...{ holder: null, held: false, print: "", remember: false },
			},
		});
	}

	// ------------------------------------------------------------------------------------------ the limit

	#tell(command: Command): Event[] {
		this.calls += 1;
		const { events, wakeAt } = this.#subject.decide(command, this.#now);
		if (wakeAt !== null && this.#subject.limit.sums.inTurn > 0) this.#soon(() => void this.#wake(), wakeAt - this.#now);
		for (const event of events) {
			if (event.kind === "granted" && !event.repeat) this.#count(event.slots, false);
			if (event.kind === "lent") this.#checkLoan(event);
			if (event.kind === "repaid") this.#reach(`repaid by ${event.by}`);
			if (event.kind === "gone") this.#reach("repaid what was over");
		}
		return events;
	}

	#wake(): void {
		this.calls -= 1;
		this.#tell({ kind: "tick" });
	}

	#checkLoan({ lentMs }: Event & { kind: "lent" }): void {
		this.#reach(lentMs > 0 ? "lent" : "not lent");
		const { settings, sums, level } = this.#subject.limit;
		if (lentMs === 0) return;
		const free = BigInt(settings.limit - sums.reserved) * SLOT - level.total;
		if (2n * BigInt(sums.lent) * SLOT > free)
			throw new Error(`promise 16: ${sums.lent} slots are lent of ${free} units`);
	}

	/** Slots were granted at this true moment. */
	#count(slots: number, isUnasked: boolean): void {
		this.granted += slots;
		this.grants += 1;
		if (isUnasked) this.unasked += 1;
		this.#reach(isUnasked ? "granted from a loan" : "granted by the limit");
		const full = this.#bucket.fill(slots, this.#now);
		const most = BigInt(this.#world.settings.limit) * ONE;
		if (full <= most) return;
		const moves = this.#subject.history.slice(-12).map((move) => JSON.stringify(move));
		throw new Error([`promise 1: ${full} units granted, ${most} allowed, at ${this.#now}`, ...moves].join("\n\t"));
	}

	#status(): Status {
		const { limit } = this.#subject;
		const { settings } = limit;
		const active = activeSlots(limit);
		return {
			...{ name: NAME, limitId: "", deniedSlots: 0, averageHeldMs: 0, limit: settings.limit, activeSlots: active },
			...{ remaining: Math.max(0, settings.limit - active), enforced: true, nextSlotMs: null, steadyMs: 0 },
			...{ slotDecayPerSecond: settings.slotDecayPerSecond, follows: false, lendMs: lendMs(limit) },
		};
	}

	// ------------------------------------------------------------------------------------------- the time

	#soon(run: () => void, afterMs = 0): void {
		const planned = { at: this.#now + Math.max(0, Math.ceil(afterMs)), run };
		let index = this.#plan.length;
		while (index > 0 && (this.#plan[index - 1] as Planned).at <= planned.at) index -= 1;
		this.#plan.splice(index, 0, planned);
	}

	/** The last of them is the next, and of those of one moment the one that was planned first. */
	#take(): Planned | undefined {
		return this.#plan.pop();
	}

	#reach(outcome: string): void {
		this.#outcomes.set(outcome, (this.#outcomes.get(outcome) ?? 0) + 1);
	}
}

function lentIn(events: Event[]): Lent | undefined {
	const event = events.findLast((each) => each.kind === "lent");
	return event && { slots: event.slots, lentMs: event.lentMs };
}
