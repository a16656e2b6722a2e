/**
 * When slots will be free. With decay the answer is exact, for the level falls by `rate` units a millisecond whatever
 * happens: it is at `units` or below from
 *
 *     at + ceil((total - units) / rate)
 *
 * on, and the line ahead can be played forward by this one formula. Without decay slots come back when their holders
 * give them back, which only the mean time that they were held can tell: an estimate, and said to be one. The end of a
 * pause is known in either case.
 */

import { ahead, priceOf, starveBefore } from "./fairness.ts";
import { decays, type Entry, isPaused, isShut, type Limit } from "./limit.ts";
import type { Whose } from "./order.ts";
import { RESERVATION_MS, RETRY_ESTIMATE_MAX_MS } from "./patience.ts";
import type { At, Ms } from "./time.ts";
import { SLOT } from "./usage.ts";

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
	const { settings, sums, queue, deadlines, clock } = limit;
	if (!settings.active || !decays(limit) || queue.size > 0 || sums.returnable > 0) return 0;
	const first = deadlines.first;
	return first ? Math.max(0, Math.min(mostMs, first.until - clock.lastAt)) : mostMs;
}

/** How long until a request that joins the line now would be served: exact with decay, an estimate without. */
export function retryAfterMs(limit: Limit, asked: Whose & { readonly slots: number }): Ms {
	const { slots } = asked;
	const now = limit.clock.lastAt;
	const pausedMs = isPaused(limit) ? limit.pausedUntil - now : 0;
	// It is not known when an operator will raise it.
	if (isShut(limit)) return Math.max(pausedMs, RETRY_ESTIMATE_MAX_MS);
	if (decays(limit)) return servedAt(limit, asked) - now;
	const { sums, unleased, settings } = limit;
	const before = ahead(limit, asked).size;
	const wanted = sums.leased + sums.reserved + unleased + before + slots;
	if (pausedMs > 0 && wanted <= settings.limit) return pausedMs;
	const first = limit.deadlines.first;
	const toFirstDeadline = first ? first.until - now : RETRY_ESTIMATE_MAX_MS;
	const rounds = Math.ceil((before + slots) / Math.max(1, settings.limit));
	const estimate = limit.meanHeldMs === null ? toFirstDeadline : limit.meanHeldMs * rounds;
	return Math.max(pausedMs, Math.round(Math.min(RETRY_ESTIMATE_MAX_MS, Math.max(0, estimate))));
}

/** Plays the line of a limit whose slots come back by themselves forward, each in its turn, to a request that joins it now. */
function servedAt(limit: Limit, asked: Whose & { readonly slots: number }): At {
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
	// While time is being caught up with, what is in use is still that of an earlier moment.
	run(isPaused(limit) ? limit.pausedUntil : limit.clock.lastAt);
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
