/**
 * Workers all over the world that take slots of one limit: the limit is the core's, and each Worker borrows by the very code
 * that it borrows by in production. What is made up is the demand, the way of a call, and how many calls one object answers.
 * Time goes in steps of ten milliseconds.
 */

import type { Command, Event } from "../../src/core/commands.ts";
import { decide } from "../../src/core/decide.ts";
import { lendMs } from "../../src/core/lending.ts";
import { activeSlots, createLimit, type Limit } from "../../src/core/limit.ts";
import { DENIAL_MAX_MS, type Lent, type Status } from "../../src/server/contract/outcomes.ts";
import { type BorrowCall, Loans, type Todo } from "../../src/server/front/lending/loans.ts";
import type { Random } from "../../test/core/random.ts";

export interface Scenario {
	/** Machines that run the Worker, each with an isolate of its own. */
	isolates: number;
	/** Requests a second in all of the isolates. */
	perSecond: number;
	/** `skewed`: the n-th is asked for as often as 1/n says. */
	demand: "even" | "skewed";
	lendSeconds: number;
	/** There and back. */
	latencyMs: { least: number; most: number };
	/** What the limit gives, beside what is asked for. */
	supply: number;
	/** What the limit holds: what it gives in so many seconds. */
	holdsSeconds: number;
	/** Calls that one object answers a second. */
	answers: number;
	/** What is simulated, and of that what is not counted. */
	seconds: number;
	warmUpSeconds: number;
}

export interface Result {
	/** Calls a second that were sent to the object, and that it answered. */
	sent: number;
	answered: number;
	/** Of the grants, those that were given without a call. */
	unasked: number;
	/** Grants, beside what would be granted if the object answered all calls at once. */
	use: number;
	/** The longest that a grant was not accounted for. */
	latestSeconds: number;
	/** Of a million grants: of calls to the object, and of rows at one a call. */
	usd: number;
	/** The most that was ever granted, beside what may be. */
	most: number;
}

const STEP_MS = 10;
/** As in `front/lending/lending.ts`. */
const AWAITED_MS = 2_000;
const NAME = "quota";
/** Calls that wait at the object for longer than this are refused by the runtime. */
const PATIENCE_SECONDS = 5;
const USD = { call: 0.15 / 1_000_000, row: 1 / 1_000_000 };

interface Isolate {
	loans: Loans;
	perStep: number;
	latencyMs: number;
	deniedUntil: number;
	/** Requests that wait for a loan, in order, and when they give that up. */
	waiting: Waiting[];
	/** Since when grants are not accounted for; 0: all are. */
	owedSince: number;
}

interface Waiting {
	until: number;
	count: number;
}

interface Call {
	command: Command;
	heard: (events: Event[] | null) => void;
}

export class World {
	readonly #scenario: Scenario;
	readonly #random: Random;
	readonly #limit: Limit;
	readonly #isolates: Isolate[];
	/** What is to be done at each step. */
	readonly #steps: ((() => void)[] | undefined)[] = [];
	#queue: Call[] = [];
	#head = 0;
	#now = 0;
	#ids = 0;
	#counts = { sent: 0, answered: 0, granted: 0, unasked: 0, rows: 0 };
	#latestMs = 0;
	/** A bucket that knows of nothing but grants. */
	#level = 0;
	#most = 0;

