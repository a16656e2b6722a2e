/**
 * The one function that decides.
 *
 * `decide(limit, command, now)` lets time run to `now`, carries the command out, and serves the line while slots
 * fit. It changes `limit` in place and answers with everything that happened; the same state, command and moment
 * always give the same events. Refusals are events. An exception is a bug.
 */

import { type At, type Ms, SLOT } from "./level.ts";
import {
	type Ended,
	type Entry,
	decays,
	fits,
	fitsAt,
	inTurn,
	isGranted,
	isLease,
	type Limit,
	neverFits,
	positionOf,
	type Request,
	retryAfterMs,
	type Settings,
	type Standing,
	wallClock,
} from "./limit.ts";

/** How long slots stay set aside for a request that collects its other names, since it was last heard of. */
export const RESERVATION_MS: Ms = 5_000;
/** How long after its commit a lease of several names asks its peers whether they committed too. */
export const DOUBT_MS: Ms = 3_000;
/** Doubts fall due on multiples of this, so that a busy limit asks each peer once for many of them. */
export const DOUBT_STEP_MS: Ms = 500;
/** How long a waiter whose connection broke keeps its place. With the time to notice it, under two seconds. */
export const AWAY_MS: Ms = 1_000;
/** How long the line waits, after a restart, for waiters to come back. */
export const RESUME_MS: Ms = 5_000;
/** How long an id is remembered after its lease ended. */
export const REMEMBER_MS: Ms = 300_000;
/** How long the id of a rate-limit grant is remembered. */
export const REMEMBER_RECEIPT_MS: Ms = 60_000;
/** Waiters in line, parked ones included; see BOUNDS.queueLength. */
export const QUEUE_MAX = 10_000;
/** Weight of the newest observation in the mean time that slots are held. */
const MEAN_WEIGHT = 0.1;

export type Command =
	/** Takes slots for good, or waits for them. */
	| { kind: "acquire"; request: Request }
	/** Sets slots aside for a request of several names, or waits for them. */
	| { kind: "reserve"; request: Request }
	/** Makes a reservation a lease, together with its peers. */
	| { kind: "commit"; id: string; peers: readonly string[] }
	/**
	 * Drops a place in line, a reservation, or a commit whose peers failed, without a trace; with `keepPlace`, a
	 * reservation becomes a parked place again.
	 */
	| { kind: "cancel"; id: string; keepPlace: boolean }
	/** Keeps a reservation or a parked place from lapsing. */
	| { kind: "touch"; id: string }
	| { kind: "renew"; id: string; leaseMs: Ms | null }
	/**
	 * `unheard`: the caller went before it was answered. A waiter may come back for a moment; a lease ends, unless it
	 * was asked for again meanwhile.
	 */
	| { kind: "release"; id: string; by: "caller" | "operator" | "unheard" }
	/** The connection of a waiter, or of the holder of a held lease, is gone. */
	| { kind: "detach"; id: string }
	/** A peer asks whether this request committed here. Whoever answers no will never commit it. */
	| { kind: "vouch"; id: string }
	/** The answer of all peers to a doubt. */
	| { kind: "settle"; id: string; committed: boolean }
	| { kind: "configure"; settings?: Partial<Settings>; activeSlots?: number }
	/** The limit is being deleted: everything ends. */
	| { kind: "close" }
	/** Only lets time run; `inspect` reads what is then true. */
	| { kind: "inspect" }
	| { kind: "tick" };

/** How slots came back; `lapse`: a reservation that was never committed. */
export type ReleasedBy = "caller" | "operator" | "unheard" | "expiry" | "abort" | "lapse";

export type DenialCode =
	| "denied"
	| "exceeds_limit"
	| "no_decay"
	| "id_in_use"
	| "queue_full"
	| "unknown_limit";

