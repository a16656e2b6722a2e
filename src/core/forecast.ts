/**
 * When slots will be free. With decay the answer is exact, for the level falls by `rate` units a millisecond whatever
 * happens: it is at `units` or below from
 *
 *     at + ceil((total - units) / rate)
 *
 * on, and so for all that is in line before a request together; a line with parts of requests or loans in it is played
 * forward, each in its turn. Without decay slots come back when their holders give them back, which only the mean time that they were held can tell: an estimate, and said to be one. The end of a
 * pause is known in either case.
 */

import { priceOf, starveBefore } from "./fairness.ts";
import { Level } from "./level.ts";
import { decays, type Entry, isPaused, isShut, type Limit } from "./limit.ts";
import { PLAYED_MAX, type Whose } from "./order.ts";
import { RESERVATION_MS, RETRY_ESTIMATE_MAX_MS } from "./patience.ts";
import type { Before } from "./ranked.ts";
import type { At, Ms } from "./time.ts";
import { SLOT } from "./usage.ts";

/** Who asks for slots, and for how many. */
type Asking = Whose & { readonly slots: number };

/** The first moment when decay alone makes room for `slots` more; never earlier than the last moment decided. */
export function fitsAt(limit: Limit, slots: number): At {
	const { settings, sums, level } = limit;
	return level.reaches(BigInt(settings.limit - sums.reserved - sums.lent - slots) * SLOT);
}

/**
 * How long nothing but decay gives slots back, if callers ask for nothing but slots; at most `mostMs`. 0: not at all,
 * for a waiter may leave, and a holder may give its lease back or lose it with its connection. What another Worker repays
 * of a loan is felt like any change through it: a moment late.
 */
export function steadyMs(limit: Limit, mostMs: Ms): Ms {
	const { settings, sums, deadlines, clock } = limit;
	if (!settings.active || !decays(limit) || sums.waiting > 0 || sums.returnable > 0) return 0;
	const first = deadlines.first;
	return first ? Math.max(0, Math.min(mostMs, first.until - clock.lastAt)) : mostMs;
}

/**
 * How long until a request that joins the line now would be served, after so many as are `before` it: exact with decay, an
 * estimate without.
 */
export function retryAfterMs(limit: Limit, asked: Asking, before: Before): Ms {
	const { slots } = asked;
	const now = limit.clock.lastAt;
	const pausedMs = isPaused(limit) ? limit.pausedUntil - now : 0;
	// It is not known when an operator will raise it.
	if (isShut(limit)) return Math.max(pausedMs, RETRY_ESTIMATE_MAX_MS);
	if (decays(limit)) return servedAt(limit, asked, before) - now;
	const { sums, unleased, settings } = limit;
	const wanted = sums.leased + sums.reserved + unleased + before.size + slots;
	if (pausedMs > 0 && wanted <= settings.limit) return pausedMs;
	const first = limit.deadlines.first;
	const toFirstDeadline = first ? first.until - now : RETRY_ESTIMATE_MAX_MS;
	const rounds = Math.ceil((before.size + slots) / Math.max(1, settings.limit));
	const estimate = limit.meanHeldMs === null ? toFirstDeadline : limit.meanHeldMs * rounds;
	return Math.max(pausedMs, Math.round(Math.min(RETRY_ESTIMATE_MAX_MS, Math.max(0, estimate))));
}

/** When a request that joins the line now is served by a limit whose slots come back by themselves. */
function servedAt(limit: Limit, asked: Asking, before: Before): At {
	const { level, sums } = limit;
	const isSure = sums.inTurnUnsure === 0 && sums.reserved === 0 && sums.lent === 0;
	if (level instanceof Level && isSure && asked.slots > 0) return drainedAt(limit, level, asked.slots, before);
	return sums.inTurn <= PLAYED_MAX ? playedAt(limit, asked) : estimatedAt(limit, asked.slots + before.size);
}

/** From when on time is told: while it is being caught up with, what is in use is still that of an earlier moment. */
const startsAt = (limit: Limit): At => (isPaused(limit) ? limit.pausedUntil : limit.clock.lastAt);

