/** One life of one limit, drawn from a seed, checked after every step against the model and the promises. */

import type { Window } from "../../src/core/calendar.ts";
import type { Borrowing, Command, Event } from "../../src/core/commands.ts";
import { activeSlots, type Entry, isLease, type Limit, type Request, type Settings } from "../../src/core/limit.ts";
import { positions, waiters } from "../../src/core/line.ts";
import { saveEntry, saveLimit } from "../../src/core/saved.ts";
import { SLOT } from "../../src/core/usage.ts";
import { type Asked, granted, inTurn, Model, ONE, unitsOfRate, windowMs } from "./model.ts";
import { Random } from "./random.ts";
import { Subject, type Written } from "./subject.ts";

/** How often each outcome was reached. */
export type Outcomes = Map<string, number>;

/** Moves that a failure shows. */
const TAIL = Number(process.env.HEADGATE_TAIL ?? 12);
const START = 1_700_000_000_000;
const RATES = [0, 0, 0, 0.1, 0.7, 1, 3, 7, 20, 1000, 0.142857142857142, 0.333333333333333];

/** So short that lives of a limit go through many of them. */
const WINDOWS: Window[] = [
	...[1, 2, 60].map((every) => ({ every, sliding: true })),
	...[1, 5, 60].map((every) => ({ every, sliding: false })),
].map((each) => ({ ...each, timeZone: "UTC", at: "00:00", startsOn: null }));

const LENDS = [0, 0.1, 1, 1, 10];

/** How often each kind of time passes before a command. */
const TIMES = {
	...{ none: 45, little: 30, due: 12, early: 3, late: 3, later: 2 },
	...{ long: 1, minute: 0.4, age: 0.2, back: 1 },
};

type Look = Pick<Entry, "id" | "seq" | "slots" | "state" | "standing" | "enforced">;

export class Simulation {
	steps = 0;
	readonly #seed: number;
	readonly #outcomes: Outcomes;
	readonly #random: Random;
	readonly #subject: Subject;
	readonly #model: Model;
	readonly #pace: number;
	readonly #leaseMs: number;
	/** What was asked under each id, to ask it again. */
	readonly #requests = new Map<string, { request: Request; wants: Asked["wants"] }>();
	/** Grants of slots and what was given back of them since the settings last changed, in units of the model. */
	#flow: { at: number; units: bigint }[] = [];
	/** Slots that were set aside when they last changed: given under other settings. */
	#setAside = new Set<string>();
	#wall = START;
	#wakeAt: number | null = null;
	#nextId = 1;
	#lastFence = 0;
	/** What the last settle gave back, in units. */
	readonly #taken = new Map<string, bigint>();

