/**
 * The one function that decides.
 *
 * `decide(limit, command, now)` lets time run to `now`, carries the command out, and serves the line while slots
 * fit. It changes `limit` in place and answers with everything that happened; the same state, command and moment
 * always give the same events. Refusals are events. An exception is a bug.
 *
 * Here stands what each command means. What it is made of: `line.ts` keeps those who wait, `granting.ts` gives slots and
 * refuses them, `lending.ts` lends them, `ending.ts` takes requests out, `passing.ts` lets time run, `level.ts` counts what decays.
 */

import type { Command, Decision } from "./commands.ts";
import { conclude, drop, giveBack } from "./ending.ts";
import { fitsAt } from "./forecast.ts";
import {
	deny,
	dueNext,
	give,
	grant,
	grantAgain,
	keepReserved,
	neverFits,
	refusal,
	sayReserved,
	serve,
} from "./granting.ts";
import { account, borrow, repay } from "./lending.ts";
import {
	decays,
	type Ended,
	type Entry,
	inTurn,
	isGranted,
	isLease,
	type Limit,
	type Request,
	requestOf,
	type Settings,
	wallClock,
} from "./limit.ts";
import { enter, QUEUE_MAX, returnToLine, stand, wait } from "./line.ts";
import { runTime } from "./passing.ts";
import { deniedSlots, learnHeld, setDenied } from "./polling.ts";
import { type At, type Ms, tellTime } from "./time.ts";
import { recall, rememberCancelled, say, sayMoved, type Turn } from "./turn.ts";

export function decide(limit: Limit, command: Command, now: At): Decision {
	const turn: Turn = { limit, now: tellTime(limit.clock, now), events: [] };
	runTime(turn);
	carryOut(turn, command);
	serve(turn);
	return { events: turn.events, wakeAt: wakeAt(limit) };
}

function wakeAt(limit: Limit): At | null {
	let at = limit.deadlines.first?.until ?? Number.POSITIVE_INFINITY;
	if (limit.sums.inTurn > 0) at = Math.min(at, limit.loans.first?.until ?? Number.POSITIVE_INFINITY);
	if (decays(limit)) {
		const head = nextInTurn(limit);
		const couldFit = head && head.slots <= limit.settings.limit - limit.sums.reserved - limit.sums.lent;
		if (couldFit && head.standing === "present") at = Math.min(at, fitsAt(limit, head.slots));
	}
	return at === Number.POSITIVE_INFINITY ? null : wallClock(limit, at);
}

function nextInTurn(limit: Limit): Entry | undefined {
	for (const entry of limit.queue.values()) if (inTurn(entry)) return entry;
	return undefined;
}

function carryOut(turn: Turn, command: Command): void {
	switch (command.kind) {
		case "acquire":
			// What is announced to a request that is denied knows of it.
			if (command.borrow) account(turn, command.borrow);
			ask(turn, command.request, "lease");
			if (command.borrow) borrow(turn, command.borrow, wasGranted(turn, command.request.id));
			return;
		case "borrow":
			return borrow(turn, command, true);
		case "repay":
			return repay(turn, command);
		case "reserve":
			return ask(turn, command.request, "reservation");
		case "commit":
			return commit(turn, command.id, command.peers);
		case "cancel":
			return cancel(turn, command.id, command.keepPlace);
		case "touch":
			return touch(turn, command.id);
		case "renew":
			return renew(turn, command.id, command.leaseMs);
		case "release":
			return release(turn, command.id, command.by);
		case "detach":
			return detach(turn, command.id);
		case "vouch":
			return vouch(turn, command.id);
		case "settle":
			return settle(turn, command.id, command.committed);
		case "configure":
			return configure(turn, command.settings ?? {}, command.activeSlots, command.deniedSlots);
		case "takeBack":
			return takeBack(turn, command.slots, command.heldMs);
		case "absorbed":
			turn.limit.totals.denied += command.denials;
			return;
		case "close":
			return close(turn);
		case "inspect":
		case "tick":
			return;
		default:
			command satisfies never;
	}
}

// --------------------------------------------------------------------------------- asking for slots