/** Moments in events are of the caller's clock. */
export type Event =
	/** Slots were given. `repeat`: they had been before, and this is the same lease. `expiresAt` is null for a receipt. */
	| {
			kind: "granted";
			id: string;
			slots: number;
			enforced: boolean;
			expiresAt: At | null;
			waitedMs: Ms;
			repeat: boolean;
	  }
	| { kind: "reserved"; id: string; slots: number; enforced: boolean }
	| { kind: "queued"; id: string; position: number }
	| { kind: "parked"; id: string; retryAfterMs: Ms; position: number }
	| { kind: "denied"; id: string; code: DenialCode; retryAfterMs: Ms; position: number }
	/** A waiter left the line: it cancelled, or its connection was gone for too long. */
	| { kind: "left"; id: string; why: "cancelled" | "gone" }
	| { kind: "renewed"; id: string; expiresAt: At }
	| { kind: "gone"; id: string }
	| { kind: "released"; id: string; slots: number; by: ReleasedBy }
	| { kind: "doubted"; id: string; peers: readonly string[] }
	| { kind: "vouched"; id: string; committed: boolean }
	/** An entry changed in a way that its row must follow. */
	| { kind: "moved"; id: string }
	/** The id is to be remembered. */
	| { kind: "ended"; id: string; record: Ended }
	| { kind: "configured" };

export interface Decision {
	events: Event[];
	/** When to decide again though nobody asks, on the caller's clock; null: not before somebody does. */
	wakeAt: At | null;
}

export function decide(limit: Limit, command: Command, now: At): Decision {
	const turn = new Turn(limit, tellTime(limit, now));
	turn.runTime();
	turn.carryOut(command);
	turn.serve();
	return { events: turn.events, wakeAt: wakeAt(limit) };
}

/** Logical time: never back, and running on from where it was when the clock of `now` jumped back. */
function tellTime(limit: Limit, now: At): At {
	const { clock } = limit;
	if (now + clock.offsetMs < clock.lastAt) clock.offsetMs = clock.lastAt - now;
	clock.lastAt = now + clock.offsetMs;
	return clock.lastAt;
}

function wakeAt(limit: Limit): At | null {
	let at = limit.deadlines.first?.until ?? Number.POSITIVE_INFINITY;
	if (decays(limit)) {
		const head = nextInTurn(limit);
		const couldFit = head && head.slots <= limit.settings.limit - limit.sums.reserved;
		if (couldFit && head.standing === "present") at = Math.min(at, fitsAt(limit, head.slots));
	}
	return at === Number.POSITIVE_INFINITY ? null : wallClock(limit, at);
}

function nextInTurn(limit: Limit): Entry | undefined {
	for (const entry of limit.queue.values()) if (inTurn(entry)) return entry;
	return undefined;
}

/** One call of `decide`. */
class Turn {
	readonly events: Event[] = [];
	readonly #limit: Limit;
	#now: At;

	constructor(limit: Limit, now: At) {
		this.#limit = limit;
		this.#now = now;
	}

