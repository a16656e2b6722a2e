/**
 * What can happen to an entry: it enters, waits, is given slots, and ends. Each move keeps the line, the deadlines,
 * the level and the sums in step, and says what happened.
 */

import {
	AWAY_MS,
	type DenialCode,
	DOUBT_MS,
	DOUBT_STEP_MS,
	type Event,
	REMEMBER_MS,
	REMEMBER_RECEIPT_MS,
	RESERVATION_MS,
	RESUME_MS,
	type ReleasedBy,
} from "./commands.ts";
import { type At, SLOT } from "./level.ts";
import {
	decays,
	type Ended,
	type Entry,
	fits,
	inTurn,
	isLease,
	type Limit,
	positionOf,
	type Request,
	retryAfterMs,
	type Standing,
	wallClock,
} from "./limit.ts";
import { countDenied, learnHeld } from "./polling.ts";
import { observe } from "./totals.ts";

/** Weight of the newest observation in the mean time that slots are held. */
const MEAN_WEIGHT = 0.1;

export class Moves {
	readonly events: Event[] = [];
	protected readonly limit: Limit;
	/** The moment at which things happen. */
	protected now: At;

	constructor(limit: Limit, now: At) {
		this.limit = limit;
		this.now = now;
	}

	protected enter(request: Request, wants: Entry["wants"]): Entry {
		const limit = this.limit;
		const { id, slots, mode, holder, held, print, remember, leaseMs, others } = request;
		const entry: Entry = {
			...{ id, slots, mode, holder, held, print, remember, leaseMs, wants, others },
			seq: limit.nextSeq++,
			state: "waiting",
			standing: "parked",
			enforced: true,
			since: this.now,
			waitedMs: 0,
			giveUpAt: this.now + request.waitMs,
			expiresAt: Number.POSITIVE_INFINITY,
			peers: [],
			claims: 0,
			until: Number.POSITIVE_INFINITY,
			heapIndex: -1,
		};
		limit.entries.set(id, entry);
		return entry;
	}

	protected wait(entry: Entry, park: boolean): void {
		const { queue, sums } = this.limit;
		const last = !queue.has(entry.id);
		queue.set(entry.id, entry);
		this.stand(entry, park ? "parked" : "present");
		const position = last ? sums.standing + (park ? 1 : 0) : positionOf(this.limit, entry.id);
		if (!park) return this.say({ kind: "queued", id: entry.id, position });
		this.say({
			kind: "parked",
			id: entry.id,
			position,
			retryAfterMs: retryAfterMs(this.limit, entry.slots, RESERVATION_MS),
		});
	}

	/** Changes how a waiter stands, and with it when it is given up. */
	protected stand(entry: Entry, standing: Standing): void {
		const { sums, deadlines } = this.limit;
		const before = inTurn(entry) ? 1 : 0;
		entry.standing = standing;
		const change = (inTurn(entry) ? 1 : 0) - before;
		sums.standing += change;
		sums.standingSlots += change * entry.slots;
		const patience = { present: Number.POSITIVE_INFINITY, resuming: RESUME_MS, away: AWAY_MS, parked: RESERVATION_MS };
		deadlines.set(entry, Math.min(entry.giveUpAt, this.now + patience[standing]));
	}

	protected leaveLine(entry: Entry): void {
		this.stand(entry, "parked");
		this.limit.queue.delete(entry.id);
	}

	/** Grants from the head of the line while slots fit. A request that does not fit yet is not overtaken. */
	protected serve(): void {
		const limit = this.limit;
		for (const entry of limit.queue.values()) {
			if (!inTurn(entry)) continue;
			if (entry.standing === "resuming" && limit.settings.active) return;
			if (limit.settings.active && !fits(limit, entry.slots)) return;
			this.leaveLine(entry);
			entry.waitedMs = this.now - entry.since;
			this.give(entry);
		}
	}

