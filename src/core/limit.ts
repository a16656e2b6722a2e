/**
 * The state of one limit, and what can be read off it.
 *
 * A request has one record, an `Entry`, from the moment it waits or is granted until it ends; its id is its name.
 *
 *     waiting -> reserved -> committed -> leased        (one of several names)
 *     waiting ----------------------------> leased      (the only name)
 *
 * What was taken by rate ends as it is granted; where it is an estimate, it is `unsettled` until then.
 *
 * What ended is an `Ended` record: it lives outside of this state (`recall` finds it), for it is asked for rarely.
 * Occupancy is the sum of the entries that hold slots; the sums below are caches of it and never stored.
 */

import type { Window } from "./calendar.ts";
import { fixedMs } from "./calendar.ts";
import { Deadlines } from "./deadlines.ts";
import { Level } from "./level.ts";
import { Order } from "./order.ts";
import { Periods } from "./periods.ts";
import { newPolling, type Polling } from "./polling.ts";
import { Sliding } from "./sliding.ts";
import type { At, Clock, Ms } from "./time.ts";
import { newTotals, type Totals } from "./totals.ts";
import { SLOT, type Usage } from "./usage.ts";

export interface Settings {
	/** Capacity in slots. */
	limit: number;
	/** Slots that come back by themselves each second; 0: only by release. */
	slotDecayPerSecond: number;
	/** How slots come back that do so by the calendar, or each so long after it was taken; null: in none of these ways. */
	window?: Window | null;
	/** Off: grants at once and holds nothing. */
	active: boolean;
	/** False: it decides and counts as ever, and no caller is denied or waits. Left out: true. */
	enforce?: boolean;
	/** For how long a Worker may borrow slots, where they decay; left out, or 0: not at all. */
	lendSeconds?: number;
	/** What keys are given beside each other while they wait; of those that are not in it 1. Left out: of all. */
	weights?: Readonly<Record<string, number>>;
	/** Older waiters are given every second grant while a higher priority waits; 0: they are not. Left out: 60. */
	starveAfterSeconds?: number;
}

/** Where none is set; see DEFAULTS. */
export const STARVE_AFTER_SECONDS = 60;

/**
 * How slots come back: by the end of a lease; by decay; or, of those taken without a lease, by a `takeBack` of any caller
 * (by decay where there is one).
 */
export type Mode = "concurrency" | "rate_limit" | "unleased";

/** What is asked of one limit. */
export interface Request {
	id: string;
	slots: number;
	mode: Mode;
	leaseMs: Ms;
	/** How long to stay in line; `Infinity`: for ever. Without effect unless `ifBusy` says to wait or park. */
	waitMs: Ms;
	/**
	 * When there is no room: `deny` at once; `wait` in line; `park`: keep a place in line that others may pass,
	 * while the request waits for another limit.
	 */
	ifBusy: "deny" | "wait" | "park";
	holder: string | null;
	/** The lease ends with the connection of its holder. */
	held: boolean;
	/** A digest of the parameters: the same id with another print is another request. */
	print: string;
	/** The caller chose the id and may ask again: remember it after the end. */
	remember: boolean;
	/** The other names of the same lease, for callers that do not send them back with it. */
	others?: readonly string[] | undefined;
	/** By rate: the slots are an estimate, which may be settled for so long. */
	settleMs?: Ms | undefined;
	/** Takes fewer slots where the limit could never grant so many. */
	atMost?: boolean | undefined;
	/** Whose turn it takes in the line; left out: the common one. */
	key?: string | undefined;
	/** 0 to 9, the higher first; left out: 0. */
	priority?: number | undefined;
}

/**
 * How a waiter stands in line.
 * - `present`: connected; served in its turn.
 * - `resuming`: the object was restarted; its place is kept, and the line waits for it a moment.
 * - `away`: its connection broke; others pass it until it comes back or is given up.
 * - `parked`: it waits for another limit; others pass it until it comes back.
 */
export type Standing = "present" | "resuming" | "away" | "parked";

