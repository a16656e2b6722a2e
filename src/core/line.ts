/**
 * The line of a limit: those who wait. Who of them is next, `order.ts` tells. A waiter keeps its place by being heard of, in one of four
 * standings; each has its own patience, after which the waiter has left:
 *
 *     present    until the end of its wait                  served in its turn
 *     resuming   5 s after a restart, to come back          the line waits for it
 *     away       0.75 s after its connection broke          others pass it
 *     parked     5 s since its coordinator spoke for it     others pass it
 */

import { ahead, priceOf, starveBefore } from "./fairness.ts";
import { retryAfterMs } from "./forecast.ts";
import { count, type Entry, inTurn, type Limit, type Request, type Standing } from "./limit.ts";
import { AWAY_MS, RESERVATION_MS, RESUME_MS } from "./patience.ts";
import { say, type Turn } from "./turn.ts";

/** Waiters in line, parked ones included; see BOUNDS.queueLength. */
export const QUEUE_MAX = 10_000;

const PATIENCE_MS = { present: Number.POSITIVE_INFINITY, resuming: RESUME_MS, away: AWAY_MS, parked: RESERVATION_MS };

/** As many slots as a request takes: with `atMost` no more than the limit could ever grant. */
export function slotsOf({ settings }: Limit, { slots, atMost }: Pick<Request, "slots" | "atMost">): number {
	return atMost && settings.active && settings.limit > 0 ? Math.min(slots, settings.limit) : slots;
}

/** The limit changed, and with it how many slots a waiter takes that asked for so many at most. */
export function resize(limit: Limit, entry: Entry): void {
	if (entry.atMost === null) return;
	count(limit, entry, -1);
	entry.slots = sizeOf(limit, entry);
	count(limit, entry, 1);
}

/** How many slots a waiter takes as the limit is set. */
export const sizeOf = (limit: Limit, { slots, atMost }: Entry): number =>
	atMost === null ? slots : slotsOf(limit, { slots: atMost, atMost: true });

/** A request gets its record. */
export function enter(turn: Turn, request: Request, wants: Entry["wants"]): Entry {
	const { limit, now } = turn;
	const { id, settleMs = null, key = null, priority = 0 } = request;
	// One literal, and nothing spread into it: this is made for each request, and half of its cost was that.
	const entry: Entry = {
		id,
		mode: request.mode,
		holder: request.holder,
		held: request.held,
		print: request.print,
		remember: request.remember,
		leaseMs: request.leaseMs,
		others: request.others,
		settleMs,
		key,
		priority,
		wants,
		slots: slotsOf(limit, request),
		atMost: request.atMost ? request.slots : null,
		tag: null,
		charge: 0,
		seq: limit.nextSeq++,
		state: "waiting",
		standing: "parked",
		inLine: false,
		enforced: true,
		wouldDeny: false,
		since: now,
		waitedMs: 0,
		giveUpAt: now + request.waitMs,
		expiresAt: Number.POSITIVE_INFINITY,
		peers: [],
		claims: 0,
		fence: null,
		until: Number.POSITIVE_INFINITY,
		heapIndex: -1,
	};
	limit.entries.set(id, entry);
	return entry;
}

/** Takes its place in line, or the one that it has, and says which it is. */
export function wait(turn: Turn, entry: Entry, park: boolean): void {
	const { limit } = turn;
	const { id } = entry;
	setInLine(limit, entry, true);
	stand(turn, entry, park ? "parked" : "present");
	const before = ahead(limit, entry);
	const position = before.count + 1;
	if (!park) return say(turn, { kind: "queued", id, position });
	say(turn, { kind: "parked", id, position, retryAfterMs: retryAfterMs(limit, entry, before) });
}

export function setInLine({ sums }: Limit, entry: Entry, inLine: boolean): void {
	if (entry.inLine === inLine) return;
	entry.inLine = inLine;
	sums.waiting += inLine ? 1 : -1;
}

/** Changes how a waiter stands, and with it when it is given up. */
export function stand({ limit, now }: Turn, entry: Entry, standing: Standing): void {
	count(limit, entry, -1);
	entry.standing = standing;
	count(limit, entry, 1);
	limit.deadlines.set(entry, Math.min(entry.giveUpAt, now + PATIENCE_MS[standing]));
}

export function leaveLine(turn: Turn, entry: Entry): void {
	stand(turn, entry, "parked");
	setInLine(turn.limit, entry, false);
}

/** Back from a reservation to its place in line, which is that of its arrival. */
export function returnToLine({ limit }: Turn, entry: Entry): void {
	count(limit, entry, -1);
	limit.order.takeBack(entry);
	entry.state = "waiting";
	entry.enforced = true;
	entry.wouldDeny = false;
	resize(limit, entry);
	entry.since -= entry.waitedMs;
	entry.waitedMs = 0;
	entry.standing = "parked";
	setInLine(limit, entry, true);
}

/** All of them, parked ones included, in no order of service. */
export const waiters = ({ entries, sums }: Limit): Entry[] =>
	sums.waiting === 0 ? [] : [...entries.values()].filter(({ inLine }) => inLine);

/** The waiters, with their places; 1 is next. */
export function positions(limit: Limit): [entry: Entry, position: number][] {
	const all: [Entry, number][] = [];
	for (const entry of limit.order.walk(priceOf(limit), starveBefore(limit))) all.push([entry, all.length + 1]);
	if (all.length === limit.sums.waiting) return all;
	for (const entry of waiters(limit)) if (!inTurn(entry)) all.push([entry, ahead(limit, entry).count + 1]);
	return all.sort(([a, x], [b, y]) => x - y || a.seq - b.seq);
}
