/**
 * What the core promises, written as plainly as possible: one array of requests in order of arrival, one array of
 * layers of the level, every question answered by looking at all of them. It shares no code and no data structure
 * with the core, only the types of what goes in and comes out and the lengths of its patience.
 *
 * The one thing it takes from the core is the order of events that fall due in the same millisecond, which is not
 * promised (`order` of `decide`).
 */

import type { Borrowing, Command, DenialCode, Event } from "../../src/core/commands.ts";
import type { Ended, Request, Settings } from "../../src/core/limit.ts";
import { QUEUE_MAX } from "../../src/core/line.ts";
import {
	AWAY_MS,
	DOUBT_MS,
	DOUBT_STEP_MS,
	LOAN_GRACE_MS,
	REMEMBER_MS,
	REMEMBER_RECEIPT_MS,
	RESERVATION_MS,
	RESUME_MS,
} from "../../src/core/patience.ts";
import { BUCKETS_MS, type Totals } from "../../src/core/totals.ts";

/** One slot in units of the model: fine enough that every rate used here is a whole number of them a millisecond. */
export const ONE = 10n ** 24n;

/** Units a millisecond of a rate in slots a second. */
export function unitsOfRate(slotDecayPerSecond: number): bigint {
	const [whole = "0", decimals = ""] = slotDecayPerSecond.toFixed(15).split(".");
	return (BigInt(whole + decimals) * ONE) / 10n ** 15n / 1000n;
}

const NEVER = Number.POSITIVE_INFINITY;

/** A loan stands among them, with all that was ever lent of it as its slots. */
export interface Asked extends Readonly<Omit<Request, "waitMs" | "ifBusy" | "slots">> {
	slots: number;
	/** Of a loan: slots and requests that were accounted for. */
	used: number;
	grants: number;
	share: number;
	/** What was asked for, however many it takes. */
	readonly wished: number;
	readonly wants: "lease" | "reservation";
	readonly arrivedAt: number;
	state: "waiting" | "reserved" | "committed" | "leased" | "unsettled" | "lent";
	wouldDeny: boolean;
	standing: "present" | "resuming" | "away" | "parked";
	enforced: boolean;
	grantedAt: number;
	waitedMs: number;
	giveUpAt: number;
	expiresAt: number;
	/** When something must be done about it. */
	until: number;
	/** What its stored row says, if it has one: neither a reservation, nor a repeated answer is written. */
	written: { until: number; giveUpAt: number; claims: number; parked: boolean; reserved: boolean } | null;
	peers: readonly string[];
	/** How often it was answered again after its grant. */
	claims: number;
	fence: number | null;
}

/** A part of the level that was laid at once. */
interface Layer {
	owner: string | null;
	left: bigint;
	/** When it was laid, in the limit's own time. */
	at: number;
}

/** The period of a calendar, by the caller's clock. Those of a fixed length are counted from the epoch. */
interface Period {
	startsAt: number;
	endsAt: number;
}

/** The length of a window of this model, all of which are so many seconds long. */
export const windowMs = ({ window }: Settings): number => (window ? Number(window.every) * 1_000 : 0);
/** How slots come back. */
const kindOf = ({ slotDecayPerSecond, window }: Settings): string =>
	window ? `${window.sliding} ${windowMs({ window } as Settings)}` : slotDecayPerSecond > 0 ? "decay" : "release";

interface State {
	settings: Settings;
	lastAt: number;
	offsetMs: number;
	/** In order of arrival. */
	asked: Asked[];
	/** Oldest first. */
	layers: Layer[];
	/** That a window by the calendar is in. */
	period: Period | null;
	unleased: number;
	pausedUntil: number;
	/** The fence of the newest lease. */
	fence: number;
	/** What each settled estimate came to, as a part of it. */
	ratios: number[];
	totals: Totals;
}

/** What one decision did, in the three parts that it has. */
export interface Outcome {
	time: Event[];
	answer: Event[];
	service: Event[];
}

export class Model {
	state: State;
	/** What was last written to storage. */
	stored: State;
	/** Everything ever to be remembered, newest last. */
	readonly memory: Ended[] = [];
	/** What each request took out of the level when it ended in the last decision, in units. */
	readonly takings = new Map<string, bigint>();
	#events: Event[] = [];
	#now: number;

	constructor(settings: Settings, now: number) {
		const none = () => ({ counts: [...BUCKETS_MS.map(() => 0), 0], sumMs: 0 });
		const counts = {
			grantedAtOnce: 0,
			grantedAfterWait: 0,
			denied: 0,
			timedOut: 0,
			released: 0,
			expired: 0,
			wouldDeny: 0,
		};
		const totals = { ...counts, waits: none(), holds: none() };
		this.state = {
			settings,
			lastAt: now,
			offsetMs: 0,
			asked: [],
			layers: [],
			period: periodOf(settings, now),
			unleased: 0,
			pausedUntil: 0,
			fence: 0,
			ratios: [],
			totals,
		};
		this.stored = copy(this.state);
		this.#now = now;
	}