export interface Entry {
	readonly id: string;
	/** Order of arrival. */
	readonly seq: number;
	/** As long as it waits, as many of those asked for as the limit could ever grant. Of a loan: those that are not accounted for. */
	slots: number;
	/** Whose turn it takes in the line; see `order.ts`, as of all that an order needs of it. */
	readonly key: string | null;
	readonly priority: number;
	tag: number | null;
	charge: number;
	/** The slots asked for, of a request that takes fewer where it must. */
	readonly atMost: number | null;
	/** How long its slots are an estimate; null: they are none. */
	readonly settleMs: Ms | null;
	readonly mode: Mode;
	readonly holder: string | null;
	readonly held: boolean;
	readonly print: string;
	readonly remember: boolean;
	readonly leaseMs: Ms;
	readonly others?: readonly string[] | undefined;
	/** Whether the grant is final (`lease`) or one of several names (`reservation`). */
	readonly wants: "lease" | "reservation";
	/** `lent`: no request, but a loan of a Worker; see `lending.ts`. */
	state: "waiting" | "reserved" | "committed" | "leased" | "unsettled" | "lent";
	standing: Standing;
	/** Whether it has a place in the line, and so is one of its waiters. */
	inLine: boolean;
	/** False: granted by a limit that is not enforced. It holds nothing, and is renewed and released like any other. */
	enforced: boolean;
	/** Granted though there was no room, because the limit only watches. It counts as denied, and as nothing else. */
	wouldDeny: boolean;
	/** When it arrived; once granted, when it was granted. */
	since: At;
	waitedMs: Ms;
	giveUpAt: At;
	expiresAt: At;
	/** The other limits of the same request, until it is known that they committed too. */
	peers: readonly string[];
	/** How often the lease was asked for again after its grant: each of those answers stands even if the first was never heard. */
	claims: number;
	/** Of a lease: larger than that of every lease of this name before it. */
	fence: number | null;
	/** Of a loan: slots and requests that were accounted for. */
	used?: number;
	grants?: number;
	/** Of a loan: its part of what may be lent, beside those of the others. */
	share?: number;
	/** When this entry is due next: to give up, lapse, be confirmed or expire. */
	until: At;
	heapIndex: number;
}

/** What is remembered of an id after its request ended. */
export interface Ended {
	id: string;
	/** `lease`: was granted and is over. `receipt`: a rate-limit grant. `cancelled`: given up by its caller. */
	kind: "lease" | "receipt" | "cancelled";
	print: string;
	slots: number;
	enforced: boolean;
	wouldDeny?: true;
	/** What a receipt was settled with. */
	settled?: number;
	/** When it is forgotten. */
	until: At;
}

/** Sums over the entries of a limit. */
export interface Sums {
	/** Slots of leases. */
	leased: number;
	/** Slots of reservations. */
	reserved: number;
	/** Slots of loans that are not accounted for. */
	lent: number;
	/** Their shares. */
	shares: number;
	leases: number;
	/** Leases that can be given back, for they were not taken by rate; and estimates, which can be settled. */
	returnable: number;
	/** All waiters. */
	waiting: number;
	/** Waiters that have their turn in the line, and their slots. */
	inTurn: number;
	inTurnSlots: number;
	/** Of them, those that may not use their slots from their turn on: parts of requests, and those that are to come back first. */
	inTurnUnsure: number;
}

/** Adds an entry to the sums and the order of service, as it stands, or takes it out of them. */
export function count({ sums, order }: Limit, entry: Entry, sign: 1 | -1): void {
	if (entry.state === "waiting") {
		if (!inTurn(entry)) return;
		if (sign > 0) order.add(entry);
		else order.remove(entry);
		sums.inTurn += sign;
		sums.inTurnSlots += sign * entry.slots;
		if (entry.wants !== "lease" || entry.standing === "resuming") sums.inTurnUnsure += sign;
	} else if (!entry.enforced) {
		return;
	} else if (entry.state === "reserved") {
		sums.reserved += sign * entry.slots;
	} else if (entry.state === "lent") {
		sums.lent += sign * entry.slots;
		sums.shares += sign * (entry.share ?? 0);
	} else {
		if (entry.mode !== "rate_limit" || entry.settleMs !== null) sums.returnable += sign;
		if (entry.state === "unsettled") return;
		sums.leased += sign * entry.slots;
		sums.leases += sign;
	}
}

export interface Limit {
	settings: Settings;
	clock: Clock;
	/** Every live request, and every loan, by id, in order of arrival. */
	readonly entries: Map<string, Entry>;
	/** The waiting ones that have their turn, in the order of service. */
	readonly order: Order<Entry>;
	readonly deadlines: Deadlines<Entry>;
	/** Slots in use of a limit whose slots come back by themselves, reservations and loans aside. */
	level: Usage;
	/** Nothing is granted before this logical moment. */
	pausedUntil: At;
	/** The fence of the newest lease. */
	fence: number;
	/** How many estimates were settled, and the sum of what they were settled with, each as a part of its estimate. */
	settled: { count: number; ratios: number };
	/** The loans, by their end. It wakes the limit only while a waiter has a turn: to nobody else it makes a difference. */
	readonly loans: Deadlines<Entry>;
	/** Slots taken without a lease, on a limit without decay. */
	unleased: number;
	totals: Totals;
	/** Requests granted of each key that has a weight, since the limit was last built: of others there may be any number. */
	grantedOf: Map<string, number>;
	/** Mean time that slots were held, recent ones weighing more; null until the first came back. */
	meanHeldMs: Ms | null;
	polling: Polling;
	nextSeq: number;
	sums: Sums;
	/** Finds what is remembered of an ended id. */
	readonly recall: (id: string) => Ended | undefined;
}

