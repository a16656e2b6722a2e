/** The state of a limit as it is stored: plain values, one record for the limit and one for each entry. */

import { Deadlines } from "./deadlines.ts";
import type { Band } from "./level.ts";
import { count, createLimit, decays, type Entry, inTurn, type Limit } from "./limit.ts";
import { RESERVATION_MS, RESUME_MS } from "./patience.ts";
import type { Polling } from "./polling.ts";
import type { At } from "./time.ts";
import { completed } from "./totals.ts";

/** A limit without its entries. */
export type SavedLimit = Pick<Limit, "settings" | "clock" | "unleased" | "totals" | "meanHeldMs" | "nextSeq"> & {
	/** Absent in what was written before callers that poll were counted. */
	polling?: Polling;
	/** Units of 10^-18 slot; decimal text, for they do not fit a JSON number. */
	level: { at: At; total: string; top: string };
};

export type SavedEntry = Omit<Entry, "heapIndex" | "giveUpAt" | "expiresAt" | "until" | "claims"> & {
	/** Absent in what was written when it was only told whether there were any: `claimed`. */
	claims?: number;
	claimed?: boolean;
	/** Null: never. */
	giveUpAt: At | null;
	expiresAt: At | null;
	until: At | null;
	/** What it owns of the level when it was last written, and what no lease owns beneath it. */
	band?: { own: string; below: string; order: number };
};

export function saveLimit(limit: Limit): SavedLimit {
	const { settings, clock, unleased, totals, meanHeldMs, nextSeq, polling, level } = limit;
	return {
		...{ settings, clock, unleased, totals, meanHeldMs, nextSeq, polling },
		level: { at: level.at, total: String(level.total), top: String(level.top) },
	};
}

export function saveEntry(limit: Limit, entry: Entry): SavedEntry {
	const { heapIndex: _, ...fields } = entry;
	const band = limit.level.band(entry.id);
	return {
		...fields,
		giveUpAt: finite(entry.giveUpAt),
		expiresAt: finite(entry.expiresAt),
		until: finite(entry.until),
		...(band && { band: { own: String(band.own), below: String(band.below), order: band.order } }),
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
		...(saved.polling && { polling: { ...saved.polling } }),
	};
	const bands: Band[] = [];
	for (const { band, claimed, ...fields } of entries) {
		const entry: Entry = {
			...fields,
			claims: fields.claims ?? (claimed ? 1 : 0),
			giveUpAt: fields.giveUpAt ?? Number.POSITIVE_INFINITY,
			expiresAt: fields.expiresAt ?? Number.POSITIVE_INFINITY,
			until: fields.until ?? Number.POSITIVE_INFINITY,
			heapIndex: -1,
		};
		if (band) bands.push({ id: entry.id, own: BigInt(band.own), below: BigInt(band.below), order: band.order });
		limit.entries.set(entry.id, entry);
		if (entry.state === "waiting") requeue(limit, entry, wokeAt);
		count(limit.sums, entry, 1);
		limit.deadlines.set(entry, entry.until);
	}
	limit.level.at = saved.level.at;
	if (decays(limit)) limit.level.restore(bands, BigInt(saved.level.top), BigInt(saved.level.total));
	return limit;
}

function requeue(limit: Limit, entry: Entry, wokeAt: At): void {
	limit.queue.set(entry.id, entry);
	if (entry.standing === "parked") entry.until = Math.min(entry.giveUpAt, wokeAt + RESERVATION_MS);
	else entry.standing = "resuming";
	if (inTurn(entry)) entry.until = Math.min(entry.giveUpAt, wokeAt + RESUME_MS);
}

const finite = (at: At): At | null => (at === Number.POSITIVE_INFINITY ? null : at);