	constructor(scenario: Scenario, random: Random) {
		this.#scenario = scenario;
		this.#random = random;
		const { isolates, perSecond, demand, supply, holdsSeconds, lendSeconds, latencyMs } = scenario;
		const rate = Math.round(perSecond * supply);
		const limit = rate * holdsSeconds;
		const settings = { limit, slotDecayPerSecond: rate, active: true, lendSeconds };
		this.#limit = createLimit(settings, 0, () => undefined);
		// So full as it will be: an empty bucket says nothing of what lasts.
		decide(this.#limit, { kind: "configure", activeSlots: supply < 1 ? limit : 0 }, 0);
		this.#level = supply < 1 ? limit : 0;
		const weights = Array.from({ length: isolates }, (_, index) => (demand === "even" ? 1 : 1 / (index + 1)));
		const sum = weights.reduce((all, weight) => all + weight, 0);
		this.#isolates = weights.map((weight) => ({
			loans: new Loans(() => `~${++this.#ids}`),
			perStep: (perSecond * weight * STEP_MS) / 1_000 / sum,
			latencyMs: random.int(latencyMs.least, latencyMs.most),
			...{ deniedUntil: 0, owedSince: 0, waiting: [] },
		}));
	}

	run(): Result {
		const { seconds, warmUpSeconds, perSecond, supply } = this.#scenario;
		const perStep = (this.#scenario.answers * STEP_MS) / 1_000;
		let answers = 0;
		for (let step = 0; step < (seconds * 1_000) / STEP_MS; step += 1) {
			this.#now = step * STEP_MS;
			if (this.#now === warmUpSeconds * 1_000) {
				this.#counts = { sent: 0, answered: 0, granted: 0, unasked: 0, rows: 0 };
				this.#latestMs = 0;
			}
			this.#drain();
			for (const run of this.#steps[step] ?? []) run();
			this.#steps[step] = undefined;
			// Callers come one after the other: until two thirds of the time that is not counted, ever more of them.
			const part = Math.min(1, this.#now / (warmUpSeconds * 667));
			for (const isolate of this.#isolates) this.#ask(isolate, this.#poisson(isolate.perStep * part));
			for (answers += perStep; answers >= 1 && this.#head < this.#queue.length; answers -= 1) this.#answer();
			answers = Math.min(answers, perStep);
			if (this.#head > 10_000) {
				this.#queue = this.#queue.slice(this.#head);
				this.#head = 0;
			}
		}
		const { sent, answered, granted, unasked, rows } = this.#counts;
		const counted = seconds - warmUpSeconds;
		return {
			sent: sent / counted,
			answered: answered / counted,
			unasked: granted === 0 ? 0 : unasked / granted,
			use: granted / counted / (perSecond * Math.min(1, supply)),
			latestSeconds: this.#latestMs / 1_000,
			usd: granted === 0 ? 0 : ((answered * USD.call + rows * USD.row) * 1_000_000) / granted,
			most: this.#most,
		};
	}

	// ------------------------------------------------------------------------------------------ isolates

	#ask(isolate: Isolate, requests: number): void {
		const { waiting } = isolate;
		let at = 0;
		for (; at < waiting.length; at += 1) {
			const each = waiting[at] as Waiting;
			// Where one waits on, so do all after it: nothing has changed between them.
			while (each.count > 0 && !this.#askOnce(isolate, each.until)) each.count -= 1;
			if (each.count > 0) break;
		}
		waiting.splice(0, at);
		let count = 0;
		for (let n = 0; n < requests; n += 1) if (this.#askOnce(isolate, null)) count += 1;
		if (count > 0) waiting.push({ until: this.#now + AWAITED_MS, count });
	}

	/** Whether it waits. `until`: it has waited for a loan, and does so no longer than until then. */
	#askOnce(isolate: Isolate, until: number | null): boolean {
		const given = isolate.loans.take(NAME, 1, this.#now, until !== null);
		if (given) {
			this.#grant(true);
			isolate.owedSince ||= this.#now;
			if (given.isDue) this.#borrowOn(isolate);
		} else if (this.#now >= isolate.deniedUntil) {
			const giveUpAt = until ?? this.#now + AWAITED_MS;
			if (!isolate.loans.isAwaited(NAME, this.#now)) this.#askLimit(isolate);
			else if (this.#now < giveUpAt) return true;
			else if (isolate.loans.mayAsk(NAME, this.#now)) this.#askLimit(isolate);
		}
		return false;
	}

	#askLimit(isolate: Isolate): void {
		const askedAt = this.#now;
		const borrowing = isolate.loans.borrow(NAME, askedAt);
		const request = {
			...{
				id: `r${++this.#ids}`,
				slots: 1,
				mode: "rate_limit" as const,
				leaseMs: 0,
				waitMs: 0,
				ifBusy: "deny" as const,
			},
			...{ holder: null, held: false, print: "", remember: false },
		};
		const counts = isolate.loans.sends(NAME);
		this.#call(isolate, { kind: "acquire", request, borrow: borrowing?.borrow }, borrowing, (events) => {
			if (counts) isolate.loans.sent(NAME, askedAt, this.#now, events !== null);
			if (!events) return borrowing ? isolate.loans.failed(NAME, borrowing, this.#now) : {};
			const denied = events.find((event) => event.kind === "denied");
			if (denied) isolate.deniedUntil = askedAt + Math.min(DENIAL_MAX_MS, denied.retryAfterMs);
			return isolate.loans.heard(NAME, 1, this.#status(), borrowing, lentIn(events), this.#now);
		});
	}

	#borrowOn(isolate: Isolate): void {
		const borrowing = isolate.loans.borrow(NAME, this.#now);
		if (!borrowing) return;
		this.#call(isolate, { kind: "borrow", ...borrowing.borrow }, borrowing, (events) =>
			events
				? isolate.loans.heard(NAME, 0, this.#status(), borrowing, lentIn(events), this.#now)
				: isolate.loans.failed(NAME, borrowing, this.#now),
		);
	}

	#call(
		isolate: Isolate,
		command: Command,
		borrowing: BorrowCall | null,
		heard: (events: Event[] | null) => Todo,
	): void {
		const halfMs = isolate.latencyMs / 2;
		// What was granted until now is accounted for when this is answered.
		const accountedFrom = borrowing ? isolate.owedSince : 0;
		if (borrowing) isolate.owedSince = 0;
		this.#soon(halfMs, () => {
			this.#counts.sent += 1;
			const { answers } = this.#scenario;
			const answer = (events: Event[] | null): void => {
				if (events && accountedFrom > 0) this.#latestMs = Math.max(this.#latestMs, this.#now - accountedFrom);
				if (!events && accountedFrom > 0) isolate.owedSince = accountedFrom;
				this.#soon(halfMs, () => this.#follow(isolate, heard(events)));
			};
			if (this.#queue.length - this.#head > answers * PATIENCE_SECONDS) answer(null);
			else this.#queue.push({ command, heard: answer });
		});
	}

	#follow(isolate: Isolate, { endsAt, repay = [] }: Todo): void {
		if (endsAt !== undefined) {
			this.#soon(endsAt - this.#now, () => this.#follow(isolate, isolate.loans.ended(NAME, endsAt)));
		}
		for (const { account } of repay) this.#call(isolate, { kind: "repay", ...account }, null, () => ({}));
	}

	// ------------------------------------------------------------------------------------------ the limit

	#answer(): void {
		const call = this.#queue[this.#head] as Call;
		(this.#queue as (Call | undefined)[])[this.#head] = undefined;
		this.#head += 1;
		this.#counts.answered += 1;
		const { events } = decide(this.#limit, call.command, this.#now);
		if (events.some(({ kind }) => kind === "granted" || kind === "rewritten" || kind === "repaid"))
			this.#counts.rows += 1;
		if (events.some(({ kind }) => kind === "granted")) this.#grant(false);
		call.heard(events);
	}

	#status(): Status {
		const { settings } = this.#limit;
		const active = activeSlots(this.#limit);
		return {
			...{ name: NAME, limitId: "", deniedSlots: 0, averageHeldMs: 0, limit: settings.limit, activeSlots: active },
			...{ remaining: Math.max(0, settings.limit - active), enforced: true, nextSlotMs: null, steadyMs: DENIAL_MAX_MS },
			...{ slotDecayPerSecond: settings.slotDecayPerSecond, follows: false, lendMs: lendMs(this.#limit) },
		};
	}

	#grant(isUnasked: boolean): void {
		this.#counts.granted += 1;
		if (isUnasked) this.#counts.unasked += 1;
		this.#level += 1;
		this.#most = Math.max(this.#most, this.#level / this.#limit.settings.limit);
	}

	#drain(): void {
		this.#level = Math.max(0, this.#level - (this.#limit.settings.slotDecayPerSecond * STEP_MS) / 1_000);
	}

	// ------------------------------------------------------------------------------------------ the time

	#soon(afterMs: number, run: () => void): void {
		const step = Math.max(Math.floor(this.#now / STEP_MS) + 1, Math.ceil((this.#now + afterMs) / STEP_MS));
		const planned = this.#steps[step];
		if (planned) planned.push(run);
		else this.#steps[step] = [run];
	}

	/** How many come, where so many are expected. */
	#poisson(expected: number): number {
		if (expected > 30) {
			const normal = Math.sqrt(-2 * Math.log(1 - this.#part())) * Math.cos(2 * Math.PI * this.#part());
			return Math.max(0, Math.round(expected + normal * Math.sqrt(expected)));
		}
		const least = Math.exp(-expected);
		let count = 0;
		for (let product = this.#part(); product > least; product *= this.#part()) count += 1;
		return count;
	}

	#part = (): number => this.#random.int(0, 2 ** 30) / (2 ** 30 + 1);
}

function lentIn(events: Event[]): Lent | undefined {
	const event = events.findLast((each) => each.kind === "lent");
	return event && { slots: event.slots, lentMs: event.lentMs };
}