	decide(command: Command, wall: number, order: readonly string[]): Outcome {
		this.state.offsetMs = Math.max(this.state.offsetMs, this.state.lastAt - wall);
		const now = wall + this.state.offsetMs;
		this.takings.clear();
		const part = (act: () => void): Event[] => {
			this.#events = [];
			act();
			return this.#events;
		};
		const time = part(() => this.#runTime(now, order));
		const answer = part(() => this.#carryOut(command));
		return { time, answer, service: part(() => this.#serve()) };
	}

	/** The state was written; `ids` are the rows that were. */
	write(ids: ReadonlySet<string>): void {
		for (const asked of this.state.asked.filter(({ id }) => ids.has(id))) {
			const { until, giveUpAt, claims, standing, state } = asked;
			asked.written = { until, giveUpAt, claims, parked: standing === "parked", reserved: state === "reserved" };
		}
		this.stored = copy(this.state);
		// A reservation is lost, unless its row had to be written anyway; a place in line that it came from is not.
		this.stored.asked = this.stored.asked.filter((asked) => asked.state !== "reserved" || asked.written);
		for (const asked of this.stored.asked) {
			if (asked.state !== "reserved" || !asked.written || asked.written.reserved) continue;
			Object.assign(asked, {
				state: "waiting",
				slots: this.#size(asked.wished, asked.atMost),
				enforced: true,
				wouldDeny: false,
				waitedMs: 0,
				giveUpAt: asked.written.giveUpAt,
			});
		}
	}

	restart(wall: number): void {
		this.state = copy(this.stored);
		const wokeAt = Math.max(wall + this.state.offsetMs, this.state.lastAt);
		for (const asked of this.state.asked) {
			const { written } = asked;
			if (!written) throw new Error(`${asked.id} was stored without a row.`);
			asked.claims = written.claims;
			if (asked.state !== "waiting") {
				asked.until = written.until;
				continue;
			}
			asked.slots = this.#size(asked.wished, asked.atMost);
			asked.standing = written.parked ? "parked" : "resuming";
			asked.until = Math.min(asked.giveUpAt, wokeAt + (asked.standing === "parked" ? RESERVATION_MS : RESUME_MS));
		}
		this.#now = this.state.lastAt;
	}

	// ---------------------------------------------------------------------------------- what is true now

	get hasWindow(): boolean {
		return Boolean(this.state.settings.window);
	}

	/** Whether slots come back by themselves. */
	get decays(): boolean {
		return this.state.settings.slotDecayPerSecond > 0 || this.hasWindow;
	}

	/** The level in units, reservations aside. */
	get level(): bigint {
		return this.state.layers.reduce((sum, layer) => sum + layer.left, 0n);
	}

	owned(id: string): bigint {
		return this.state.layers.reduce((sum, layer) => (layer.owner === id ? sum + layer.left : sum), 0n);
	}

	/** Whether callers are denied and wait. */
	get enforces(): boolean {
		return this.state.settings.active && this.state.settings.enforce !== false;
	}

	get reserved(): number {
		return sumOf(this.state.asked.filter((asked) => asked.enforced && asked.state === "reserved"));
	}

	get leased(): number {
		return sumOf(this.state.asked.filter(holds));
	}

	/** Slots in use, in units. */
	get used(): bigint {
		const held = this.decays ? this.level : BigInt(this.leased + this.state.unleased) * ONE;
		return held + BigInt(this.reserved + this.lent) * ONE;
	}

	/** Slots of loans that are not accounted for. */
	get lent(): number {
		return this.state.asked.reduce((sum, { state, slots, used }) => (state === "lent" ? sum + slots - used : sum), 0);
	}

	get paused(): boolean {
		return this.state.settings.active && this.state.lastAt < this.state.pausedUntil;
	}

	fits(slots: number): boolean {
		return this.used + BigInt(slots) * ONE <= BigInt(this.state.settings.limit) * ONE;
	}

	/** Those that have their turn, in order. */
	get line(): Asked[] {
		return this.state.asked.filter((asked) => asked.state === "waiting" && inTurn(asked));
	}

	/** The first moment when something must be done though nobody asks, on the caller's clock. */
	get wakeAt(): number | null {
		const head = this.line[0];
		const moments = this.state.asked.filter((asked) => head || asked.state !== "lent").map((asked) => asked.until);
		const room = this.state.settings.limit - this.reserved - this.lent;
		if (head?.standing === "present" && head.slots <= room) {
			const msUntilFree = this.decays
				? this.msUntilLevel(BigInt(room - head.slots) * ONE)
				: this.fits(head.slots)
					? 0
					: NEVER;
			if (this.decays || this.paused) moments.push(Math.max(this.#now + msUntilFree, this.state.pausedUntil));
		}
		const first = Math.min(NEVER, ...moments);
		return first === NEVER ? null : first - this.state.offsetMs;
	}

	/** Whole milliseconds until the level, draining alone, is at most `units`. */
	msUntilLevel(units: bigint): number {
		const { period, offsetMs, layers, settings } = this.state;
		if (this.hasWindow) {
			// Layers lie in the order in which they were laid.
			const oldest = layers.map(({ at }) => at + windowMs(settings) - this.#now);
			const ends = period ? [period.endsAt + offsetMs - this.#now] : oldest;
			const isFewEnough = (after: number): boolean =>
				layers.reduce((sum, { left }, index) => sum + ((ends[index] ?? after) <= after ? 0n : left), 0n) <= units;
			return this.level <= units ? 0 : period ? (ends[0] ?? 0) : (ends.find(isFewEnough) ?? NEVER);
		}
		const rate = unitsOfRate(this.state.settings.slotDecayPerSecond);
		const excess = this.level - units;
		if (excess <= 0n) return 0;
		return Number(excess / rate) + (excess % rate === 0n ? 0 : 1);
	}

	find(id: string): Asked | undefined {
		return this.state.asked.find((asked) => asked.id === id && asked.state !== "lent");
	}

	/** What is remembered of an id that is over. */
	recall(id: string): Ended | undefined {
		const record = this.memory.findLast((ended) => ended.id === id);
		return record && record.until > this.#now ? record : undefined;
	}

	// ------------------------------------------------------------------------------------------- time

	#runTime(now: number, order: readonly string[]): void {
		const left = [...order];
		const rank = ({ id }: Asked): number => (left.includes(id) ? left.indexOf(id) : left.length);
		const nextOf = (candidates: Asked[]): Asked | undefined =>
			candidates.toSorted((a, b) => a.until - b.until || rank(a) - rank(b))[0];
		const fallDue = (next: Asked): void => {
			const said = this.#events.length;
			this.#fallDue(next);
			// What ended without a word may be named later, in an answer.
			if (this.#events.length > said && left.includes(next.id)) left.splice(0, rank(next) + 1);
		};
		// Whoever is here and ran out of patience goes last: what came free until now may be for it.
		const isHere = (asked: Asked): boolean => asked.state === "waiting" && asked.standing === "present";
		for (;;) {
			const next = nextOf(this.state.asked.filter((asked) => asked.until <= now && !isHere(asked)));
			if (!next) break;
			this.#drainTo(Math.max(next.until, this.#now));
			fallDue(next);
		}
		this.#drainTo(now);
		this.#serve();
		for (;;) {
			const next = nextOf(this.state.asked.filter((asked) => asked.until <= now && isHere(asked)));
			if (!next) break;
			fallDue(next);
		}
		this.#serve();
	}

	#drainTo(now: number): void {
		const { settings, period, offsetMs } = this.state;
		if (period && now - offsetMs >= period.endsAt) {
			this.state.layers = [];
			this.state.period = periodOf(settings, now - offsetMs);
		}
		if (this.hasWindow && !period) {
			this.state.layers = this.state.layers.filter(({ at }) => at + windowMs(settings) > now);
		}
		let units = unitsOfRate(settings.slotDecayPerSecond) * BigInt(now - this.#now);
		for (const layer of this.state.layers) {
			const drained = units < layer.left ? units : layer.left;
			layer.left -= drained;
			units -= drained;
		}
		this.state.layers = this.state.layers.filter((layer) => layer.left > 0n);
		this.#now = this.state.lastAt = now;
	}

	#fallDue(asked: Asked): void {
		if (asked.state === "waiting") {
			this.#drop(asked);
			if (this.#now >= asked.giveUpAt) this.state.totals.timedOut += 1;
			if (this.#now >= asked.giveUpAt) this.#deny(asked.id, "denied");
			else this.#say({ kind: "left", id: asked.id, why: "gone" });
		} else if (asked.state === "lent") {
			this.#writeOff(asked);
		} else if (asked.state === "reserved") {
			this.#drop(asked);
			this.#say({ kind: "released", id: asked.id, slots: asked.enforced ? asked.slots : 0, by: "lapse" });
		} else if (asked.state === "unsettled") this.#receipt(asked);
		else if (asked.state === "committed" && (asked.mode !== "concurrency" || this.#now < asked.expiresAt)) {
			this.#plan(asked);
			this.#say({ kind: "doubted", id: asked.id, peers: asked.peers });
		} else this.#giveBack(asked, "expiry");
	}

	#serve(): void {
		for (const asked of this.line) {
			const { active } = this.state.settings;
			const refused = active && (this.paused || !this.fits(asked.slots) || this.#never(asked) !== null);
			if (this.enforces && (asked.standing === "resuming" || refused)) return;
			asked.waitedMs = this.#now - asked.arrivedAt;
			this.#give(asked, refused);
		}
	}

	// ---------------------------------------------------------------------------------------- commands

	#carryOut(command: Command): void {
		switch (command.kind) {
			case "acquire": {
				const { borrow } = command;
				const loan = borrow && this.#loan(borrow.id);
				if (loan) this.#account(loan, borrow.used, borrow.grants);
				this.#ask(command.request, "lease");
				const isGiven = this.#events.some(
					({ kind, ...event }) => kind === "granted" && "id" in event && event.id === command.request.id,
				);
				if (borrow) this.#borrow(borrow, isGiven);
				return;
			}
			case "borrow":
				return this.#borrow(command, true);
			case "repay": {
				const loan = this.#loan(command.id);
				if (!loan) return this.#say({ kind: "gone", id: command.id });
				this.#account(loan, command.used, command.grants);
				this.#drop(loan);
				return this.#say({ kind: "repaid", id: loan.id, slots: Math.max(0, loan.slots - loan.used), by: "borrower" });
			}
			case "reserve":
				return this.#ask(command.request, "reservation");
			case "commit":
				return this.#commit(command.id, command.peers);
			case "cancel":
				return this.#cancel(command.id, command.keepPlace);
			case "touch": {
				const asked = this.find(command.id);
				if (asked?.state === "reserved") asked.until = this.#now + RESERVATION_MS;
				else if (asked?.state !== "waiting") this.#say({ kind: "gone", id: command.id });
				else if (asked.standing !== "resuming") this.#stand(asked, asked.standing);
				return;
			}
			case "renew": {
				const asked = this.find(command.id);
				if (!asked || !granted(asked) || asked.mode !== "concurrency")
					return this.#say({ kind: "gone", id: command.id });
				asked.state = "leased";
				asked.expiresAt = this.#now + (command.leaseMs ?? asked.leaseMs);
				this.#plan(asked);
				return this.#say({ kind: "renewed", id: asked.id, expiresAt: asked.expiresAt - this.state.offsetMs });
			}
			case "release":
				return this.#release(command.id, command.by);
			case "detach":
				return this.#detach(this.find(command.id));
			case "vouch": {
				const asked = this.find(command.id);
				const past = this.recall(command.id);
				const committed = asked ? granted(asked) : past !== undefined && past.kind !== "cancelled";
				if (!committed && (asked || !past)) this.#callOff(command.id);
				return this.#say({ kind: "vouched", id: command.id, committed });
			}
			case "resolve": {
				const asked = this.find(command.id);
				if (asked?.state !== "committed") return;
				if (!command.committed) return this.#giveBack(asked, "abort");
				if (asked.settleMs !== undefined && asked.mode === "rate_limit") return this.#leaveUnsettled(asked);
				if (asked.mode !== "concurrency") return this.#settledReceipt(asked);
				asked.state = "leased";
				asked.peers = [];
				return this.#plan(asked);
			}
			case "configure":
				return this.#configure(command.settings ?? {}, command.activeSlots);
			case "settle":
				return this.#settle(command.id, command.actual);
			case "pause":
				this.state.pausedUntil = command.ms > 0 ? Math.max(this.state.pausedUntil, this.#now + command.ms) : 0;
				return this.#say({ kind: "configured" });
			case "takeBack":
				for (const asked of [...this.state.asked]) {
					if (this.decays || this.state.unleased >= command.slots) break;
					if (asked.mode === "unleased" && holds(asked)) this.#settledReceipt(asked);
				}
				this.state.unleased = Math.max(0, this.state.unleased - command.slots);
				return this.#say({ kind: "configured" });
			case "close":
				for (const asked of [...this.state.asked]) {
					if (asked.state === "unsettled") this.#receipt(asked);
					else if (granted(asked)) this.#giveBack(asked, "operator");
					else this.#drop(asked);
					if (asked.state === "waiting") this.#deny(asked.id, "unknown_limit");
				}
				return;
			case "inspect":
			case "tick":
				return;
		}
	}

	get #loans(): Asked[] {
		return this.state.asked.filter(({ state }) => state === "lent");
	}

	#loan(id: string): Asked | undefined {
		return this.#loans.find((loan) => loan.id === id);
	}

	/** At least half of what nobody uses stays for those who have no loan, and nothing is lent past a waiter. */
	#borrow({ id, used, grants, wanted, least }: Borrowing, isGiven: boolean): void {
		const { settings } = this.state;
		const known = this.#loan(id);
		if (known) this.#account(known, used, grants);
		const lentMs = Math.round((settings.lendSeconds ?? 0) * 1_000);
		const lends =
			isGiven && this.enforces && !this.paused && settings.slotDecayPerSecond > 0 && settings.limit > 0 && lentMs > 0;
		const has = known ? known.slots - known.used : 0;
		let most = has;
		const isFair = (more: number): boolean =>
			2n * BigInt(this.lent + more) * ONE + this.level <= BigInt(settings.limit - this.reserved) * ONE;
		if (lends && this.line.length === 0 && isFair(0)) {
			let room = 0;
			while (isFair(room + 1) && room < 100) room += 1;
			const others = this.state.asked.filter((asked) => asked.state === "lent" && asked !== known);
			const share = Math.ceil(Math.sqrt(Math.max(1, wanted)));
			const all = others.reduce((sum, loan) => sum + loan.share, share);
			while (most < wanted && most - has < room && (most + 1) * all <= (room + this.lent) * share) most += 1;
			if (most > 0 && most >= least) {
				return this.#lend(id, known, { used, grants, share }, most - has, lentMs);
			}
		}
		if (known && has === 0) this.#drop(known);
		this.#say({ kind: "lent", id, slots: known ? known.slots : used, lentMs: 0 });
	}

	#lend(
		id: string,
		known: Asked | undefined,
		said: Pick<Asked, "used" | "grants" | "share">,
		more: number,
		lentMs: number,
	) {
		const loan: Asked = known ?? {
			...{ id, ...said, slots: said.used, mode: "rate_limit", leaseMs: 0, holder: null, held: false, print: "" },
			...{ remember: false, wants: "lease", arrivedAt: this.#now, state: "lent", standing: "parked", enforced: true },
			...{
				grantedAt: this.#now,
				waitedMs: 0,
				giveUpAt: this.#now,
				expiresAt: NEVER,
				until: NEVER,
				peers: [],
				claims: 0,
				fence: null,
				wished: 0,
				wouldDeny: false,
			},
			written: null,
		};
		if (!known) this.state.asked.push(loan);
		loan.slots += more;
		loan.share = said.share;
		loan.expiresAt = loan.until = this.#now + lentMs + LOAN_GRACE_MS;
		this.#say({ kind: "lent", id, slots: loan.slots, lentMs });
	}

	/** All of it is taken for used. */
	#writeOff(loan: Asked): void {
		this.#account(loan, loan.slots, loan.grants);
		this.#drop(loan);
		this.#say({ kind: "repaid", id: loan.id, slots: 0, by: "expiry" });
	}

	/** What was used of a loan is in use from now on. */
	#account(loan: Asked, used: number, grants: number): void {
		const slots = Math.max(0, Math.min(used, loan.slots) - loan.used);
		if (slots > 0) this.#lay(null, slots);
		loan.used = Math.max(loan.used, used);
		loan.slots = Math.max(loan.slots, loan.used);
		for (; loan.grants < grants; loan.grants += 1) {
			this.state.totals.grantedAtOnce += 1;
			this.#count("waits", 0);
		}
	}

	#ask(request: Request, wants: Asked["wants"]): void {
		const asked = this.find(request.id);
		if (asked) return this.#askAgain(asked, request, wants);
		const past = request.remember ? this.recall(request.id) : undefined;
		if (past?.kind === "receipt" && past.print === request.print) {
			return this.#sayReceipt(past);
		}
		if (past) return this.#deny(request.id, "id_in_use");
		const slots = this.#size(request.slots, request.atMost);
		const never = this.#never({ ...request, slots });
		if (never && this.enforces) return this.#deny(request.id, never);
		const isFree = !this.paused && this.line.length === 0 && this.fits(slots);
		const wouldDeny = this.state.settings.active && !this.enforces && (never !== null || !isFree);
		const atOnce = !this.enforces || isFree;
		if (!atOnce && request.ifBusy === "deny") return this.#deny(request.id, "denied");
		const waiting = this.state.asked.filter((other) => other.state === "waiting");
		if (!atOnce && waiting.length >= QUEUE_MAX) return this.#deny(request.id, "queue_full");
		const { waitMs, ifBusy, ...rest } = request;
		const fresh: Asked = {
			...rest,
			...{ slots, wished: request.slots, wouldDeny: false },
			...{ wants, arrivedAt: this.#now, state: "waiting", standing: "parked", enforced: true, grantedAt: this.#now },
			...{ waitedMs: 0, giveUpAt: this.#now + waitMs, expiresAt: NEVER, until: NEVER },
			...{ peers: [], claims: 0, fence: null, used: 0, grants: 0, share: 0, written: null },
		};
		this.state.asked.push(fresh);
		if (atOnce) this.#give(fresh, wouldDeny);
		else this.#wait(fresh, ifBusy === "park");
	}

	#askAgain(asked: Asked, request: Request, wants: Asked["wants"]): void {
		if (asked.print !== request.print || asked.wants !== wants) return this.#deny(request.id, "id_in_use");
		if (asked.state === "reserved") {
			asked.until = this.#now + RESERVATION_MS;
			return this.#say({
				kind: "reserved",
				id: asked.id,
				slots: asked.slots,
				enforced: asked.enforced,
				...would(asked),
			});
		}
		if (asked.state !== "waiting") return this.#grantAgain(asked);
		const never = this.#never(asked);
		if (never && this.enforces) {
			this.#drop(asked);
			return this.#deny(asked.id, never);
		}
		asked.giveUpAt = this.#now + request.waitMs;
		this.#stand(asked, "present");
		this.#serve();
		if (asked.state !== "waiting" || this.find(asked.id) !== asked) return;
		if (request.ifBusy !== "deny") return this.#wait(asked, request.ifBusy === "park");
		this.#drop(asked);
		this.#deny(asked.id, "denied");
	}

	#never({ slots, mode }: { slots: number; mode: Request["mode"] }): DenialCode | null {
		if (!this.state.settings.active) return null;
		if (slots > this.state.settings.limit && this.state.settings.limit > 0) return "exceeds_limit";
		if (mode === "concurrency" && this.hasWindow) return "no_lease";
		return mode === "rate_limit" && !this.decays ? "no_decay" : null;
	}

	#wait(asked: Asked, park: boolean): void {
		this.#stand(asked, park ? "parked" : "present");
		const ahead = this.line.filter((other) => this.state.asked.indexOf(other) < this.state.asked.indexOf(asked));
		const position = ahead.length + 1;
		if (park) this.#say({ kind: "parked", id: asked.id, position, retryAfterMs: 0 });
		else this.#say({ kind: "queued", id: asked.id, position });
	}

