/**
 * A clock that was set back. The runtime lets time in an object stand still until the clock has caught up, timers and
 * alarms included, while time in the Worker moves on: nothing would end, decay or be granted for as long. So each call
 * brings the Worker's time, and an object that finds its own far from it throws itself away. The next one has the clock
 * that is, and counts on from where this one was.
 */

import type { At, Ms } from "../../core/time.ts";

/** Clocks further apart than this were set: those of two machines of one network differ by milliseconds. */
export const CLOCKS_APART_MS: Ms = 5_000;
/** A Worker whose own clock is wrong throws away the same limit no more often than this. */
export const RESET_AGAIN_MS: Ms = 60_000;

/** How the reason of a reset begins, by which a Worker knows that nothing of its call was decided. */
const REASON = "The clock was set";

/** When the object was last thrown away for its clock, by the Worker's time. */
const KEY = "clockResetAt";

/** Why the object is to be thrown away; null: it is not. */
export function clockFault(kv: SyncKvStorage, sentAt: At | undefined, now: At): string | null {
	if (sentAt === undefined || Math.abs(sentAt - now) <= CLOCKS_APART_MS) return null;
	const last = kv.get<At>(KEY);
	const apart = `it is ${new Date(sentAt).toISOString()} in a Worker, and ${new Date(now).toISOString()} in this object`;
	if (last !== undefined && Math.abs(sentAt - last) < RESET_AGAIN_MS) {
		console.warn(`The clock of a Worker is wrong: ${apart}, which was made anew within the last minute.`);
		return null;
	}
	kv.put(KEY, sentAt);
	return `${REASON}: ${apart}. It is made anew.`;
}

/** Calls, and once more where the object threw itself away for its clock instead of deciding. */
export async function withRightClock<T>(call: () => Promise<T>): Promise<T> {
	try {
		return await call();
	} catch (error) {
		if (!(error instanceof Error && error.message.includes(REASON))) throw error;
		return call();
	}
}
