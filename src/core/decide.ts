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
import { hasWeight, priceOf, settleCharge, starveBefore } from "./fairness.ts";
import { fitsAt } from "./forecast.ts";
import {
	deny,
	dueNext,
	fits,
	give,
	grant,
	grantAgain,
	keepReserved,
	leaveUnsettled,
	neverFits,
	refusal,
	sayReserved,
	serve,
} from "./granting.ts";
import { account, borrow, repay, writeOff } from "./lending.ts";
import { Level } from "./level.ts";
import {
	decays,
	type Ended,
	type Entry,
	enforces,
	hasWindow,
	inTurn,
	isGranted,
	isLease,
	isPaused,
	type Limit,
	type Request,
	requestOf,
	type Settings,
	usageOf,
	wallClock,
} from "./limit.ts";
import { enter, QUEUE_MAX, resize, returnToLine, slotsOf, stand, wait, waiters } from "./line.ts";
import { runTime } from "./passing.ts";
import { deniedSlots, learnHeld, setDenied } from "./polling.ts";
import { type At, type Ms, tellTime } from "./time.ts";
import { recall, rememberCancelled, say, sayMoved, type Turn } from "./turn.ts";
import { SLOT } from "./usage.ts";

export function decide(limit: Limit, command: Command, now: At): Decision {
	const turn: Turn = { limit, now: tellTime(limit.clock, now), events: [] };
	runTime(turn);
	carryOut(turn, command);
	serve(turn);
	for (const { id } of limit.order.takeChanged()) sayMoved(turn, id);
	return { events: turn.events, wakeAt: wakeAt(limit) };
}

function wakeAt(limit: Limit): At | null {
	let at = limit.deadlines.first?.until ?? Number.POSITIVE_INFINITY;
	if (limit.sums.inTurn > 0) at = Math.min(at, limit.loans.first?.until ?? Number.POSITIVE_INFINITY);
	if (decays(limit) || isPaused(limit)) {
		const head = limit.order.next(starveBefore(limit));
		if (head?.standing === "present") at = Math.min(at, servableAt(limit, head.slots));
	}
	return at === Number.POSITIVE_INFINITY ? null : wallClock(limit, at);
}

/** When time alone lets the head of the line have its slots. */
function servableAt(limit: Limit, slots: number): At {
	const from = Math.max(limit.clock.lastAt, limit.pausedUntil);
	if (!decays(limit)) return fits(limit, slots) ? from : Number.POSITIVE_INFINITY;
	if (slots > limit.settings.limit - limit.sums.reserved - limit.sums.lent) return Number.POSITIVE_INFINITY;
	return Math.max(isPaused(limit) ? from : 0, fitsAt(limit, slots));
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
		case "resolve":
			return resolve(turn, command.id, command.committed);
		case "configure":
			return configure(turn, command.settings ?? {}, command.activeSlots, command.deniedSlots);
		case "settle":
			return settle(turn, command.id, command.actual);
		case "pause":
			return pause(turn, command.ms);
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
	const { id, ifBusy } = request;
	const known = requestOf(limit, id);
	if (known) return askAgain(turn, known, request, wants);
	const past = request.remember ? recall(turn, id) : undefined;
	if (past?.kind === "receipt" && past.print === request.print) return sayReceipt(turn, past);
	if (past) return deny(turn, request, "id_in_use", request.slots);

	const slots = slotsOf(limit, request);
	const refused = refusal(limit, slots, request);
	const isHeldBack = refused !== null && enforces(limit);
	if (isHeldBack && (refused !== "denied" || ifBusy === "deny")) return deny(turn, request, refused, slots);
	if (isHeldBack && limit.sums.waiting >= QUEUE_MAX) return deny(turn, request, "queue_full", slots);
	const entry = enter(turn, request, wants);
	if (isHeldBack) return wait(turn, entry, ifBusy === "park");
	if (limit.sums.inTurn > 0) limit.order.charge(entry, priceOf(limit), starveBefore(limit));
	else limit.order.rest();
	give(turn, entry, refused !== null);
}