	/**
	 * Lets time run to now: what fell due takes effect at its own moment and in order, but slots are granted now and
	 * never in the past. Whoever gave up meanwhile is served first if there is room by now.
	 */
	runTime(): void {
		const limit = this.#limit;
		const now = this.#now;
		const givingUp: Entry[] = [];
		for (;;) {
			const entry = limit.deadlines.first;
			if (!entry || entry.until > now) break;
			this.#now = Math.max(entry.until, limit.level.at);
			limit.level.drain(this.#now);
			if (entry.state === "waiting" && entry.standing === "present") {
				limit.deadlines.remove(entry);
				givingUp.push(entry);
			} else {
				this.#fallDue(entry);
			}
		}
		this.#now = now;
		limit.level.drain(now);
		this.serve();
		const late = givingUp.filter((entry) => entry.state === "waiting");
		if (late.length === 0) return;
		for (const entry of late) this.#fallDue(entry);
		this.serve();
	}

	carryOut(command: Command): void {
		switch (command.kind) {
			case "acquire":
				return this.#ask(command.request, "lease");
			case "reserve":
				return this.#ask(command.request, "reservation");
			case "commit":
				return this.#commit(command.id, command.peers);
			case "cancel":
				return this.#cancel(command.id, command.keepPlace);
			case "touch":
				return this.#touch(command.id);
			case "renew":
				return this.#renew(command.id, command.leaseMs);
			case "release":
				return this.#release(command.id, command.by);
			case "detach":
				return this.#detach(command.id);
			case "vouch":
				return this.#vouch(command.id);
			case "settle":
				return this.#settle(command.id, command.committed);
			case "configure":
				return this.#configure(command.settings ?? {}, command.activeSlots);
			case "close":
				return this.#close();
			case "inspect":
			case "tick":
				return;
			default:
				command satisfies never;
		}
	}

	/** Grants from the head of the line while slots fit. A request that does not fit yet is not overtaken. */
	serve(): void {
		const limit = this.#limit;
		for (const entry of limit.queue.values()) {
			if (!inTurn(entry)) continue;
			if (entry.standing === "resuming" && limit.settings.active) return;
			if (limit.settings.active && !fits(limit, entry.slots)) return;
			this.#leaveLine(entry);
			entry.waitedMs = this.#now - entry.since;
			this.#give(entry);
		}
	}

	// ------------------------------------------------------------------------------------------- asking

	#ask(request: Request, wants: Entry["wants"]): void {
		const limit = this.#limit;
		const known = limit.entries.get(request.id);
		if (known) return this.#askAgain(known, request, wants);
		const past = request.remember ? this.#recall(request.id) : undefined;
		if (past) {
			const repeat = past.kind === "receipt" && past.print === request.print;
			if (!repeat) return this.#deny(request.id, "id_in_use", request.slots);
			this.#say({ kind: "granted", id: request.id, slots: past.slots, enforced: past.enforced, expiresAt: null, waitedMs: 0, repeat });
			return;
		}
		const never = neverFits(limit, request.slots, request.mode);
		if (never) return this.#deny(request.id, never, request.slots);

		const free = !limit.settings.active || (limit.sums.standing === 0 && fits(limit, request.slots));
		if (!free && request.ifBusy === "deny") return this.#deny(request.id, "denied", request.slots);
		if (!free && limit.queue.size >= QUEUE_MAX) return this.#deny(request.id, "queue_full", request.slots);
		const entry = this.#enter(request, wants);
		if (free) this.#give(entry);
		else this.#wait(entry, request.ifBusy === "park");
	}

	/** The same id again: the same place in line, or the same lease. */
	#askAgain(entry: Entry, request: Request, wants: Entry["wants"]): void {
		if (entry.print !== request.print || entry.wants !== wants) {
			return this.#deny(request.id, "id_in_use", request.slots);
		}
		if (entry.state === "reserved") {
			this.#limit.deadlines.set(entry, this.#now + RESERVATION_MS);
			return this.#say({ kind: "reserved", id: entry.id, slots: entry.slots, enforced: entry.enforced });
		}
		if (entry.state !== "waiting") return this.#grantAgain(entry);

		const never = neverFits(this.#limit, request.slots, request.mode);
		if (never) {
			this.#forget(entry);
			return this.#deny(entry.id, never, entry.slots);
		}
		entry.giveUpAt = this.#now + request.waitMs;
		this.#stand(entry, "present");
		this.serve();
		if (entry.state !== "waiting") return;
		if (request.ifBusy !== "deny") return this.#wait(entry, request.ifBusy === "park");
		this.#forget(entry);
		this.#deny(entry.id, "denied", entry.slots);
	}