	/** Gives an entry its slots: set aside, or for good. */
	protected give(entry: Entry): void {
		const { settings, sums, deadlines } = this.limit;
		entry.enforced = settings.active;
		entry.since = this.now;
		if (entry.wants === "lease") return this.grant(entry, "leased");
		entry.state = "reserved";
		if (entry.enforced) sums.reserved += entry.slots;
		deadlines.set(entry, this.now + RESERVATION_MS);
		this.say({ kind: "reserved", id: entry.id, slots: entry.slots, enforced: entry.enforced });
	}

	protected grant(entry: Entry, state: "leased" | "committed"): void {
		const { totals, level, sums } = this.limit;
		observe(totals.waits, entry.waitedMs);
		if (entry.waitedMs > 0) totals.grantedAfterWait += 1;
		else totals.grantedAtOnce += 1;
		if (entry.enforced) countDenied(this.limit, -entry.slots);
		if (entry.mode !== "concurrency" && (state === "leased" || !entry.enforced)) {
			if (entry.enforced) this.#takeUnowned(entry);
			this.sayGranted(entry, false);
			this.end(entry, "receipt");
			entry.state = state; // The record is dead; whoever still looks at it must not see a waiter.
			return;
		}
		entry.state = state;
		entry.expiresAt = this.now + entry.leaseMs;
		if (entry.enforced) {
			sums.leased += entry.slots;
			sums.leases += 1;
			if (entry.mode !== "rate_limit") sums.held += 1;
			if (decays(this.limit)) level.lay(entry.id, entry.slots);
		}
		this.dueNext(entry);
		this.sayGranted(entry, false);
	}

