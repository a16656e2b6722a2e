/** The core counts whole milliseconds, and is told what time it is. */

/** A moment, milliseconds since the epoch. Names end in `At`. */
export type At = number;
/** A length of time in milliseconds. Names end in `Ms`. */
export type Ms = number;

/**
 * The time of a limit. It runs with the clock of those who call, and on from where it was when that clock jumps back:
 *
 *     logical moment = moment of the caller's clock + offsetMs
 *
 * so no moment that was decided lies in the future, and no time that ran is lost or runs twice.
 */
export interface Clock {
	/** The last logical moment at which something was decided. */
	lastAt: At;
	offsetMs: Ms;
}

/** The logical moment of `now`, which is a moment of the caller's clock. */
export function tellTime(clock: Clock, now: At): At {
	if (now + clock.offsetMs < clock.lastAt) clock.offsetMs = clock.lastAt - now;
	clock.lastAt = now + clock.offsetMs;
	return clock.lastAt;
}