function ask(turn: Turn, request: Request, wants: Entry["wants"]): void {
	const { limit } = turn;
	const { id, slots, mode, ifBusy } = request;
	const known = requestOf(limit, id);
	if (known) return askAgain(turn, known, request, wants);
	const past = request.remember ? recall(turn, id) : undefined;
	if (past?.kind === "receipt" && past.print === request.print) return sayReceipt(turn, past);
	if (past) return deny(turn, id, "id_in_use", slots);

	const refused = refusal(limit, slots, mode);
	if (refused && (refused !== "denied" || ifBusy === "deny")) return deny(turn, id, refused, slots);
	if (refused && limit.queue.size >= QUEUE_MAX) return deny(turn, id, "queue_full", slots);
	const entry = enter(turn, request, wants);
	if (refused) wait(turn, entry, ifBusy === "park");
	else give(turn, entry);
}

/** The same id again: the same place in line, or the same lease. */
function askAgain(turn: Turn, entry: Entry, request: Request, wants: Entry["wants"]): void {
	if (entry.print !== request.print || entry.wants !== wants) {
		return deny(turn, request.id, "id_in_use", request.slots);
	}
	if (entry.state === "reserved") {
		keepReserved(turn, entry);
		return sayReserved(turn, entry);
	}
	if (entry.state !== "waiting") return grantAgain(turn, entry);

	const never = neverFits(turn.limit, request.slots, request.mode);
	if (never) {
		drop(turn, entry);
		return deny(turn, entry.id, never, entry.slots);
	}
	entry.giveUpAt = turn.now + request.waitMs;
	stand(turn, entry, "present");
	serve(turn);
	if (entry.state !== "waiting") return;
	if (request.ifBusy !== "deny") return wait(turn, entry, request.ifBusy === "park");
	drop(turn, entry);
	deny(turn, entry.id, "denied", entry.slots);
}

const wasGranted = ({ events }: Turn, id: string): boolean =>
	events.some((event) => event.kind === "granted" && event.id === id);

/** A grant by rate that is over, told again. */
function sayReceipt(turn: Turn, { id, slots, enforced }: Ended): void {
	say(turn, { kind: "granted", id, slots, enforced, expiresAt: null, waitedMs: 0, repeat: true });
}

function commit(turn: Turn, id: string, peers: readonly string[]): void {
	const entry = requestOf(turn.limit, id);
	const past = entry ? undefined : recall(turn, id);
	if (past?.kind === "receipt") return sayReceipt(turn, past);
	if (!entry || entry.state === "waiting") return say(turn, { kind: "gone", id });
	if (entry.state !== "reserved") return grantAgain(turn, entry);
	entry.peers = peers;
	grant(turn, entry, "committed");
}

// ------------------------------------------------------------------------ keeping and giving back

function renew(turn: Turn, id: string, leaseMs: Ms | null): void {
	const entry = requestOf(turn.limit, id);
	if (entry?.mode !== "concurrency" || !isGranted(entry)) {
		return say(turn, { kind: "gone", id });
	}
	entry.expiresAt = turn.now + (leaseMs ?? entry.leaseMs);
	entry.state = "leased"; // Its holder was answered, so every peer had committed.
	dueNext(turn, entry);
	say(turn, { kind: "renewed", id, expiresAt: wallClock(turn.limit, entry.expiresAt) });
}

function touch(turn: Turn, id: string): void {
	const entry = requestOf(turn.limit, id);
	if (entry?.state === "reserved") keepReserved(turn, entry);
	else if (entry?.state !== "waiting") say(turn, { kind: "gone", id });
	// No caller keeps the whole line waiting by speaking for a waiter that does not come back.
	else if (entry.standing !== "resuming") stand(turn, entry, entry.standing);
}

function release(turn: Turn, id: string, by: "caller" | "operator" | "unheard"): void {
	const entry = requestOf(turn.limit, id);
	if (by === "unheard" && entry && (entry.claims > 0 || !isGranted(entry))) {
		// Each of those who were told of the grant may go; it ends with the last of them.
		if (entry.claims > 0) entry.claims -= 1;
		if (entry.state === "reserved") {
			returnToLine(turn, entry);
			sayMoved(turn, id);
		}
		detach(turn, id);
		return say(turn, { kind: "released", id, slots: 0, by });
	}
	if (entry && isGranted(entry)) return giveBack(turn, entry, by);
	if (entry) {
		conclude(turn, entry, "cancelled");
		say(turn, { kind: "left", id, why: "cancelled" });
	} else if (by === "caller" && !recall(turn, id)) rememberCancelled(turn, id);
	say(turn, { kind: "released", id, slots: 0, by });
}