	/** Takes slots that no lease owns: they come back by decay, or by a `takeBack`. */
	#takeUnowned({ mode, slots }: Entry): void {
		if (mode === "rate_limit" || decays(this.limit)) this.limit.level.pour(slots);
		else this.limit.unleased += slots;
	}

	/** The same lease again, for a caller that did not hear of the grant or asked twice. */
	protected grantAgain(entry: Entry): void {
		entry.claims += 1;
		this.sayGranted(entry, true);
	}

	/** When a granted entry must be looked at again: to be confirmed by its peers, or at its end. */
	protected dueNext(entry: Entry): void {
		const doubtAt = Math.ceil((this.now + DOUBT_MS) / DOUBT_STEP_MS) * DOUBT_STEP_MS;
		const next = entry.state === "committed" ? doubtAt : Number.POSITIVE_INFINITY;
		// A receipt has no end of its own: it stands until its peers have answered.
		const end = entry.mode === "concurrency" ? entry.expiresAt : Number.POSITIVE_INFINITY;
		this.limit.deadlines.set(entry, Math.min(next, end));
	}

	/** Ends a lease and gives back what it still holds. */
	protected giveBack(entry: Entry, by: Exclude<ReleasedBy, "lapse">): void {
		const limit = this.limit;
		const heldMs = this.now - entry.since;
		const slots = this.freed(entry);
		if (entry.enforced && by !== "abort") {
			limit.meanHeldMs =
				limit.meanHeldMs === null ? heldMs : limit.meanHeldMs + MEAN_WEIGHT * (heldMs - limit.meanHeldMs);
		}
		if (by !== "abort") observe(limit.totals.holds, heldMs);
		if (entry.enforced && by === "caller") learnHeld(limit, entry.slots, heldMs);
		if (by === "expiry") limit.totals.expired += 1;
		else if (by !== "abort") limit.totals.released += 1;
		this.end(entry, by === "abort" ? "cancelled" : "lease");
		this.say({ kind: "released", id: entry.id, slots, by });
	}

	/** Slots that a lease still holds, in whole slots, rounded down; with decay, what has not come back by itself. */
	protected freed(entry: Entry): number {
		if (!entry.enforced) return 0;
		return decays(this.limit) ? Number(this.limit.level.owned(entry.id) / SLOT) : entry.slots;
	}

	/** Back from reserved to waiting, at the place of its arrival. */
	protected unreserve(entry: Entry): void {
		const { sums, queue } = this.limit;
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

	protected fallDue(entry: Entry): void {
		if (entry.state === "waiting") {
			const gaveUp = this.now >= entry.giveUpAt;
			this.forget(entry);
			if (gaveUp) this.limit.totals.timedOut += 1;
			if (gaveUp) this.deny(entry.id, "denied", entry.slots);
			else this.say({ kind: "left", id: entry.id, why: "gone" });
		} else if (entry.state === "reserved") {
			this.forget(entry);
			this.say({ kind: "released", id: entry.id, slots: entry.enforced ? entry.slots : 0, by: "lapse" });
		} else if (entry.state === "committed" && (entry.mode !== "concurrency" || this.now < entry.expiresAt)) {
			this.dueNext(entry);
			this.say({ kind: "doubted", id: entry.id, peers: entry.peers });
		} else {
			this.giveBack(entry, "expiry");
		}
	}

	/** Removes an entry and remembers its id. */
	protected end(entry: Entry, kind: Ended["kind"]): void {
		if (kind === "receipt" && this.limit.level.owned(entry.id) > 0n) this.sayMoved(this.limit.level.disown(entry.id));
		const stays = kind === "receipt" && entry.mode === "unleased" && isLease(entry) && !decays(this.limit);
		this.forget(entry);
		if (stays) this.limit.unleased += entry.slots;
		const { id, print, slots, enforced } = entry;
		// One of several names is remembered even so: its peers may ask whether it committed.
		if (kind === "receipt" && !entry.remember && entry.wants === "lease") return;
		const until = this.now + (kind === "receipt" ? REMEMBER_RECEIPT_MS : REMEMBER_MS);
		this.remember({ id, kind, print, slots, enforced, until });
	}

	/** Removes an entry, with whatever it holds, without remembering it. */
	protected forget(entry: Entry): void {
		const { sums, level, entries, deadlines } = this.limit;
		if (entry.state === "waiting") this.leaveLine(entry);
		else if (entry.enforced && entry.state === "reserved") sums.reserved -= entry.slots;
		else if (entry.enforced) {
			sums.leased -= entry.slots;
			sums.leases -= 1;
			if (entry.mode !== "rate_limit") sums.held -= 1;
			this.sayMoved(level.take(entry.id));
		}
		entries.delete(entry.id);
		deadlines.remove(entry);
	}

	protected say(event: Event): void {
		this.events.push(event);
	}

	protected sayMoved(id: string | null): void {
		if (id !== null) this.say({ kind: "moved", id });
	}

	protected sayGranted(entry: Entry, repeat: boolean): void {
		const { id, slots, enforced, waitedMs } = entry;
		const expiresAt = entry.mode === "concurrency" ? wallClock(this.limit, entry.expiresAt) : null;
		this.say({ kind: "granted", id, slots, enforced, expiresAt, waitedMs, repeat });
	}

	protected deny(id: string, code: DenialCode, slots: number): void {
		const limit = this.limit;
		const busy = code === "denied" || code === "queue_full";
		if (busy) limit.totals.denied += 1;
		if (code === "denied") countDenied(limit, slots);
		const position = limit.sums.standing + 1;
		this.say({
			kind: "denied",
			id,
			code,
			position,
			retryAfterMs: busy ? retryAfterMs(limit, slots, RESERVATION_MS) : 0,
		});
	}

	protected recall(id: string): Ended | undefined {
		const past = this.endedNow(id) ?? this.limit.recall(id);
		return past && past.until > this.now ? past : undefined;
	}

	/** What this very decision has to say of an id; its storage follows later. */
	protected endedNow(id: string): Ended | undefined {
		const event = this.events.findLast((each) => each.kind === "ended" && each.id === id);
		return event?.kind === "ended" ? event.record : undefined;
	}

	protected remember(record: Ended): void {
		this.say({ kind: "ended", id: record.id, record });
	}
}