export function createLimit(settings: Settings, now: At, recall: Limit["recall"]): Limit {
	const clock = { lastAt: now, offsetMs: 0 };
	return {
		settings,
		clock,
		entries: new Map(),
		order: new Order(),
		deadlines: new Deadlines(),
		level: usageOf(settings, clock, now),
		pausedUntil: 0,
		fence: 0,
		settled: { count: 0, ratios: 0 },
		loans: new Deadlines(),
		unleased: 0,
		totals: newTotals(),
		grantedOf: new Map(),
		meanHeldMs: null,
		polling: newPolling(now),
		nextSeq: 1,
		sums: {
			leased: 0,
			reserved: 0,
			lent: 0,
			shares: 0,
			leases: 0,
			returnable: 0,
			waiting: 0,
			inTurn: 0,
			inTurnSlots: 0,
			inTurnUnsure: 0,
		},
		recall,
	};
}

/** What is in use of a fresh limit of these settings. */
export function usageOf({ window, slotDecayPerSecond }: Settings, clock: Clock, at: At): Usage {
	if (!window) return new Level(slotDecayPerSecond, at);
	return window.sliding ? new Sliding(fixedMs(window) ?? 0, at) : new Periods(window, clock, at);
}

/** Whether slots of this limit come back by themselves. */
export const decays = ({ settings }: Limit): boolean => settings.slotDecayPerSecond > 0 || hasWindow(settings);

/** Whether they do so by the calendar, or each so long after it was taken. */
export const hasWindow = ({ window }: Settings): boolean => window !== null && window !== undefined;

/** The request of this id. A loan is none. */
export function requestOf(limit: Limit, id: string): Entry | undefined {
	const entry = limit.entries.get(id);
	return entry?.state === "lent" ? undefined : entry;
}

/** Whether nothing is left that a fresh limit of the same settings would not have. */
export const isIdle = (limit: Limit): boolean =>
	limit.entries.size === 0 && limit.unleased === 0 && limit.level.total === 0n && !isPaused(limit);

/** A logical moment as the caller's clock would show it. */
export const wallClock = (limit: Limit, at: At): At => at - limit.clock.offsetMs;

/** Slots in use, rounded up. */
export function activeSlots(limit: Limit): number {
	const held = decays(limit) ? Number((limit.level.total + SLOT - 1n) / SLOT) : limit.sums.leased + limit.unleased;
	return held + limit.sums.reserved + limit.sums.lent;
}

/** Whether the limit is shut: it grants nothing until its capacity of 0 is raised. A waiter waits on. */
export const isShut = ({ settings }: Limit): boolean => settings.active && settings.limit === 0;

/** Whether nothing is granted until `pausedUntil`. A waiter waits on; leases stay, and what was set aside may be committed. */
export const isPaused = ({ settings, clock, pausedUntil }: Limit): boolean =>
	settings.active && clock.lastAt < pausedUntil;

/** Whether callers are denied, and wait. */
export const enforces = ({ settings }: Limit): boolean => settings.active && settings.enforce !== false;

/** Whether a waiter has its turn in the line, or is passed by those behind it. */
export const inTurn = (entry: Entry): boolean => entry.standing === "present" || entry.standing === "resuming";

/** Leases after `afterSeq`, in order of arrival, as many as `count`. */
export function* leasesAfter(limit: Limit, afterSeq: number, count: number): Generator<Entry> {
	let left = count;
	for (const entry of limit.entries.values()) {
		if (left === 0) return;
		if (entry.seq <= afterSeq || !isLease(entry)) continue;
		left -= 1;
		yield entry;
	}
}

/** Whether an entry was granted for good. */
export const isGranted = (entry: Entry): boolean => isHeld(entry) || entry.state === "unsettled";

/** Whether an entry is a lease that holds slots. */
export const isLease = (entry: Entry): boolean => entry.enforced && isHeld(entry);

const isHeld = ({ state }: Entry): boolean => state === "leased" || state === "committed";