/**
 * By decay, and each waiter in its turn: as long as there is a line the level drains all the time, so a request is served when so
 * much has drained as is poured before it and does not fit beside it:
 *
 *     level + slots before it - drained <= limit - its slots
 *
 * What is served is served at whole milliseconds, so where a waiter takes the whole limit, an empty level may wait for less than
 * one, unless a slot comes back in whole ones. With a limit of 1 that is each waiter; with a larger one, and waiters of many sizes,
 * a millisecond is added for each that it could be.
 */
function drainedAt(limit: Limit, level: Level, slots: number, before: Before): At {
	const { settings, sums } = limit;
	const usage = level.forecast();
	usage.drain(startsAt(limit));
	if (settings.limit === 1) {
		const first = usage.reaches(0n);
		return first + before.count * Number((SLOT + usage.rate - 1n) / usage.rate);
	}
	const isExact = sums.inTurn === sums.inTurnSlots || SLOT % usage.rate === 0n;
	const wasted = isExact ? 0 : Math.floor(before.size / settings.limit);
	return usage.reaches(BigInt(settings.limit - before.size - slots) * SLOT) + wasted;
}

/** When so many slots were granted, in rounds of as many as the limit grants at once; what is set aside or lent is taken for used. */
function estimatedAt(limit: Limit, all: number): At {
	const { settings, sums } = limit;
	const usage = limit.level.forecast();
	usage.drain(startsAt(limit));
	usage.pour(sums.reserved + sums.lent);
	const from = usage.at;
	const free = settings.limit - Number((usage.total + SLOT - 1n) / SLOT);
	let left = all - Math.max(0, Math.min(all, free));
	usage.pour(all - left);
	for (let round = 0; left > 0 && round < PLAYED_MAX; round += 1) {
		const slots = Math.min(left, settings.limit);
		usage.drain(usage.reaches(BigInt(settings.limit - slots) * SLOT));
		usage.pour(slots);
		left -= slots;
	}
	return usage.at + Math.ceil(((usage.at - from) * left) / (all - left));
}

/** Plays the line forward, each in its turn, to a request that joins it now. */
function playedAt(limit: Limit, asked: Asking): At {
	const { settings, order } = limit;
	const usage = limit.level.forecast();
	let { reserved, lent } = limit.sums;
	// A loan that is not repaid joins the level at its end.
	const loans = [...limit.loans.values()].sort((a, b) => b.until - a.until);
	const run = (until: At): void => {
		for (let next = loans.at(-1); next && next.until <= until; next = loans.at(-1)) {
			usage.drain(Math.max(usage.at, next.until));
			usage.pour(next.slots);
			lent -= next.slots;
			loans.pop();
		}
		usage.drain(until);
	};
	const serve = (wanted: number, wants: Entry["wants"]): void => {
		if (wanted > settings.limit - reserved) {
			// Reservations do not come back by themselves: at the latest they lapse.
			run(usage.at + RESERVATION_MS);
			reserved = 0;
		}
		for (;;) {
			const units = BigInt(settings.limit - reserved - lent - wanted) * SLOT;
			if (usage.total <= units) break;
			const fitsAt = usage.reaches(units);
			const loan = loans.at(-1);
			// Decay alone makes no room that is lent.
			run(loan && (units < 0n || loan.until < fitsAt) ? loan.until : fitsAt);
			if (!loan) break;
		}
		if (wants === "lease") usage.pour(wanted);
		else reserved += wanted;
	};
	run(startsAt(limit));
	const { key, priority, slots } = asked;
	const arriving = { key, priority, slots, seq: Number.POSITIVE_INFINITY };
	for (const entry of order.walk(priceOf(limit), starveBefore(limit), arriving)) {
		if (!("standing" in entry)) break;
		if (entry.standing === "present") serve(entry.slots, entry.wants);
		else if (entry.standing === "resuming" && entry.until > usage.at) run(entry.until);
	}
	serve(slots, "lease");
	return usage.at;
}