	#stand(asked: Asked, standing: Asked["standing"]): void {
		asked.standing = standing;
		const patience = { present: NEVER, resuming: RESUME_MS, away: AWAY_MS, parked: RESERVATION_MS }[standing];
		asked.until = Math.min(asked.giveUpAt, this.#now + patience);
	}

	/** As many as are asked for; or, of those that ask for so many at most, as there could ever be. */
	#size(wished: number, atMost: boolean | undefined): number {
		const { active, limit } = this.state.settings;
		return atMost && active && limit > 0 && wished > limit ? limit : wished;
	}

	#give(asked: Asked, wouldDeny: boolean): void {
		asked.enforced = this.state.settings.active && !wouldDeny;
		asked.wouldDeny = wouldDeny;
		if (wouldDeny) this.state.totals.wouldDeny += 1;
		asked.grantedAt = this.#now;
		if (asked.wants === "lease") return this.#grant(asked, "leased");
		asked.state = "reserved";
		asked.until = this.#now + RESERVATION_MS;
		this.#say({ kind: "reserved", id: asked.id, slots: asked.slots, enforced: asked.enforced, ...would(asked) });
	}

	#grant(asked: Asked, state: "leased" | "committed"): void {
		asked.state = state;
		if (!asked.wouldDeny) {
			this.#count("waits", asked.waitedMs);
			this.state.totals[asked.waitedMs > 0 ? "grantedAfterWait" : "grantedAtOnce"] += 1;
		}
		const isEstimate = asked.mode === "rate_limit" && asked.settleMs !== undefined;
		const isReceipt = asked.mode !== "concurrency" && (state === "leased" || !asked.enforced);
		if (asked.enforced && this.decays) {
			this.#lay(isReceipt && !isEstimate ? null : asked.id, asked.slots);
		}
		if (isReceipt && asked.enforced && asked.mode === "unleased" && !this.decays) this.state.unleased += asked.slots;
		asked.expiresAt = this.#now + asked.leaseMs;
		if (asked.mode === "concurrency") {
			this.state.fence = Math.max(this.state.fence + 1, 1_000 * this.#now);
			asked.fence = this.state.fence;
		}
		this.#sayGranted(asked, false);
		if (isReceipt && isEstimate) this.#leaveUnsettled(asked);
		else if (isReceipt) this.#receipt(asked);
		else this.#plan(asked);
	}

	#commit(id: string, peers: readonly string[]): void {
		const asked = this.find(id);
		const past = this.recall(id);
		if (!asked && past?.kind === "receipt") {
			return this.#sayReceipt(past);
		}
		if (!asked || asked.state === "waiting") return this.#say({ kind: "gone", id });
		if (asked.state !== "reserved") return this.#grantAgain(asked);
		asked.peers = peers;
		this.#grant(asked, "committed");
	}

	#leaveUnsettled(asked: Asked): void {
		asked.state = "unsettled";
		asked.expiresAt = asked.until = asked.grantedAt + (asked.settleMs ?? 0);
	}

	#settle(id: string, actual: number): void {
		const asked = this.find(id);
		const settled = asked ? undefined : this.recall(id)?.settled;
		if (settled !== undefined) {
			return this.#say({ kind: "settled", id, slots: settled, outcome: settled === actual ? "again" : "otherwise" });
		}
		const isOpen = asked?.state === "unsettled" || (asked?.state === "committed" && asked.mode === "rate_limit");
		if (!asked || asked.settleMs === undefined || !isOpen) return this.#say({ kind: "gone", id });
		const layer = this.state.layers.find(({ owner }) => owner === id);
		const back = BigInt(Math.max(0, asked.slots - actual)) * ONE;
		let taken = 0n;
		if (layer) {
			const left = layer.left > back ? layer.left - back : 0n;
			taken = layer.left - left;
			layer.left = left;
		}
		if (asked.enforced && this.decays && actual > asked.slots) {
			this.#lay(null, actual - asked.slots);
		}
		this.state.ratios.push(actual / asked.slots);
		this.#receipt(asked, actual);
		this.takings.set(id, taken);
		this.#say({ kind: "settled", id, slots: actual, outcome: "settled" });
	}

	#sayReceipt(past: Ended): void {
		const { id, slots, enforced } = past;
		const rest = { expiresAt: null, fence: null, waitedMs: 0, repeat: true, ...would(past) };
		this.#say({ kind: "granted", id, slots, enforced, ...rest });
	}

	#grantAgain(asked: Asked): void {
		asked.claims += 1;
		this.#sayGranted(asked, true);
	}

	#plan(asked: Asked): void {
		const doubtAt =
			asked.state === "committed" ? Math.ceil((this.#now + DOUBT_MS) / DOUBT_STEP_MS) * DOUBT_STEP_MS : NEVER;
		asked.until = Math.min(doubtAt, asked.mode === "concurrency" ? asked.expiresAt : NEVER);
	}

	#cancel(id: string, keepPlace: boolean): void {
		const asked = this.find(id);
		if (!asked || asked.state === "leased" || asked.state === "unsettled") return this.#say({ kind: "gone", id });
		if (keepPlace && asked.state !== "reserved") return this.#say({ kind: "gone", id });
		if (!keepPlace) {
			this.#drop(asked);
			return this.#say({ kind: "left", id, why: "cancelled" });
		}
		this.#backInLine(asked);
		this.#wait(asked, true);
	}

	#detach(asked: Asked | undefined): void {
		if (asked?.state === "waiting") this.#stand(asked, "away");
		else if (asked?.held && granted(asked)) this.#giveBack(asked, "caller");
	}

	#release(id: string, by: "caller" | "operator" | "unheard"): void {
		const asked = this.find(id);
		if (asked?.state === "unsettled") return this.#say({ kind: "released", id, slots: 0, by });
		if (by === "unheard" && asked && (asked.claims > 0 || !granted(asked))) {
			asked.claims = Math.max(0, asked.claims - 1);
			if (asked.state === "reserved") this.#backInLine(asked);
			this.#detach(asked);
			return this.#say({ kind: "released", id, slots: 0, by });
		}
		if (asked && granted(asked)) return this.#giveBack(asked, by);
		if (asked || (by === "caller" && !this.recall(id))) this.#callOff(id);
		this.#say({ kind: "released", id, slots: 0, by });
	}

	#backInLine(asked: Asked): void {
		asked.state = "waiting";
		asked.enforced = true;
		asked.wouldDeny = false;
		asked.slots = this.#size(asked.wished, asked.atMost);
	}

	/** Whatever this request is, it will never be granted. */
	#callOff(id: string): void {
		const asked = this.find(id);
		if (asked) this.#drop(asked);
		this.#remember(asked ?? { id, print: "", slots: 0, enforced: false }, "cancelled");
		if (asked) this.#say({ kind: "left", id, why: "cancelled" });
	}

	#giveBack(asked: Asked, by: "caller" | "operator" | "unheard" | "expiry" | "abort"): void {
		const holds = this.decays ? Number(this.owned(asked.id) / ONE) : asked.slots;
		this.#drop(asked);
		if (by !== "abort" && !asked.wouldDeny) {
			this.#count("holds", this.#now - asked.grantedAt);
			this.state.totals[by === "expiry" ? "expired" : "released"] += 1;
		}
		this.#remember(asked, by === "abort" ? "cancelled" : "lease");
		this.#say({ kind: "released", id: asked.id, slots: asked.enforced ? holds : 0, by });
	}

	/** Slots of a request of several names, whose peers have answered, that come back without a lease. */
	#settledReceipt(asked: Asked): void {
		if (asked.enforced && asked.mode === "unleased" && !this.decays) this.state.unleased += asked.slots;
		this.#receipt(asked);
	}

	#receipt(asked: Asked, settled?: number): void {
		for (const layer of this.state.layers) if (layer.owner === asked.id) layer.owner = null;
		this.#drop(asked);
		// Peers of a request of several names may ask for it, whoever made its id.
		if (asked.remember || asked.wants === "reservation" || settled !== undefined) {
			this.#remember(asked, "receipt", settled);
		}
	}

	#lay(owner: string | null, slots: number): void {
		this.state.layers.push({ owner, left: BigInt(slots) * ONE, at: this.#now });
	}

	/** Removes a request and the layers it owns. */
	#drop(asked: Asked): void {
		if (this.owned(asked.id) > 0n) this.takings.set(asked.id, this.owned(asked.id));
		this.state.asked = this.state.asked.filter((other) => other !== asked);
		this.state.layers = this.state.layers.filter((layer) => layer.owner !== asked.id);
	}

	#configure(change: Partial<Settings>, activeSlots: number | undefined): void {
		const did = this.decays;
		const settings = { ...this.state.settings, ...change };
		const isOther = kindOf(settings) !== kindOf(this.state.settings);
		if (isOther) for (const loan of this.#loans) this.#writeOff(loan);
		this.state.settings = settings;
		if (isOther) {
			// What is in use goes along in whole slots, rounded up; where nothing comes back by itself, what no lease holds is free.
			const whole = (units: bigint): number => Number((units + ONE - 1n) / ONE);
			const owned = this.state.asked.map((asked): [string, bigint] => [asked.id, this.#goesAlong(asked, did)]);
			const all = owned.reduce((sum, [, own]) => sum + own, 0n);
			const free = did ? this.level - all : BigInt(this.state.unleased) * ONE;
			this.state.period = periodOf(settings, this.#now - this.state.offsetMs);
			this.state.layers = [];
			if (this.decays) {
				this.#lay(null, whole(free));
				for (const [id, own] of owned) if (own > 0n) this.#lay(id, whole(own));
				this.state.unleased = 0;
			}
		}
		if (activeSlots !== undefined) {
			const others = Math.max(0, activeSlots - this.lent);
			if (this.decays) this.state.layers = [];
			if (this.decays) this.#lay(null, others);
			else this.state.unleased = Math.max(0, others - this.leased);
		}
		for (const asked of this.state.asked.filter((other) => other.state === "waiting")) {
			asked.slots = this.#size(asked.wished, asked.atMost);
			const never = this.#never(asked);
			if (!never || !this.enforces) continue;
			this.#drop(asked);
			this.#deny(asked.id, never);
		}
		this.#say({ kind: "configured" });
	}

	/** What a request keeps of what is in use when slots come back in another way. */
	#goesAlong(asked: Asked, did: boolean): bigint {
		if (did) return this.owned(asked.id);
		return holds(asked) ? BigInt(asked.slots) * ONE : 0n;
	}

	// ------------------------------------------------------------------------------------------ saying

	#say(event: Event): void {
		this.#events.push(event);
	}

	#remember(
		asked: Pick<Ended, "id" | "print" | "slots" | "enforced"> & { wouldDeny?: boolean },
		kind: Ended["kind"],
		settled?: number,
	): void {
		const { id, print, slots, enforced } = asked;
		const until = this.#now + (kind === "receipt" ? REMEMBER_RECEIPT_MS : REMEMBER_MS);
		const record: Ended = { id, kind, print, slots, enforced, ...would(asked), until };
		if (settled !== undefined) record.settled = settled;
		this.memory.push(record);
		this.#say({ kind: "ended", id: record.id, record });
	}

	#sayGranted(asked: Asked, repeat: boolean): void {
		const { id, slots, enforced, fence, waitedMs } = asked;
		const expiresAt = asked.mode === "concurrency" ? asked.expiresAt - this.state.offsetMs : null;
		this.#say({ kind: "granted", id, slots, enforced, expiresAt, fence, waitedMs, repeat, ...would(asked) });
	}

	#count(what: "waits" | "holds", ms: number): void {
		const histogram = this.state.totals[what];
		// The bucket is as far on as there are ends before it.
		const bucket = BUCKETS_MS.filter((end) => end < ms).length;
		histogram.counts = histogram.counts.with(bucket, (histogram.counts[bucket] ?? 0) + 1);
		histogram.sumMs += ms;
	}

	#deny(id: string, code: DenialCode): void {
		if (code === "denied" || code === "queue_full") this.state.totals.denied += 1;
		this.#say({ kind: "denied", id, code, position: this.line.length + 1, retryAfterMs: 0 });
	}
}

export const granted = ({ state }: Asked): boolean => state !== "waiting" && state !== "reserved" && state !== "lent";
/** Whether it is a lease that holds slots. */
const holds = (asked: Asked): boolean => asked.enforced && granted(asked) && asked.state !== "unsettled";
const would = ({ wouldDeny }: { wouldDeny?: boolean }): { wouldDeny?: true } => (wouldDeny ? { wouldDeny: true } : {});
export const inTurn = (asked: Pick<Asked, "standing">): boolean =>
	asked.standing === "present" || asked.standing === "resuming";

function periodOf(settings: Settings, wall: number): Period | null {
	const { window } = settings;
	if (!window || window.sliding) return null;
	const startsAt = wall - (wall % windowMs(settings));
	return { startsAt, endsAt: startsAt + windowMs(settings) };
}

const sumOf = (asked: Asked[]): number => asked.reduce((sum, { slots }) => sum + slots, 0);

const copy = (state: State): State => ({
	...state,
	asked: state.asked.map((asked) => ({ ...asked })),
	layers: state.layers.map((layer) => ({ ...layer })),
	ratios: [...state.ratios],
	totals: { ...state.totals, waits: { ...state.totals.waits }, holds: { ...state.totals.holds } },
});