/** The same id again: the same place in line, or the same lease. */
function askAgain(turn: Turn, entry: Entry, request: Request, wants: Entry["wants"]): void {
	if (entry.print !== request.print || entry.wants !== wants) {
		return deny(turn, request, "id_in_use", request.slots);
	}
	if (entry.state === "reserved") {
		keepReserved(turn, entry);
		return sayReserved(turn, entry);
	}
	if (entry.state !== "waiting") return grantAgain(turn, entry);

	const never = neverFits(turn.limit, entry.slots, entry.mode);
	if (never && enforces(turn.limit)) {
		drop(turn, entry);
		return deny(turn, entry, never, entry.slots);
	}
	entry.giveUpAt = turn.now + request.waitMs;
	stand(turn, entry, "present");
	serve(turn);
	if (entry.state !== "waiting") return;
	if (request.ifBusy !== "deny") return wait(turn, entry, request.ifBusy === "park");
	drop(turn, entry);
	deny(turn, entry, "denied", entry.slots);
}

const wasGranted = ({ events }: Turn, id: string): boolean =>
	events.some((event) => event.kind === "granted" && event.id === id);

/** A grant by rate that is over, told again. */
function sayReceipt(turn: Turn, { id, slots, enforced, wouldDeny }: Ended): void {
	const would = wouldDeny && { wouldDeny };
	say(turn, {
		kind: "granted",
		id,
		slots,
		enforced,
		expiresAt: null,
		fence: null,
		waitedMs: 0,
		repeat: true,
		...would,
	});
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
	// What was taken by rate is not given back: an estimate is settled, or stands.
	if (entry?.state === "unsettled") return say(turn, { kind: "released", id, slots: 0, by });
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
	if (!entry || entry.state === "leased" || entry.state === "unsettled") return say(turn, { kind: "gone", id });
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

function resolve(turn: Turn, id: string, committed: boolean): void {
	const entry = requestOf(turn.limit, id);
	if (entry?.state !== "committed") return;
	if (!committed) return giveBack(turn, entry, "abort");
	if (entry.settleMs !== null && entry.mode === "rate_limit") return leaveUnsettled(turn, entry);
	if (entry.mode !== "concurrency") return conclude(turn, entry, "receipt");
	entry.state = "leased";
	entry.peers = [];
	dueNext(turn, entry);
	say(turn, { kind: "rewritten", id });
}

// ----------------------------------------------------------------------------- what an estimate came to

/**
 * Below the estimate, the rest comes back as far as it has not by itself; above it, the difference is taken too, past the limit
 * if need be. A caller that settles one of several names has its grant, so every peer had committed.
 */
function settle(turn: Turn, id: string, actual: number): void {
	const { limit } = turn;
	const entry = requestOf(limit, id);
	if (!entry) {
		const before = recall(turn, id)?.settled;
		if (before === undefined) return say(turn, { kind: "gone", id });
		return say(turn, { kind: "settled", id, slots: before, outcome: before === actual ? "again" : "otherwise" });
	}
	const { slots, settleMs, enforced, state } = entry;
	if (settleMs === null || !(state === "unsettled" || (state === "committed" && entry.mode === "rate_limit"))) {
		return say(turn, { kind: "gone", id });
	}
	if (enforced && decays(limit)) {
		if (actual < slots) limit.level.shrink(id, slots - actual);
		else limit.level.pour(actual - slots);
	}
	settleCharge(limit, entry, slots - actual, turn.now - entry.since);
	limit.settled.count += 1;
	limit.settled.ratios += actual / slots;
	conclude(turn, entry, "receipt", actual);
	say(turn, { kind: "settled", id, slots: actual, outcome: "settled" });
}

// ----------------------------------------------------------------------- what an operator changes

function configure(turn: Turn, change: Partial<Settings>, slots: number | undefined, denied: number | undefined): void {
	const limit = turn.limit;
	// What was denied until now sank at the old rate.
	setDenied(limit, denied ?? deniedSlots(limit));
	const didDecay = decays(limit);
	const settings = { ...limit.settings, ...change };
	const isOtherKind = kindOf(settings) !== kindOf(limit.settings);
	// What was used of a loan would not come back as its Worker expects: all of it is in use, and goes along.
	const loans = isOtherKind ? [...limit.entries.values()].filter(({ state }) => state === "lent") : [];
	for (const loan of loans) writeOff(turn, loan);
	limit.settings = settings;
	for (const key of limit.grantedOf.keys()) if (!hasWeight(limit, key)) limit.grantedOf.delete(key);
	if (isOtherKind) changeKind(turn, didDecay);
	else if (limit.level instanceof Level) limit.level.setRate(limit.settings.slotDecayPerSecond);
	if (slots !== undefined) {
		if (decays(limit)) setInUse(turn, Math.max(0, slots - limit.sums.lent));
		else limit.unleased = Math.max(0, slots - limit.sums.leased);
	}
	for (const entry of waiters(limit).sort((a, b) => a.seq - b.seq)) {
		resize(limit, entry);
		const never = neverFits(limit, entry.slots, entry.mode);
		if (!never || !enforces(limit)) continue;
		drop(turn, entry);
		deny(turn, entry, never, entry.slots);
	}
	say(turn, { kind: "configured" });
}

/** By hand; leases hold nothing of it. The rows of those in a window say what they held, and have to be written anew. */
function setInUse(turn: Turn, slots: number): void {
	const { level, entries, settings } = turn.limit;
	const held = hasWindow(settings) ? [...entries.keys()].filter((id) => level.owned(id) > 0n) : [];
	level.reset(slots);
	for (const id of held) say(turn, { kind: "rewritten", id });
}

function pause(turn: Turn, ms: Ms): void {
	const { limit, now } = turn;
	limit.pausedUntil = ms === 0 ? 0 : Math.max(limit.pausedUntil, now + ms);
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

/** How slots come back. */
const kindOf = ({ window, slotDecayPerSecond }: Settings): string =>
	window ? JSON.stringify(window) : slotDecayPerSecond > 0 ? "decay" : "release";

/**
 * From one way in which slots come back to another. What is in use goes along in whole slots, rounded up, so that no change
 * gives fresh slots; what leases hold of it stays theirs. What no lease holds would never come back where nothing does so by
 * itself, so there it comes back now.
 */
function changeKind(turn: Turn, didDecay: boolean): void {
	const { limit } = turn;
	const { level, settings, clock, unleased, entries } = limit;
	// An estimate that is not settled yet keeps what it has of what comes back by itself, and of leases alone nothing.
	const holders = [...entries.values()].filter((entry) => isLease(entry) || entry.state === "unsettled");
	const held = holders.map((entry) =>
		didDecay ? level.owned(entry.id) : BigInt(isLease(entry) ? entry.slots : 0) * SLOT,
	);
	const free = didDecay ? held.reduce((left, own) => left - own, level.total) : BigInt(unleased) * SLOT;
	limit.level = usageOf(settings, clock, turn.now);
	limit.unleased = 0;
	// What keys were charged was counted in another way.
	limit.order.clear();
	for (const entry of entries.values()) {
		entry.tag = null;
		entry.charge = 0;
		if (entry.inLine && inTurn(entry)) limit.order.add(entry);
	}
	if (decays(limit)) limit.level.reset(wholeSlots(free));
	for (const [index, entry] of holders.entries()) {
		const own = wholeSlots(held[index] ?? 0n);
		if (decays(limit) && own > 0) limit.level.lay(entry.id, own);
		say(turn, { kind: "rewritten", id: entry.id });
	}
}

/** Of so many units, rounded up. */
const wholeSlots = (units: bigint): number => Number((units + SLOT - 1n) / SLOT);

function close(turn: Turn): void {
	for (const entry of [...turn.limit.entries.values()]) {
		if (entry.state === "unsettled") conclude(turn, entry, "receipt");
		else if (isGranted(entry)) giveBack(turn, entry, "operator");
		if (isGranted(entry)) continue;
		drop(turn, entry);
		if (entry.state === "waiting") deny(turn, entry, "unknown_limit", entry.slots);
	}
}
