/** The state of a limit as it is stored: plain values, one record for the limit and one for each entry. */

import { Deadlines } from "./deadlines.ts";
import { count, createLimit, decays, type Entry, inTurn, type Limit, usageOf } from "./limit.ts";
import { setInLine, sizeOf } from "./line.ts";
import type { SavedOrder } from "./order.ts";
import { RESERVATION_MS, RESUME_MS } from "./patience.ts";
import type { Polling } from "./polling.ts";
import type { At, Ms } from "./time.ts";
import { completed } from "./totals.ts";
import type { Band, SavedUsage } from "./usage.ts";

/** A limit without its entries. */
export type SavedLimit = Pick<Limit, "settings" | "clock" | "unleased" | "totals" | "meanHeldMs" | "nextSeq"> & {
	/** Absent: it is not paused. */
	pausedUntil?: At;
	/** Absent: no lease was granted since there are fences. */
	fence?: number;
	/** Absent: nothing was settled. */
	settled?: Limit["settled"];
	/** Absent: no keys are told apart. */
	order?: SavedOrder;
	/** Absent in what was written before callers that poll were counted. */
	polling?: Polling;
	level: SavedUsage;
};

/**
 * An entry as it is stored. What is as it is with most leases is left out, for it is written with every commit: a lease that
 * was granted at once is its id, its place, its slots, its print, its length and two moments. What was stored before that has
 * every field, and `null` where a moment never comes.
 */
export interface SavedEntry extends Pick<Entry, "id" | "seq" | "slots" | "print" | "leaseMs" | "since"> {
	mode?: Entry["mode"] | undefined;
	holder?: string | null | undefined;
	held?: boolean | undefined;
	remember?: boolean | undefined;
	others?: readonly string[] | undefined;
	wants?: Entry["wants"] | undefined;
	state?: Entry["state"] | undefined;
	standing?: Entry["standing"] | undefined;
	enforced?: boolean | undefined;
	wouldDeny?: boolean | undefined;
	atMost?: number | undefined;
	settleMs?: Ms | undefined;
	waitedMs?: Ms | undefined;
	/** Left out: the common one, and the lowest. */
	key?: string | undefined;
	priority?: number | undefined;
	/** Left out: its key's tag is said by another, and it was not charged. */
	tag?: number | undefined;
	charge?: number | undefined;
	/** Left out: it does not wait, or did not. */
	giveUpAt?: At | null | undefined;
	/** Left out: never. */
	expiresAt?: At | null | undefined;
	/** Left out: at its end. */
	until?: At | null | undefined;
	peers?: readonly string[] | undefined;
	claims?: number | undefined;
	/** Left out: it has none. */
	fence?: number | undefined;
	/** Of a loan. */
	used?: number | undefined;
	grants?: number | undefined;
	share?: number | undefined;
	/** In place of `claims`, in what was stored when it was only told whether there were any. */
	claimed?: boolean | undefined;
	/** What it owns of the level when it was last written, and what no lease owns beneath it. */
	band?: { own: string; below: string; order: number } | undefined;
}

export function saveLimit(limit: Limit): SavedLimit {
	const { settings, clock, unleased, totals, meanHeldMs, nextSeq, polling, level } = limit;
	const order = limit.order.save();
	return {
		...{ settings, clock, unleased, totals, meanHeldMs, nextSeq, polling },
		...(order && { order }),
		...(limit.pausedUntil > clock.lastAt && { pausedUntil: limit.pausedUntil }),
		...(limit.fence > 0 && { fence: limit.fence }),
		...(limit.settled.count > 0 && { settled: limit.settled }),
		level: level.save(),
	};
}

export function saveEntry(limit: Limit, entry: Entry): SavedEntry {
	const { id, seq, slots, print, leaseMs, since, mode, state, standing, until, expiresAt } = entry;
	const band = limit.level.band(id);
	return {
		...{ id, seq, slots, print, leaseMs, since },
		expiresAt: expiresAt === Number.POSITIVE_INFINITY ? undefined : expiresAt,
		mode: mode === "concurrency" ? undefined : mode,
		holder: entry.holder ?? undefined,
		held: entry.held || undefined,
		remember: entry.remember || undefined,
		others: entry.others,
		wants: entry.wants === "lease" ? undefined : entry.wants,
		state: state === "leased" ? undefined : state,
		standing: standing === "parked" ? undefined : standing,
		enforced: entry.enforced ? undefined : false,
		wouldDeny: entry.wouldDeny || undefined,
		atMost: entry.atMost ?? undefined,
		settleMs: entry.settleMs ?? undefined,
		waitedMs: entry.waitedMs || undefined,
		key: entry.key ?? undefined,
		priority: entry.priority || undefined,
		tag: entry.tag ?? undefined,
		charge: entry.charge || undefined,
		giveUpAt: entry.giveUpAt === since ? undefined : finite(entry.giveUpAt),
		until: until === expiresAt ? undefined : finite(until),
		peers: entry.peers.length > 0 ? entry.peers : undefined,
		claims: entry.claims || undefined,
		fence: entry.fence ?? undefined,
		...(state === "lent" && { used: entry.used, grants: entry.grants, share: entry.share }),
		band: band ? { own: String(band.own), below: String(band.below), order: band.order } : undefined,
	};
}