function cancel(turn: Turn, id: string, keepPlace: boolean): void {
	const entry = requestOf(turn.limit, id);
	if (!entry || entry.state === "leased") return say(turn, { kind: "gone", id });
	// Only a reservation can step back: the same request may be committed, or wait, by another coordinator.
	if (keepPlace && entry.state !== "reserved") return say(turn, { kind: "gone", id });
	if (!keepPlace) {
		drop(turn, entry);
		return say(turn, { kind: "left", id, why: "cancelled" });
	}
	returnToLine(turn, entry);
	wait(turn, entry, true);
}

function detach(turn: Turn, id: string): void {
	const entry = requestOf(turn.limit, id);
	if (!entry) return;
	if (entry.state === "waiting") stand(turn, entry, "away");
	else if (entry.held && isGranted(entry)) giveBack(turn, entry, "caller");
}

// --------------------------------------------------------------------------------- what peers ask

function vouch(turn: Turn, id: string): void {
	const entry = requestOf(turn.limit, id);
	const past = recall(turn, id);
	const committed = entry ? isGranted(entry) : past !== undefined && past.kind !== "cancelled";
	if (!committed) {
		if (entry) {
			conclude(turn, entry, "cancelled");
			say(turn, { kind: "left", id, why: "cancelled" });
		} else if (!past) rememberCancelled(turn, id);
	}
	say(turn, { kind: "vouched", id, committed });
}

function settle(turn: Turn, id: string, committed: boolean): void {
	const entry = requestOf(turn.limit, id);
	if (entry?.state !== "committed") return;
	if (!committed) return giveBack(turn, entry, "abort");
	if (entry.mode !== "concurrency") return conclude(turn, entry, "receipt");
	entry.state = "leased";
	entry.peers = [];
	dueNext(turn, entry);
	say(turn, { kind: "rewritten", id });
}

// ----------------------------------------------------------------------- what an operator changes

function configure(turn: Turn, change: Partial<Settings>, slots: number | undefined, denied: number | undefined): void {
	const limit = turn.limit;
	// What was denied until now sank at the old rate.
	setDenied(limit, denied ?? deniedSlots(limit));
	const didDecay = decays(limit);
	limit.settings = { ...limit.settings, ...change };
	if (didDecay !== decays(limit)) changeKind(turn);
	else if (change.slotDecayPerSecond !== undefined) limit.level.setRate(change.slotDecayPerSecond);
	if (slots !== undefined) {
		if (decays(limit)) limit.level.reset(Math.max(0, slots - limit.sums.lent));
		else limit.unleased = Math.max(0, slots - limit.sums.leased - limit.sums.lent);
	}
	for (const entry of [...limit.queue.values()]) {
		const never = neverFits(limit, entry.slots, entry.mode);
		if (!never) continue;
		drop(turn, entry);
		deny(turn, entry.id, never, entry.slots);
	}
	say(turn, { kind: "configured" });
}

function takeBack(turn: Turn, slots: number, heldMs: Ms | null): void {
	const limit = turn.limit;
	if (heldMs !== null && limit.settings.active) learnHeld(limit, slots, heldMs);
	// Those of several names are leases until their peers have answered; a caller that gives them back knows that they are its own.
	for (const entry of limit.entries.values()) {
		if (decays(limit) || limit.unleased >= slots) break;
		if (entry.mode === "unleased" && isLease(entry)) conclude(turn, entry, "receipt");
	}
	limit.unleased -= Math.min(limit.unleased, slots);
	say(turn, { kind: "configured" });
}

/**
 * From leases alone to a level, or back. What leases hold goes along in full. What no lease owns of a level would
 * never come back without decay, so it comes back now.
 */
function changeKind(turn: Turn): void {
	const { level, settings, unleased, entries } = turn.limit;
	level.reset(decays(turn.limit) ? unleased : 0);
	level.setRate(settings.slotDecayPerSecond);
	turn.limit.unleased = 0;
	for (const entry of entries.values()) {
		if (!isLease(entry)) continue;
		if (decays(turn.limit)) level.lay(entry.id, entry.slots);
		say(turn, { kind: "rewritten", id: entry.id });
	}
}

function close(turn: Turn): void {
	for (const entry of [...turn.limit.entries.values()]) {
		if (isGranted(entry)) {
			giveBack(turn, entry, "operator");
			continue;
		}
		drop(turn, entry);
		if (entry.state === "waiting") deny(turn, entry.id, "unknown_limit", entry.slots);
	}
}