	#enter(request: Request, wants: Entry["wants"]): Entry {
		const limit = this.#limit;
		const { id, slots, mode, holder, held, print, remember, leaseMs } = request;
		const entry: Entry = {
			...{ id, slots, mode, holder, held, print, remember, leaseMs, wants },
			seq: limit.nextSeq++,
			state: "waiting",
			standing: "parked",
			enforced: true,
			since: this.#now,
			waitedMs: 0,
			giveUpAt: this.#now + request.waitMs,
			expiresAt: Number.POSITIVE_INFINITY,
			peers: [],
			claimed: false,
			until: Number.POSITIVE_INFINITY,
			heapIndex: -1,
		};
		limit.entries.set(id, entry);
		return entry;
	}

	#wait(entry: Entry, park: boolean): void {
		const { queue, sums } = this.#limit;
		const last = !queue.has(entry.id);
		queue.set(entry.id, entry);
		this.#stand(entry, park ? "parked" : "present");
		const position = last ? sums.standing + (park ? 1 : 0) : positionOf(this.#limit, entry.id);
		if (!park) return this.#say({ kind: "queued", id: entry.id, position });
		this.#say({ kind: "parked", id: entry.id, position, retryAfterMs: retryAfterMs(this.#limit, entry.slots, RESERVATION_MS) });
	}

	/** Changes how a waiter stands, and with it when it is given up. */
	#stand(entry: Entry, standing: Standing): void {
		const { sums, deadlines } = this.#limit;
		const before = inTurn(entry) ? 1 : 0;
		entry.standing = standing;
		const change = (inTurn(entry) ? 1 : 0) - before;
		sums.standing += change;
		sums.standingSlots += change * entry.slots;
		const patience = { present: Number.POSITIVE_INFINITY, resuming: RESUME_MS, away: AWAY_MS, parked: RESERVATION_MS };
		deadlines.set(entry, Math.min(entry.giveUpAt, this.#now + patience[standing]));
	}

	// ------------------------------------------------------------------------------------------ granting

	/** Gives an entry its slots: set aside, or for good. */
	#give(entry: Entry): void {
		const { settings, sums, deadlines } = this.#limit;
		entry.enforced = settings.active;
		entry.since = this.#now;
		if (entry.wants === "lease") return this.#grant(entry, "leased");
		entry.state = "reserved";
		if (entry.enforced) sums.reserved += entry.slots;
		deadlines.set(entry, this.#now + RESERVATION_MS);
		this.#say({ kind: "reserved", id: entry.id, slots: entry.slots, enforced: entry.enforced });
	}

	#grant(entry: Entry, state: "leased" | "committed"): void {
		const { totals, level, sums } = this.#limit;
		if (entry.waitedMs > 0) totals.grantedAfterWait += 1;
		else totals.grantedAtOnce += 1;
		if (entry.mode === "rate_limit" && (state === "leased" || !entry.enforced)) {
			if (entry.enforced) level.pour(entry.slots);
			this.#sayGranted(entry, false);
			this.#end(entry, "receipt");
			entry.state = state; // The record is dead; whoever still looks at it must not see a waiter.
			return;
		}
		entry.state = state;
		entry.expiresAt = this.#now + entry.leaseMs;
		if (entry.enforced) {
			sums.leased += entry.slots;
			sums.leases += 1;
			if (decays(this.#limit)) level.lay(entry.id, entry.slots);
		}
		this.#dueNext(entry);
		this.#sayGranted(entry, false);
	}

	#commit(id: string, peers: readonly string[]): void {
		const entry = this.#limit.entries.get(id);
		const past = entry ? undefined : this.#recall(id);
		if (past?.kind === "receipt") {
			const { slots, enforced } = past;
			return this.#say({ kind: "granted", id, slots, enforced, expiresAt: null, waitedMs: 0, repeat: true });
		}
		if (!entry || entry.state === "waiting") return this.#say({ kind: "gone", id });
		if (entry.state !== "reserved") return this.#grantAgain(entry);
		if (entry.enforced) this.#limit.sums.reserved -= entry.slots;
		entry.peers = peers;
		this.#grant(entry, "committed");
	}

	/** The same lease again, for a caller that did not hear of the grant or asked twice. */
	#grantAgain(entry: Entry): void {
		entry.claimed = true;
		this.#sayGranted(entry, true);
	}

	/** When a granted entry must be looked at again: to be confirmed by its peers, or at its end. */
	#dueNext(entry: Entry): void {
		const doubtAt = Math.ceil((this.#now + DOUBT_MS) / DOUBT_STEP_MS) * DOUBT_STEP_MS;
		const next = entry.state === "committed" ? doubtAt : Number.POSITIVE_INFINITY;
		// A receipt has no end of its own: it stands until its peers have answered.
		const end = entry.mode === "rate_limit" ? Number.POSITIVE_INFINITY : entry.expiresAt;
		this.#limit.deadlines.set(entry, Math.min(next, end));
	}

	#renew(id: string, leaseMs: Ms | null): void {
		const entry = this.#limit.entries.get(id);
		if (!entry || entry.mode === "rate_limit" || !isGranted(entry)) {
			return this.#say({ kind: "gone", id });
		}
		entry.expiresAt = this.#now + (leaseMs ?? entry.leaseMs);
		entry.state = "leased"; // Its holder was answered, so every peer had committed.
		this.#dueNext(entry);
		this.#say({ kind: "renewed", id, expiresAt: wallClock(this.#limit, entry.expiresAt) });
	}

	#touch(id: string): void {
		const entry = this.#limit.entries.get(id);
		if (entry?.state === "reserved") this.#limit.deadlines.set(entry, this.#now + RESERVATION_MS);
		else if (entry?.state === "waiting" && entry.standing === "parked") this.#stand(entry, "parked");
		else this.#say({ kind: "gone", id });
	}

	// ----------------------------------------------------------------------------------------- giving back

	#release(id: string, by: "caller" | "operator" | "unheard"): void {
		const entry = this.#limit.entries.get(id);
		if (by === "unheard" && (entry?.claimed || entry?.state === "waiting")) {
			this.#detach(id);
			return this.#say({ kind: "released", id, slots: 0, by });
		}
		if (entry && isGranted(entry)) return this.#giveBack(entry, by);
		if (entry) {
			this.#end(entry, "cancelled");
			this.#say({ kind: "left", id, why: "cancelled" });
		} else if (by === "caller" && !this.#recall(id)) {
			// The request may still be on its way: it must not be granted to a caller that has gone.
			this.#remember({ id, kind: "cancelled", print: "", slots: 0, enforced: false, until: this.#now + REMEMBER_MS });
		}
		this.#say({ kind: "released", id, slots: 0, by });
	}

	/** Ends a lease and gives back what it still holds. */
	#giveBack(entry: Entry, by: Exclude<ReleasedBy, "lapse">): void {
		const limit = this.#limit;
		const heldMs = this.#now - entry.since;
		const slots = this.#freed(entry);
		if (entry.enforced && by !== "abort") {
			limit.meanHeldMs = limit.meanHeldMs === null ? heldMs : limit.meanHeldMs + MEAN_WEIGHT * (heldMs - limit.meanHeldMs);
		}
		if (by === "expiry") limit.totals.expired += 1;
		else if (by !== "abort") limit.totals.released += 1;
		this.#end(entry, by === "abort" ? "cancelled" : "lease");
		this.#say({ kind: "released", id: entry.id, slots, by });
	}

	/** Slots that a lease still holds, in whole slots, rounded down; with decay, what has not come back by itself. */
	#freed(entry: Entry): number {
		if (!entry.enforced) return 0;
		return decays(this.#limit) ? Number(this.#limit.level.owned(entry.id) / SLOT) : entry.slots;
	}

	#cancel(id: string, keepPlace: boolean): void {
		const entry = this.#limit.entries.get(id);
		if (!entry || entry.state === "leased") return this.#say({ kind: "gone", id });
		if (!keepPlace || entry.state === "committed") {
			this.#forget(entry);
			return this.#say({ kind: "left", id, why: "cancelled" });
		}
		if (entry.state === "reserved") this.#unreserve(entry);
		this.#wait(entry, true);
	}

	/** Back from reserved to waiting, at the place of its arrival. */
	#unreserve(entry: Entry): void {
		const { sums, queue } = this.#limit;
		if (entry.enforced) sums.reserved -= entry.slots;
		entry.state = "waiting";
		entry.enforced = true;
		entry.since -= entry.waitedMs;
		entry.waitedMs = 0;
		entry.standing = "parked";
		const behind = [...queue.values()].filter((other) => other.seq > entry.seq);
		queue.set(entry.id, entry);
		for (const other of behind) {
			queue.delete(other.id);
			queue.set(other.id, other);
		}
	}

	#detach(id: string): void {
		const entry = this.#limit.entries.get(id);
		if (!entry) return;
		if (entry.state === "waiting" && inTurn(entry)) this.#stand(entry, "away");
		else if (entry.held && isGranted(entry)) this.#giveBack(entry, "caller");
	}

	// ------------------------------------------------------------------------------------- several names

	#vouch(id: string): void {
		const entry = this.#limit.entries.get(id);
		const past = this.#recall(id);
		const committed = entry ? isGranted(entry) : past !== undefined && past.kind !== "cancelled";
		if (!committed) {
			if (entry) {
				this.#end(entry, "cancelled");
				this.#say({ kind: "left", id, why: "cancelled" });
			} else if (!past) this.#remember({ id, kind: "cancelled", print: "", slots: 0, enforced: false, until: this.#now + REMEMBER_MS });
		}
		this.#say({ kind: "vouched", id, committed });
	}

	#settle(id: string, committed: boolean): void {
		const entry = this.#limit.entries.get(id);
		if (entry?.state !== "committed") return;
		if (!committed) return this.#giveBack(entry, "abort");
		if (entry.mode === "rate_limit") return this.#end(entry, "receipt");
		entry.state = "leased";
		entry.peers = [];
		this.#dueNext(entry);
		this.#say({ kind: "moved", id });
	}

	// ------------------------------------------------------------------------------------------- settings

	#configure(change: Partial<Settings>, slots: number | undefined): void {
		const limit = this.#limit;
		const didDecay = decays(limit);
		limit.settings = { ...limit.settings, ...change };
		if (didDecay !== decays(limit)) this.#changeKind();
		else if (change.slotDecayPerSecond !== undefined) limit.level.setRate(change.slotDecayPerSecond);
		if (slots !== undefined) {
			if (decays(limit)) limit.level.reset(slots);
			else limit.unleased = Math.max(0, slots - limit.sums.leased);
		}
		for (const entry of [...limit.queue.values()]) {
			const never = neverFits(limit, entry.slots, entry.mode);
			if (!never) continue;
			this.#forget(entry);
			this.#deny(entry.id, never, entry.slots);
		}
		this.#say({ kind: "configured" });
	}

	/**
	 * From leases alone to a level, or back. What leases hold goes along in full. What nobody owns of a level would
	 * never come back without decay, so it comes back now.
	 */
	#changeKind(): void {
		const { level, settings, unleased, entries } = this.#limit;
		level.reset(decays(this.#limit) ? unleased : 0);
		level.setRate(settings.slotDecayPerSecond);
		this.#limit.unleased = 0;
		for (const entry of entries.values()) {
			if (!isLease(entry)) continue;
			if (decays(this.#limit)) level.lay(entry.id, entry.slots);
			this.#say({ kind: "moved", id: entry.id });
		}
	}

	#close(): void {
		for (const entry of [...this.#limit.entries.values()]) {
			if (entry.state === "waiting") this.#deny(entry.id, "unknown_limit", entry.slots);
			this.#forget(entry);
		}
	}

	// ------------------------------------------------------------------------------------------ endings

	#fallDue(entry: Entry): void {
		if (entry.state === "waiting") {
			const gaveUp = this.#now >= entry.giveUpAt;
			this.#forget(entry);
			if (gaveUp) this.#deny(entry.id, "denied", entry.slots);
			else this.#say({ kind: "left", id: entry.id, why: "gone" });
		} else if (entry.state === "reserved") {
			this.#forget(entry);
			this.#say({ kind: "released", id: entry.id, slots: entry.enforced ? entry.slots : 0, by: "lapse" });
		} else if (entry.state === "committed" && (entry.mode === "rate_limit" || this.#now < entry.expiresAt)) {
			this.#dueNext(entry);
			this.#say({ kind: "doubted", id: entry.id, peers: entry.peers });
		} else {
			this.#giveBack(entry, "expiry");
		}
	}

	/** Removes an entry and remembers its id. */
	#end(entry: Entry, kind: Ended["kind"]): void {
		if (kind === "receipt" && this.#limit.level.owned(entry.id) > 0n) this.#sayMoved(this.#limit.level.disown(entry.id));
		this.#forget(entry);
		const { id, print, slots, enforced } = entry;
		// One of several names is remembered even so: its peers may ask whether it committed.
		if (kind === "receipt" && !entry.remember && entry.wants === "lease") return;
		const until = this.#now + (kind === "receipt" ? REMEMBER_RECEIPT_MS : REMEMBER_MS);
		this.#remember({ id, kind, print, slots, enforced, until });
	}

	/** Removes an entry, with whatever it holds, without remembering it. */
	#forget(entry: Entry): void {
		const { sums, level, entries, deadlines } = this.#limit;
		if (entry.state === "waiting") this.#leaveLine(entry);
		else if (entry.enforced && entry.state === "reserved") sums.reserved -= entry.slots;
		else if (entry.enforced) {
			sums.leased -= entry.slots;
			sums.leases -= 1;
			this.#sayMoved(level.take(entry.id));
		}
		entries.delete(entry.id);
		deadlines.remove(entry);
	}

	#leaveLine(entry: Entry): void {
		this.#stand(entry, "parked");
		this.#limit.queue.delete(entry.id);
	}

	// ------------------------------------------------------------------------------------------- saying

	#say(event: Event): void {
		this.events.push(event);
	}

	#sayMoved(id: string | null): void {
		if (id !== null) this.#say({ kind: "moved", id });
	}

	#recall(id: string): Ended | undefined {
		const past = this.#endedNow(id) ?? this.#limit.recall(id);
		return past && past.until > this.#now ? past : undefined;
	}

	/** What this very decision has to say of an id; its storage follows later. */
	#endedNow(id: string): Ended | undefined {
		const event = this.events.findLast((each) => each.kind === "ended" && each.id === id);
		return event?.kind === "ended" ? event.record : undefined;
	}

	#remember(record: Ended): void {
		this.#say({ kind: "ended", id: record.id, record });
	}

	#sayGranted(entry: Entry, repeat: boolean): void {
		const { id, slots, enforced, waitedMs } = entry;
		const expiresAt = entry.mode === "rate_limit" ? null : wallClock(this.#limit, entry.expiresAt);
		this.#say({ kind: "granted", id, slots, enforced, expiresAt, waitedMs, repeat });
	}

	#deny(id: string, code: DenialCode, slots: number): void {
		const limit = this.#limit;
		const busy = code === "denied" || code === "queue_full";
		if (busy) limit.totals.denied += 1;
		const position = limit.sums.standing + 1;
		this.#say({ kind: "denied", id, code, position, retryAfterMs: busy ? retryAfterMs(limit, slots, RESERVATION_MS) : 0 });
	}
}
