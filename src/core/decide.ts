/**
 * The one function that decides.
 *
 * `decide(limit, command, now)` lets time run to `now`, carries the command out, and serves the line while slots
 * fit. It changes `limit` in place and answers with everything that happened; the same state, command and moment
 * always give the same events. Refusals are events. An exception is a bug.
 */

import { type Command, type Decision, QUEUE_MAX, REMEMBER_MS, RESERVATION_MS } from "./commands.ts";
import type { At, Ms } from "./level.ts";
import {
	decays,
	type Entry,
	fits,
	fitsAt,
	inTurn,
	isGranted,
	isLease,
	type Limit,
	neverFits,
	type Request,
	type Settings,
	wallClock,
} from "./limit.ts";
import { Moves } from "./moves.ts";
import { deniedSlots, learnHeld, setDenied } from "./polling.ts";

export function decide(limit: Limit, command: Command, now: At): Decision {
	const turn = new Turn(limit, tellTime(limit, now));
	turn.decide(command);
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
class Turn extends Moves {
	/**
	 * Lets time run to now: what fell due takes effect at its own moment and in order, but slots are granted now and
	 * never in the past. Whoever gave up meanwhile is served first if there is room by now.
	 */
	#runTime(): void {
		const limit = this.limit;
		const now = this.now;
		const givingUp: Entry[] = [];
		for (;;) {
			const entry = limit.deadlines.first;
			if (!entry || entry.until > now) break;
			this.now = Math.max(entry.until, limit.level.at);
			limit.level.drain(this.now);
			if (entry.state === "waiting" && entry.standing === "present") {
				limit.deadlines.remove(entry);
				givingUp.push(entry);
			} else {
				this.fallDue(entry);
			}
		}
		this.now = now;
		limit.level.drain(now);
		this.serve();
		const late = givingUp.filter((entry) => entry.state === "waiting");
		if (late.length === 0) return;
		for (const entry of late) this.fallDue(entry);
		this.serve();
	}

	/** Carries a command out, and serves the line with what it freed. */
	decide(command: Command): void {
		this.#runTime();
		this.#carryOut(command);
		this.serve();
	}

	#carryOut(command: Command): void {
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
				return this.#configure(command.settings ?? {}, command.activeSlots, command.deniedSlots);
			case "takeBack":
				return this.#takeBack(command.slots, command.heldMs);
			case "absorbed":
				this.limit.totals.denied += command.denials;
				return;
			case "close":
				return this.#close();
			case "inspect":
			case "tick":
				return;
			default:
				command satisfies never;
		}
	}

	#ask(request: Request, wants: Entry["wants"]): void {
		const limit = this.limit;
		const known = limit.entries.get(request.id);
		if (known) return this.#askAgain(known, request, wants);
		const past = request.remember ? this.recall(request.id) : undefined;
		if (past) {
			const repeat = past.kind === "receipt" && past.print === request.print;
			if (!repeat) return this.deny(request.id, "id_in_use", request.slots);
			this.say({
				kind: "granted",
				id: request.id,
				slots: past.slots,
				enforced: past.enforced,
				expiresAt: null,
				waitedMs: 0,
				repeat,
			});
			return;
		}
		const never = neverFits(limit, request.slots, request.mode);
		if (never) return this.deny(request.id, never, request.slots);

		const free = !limit.settings.active || (limit.sums.standing === 0 && fits(limit, request.slots));
		if (!free && request.ifBusy === "deny") return this.deny(request.id, "denied", request.slots);
		if (!free && limit.queue.size >= QUEUE_MAX) return this.deny(request.id, "queue_full", request.slots);
		const entry = this.enter(request, wants);
		if (free) this.give(entry);
		else this.wait(entry, request.ifBusy === "park");
	}

	/** The same id again: the same place in line, or the same lease. */
	#askAgain(entry: Entry, request: Request, wants: Entry["wants"]): void {
		if (entry.print !== request.print || entry.wants !== wants) {
			return this.deny(request.id, "id_in_use", request.slots);
		}
		if (entry.state === "reserved") {
			this.limit.deadlines.set(entry, this.now + RESERVATION_MS);
			return this.say({ kind: "reserved", id: entry.id, slots: entry.slots, enforced: entry.enforced });
		}
		if (entry.state !== "waiting") return this.grantAgain(entry);

		const never = neverFits(this.limit, request.slots, request.mode);
		if (never) {
			this.forget(entry);
			return this.deny(entry.id, never, entry.slots);
		}
		entry.giveUpAt = this.now + request.waitMs;
		this.stand(entry, "present");
		this.serve();
		if (entry.state !== "waiting") return;
		if (request.ifBusy !== "deny") return this.wait(entry, request.ifBusy === "park");
		this.forget(entry);
		this.deny(entry.id, "denied", entry.slots);
	}

	#commit(id: string, peers: readonly string[]): void {
		const entry = this.limit.entries.get(id);
		const past = entry ? undefined : this.recall(id);
		if (past?.kind === "receipt") {
			const { slots, enforced } = past;
			return this.say({ kind: "granted", id, slots, enforced, expiresAt: null, waitedMs: 0, repeat: true });
		}
		if (!entry || entry.state === "waiting") return this.say({ kind: "gone", id });
		if (entry.state !== "reserved") return this.grantAgain(entry);
		if (entry.enforced) this.limit.sums.reserved -= entry.slots;
		entry.peers = peers;
		this.grant(entry, "committed");
	}

	#renew(id: string, leaseMs: Ms | null): void {
		const entry = this.limit.entries.get(id);
		if (entry?.mode !== "concurrency" || !isGranted(entry)) {
			return this.say({ kind: "gone", id });
		}
		entry.expiresAt = this.now + (leaseMs ?? entry.leaseMs);
		entry.state = "leased"; // Its holder was answered, so every peer had committed.
		this.dueNext(entry);
		this.say({ kind: "renewed", id, expiresAt: wallClock(this.limit, entry.expiresAt) });
	}

	#touch(id: string): void {
		const entry = this.limit.entries.get(id);
		if (entry?.state === "reserved") this.limit.deadlines.set(entry, this.now + RESERVATION_MS);
		else if (entry?.state !== "waiting") this.say({ kind: "gone", id });
		// Nobody keeps the whole line waiting by speaking for one who does not come back.
		else if (entry.standing !== "resuming") this.stand(entry, entry.standing);
	}

	#release(id: string, by: "caller" | "operator" | "unheard"): void {
		const entry = this.limit.entries.get(id);
		if (by === "unheard" && entry && (entry.claims > 0 || !isGranted(entry))) {
			// Each of those who were told of the grant may go; it ends with the last of them.
			if (entry.claims > 0) entry.claims -= 1;
			if (entry.state === "reserved") {
				this.unreserve(entry);
				this.sayMoved(id);
			}
			this.#detach(id);
			return this.say({ kind: "released", id, slots: 0, by });
		}
		if (entry && isGranted(entry)) return this.giveBack(entry, by);
		if (entry) {
			this.end(entry, "cancelled");
			this.say({ kind: "left", id, why: "cancelled" });
		} else if (by === "caller" && !this.recall(id)) {
			// The request may still be on its way: it must not be granted to a caller that has gone.
			this.remember({ id, kind: "cancelled", print: "", slots: 0, enforced: false, until: this.now + REMEMBER_MS });
		}
		this.say({ kind: "released", id, slots: 0, by });
	}

	#cancel(id: string, keepPlace: boolean): void {
		const entry = this.limit.entries.get(id);
		if (!entry || entry.state === "leased") return this.say({ kind: "gone", id });
		// Only a reservation can step back: the same request may be committed, or wait, by another coordinator.
		if (keepPlace && entry.state !== "reserved") return this.say({ kind: "gone", id });
		if (!keepPlace) {
			this.forget(entry);
			return this.say({ kind: "left", id, why: "cancelled" });
		}
		this.unreserve(entry);
		this.wait(entry, true);
	}

	#detach(id: string): void {
		const entry = this.limit.entries.get(id);
		if (!entry) return;
		if (entry.state === "waiting") this.stand(entry, "away");
		else if (entry.held && isGranted(entry)) this.giveBack(entry, "caller");
	}

	#vouch(id: string): void {
		const entry = this.limit.entries.get(id);
		const past = this.recall(id);
		const committed = entry ? isGranted(entry) : past !== undefined && past.kind !== "cancelled";
		if (!committed) {
			if (entry) {
				this.end(entry, "cancelled");
				this.say({ kind: "left", id, why: "cancelled" });
			} else if (!past)
				this.remember({ id, kind: "cancelled", print: "", slots: 0, enforced: false, until: this.now + REMEMBER_MS });
		}
		this.say({ kind: "vouched", id, committed });
	}

	#settle(id: string, committed: boolean): void {
		const entry = this.limit.entries.get(id);
		if (entry?.state !== "committed") return;
		if (!committed) return this.giveBack(entry, "abort");
		if (entry.mode !== "concurrency") return this.end(entry, "receipt");
		entry.state = "leased";
		entry.peers = [];
		this.dueNext(entry);
		this.say({ kind: "moved", id });
	}

	#configure(change: Partial<Settings>, slots: number | undefined, denied: number | undefined): void {
		const limit = this.limit;
		// What was denied until now sank at the old rate.
		setDenied(limit, denied ?? deniedSlots(limit));
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
			this.forget(entry);
			this.deny(entry.id, never, entry.slots);
		}
		this.say({ kind: "configured" });
	}

	#takeBack(slots: number, heldMs: Ms | null): void {
		const limit = this.limit;
		if (heldMs !== null && limit.settings.active) learnHeld(limit, slots, heldMs);
		// Those of several names are leases until their peers have answered; whoever gives them back knows that they are his.
		for (const entry of limit.entries.values()) {
			if (decays(limit) || limit.unleased >= slots) break;
			if (entry.mode === "unleased" && isLease(entry)) this.end(entry, "receipt");
		}
		limit.unleased -= Math.min(limit.unleased, slots);
		this.say({ kind: "configured" });
	}

	/**
	 * From leases alone to a level, or back. What leases hold goes along in full. What nobody owns of a level would
	 * never come back without decay, so it comes back now.
	 */
	#changeKind(): void {
		const { level, settings, unleased, entries } = this.limit;
		level.reset(decays(this.limit) ? unleased : 0);
		level.setRate(settings.slotDecayPerSecond);
		this.limit.unleased = 0;
		for (const entry of entries.values()) {
			if (!isLease(entry)) continue;
			if (decays(this.limit)) level.lay(entry.id, entry.slots);
			this.say({ kind: "moved", id: entry.id });
		}
	}

	#close(): void {
		for (const entry of [...this.limit.entries.values()]) {
			if (isGranted(entry)) {
				this.giveBack(entry, "operator");
				continue;
			}
			this.forget(entry);
			if (entry.state === "waiting") this.deny(entry.id, "unknown_limit", entry.slots);
		}
	}
}