/**
 * Rebuilds a limit after a restart. `entries` come in order of arrival. A waiter has no connection now:
 * its place is kept for a moment, in which the line waits for it.
 */
export function rebuild(saved: SavedLimit, entries: Iterable<SavedEntry>, now: At, recall: Limit["recall"]): Limit {
	const wokeAt = Math.max(now + saved.clock.offsetMs, saved.clock.lastAt);
	const limit: Limit = {
		...createLimit(saved.settings, now, recall),
		...{ clock: { ...saved.clock }, unleased: saved.unleased, totals: completed(saved.totals) },
		...{ meanHeldMs: saved.meanHeldMs, nextSeq: saved.nextSeq, deadlines: new Deadlines<Entry>() },
		...{ pausedUntil: saved.pausedUntil ?? 0, fence: saved.fence ?? 0 },
		...(saved.settled && { settled: { ...saved.settled } }),
		...(saved.polling && { polling: { ...saved.polling } }),
	};
	limit.order.restore(saved.order);
	// Where no keys were told apart, what a row says of a tag is of before.
	const told = new Set(saved.order?.served.map(([priority]) => priority));
	const bands: Band[] = [];
	for (const saved of entries) {
		const { id, seq, slots, print, leaseMs, since, band } = saved;
		const expiresAt = saved.expiresAt ?? Number.POSITIVE_INFINITY;
		const entry: Entry = {
			...{ id, seq, slots, print, leaseMs, since, expiresAt, others: saved.others },
			mode: saved.mode ?? "concurrency",
			holder: saved.holder ?? null,
			held: saved.held ?? false,
			remember: saved.remember ?? false,
			wants: saved.wants ?? "lease",
			state: saved.state ?? "leased",
			standing: saved.standing ?? "parked",
			inLine: false,
			enforced: saved.enforced ?? true,
			wouldDeny: saved.wouldDeny ?? false,
			atMost: saved.atMost ?? null,
			settleMs: saved.settleMs ?? null,
			waitedMs: saved.waitedMs ?? 0,
			key: saved.key ?? null,
			priority: saved.priority ?? 0,
			tag: told.has(saved.priority ?? 0) ? (saved.tag ?? null) : null,
			charge: told.has(saved.priority ?? 0) ? (saved.charge ?? 0) : 0,
			giveUpAt: saved.giveUpAt === undefined ? since : (saved.giveUpAt ?? Number.POSITIVE_INFINITY),
			until: saved.until === undefined ? expiresAt : (saved.until ?? Number.POSITIVE_INFINITY),
			peers: saved.peers ?? [],
			claims: saved.claims ?? (saved.claimed ? 1 : 0),
			fence: saved.fence ?? null,
			heapIndex: -1,
			...(saved.state === "lent" && { used: saved.used ?? 0, grants: saved.grants ?? 0, share: saved.share ?? 1 }),
		};
		if (band) bands.push({ id: entry.id, own: BigInt(band.own), below: BigInt(band.below), order: band.order });
		limit.entries.set(entry.id, entry);
		if (entry.state === "waiting") requeue(limit, entry, wokeAt);
		count(limit, entry, 1);
		(entry.state === "lent" ? limit.loans : limit.deadlines).set(entry, entry.until);
	}
	limit.level = usageOf(limit.settings, limit.clock, saved.level.at);
	if (decays(limit)) limit.level.restore(bands, saved.level);
	return limit;
}

function requeue(limit: Limit, entry: Entry, wokeAt: At): void {
	setInLine(limit, entry, true);
	// Its row may be of before the limit was changed.
	entry.slots = sizeOf(limit, entry);
	if (entry.standing === "parked") entry.until = Math.min(entry.giveUpAt, wokeAt + RESERVATION_MS);
	else entry.standing = "resuming";
	if (inTurn(entry)) entry.until = Math.min(entry.giveUpAt, wokeAt + RESUME_MS);
}

const finite = (at: At): At | null => (at === Number.POSITIVE_INFINITY ? null : at);
