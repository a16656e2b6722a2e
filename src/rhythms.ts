/**
 * Rhythms that both ends of a connection have to know: how often one of them is heard of, from which the other tells
 * silence. They stand apart from the protocol, so that the library takes these few numbers along and no more.
 */

/** How often a held lease and the first places in line hear of it. A caller that has gone is noticed at the second one. */
export const BEAT_MS = 500;
/** Those first places, which are told at once when they change: slots must not be offered to the dead for long. */
export const NEAR_PLACES = 16;
/** How often the places behind them hear of it, so that thousands of waiters cost little. */
export const FAR_BEAT_MS = 15_000;
/** How often a stream that watches hears of it; a reader that has gone is noticed at the second time. */
export const WATCH_BEAT_MS = 2_500;
/** Renewed after this part of its length, a lease outlives two renewals that fail. */
export const RENEW_AT = 1 / 3;