	constructor(seed: number, outcomes: Outcomes) {
		this.#seed = seed;
		this.#outcomes = outcomes;
		this.#random = new Random(seed);
		this.#pace = this.#random.pick([5, 50, 400, 1_000]);
		this.#leaseMs = this.#random.pick([500, 5_000, 60_000]);
		const settings: Settings = {
			limit: this.#random.int(1, 8),
			...this.#drawKind(),
			active: this.#random.chance(0.9),
			...(this.#random.chance(0.5) && { lendSeconds: this.#random.pick(LENDS) }),
		};
		this.#subject = new Subject(settings, START);
		this.#model = new Model(settings, START);
	}

	run(steps: number): void {
		try {
			while (this.steps < steps) this.#stepOrTwo();
			if (this.#random.chance(0.3)) this.#close();
			if (this.#random.chance(0.05)) this.#again();
		} catch (error) {
			const moves = this.#subject.history.slice(-TAIL).map((move) => JSON.stringify(move, infinite));
			const why = error instanceof Error ? error.message : String(error);
			throw new Error(
				[why, `HEADGATE_SEED=${this.#seed}, step ${this.steps}; the last moves:`, ...moves].join("\n\t"),
				{ cause: error },
			);
		}
	}

	// ------------------------------------------------------------------------------------- what happens

	#stepOrTwo(): void {
		const random = this.#random;
		const back = this.#passTime();
		if (random.chance(0.02)) this.#restart();
		if (back || random.chance(0.05)) {
			this.#decide({ kind: random.pick(["tick", "inspect"]) });
			return;
		}
		const command = this.#draw();
		const asks = command.kind === "acquire" || command.kind === "reserve";
		// Half of the time nothing is due when the request comes, so that a denial must leave all as it was.
		// What a denied request brings of a loan is accounted for all the same.
		const quiet = asks && !("borrow" in command) && random.chance(0.5);
		if (quiet) this.#decide({ kind: "tick" });
		const before = quiet ? this.#everything() : "";
		const known = asks && this.#limit.entries.has(command.request.id);
		const events = this.#decide(command);

		if (asks) {
			const { request } = command;
			const denial = events.find((event) => event.kind === "denied" && event.id === request.id);
			if (denial?.kind === "denied" && !known) {
				if (quiet) this.#hold(2, this.#everything() === before, "a denial changed something");
				// Nobody knows for how long a limit of 0 is shut.
				const shut = this.#model.state.settings.limit === 0;
				if (shut && denial.code === "denied") this.#reach("denied by a limit of 0");
				if (this.#model.paused && denial.code === "denied") this.#reach("denied while it is paused");
				if (denial.code === "denied" && this.#model.decays && !shut && random.chance(0.05)) {
					this.#retry(command, denial.retryAfterMs);
				}
			}
		}
		// One that was told of more than once ends with the last of those who heard of it.
		const over = command.kind === "release" && !this.#limit.entries.has(command.id);
		if (over && random.chance(0.3)) this.#releaseAgain(command);
	}

	/** Lets the clock run, or jump back; answers whether it jumped back. */
	#passTime(): boolean {
		const random = this.#random;
		// Whoever went has little time to come back, so it often stands still for them.
		const isMissed = this.#model.state.asked.some(({ standing }) => standing === "away" || standing === "resuming");
		if (isMissed && random.chance(0.6)) return false;
		const due = this.#wakeAt === null ? this.#wall : Math.max(this.#wall, this.#wakeAt);
		switch (random.weighted(TIMES)) {
			case "none":
				break;
			case "little":
				this.#wall += random.int(1, this.#pace);
				break;
			case "due":
				this.#wall = due;
				break;
			case "early":
				this.#wall = Math.max(this.#wall, due - 1);
				break;
			case "late":
				this.#wall = due + random.int(1, 50);
				break;
			case "later":
				this.#wall = due + random.int(50, 4_000);
				break;
			case "long":
				this.#wall += 10_000;
				break;
			case "minute":
				this.#wall += random.pick([59_999, 60_000]);
				break;
			case "age":
				this.#wall += random.pick([299_999, 300_000]);
				break;
			case "back":
				this.#jumpBack();
				return true;
		}
		return false;
	}

	/** Time that ran is counted on from where it was: nothing ends, nothing comes back, and nothing is put off. */
	#jumpBack(): void {
		this.#decide({ kind: "tick" });
		const before = this.#everything();
		const toWake = this.#wakeAt === null ? null : this.#wakeAt - this.#wall;
		this.#wall -= this.#random.pick([1, 1_000, 10_000, 3_600_000]);
		const overdue = toWake !== null && toWake <= 0;
		const events = this.#decide({ kind: "tick" });
		if (overdue) return;
		this.#hold(9, events.length === 0 && this.#everything() === before, "a clock that jumped back changed something");
		// A period ends by the caller's clock, whatever became of it.
		if (this.#model.state.period) return this.#reach("clock jumped back, in a period");
		const stillToWake = this.#wakeAt === null ? null : this.#wakeAt - this.#wall;
		this.#hold(9, toWake === stillToWake, "a clock that jumped back changed what is due");
		this.#reach("clock jumped back");
	}

	#restart(): void {
		const before = this.#wakeAt;
		for (const { id, state, standing, slots } of this.#limit.entries.values()) {
			if (state === "waiting" && standing !== "parked") this.#reach(`${standing} -> resuming, by a restart`);
			const left = this.#limit.level.owned(id);
			if (left > 0n && left < BigInt(slots) * SLOT) this.#reach("restart with part of a band drained");
		}
		const { period } = this.#model.state;
		if (this.#model.hasWindow && this.#model.level > 0n) this.#reach("restart with slots in a window");
		if (period && this.#wall >= period.endsAt) this.#reach("restart in a later period");
		this.#subject.restart(this.#wall);
		this.#model.restart(this.#wall);
		this.#reach("restart");
		if (this.#limit.sums.waiting > 0) this.#reach("restart with waiters");
		if (before !== null && before < this.#wall) this.#reach("restart after something fell due");
		this.#decide({ kind: "tick" });
	}

	#close(): void {
		this.#decide({ kind: "close" });
		this.#hold(7, this.#limit.entries.size === 0, "a closed limit still has requests");
	}

	/** The same state, command and moment always give the same events. */
	#again(): void {
		const twin = this.#subject.twin();
		const same = JSON.stringify(look(twin.limit), infinite) === JSON.stringify(look(this.#limit), infinite);
		if (!same) throw new Error("The same moves led to another state.");
	}

	/** A retry at exactly the announced moment, with nothing but time in between, in a twin of this limit. */
	#retry(command: Command & { request: Request }, afterMs: number): void {
		const isGivenAfter = (ms: number): boolean => {
			const twin = this.#subject.twin();
			const at = this.#wall + ms;
			for (let wakeAt = twin.decide({ kind: "tick" }, this.#wall).wakeAt; wakeAt !== null && wakeAt < at; ) {
				wakeAt = twin.decide({ kind: "tick" }, wakeAt).wakeAt;
			}
			return twin
				.decide(command, at)
				.events.some(
					({ kind, ...of }) => ["granted", "reserved"].includes(kind) && "id" in of && of.id === command.request.id,
				);
		};
		this.#hold(8, isGivenAfter(afterMs), `a retry after the announced ${afterMs} ms was not granted`);
		const others = this.#model.line.length + this.#model.reserved + this.#model.leased;
		if (this.#model.lent > 0 && others === 0) {
			this.#hold(8, !isGivenAfter(afterMs - 1), `a retry before the announced ${afterMs} ms was granted`);
			this.#reach("retry at the announced moment, with loans");
		}
		this.#reach("retry at the announced moment");
		if (this.#model.line.length > 0) this.#reach("retry at the announced moment, after others in line");
		if (this.#model.reserved > 0) this.#reach("retry at the announced moment, with reservations");
		if (this.#model.state.period) this.#reach("retry at the end of a period");
		else if (this.#model.hasWindow) this.#reach("retry when a sliding window gives slots back");
	}

	#releaseAgain(command: Command & { kind: "release" }): void {
		const before = this.#everything();
		const events = this.#decide(command);
		const freed = events.some((event) => event.kind === "released" && event.slots > 0);
		this.#hold(7, !freed && this.#everything() === before, "a second release freed something");
		this.#reach("released twice");
	}

	// ---------------------------------------------------------------------------------- drawing commands

	#draw(): Command {
		const random = this.#random;
		const kind = random.weighted({
			...{ acquire: 25, reserve: 19, commit: 9, cancel: 5, touch: 4, renew: 5, release: 14, detach: 6 },
			...{
				vouch: 2,
				resolve: 6,
				configure: 3,
				pause: 1,
				settle: 8,
				takeBack: 2,
				inspect: 2,
				tick: 4,
				borrow: 6,
				repay: 4,
			},
		});
		switch (kind) {
			case "acquire": {
				const request = this.#drawRequest("lease");
				return random.chance(0.1) ? { kind, request, borrow: this.#drawLoan() } : { kind, request };
			}
			case "borrow":
				return { kind, ...this.#drawLoan() };
			case "repay": {
				const { wanted: _, least: __, ...account } = this.#drawLoan();
				return { kind, ...account };
			}
			case "reserve":
				return { kind, request: this.#drawRequest("reservation") };
			case "commit":
				return { kind, id: this.#drawId((asked) => asked.state === "reserved"), peers: ["peer"] };
			case "cancel":
				return { kind, id: this.#drawId((asked) => asked.wants === "reservation"), keepPlace: random.chance(0.6) };
			case "touch":
				return { kind, id: this.#drawId((asked) => asked.wants === "reservation") };
			case "renew":
				return { kind, id: this.#drawId(), leaseMs: random.chance(0.5) ? null : random.int(1, this.#leaseMs) };
			case "release":
				return { kind, id: this.#drawId(), by: random.pick(["caller", "caller", "caller", "operator", "unheard"]) };
			case "detach":
				return { kind, id: this.#drawId((asked) => asked.held || asked.state === "waiting") };
			case "vouch":
				return { kind, id: this.#drawId((asked) => asked.wants === "reservation") };
			case "settle": {
				const id = this.#drawId((asked) => asked.settleMs !== undefined && granted(asked));
				return { kind, id, actual: random.pick([0, 1, 1, 2, 3, this.#model.find(id)?.slots ?? 5, 12]) };
			}
			case "pause":
				return { kind, ms: random.pick([0, 0, 1, 500, 4_000]) };
			case "resolve":
				return { kind, id: this.#drawId((asked) => asked.state === "committed"), committed: random.chance(0.7) };
			case "configure":
				return this.#drawSettings();
			case "takeBack":
				return { kind, slots: random.int(1, 4), heldMs: random.chance(0.5) ? random.int(0, 90_000) : null };
			default:
				return { kind };
		}
	}

	/** Mostly one that fits the command, at times any that is or was. */
	#drawId(suits: (asked: Asked) => boolean = () => true): string {
		const random = this.#random;
		const suited = this.#model.state.asked.filter(suits);
		if (suited.length > 0 && random.chance(0.85)) return random.pick(suited).id;
		if (random.chance(0.1)) return `r${this.#nextId++}`;
		return `r${random.int(Math.max(1, this.#nextId - 8), this.#nextId)}`;
	}

	/** Of a loan that is, was or is new: with what may have been used of it, and at times with what was said before. */
	#drawLoan(): Borrowing {
		const random = this.#random;
		const loans = this.#model.state.asked.filter(({ state }) => state === "lent");
		const loan = loans.length > 0 && random.chance(0.7) ? random.pick(loans) : undefined;
		const id = loan?.id ?? `~${random.int(Math.max(1, this.#nextId - 4), this.#nextId + 1)}`;
		const used = loan ? random.int(random.chance(0.1) ? 0 : loan.used, loan.slots) : random.pick([0, 0, 1, 3]);
		return {
			id,
			used,
			grants: (loan?.grants ?? 0) + random.int(0, 2),
			wanted: random.int(0, 6),
			least: random.pick([0, 0, 0, 1, 2]),
		};
	}

	#drawRequest(wants: Asked["wants"]): Request {
		const random = this.#random;
		const waitMs = random.pick([0, 1, 100, 1_000, 1_000, 20_000, Number.POSITIVE_INFINITY]);
		const ifBusy = random.weighted({ deny: 3, wait: 5, park: wants === "lease" ? 1 : 4 });
		// Those who went, or whose limit was restarted, often come back.
		const gone = this.#model.state.asked.filter(({ state, standing }) => state === "waiting" && standing !== "present");
		const back = gone.length > 0 && random.chance(0.5) ? random.pick(gone) : null;
		if (back) wants = back.wants;
		const again = random.chance(0.2) ? this.#drawId() : "~";
		// No request has the id of a loan.
		const id = back?.id ?? (again.startsWith("~") ? `r${this.#nextId++}` : again);
		const earlier = this.#requests.get(id);
		if (earlier && earlier.wants === wants && random.chance(0.95)) {
			return { ...earlier.request, waitMs, ifBusy, ...(random.chance(0.05) && { print: "other" }) };
		}
		const { limit } = this.#model.state.settings;
		const slots = random.chance(0.05) ? limit + 1 : Math.max(1, random.chance(0.6) ? 1 : random.int(1, limit));
		const isRate = this.#model.decays !== random.chance(0.1) && random.chance(this.#model.hasWindow ? 0.9 : 0.5);
		const mode = random.chance(0.1) ? "unleased" : isRate ? "rate_limit" : "concurrency";
		const atMost = random.chance(0.1);
		const wished = atMost ? slots * random.int(1, 3) : slots;
		const request: Request = {
			...{ id, mode, waitMs, ifBusy, holder: random.chance(0.5) ? "someone" : null, slots: wished },
			...(atMost && { atMost }),
			...(mode === "rate_limit" && random.chance(0.5) && { settleMs: random.pick([100, 1_000, 10_000]) }),
			leaseMs: random.int(1, this.#leaseMs),
			held: random.chance(0.2),
			print: `${wished}${atMost ? " at most" : ""} ${mode}`,
			remember: random.chance(0.7),
		};
		this.#requests.set(id, { request, wants });
		return request;
	}

	/** How slots come back: with their leases, by decay or by a window. */
	#drawKind(): Pick<Settings, "slotDecayPerSecond" | "window"> {
		const random = this.#random;
		if (random.chance(0.3)) return { slotDecayPerSecond: 0, window: random.pick(WINDOWS) };
		return { slotDecayPerSecond: random.pick(RATES), window: null };
	}

	#drawSettings(): Command {
		const random = this.#random;
		const settings: Partial<Settings> = {};
		switch (random.weighted({ limit: 4, rate: 3, active: 3, enforce: 2, lend: 2, hand: 3, all: 2 })) {
			case "limit":
				settings.limit = random.int(0, 8);
				break;
			case "rate":
				Object.assign(settings, this.#drawKind());
				break;
			case "active":
				// Rather on than off: an inactive limit has little to tell.
				settings.active = random.chance(0.7);
				break;
			case "enforce":
				settings.enforce = random.chance(0.6);
				break;
			case "lend":
				settings.lendSeconds = random.pick(LENDS);
				break;
			case "hand":
				return { kind: "configure", activeSlots: random.int(0, 8) };
			case "all":
				return {
					kind: "configure",
					settings: {
						limit: random.int(1, 8),
						...this.#drawKind(),
						active: random.chance(0.8),
						enforce: true,
					},
					...(random.chance(0.3) && { activeSlots: random.int(0, 8) }),
				};
		}
		return { kind: "configure", settings };
	}

	// ---------------------------------------------------------------------------------------- one step

	get #limit(): Limit {
		return this.#subject.limit;
	}

	#decide(command: Command): Event[] {
		this.steps += 1;
		const before = new Map([...this.#limit.entries].map(([id, entry]) => [id, { ...entry } as Look]));
		const usedBefore = usedOf(this.#limit);
		const pausedUntil = this.#model.paused ? this.#model.state.pausedUntil : 0;
		const { settings: settingsBefore, period: periodBefore } = this.#model.state;
		const levelBefore = this.#model.level;
		const { events, wakeAt, written } = this.#subject.decide(command, this.#wall);
		this.#wakeAt = wakeAt;
		const told = events.filter((event) => event.kind !== "rewritten");
		const order = told.map((event) => (event.kind === "configured" ? "" : event.id));
		const lined = this.#model.line.map(({ id }) => id);
		const expected = this.#model.decide(command, this.#wall, order);

		this.#checkSums();
		this.#checkLine(events, before);
		this.#checkNeverTooMany(command, events, before, usedBefore);
		this.#checkEstimates(command, events);
		this.#checkEvents(told, [...expected.time, ...expected.answer, ...expected.service]);
		this.#checkAnswer(command, told.slice(expected.time.length, expected.time.length + expected.answer.length));
		this.#checkState(this.#limit, "");
		this.#hold(4, wakeAt === this.#model.wakeAt, `wakes at ${wakeAt}, and not at ${this.#model.wakeAt}`);
		if (command.kind !== "close") this.#checkWritten(written);
		this.#checkPause(command, events, pausedUntil);
		this.#count(command, events, before, lined);
		this.#countWindow(events, before, { settings: settingsBefore, period: periodBefore, level: levelBefore });
		return events;
	}

	/** Every sum is that of the entries, whatever cache it is read from. */
	#checkSums(): void {
		const { entries, sums, deadlines } = this.#limit;
		const all = [...entries.values()];
		const leases = all.filter(isLease);
		const reserved = all.filter((entry) => entry.enforced && entry.state === "reserved");
		const waiting = all.filter((entry) => entry.state === "waiting");
		const standing = waiting.filter((entry) => entry.standing === "present" || entry.standing === "resuming");
		const unsettled = all.filter(({ enforced, state }) => enforced && state === "unsettled");
		const returnable = leases.filter(({ mode, settleMs }) => mode !== "rate_limit" || settleMs !== null);
		const recounted = {
			...{ leased: slotsOf(leases), reserved: slotsOf(reserved), lent: slotsOf(loansOf(all)), leases: leases.length },
			returnable: returnable.length + unsettled.length,
			...{ waiting: waiting.length, inTurn: standing.length, inTurnSlots: slotsOf(standing) },
			inTurnUnsure: standing.filter((each) => each.wants !== "lease" || each.standing === "resuming").length,
		};
		for (const [name, sum] of Object.entries(recounted)) {
			const cached = sums[name as keyof typeof sums];
			this.#hold(7, cached === sum, `sums.${name} is ${cached}, the entries make ${sum}`);
		}
		const queued = positions(this.#limit)
			.map(([{ id }]) => id)
			.join();
		this.#hold(3, positions(this.#limit).length === waiting.length, "not every waiter has a place");
		this.#hold(3, queued === waiting.map(({ id }) => id).join(), `the line is not in order of arrival: ${queued}`);
		this.#hold(16, this.#limit.loans.size === loansOf(all).length, "the loans that end are not those that there are");
		const due = all.filter((entry) => entry.until !== Number.POSITIVE_INFINITY && entry.state !== "lent");
		this.#hold(4, deadlines.size === due.length, "what falls due is not what the deadlines hold");
		const first = Math.min(...due.map(({ until }) => until));
		this.#hold(4, due.length === 0 || deadlines.first?.until === first, "the first deadline is not the earliest");
	}

	#checkNeverTooMany(command: Command, events: Event[], before: Map<string, Look>, usedBefore: bigint): void {
		const model = this.#model;
		const { limit } = model.state.settings;
		const most = BigInt(limit) * ONE;
		const now = this.#limit.clock.lastAt;
		const reserved = new Set([...before.values()].filter(({ state }) => state === "reserved").map(({ id }) => id));
		let gave = false;
		this.#taken.clear();
		let debt = 0;
		/** The flow up to the last grant: what an estimate came to after it was not known then. */
		let upTo: { at: number; units: bigint }[] | null = null;
		for (const event of events) {
			if (event.kind === "configured") {
				this.#flow = [];
				this.#setAside = reserved;
				gave = false;
				upTo = null;
			} else if (event.kind === "granted" && event.enforced && !event.repeat) {
				gave = true;
				if (this.#setAside.has(event.id)) continue;
				this.#flow.push({ at: now, units: BigInt(event.slots) * ONE });
				upTo = this.#flow.slice(-60);
			} else if (event.kind === "reserved" && event.enforced) {
				if (command.kind === "configure" || command.kind === "settle") reserved.add(event.id);
				gave ||= before.get(event.id)?.state !== "reserved";
			} else if (event.kind === "released" || event.kind === "left" || event.kind === "settled") {
				const estimate = before.get(event.id);
				const isNow = event.kind === "settled" && event.outcome === "settled";
				const more = isNow && estimate?.enforced ? event.slots - estimate.slots : 0;
				// What was set aside before a debt may still be committed after it.
				if (more > 0 && model.decays) this.#flow.push({ at: now, units: BigInt(more) * ONE });
				debt += Math.max(0, more);
				if (more > 0) for (const id of reserved) this.#setAside.add(id);
				const units = model.takings.get(event.id) ?? 0n;
				if (event.kind === "settled") this.#taken.set(event.id, units);
				model.takings.delete(event.id);
				if (units > 0n) this.#flow.push({ at: now, units: -units });
			}
		}
		const used = usedOf(this.#limit);
		const isNew = gave && command.kind !== "commit";
		const isFine = used <= most || (!isNew && used <= usedBefore) || command.kind === "configure" || debt > 0;
		this.#hold(1, isFine, `${activeSlots(this.#limit)} slots in use of ${limit}`);
		const shown = activeSlots(this.#limit);
		this.#hold(7, shown === Number((used + ONE - 1n) / ONE), `shows ${shown} slots in use, which are ${used} units`);

		this.#checkLoans(events);
		this.#flow = this.#flow.slice(-60);
		if (!upTo || !model.decays) return;
		if (model.hasWindow) return this.#checkWindow(upTo, most);
		const rate = unitsOfRate(model.state.settings.slotDecayPerSecond);
		let granted = 0n;
		for (const { at, units } of upTo.toReversed()) {
			granted += units;
			const allowed = most + rate * BigInt(now - at);
			this.#hold(1, granted <= allowed, `${granted} units granted in ${now - at} ms, ${allowed} allowed`);
		}
	}

	/** Of any stretch of a sliding window, and of any period, no more than the limit was granted. */
	#checkWindow(flow: { at: number; units: bigint }[], most: bigint): void {
		const { settings, lastAt, period, offsetMs } = this.#model.state;
		const since = period ? period.startsAt + offsetMs - 1 : lastAt - windowMs(settings);
		const granted = flow.reduce((sum, { at, units }) => (at > since ? sum + units : sum), 0n);
		this.#hold(1, granted <= most, `${granted} units granted in one window, of ${most}`);
	}

	/** What is lent is counted, and at least as much is left of what nobody uses. */
	#checkLoans(events: Event[]): void {
		const { settings, sums, level } = this.#limit;
		if (!events.some((event) => event.kind === "lent" && event.lentMs > 0)) return;
		const free = BigInt(settings.limit - sums.reserved) * SLOT - level.total;
		this.#hold(16, 2n * BigInt(sums.lent) * SLOT <= free, `${sums.lent} slots are lent of ${free} units that are free`);
		this.#hold(16, sums.inTurn === 0, "slots were lent while a waiter had its turn");
		this.#hold(16, settings.enforce !== false && !this.#model.paused, "slots were lent past a rule that stands");
	}

	/** Nothing is granted in a pause but what was set aside before it; and fences rise. */
	#checkPause(command: Command, events: Event[], pausedUntil: number): void {
		const { lastAt } = this.#model.state;
		const granted = events.filter((event) => event.kind === "granted" && !event.repeat);
		if (command.kind === "pause") {
			if (pausedUntil > lastAt && command.ms === 0) this.#reach("a pause was ended");
			if (pausedUntil > lastAt && this.#model.state.pausedUntil > pausedUntil) this.#reach("a pause was made longer");
		} else if (this.#model.paused) {
			const isFine = granted.every((event) => event.kind === "granted" && event.wouldDeny) || command.kind === "commit";
			this.#hold(4, isFine, "something was granted in a pause");
			if (granted.length > 0) this.#reach("committed while it is paused");
		} else if (pausedUntil > 0 && granted.length > 0 && command.kind === "tick") {
			this.#reach("served at the end of a pause");
		}
		for (const event of granted) {
			if (event.kind !== "granted" || event.fence === null) continue;
			this.#hold(6, event.fence > this.#lastFence, `the fence ${event.fence} came after ${this.#lastFence}`);
			this.#lastFence = event.fence;
		}
	}

	/** First come, first served, and nobody waits for what is free. */
	#checkLine(events: Event[], before: Map<string, Look>): void {
		const { entries, settings } = this.#limit;
		const waits = [...entries.values()].filter((entry) => {
			const was = before.get(entry.id);
			return isInLine(entry) && was?.seq === entry.seq && isInLine(was);
		});
		for (const event of events) {
			if (event.kind !== "granted" && event.kind !== "reserved") continue;
			if (event.kind === "granted" && event.repeat) continue;
			const was = before.get(event.id);
			if (!event.enforced || (was && was.state !== "waiting")) continue;
			const passed = waits.find((entry) => entry.seq < (was?.seq ?? Number.POSITIVE_INFINITY));
			this.#hold(3, !passed, `${event.id} overtook ${passed?.id}`);
		}
		const head = [...entries.values()].find(isInLine);
		if (!head) return;
		this.#hold(4, settings.active, `${head.id} waits at an inactive limit`);
		this.#hold(4, settings.enforce !== false, `${head.id} waits at a limit that only watches`);
		const fits = usedOf(this.#limit) + BigInt(head.slots) * ONE <= BigInt(settings.limit) * ONE;
		this.#hold(
			4,
			head.standing === "resuming" || this.#model.paused || !fits,
			`${head.id} is first in line and waits for what is free`,
		);
	}

	#checkEstimates(command: Command, events: Event[]): void {
		for (const event of events) {
			if (event.kind !== "denied" && event.kind !== "parked") continue;
			const { retryAfterMs } = event;
			this.#hold(8, Number.isInteger(retryAfterMs) && retryAfterMs >= 0, `retry after ${retryAfterMs} ms`);
			if (this.#model.decays || command.kind === "configure") continue;
			this.#hold(8, retryAfterMs <= 30_000, `retry after ${retryAfterMs} ms, an estimate`);
		}
	}

	#checkEvents(told: Event[], expected: Event[]): void {
		const [is, ought] = [told.map(plain), expected.map(plain)];
		for (let index = 0; index < Math.max(is.length, ought.length); index += 1) {
			const says = `it says ${is[index]}, the model ${ought[index]}`;
			if (is[index] !== ought[index]) throw new Error(`Event ${index + 1} is not what was promised: ${says}`);
		}
	}

	/** Every request is answered at once, by exactly one event. */
	#checkAnswer(command: Command, answers: Event[]): void {
		if (command.kind !== "acquire" && command.kind !== "reserve") return;
		const { request } = command;
		const kinds = answers
			.filter((event) => event.kind !== "configured" && event.kind !== "ended" && event.id === request.id)
			.map(({ kind }) => kind);
		const isOne = kinds.length === 1 && ["granted", "reserved", "queued", "parked", "denied"].includes(kinds[0] ?? "");
		this.#hold(4, isOne, `${request.id} was answered by ${kinds.join(", ") || "nothing"}`);

		// When nobody is in line and nothing reserved, the announced moment is the first that there is.
		const answer = answers.find((event) => event.kind === "denied" && event.id === request.id);
		if (answer?.kind !== "denied" || answer.code !== "denied") return;
		if (this.#model.state.settings.limit === 0) {
			return this.#hold(8, answer.retryAfterMs === 30_000, `a limit of 0 announced ${answer.retryAfterMs} ms`);
		}
		const left = this.#model.paused ? this.#model.state.pausedUntil - this.#model.state.lastAt : 0;
		if (left > 0)
			this.#hold(8, answer.retryAfterMs >= left, `announced ${answer.retryAfterMs} ms of a pause of ${left}`);
		if (!this.#model.decays) return;
		if (this.#model.line.length > 0 || this.#model.reserved > 0 || this.#model.lent > 0) return;
		const { limit } = this.#model.state.settings;
		const slots = request.atMost ? Math.min(request.slots, limit) : request.slots;
		const first = this.#model.msUntilLevel(BigInt(limit - slots) * ONE);
		this.#hold(
			8,
			answer.retryAfterMs === Math.max(left, first),
			`announced ${answer.retryAfterMs} ms, decay takes ${first} ms`,
		);
	}

	#checkState(limit: Limit, where: string): void {
		const model = this.#model;
		const { asked, settings, unleased, pausedUntil, fence, ratios } = where === "" ? model.state : model.stored;
		const same = (promise: number, name: string, is: unknown, ought: unknown): void =>
			this.#hold(promise, is === ought, `${where}${name} is ${is}, the model has ${ought}`);
		same(7, "the order of arrival", [...limit.entries.keys()].join(), asked.map(({ id }) => id).join());
		same(8, "the level", limit.level.total * (ONE / SLOT), model.level);
		same(7, "unleased", limit.unleased, unleased);
		const pauseLeft = (until: number): number => Math.max(0, until - limit.clock.lastAt);
		same(4, "what is left of a pause", pauseLeft(limit.pausedUntil), pauseLeft(pausedUntil));
		same(6, "the fence", limit.fence, fence);
		same(7, "what was settled", limit.settled.count, ratios.length);
		same(
			7,
			"how it was settled",
			limit.settled.ratios,
			ratios.reduce((sum, ratio) => sum + ratio, 0),
		);
		same(7, "the limit", JSON.stringify(limit.settings), JSON.stringify(settings));
		for (const ought of asked) {
			const is = limit.entries.get(ought.id) as Entry;
			const name = (field: string): string => `${field} of ${ought.id}`;
			same(8, name("what is left"), limit.level.owned(ought.id) * (ONE / SLOT), model.owned(ought.id));
			same(7, name("slots"), is.slots, ought.state === "lent" ? ought.slots - ought.used : ought.slots);
			same(16, name("used"), is.used ?? 0, ought.used);
			same(16, name("grants"), is.grants ?? 0, ought.grants);
			same(7, name("state"), is.state, ought.state);
			same(7, name("enforced"), is.enforced, ought.enforced);
			same(7, name("wouldDeny"), is.wouldDeny, ought.wouldDeny);
			same(5, name("expiresAt"), is.expiresAt, ought.expiresAt);
			same(6, name("fence"), is.fence, ought.fence);
			same(10, name("giveUpAt"), is.giveUpAt, ought.giveUpAt);
			same(4, name("since"), is.since, ought.state === "waiting" ? ought.arrivedAt : ought.grantedAt);
			// Rows do not follow how a waiter stands, nor a touch: a restart makes all that anew.
			if (where !== "") continue;
			same(5, name("until"), is.until, ought.until);
			if (ought.state === "waiting") same(10, name("standing"), is.standing, ought.standing);
		}
		if (where !== "") return;
		same(7, "the totals", JSON.stringify(limit.totals), JSON.stringify(model.state.totals));
		same(9, "the time", limit.clock.lastAt, model.state.lastAt);
		same(9, "the offset", limit.clock.offsetMs, model.state.offsetMs);
	}

	/** What was written is enough to find everything again. */
	#checkWritten(written: Written): void {
		if (!written.any) return;
		this.#model.write(written.rows);
		if (this.#random.chance(0.3)) this.#checkState(this.#subject.rebuilt(this.#wall), "after a restart ");
	}

	// ---------------------------------------------------------------------------------------- counting

	#count(command: Command, events: Event[], before: Map<string, Look>, lined: string[]): void {
		for (const event of events) this.#reach(outcomeOf(event, command, before));
		const { entries, settings } = this.#limit;
		for (const id of new Set([...before.keys(), ...entries.keys()])) {
			const was = before.get(id);
			const is = entries.get(id);
			// The same id may be another request by now.
			if (was && is && was.seq !== is.seq) continue;
			if (stateOf(was) !== stateOf(is)) this.#reach(`${stateOf(was)} -> ${stateOf(is)}`);
		}

		const waiting = [...entries.values()].filter((entry) => entry.state === "waiting");
		const head = waiting.find((entry) => inTurn(entry));
		if (head?.standing === "resuming" && this.#model.fits(head.slots)) this.#reach("a resuming head holds the line");
		if (head && waiting.some((entry) => entry.seq > head.seq && inTurn(entry) && this.#model.fits(entry.slots))) {
			this.#reach("a small one waits behind a big head");
		}
		const estimate = command.kind === "settle" ? before.get(command.id) : undefined;
		const flowed = this.#taken;
		const settled = events.find((event) => event.kind === "settled" && event.outcome === "settled");
		if (settled?.kind === "settled" && estimate) {
			const than = settled.slots < estimate.slots ? "below" : settled.slots > estimate.slots ? "above" : "at";
			this.#reach(`settled ${than} its estimate`);
			const back = BigInt(estimate.slots - settled.slots) * ONE;
			const taken = flowed.get(estimate.id) ?? 0n;
			if (taken > 0n && taken < back && this.#model.level > 0n)
				this.#reach("settled below what was left of it, under others");
			if (than === "above" && this.#model.used > BigInt(settings.limit) * ONE) this.#reach("settled past the limit");
		}
		const isCut = [...entries.values()].some(({ atMost, slots }) => atMost !== null && slots < atMost);
		if (isCut) this.#reach("as many as the limit could ever grant");
		if (command.kind === "takeBack" && !this.#model.decays) {
			const settled = [...before].some(([id, was]) => was.state === "committed" && !entries.has(id));
			this.#reach(settled ? "taken back before the peers answered" : "taken back");
		}
		const isAbove = this.#model.used > BigInt(settings.limit) * ONE;
		if (isAbove && settings.limit > 0) this.#reach("in use above a lowered limit");
		for (const event of events) {
			if (event.kind !== "granted" && event.kind !== "reserved") continue;
			const was = before.get(event.id);
			if (was?.state !== "waiting" || !entries.has(event.id)) continue;
			if (command.kind !== "tick") this.#reach(`served by ${command.kind}`);
			else this.#reach("served as time ran");
			for (const entry of waiting) {
				if (entry.seq < was.seq && !inTurn(entry)) this.#reach(`a waiter that is ${entry.standing} is passed`);
			}
		}
		if (command.kind !== "acquire" && command.kind !== "reserve") return;
		const id = command.request.id;
		const was = before.get(id);
		const is = entries.get(id);
		if (was?.state !== "waiting" || is?.state !== "waiting" || lined.includes(id) || !inTurn(is)) return;
		const isBefore = lined.some((other) => (before.get(other)?.seq ?? 0) > was.seq);
		if (isBefore) this.#reach(`${was.standing} and back at its place`);
	}

	#countWindow(
		events: Event[],
		before: Map<string, Look>,
		was: { settings: Settings; period: object | null; level: bigint },
	): void {
		const { state, hasWindow, level } = this.#model;
		if (was.level > 0n && was.settings.window !== state.settings.window && level > 0n)
			this.#reach("another way with slots in use");
		if (!hasWindow || was.settings.window !== state.settings.window) return;
		if (was.level > 0n && was.period !== state.period) this.#reach("a period ended with slots in use");
		if (!state.period && level < was.level && events.every(({ kind }) => kind === "granted"))
			this.#reach("a sliding window gave slots back");
		for (const event of events) {
			if (event.kind !== "released" || !before.get(event.id)?.enforced) continue;
			const { state: stood } = before.get(event.id) as Look;
			if (stood === "leased" || stood === "committed") {
				this.#reach(event.slots > 0 ? "a lease gave back to a window" : "a lease outlived its window");
			}
		}
	}

	#reach(outcome: string): void {
		this.#outcomes.set(outcome, (this.#outcomes.get(outcome) ?? 0) + 1);
	}

	#hold(promise: number, condition: boolean, otherwise: string): void {
		if (!condition) throw new Error(`promise ${promise}: ${otherwise}`);
	}

	/** All that a denial must leave as it was. */
	#everything(): string {
		const { totals: _, clock: __, meanHeldMs: ___, polling: ____, ...saved } = saveLimit(this.#limit);
		const { at, ...level } = saved.level;
		return JSON.stringify({
			...saved,
			level,
			entries: look(this.#limit),
			queue: waiters(this.#limit).map(({ id }) => id),
		});
	}
}

function outcomeOf(event: Event, command: Command, before: Map<string, Look>): string {
	switch (event.kind) {
		case "granted": {
			const what = event.expiresAt === null ? "receipt" : "lease";
			const when = event.repeat ? "again" : event.waitedMs > 0 ? "after a wait" : "at once";
			return `granted a ${what} ${when}${event.wouldDeny ? ", though it would deny" : event.enforced ? "" : ", unenforced"}`;
		}
		case "reserved":
			return `reserved${before.get(event.id)?.state === "reserved" ? " again" : ""}${event.enforced ? "" : ", unenforced"}`;
		case "denied":
			return `denied ${before.get(event.id)?.state === "waiting" ? "a waiter " : ""}${event.code}`;
		case "left":
			return `left ${event.why}`;
		case "gone":
			return `gone to ${command.kind}`;
		case "released":
			return `released by ${event.by}${event.slots > 0 ? "" : ", nothing"}`;
		case "settled":
			return `settled ${event.outcome}`;
		case "vouched":
			return `vouched ${event.committed}`;
		case "lent":
			return `${event.lentMs > 0 ? "lent" : "lent no more"}${before.has(event.id) ? " again" : ""} by ${command.kind}`;
		case "repaid":
			return `repaid by ${event.by}${event.slots > 0 ? "" : ", nothing"}`;
		case "ended":
			return `ended ${event.record.kind}`;
		default:
			return event.kind;
	}
}

const look = (limit: Limit): unknown[] => [...limit.entries.values()].map((entry) => saveEntry(limit, entry));

const isInLine = (look: Look): boolean => look.state === "waiting" && inTurn(look);

/** What has become of a request, and how it stands while it waits. */
function stateOf(look: Look | undefined): string {
	if (look === undefined) return "nothing";
	return look.state === "waiting" ? look.standing : look.state;
}

/** Slots in use, in units of the model, counted anew. */
function usedOf(limit: Limit): bigint {
	const all = [...limit.entries.values()];
	const reserved = slotsOf([...all.filter((entry) => entry.enforced && entry.state === "reserved"), ...loansOf(all)]);
	if (limit.settings.slotDecayPerSecond > 0 || limit.settings.window)
		return limit.level.total * (ONE / SLOT) + BigInt(reserved) * ONE;
	return BigInt(slotsOf(all.filter(isLease)) + limit.unleased + reserved) * ONE;
}

const loansOf = (entries: Entry[]): Entry[] => entries.filter(({ state }) => state === "lent");

const slotsOf = (entries: Entry[]): number => entries.reduce((sum, { slots }) => sum + slots, 0);

const infinite = (_: string, value: unknown): unknown => (value === Number.POSITIVE_INFINITY ? "Infinity" : value);

/** An event as text, without its estimate, which is checked by itself. */
function plain(event: Event): string {
	const sorted = (value: object): [string, unknown][] =>
		Object.entries(value)
			.filter(([name]) => name !== "retryAfterMs")
			.sort(([a], [b]) => (a < b ? -1 : 1))
			.map(([name, inner]) => [name, typeof inner === "object" && inner !== null ? sorted(inner) : inner]);
	return JSON.stringify(sorted(event));
}
