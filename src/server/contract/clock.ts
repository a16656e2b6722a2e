/**
 * A clock that was set back. The runtime lets time in an object stand still until the clock has caught up, timers and
 * alarms included, while time in the Worker moves on: nothing would end, decay or be granted for as long. So each call
 * brings the Worker's time, and an object that finds its own far from it says so instead of deciding. The Worker knows how
 * long the call took, and so whether it was merely late; only where that does not explain the difference does it tell the
 * object to throw itself away. The next one has the clock that is, and counts on from where this one was.
 */

import type { At, Ms } from "../../core/time.ts";

/** Clocks further apart than this were set: those of two machines of one network differ by milliseconds. */
export const CLOCKS_APART_MS: Ms = 5_000;
/** A Worker whose own clock is wrong throws away the same limit no more often than this. */
export const RESET_AGAIN_MS: Ms = 60_000;

/** How the reason of a reset begins, by which a Worker knows that nothing of its call was decided. */
const REASON = "The clock was set";
/** What an object says, with its own time, where a call was sent at another time and nothing of it was decided. */
const APART = /The clocks are apart: it is (\d+) in this object/;

/** When the object was last thrown away for its clock, by the Worker's time. */
const KEY = "clockResetAt";

const areApart = (sentAt: At, now: At): boolean => Math.abs(sentAt - now) > CLOCKS_APART_MS;

/** Throws where a call was sent at another time than it is here; the Worker finds out why. */
export function checkClock(sentAt: At | undefined, now: At): void {
	if (sentAt === undefined || !areApart(sentAt, now)) return;
	throw new Error(`The clocks are apart: it is ${now} in this object, and it was ${sentAt} in the Worker that calls.`);
}

/** Why the object is to be thrown away; null: it is not. */
export function clockFault(kv: SyncKvStorage, workerAt: At, now: At): string | null {
	if (!areApart(workerAt, now)) return null;
	const last = kv.get<At>(KEY);
	const apart = `it is ${new Date(workerAt).toISOString()} in a Worker, and ${new Date(now).toISOString()} in this object`;
	if (last !== undefined && Math.abs(workerAt - last) < RESET_AGAIN_MS) {
		console.warn(`The clock of a Worker is wrong: ${apart}, which was made anew within the last minute.`);
		return null;
	}
	kv.put(KEY, workerAt);
	return `${REASON}: ${apart}. It is made anew.`;
}

/**
 * Calls with the time of this Worker, and once more, without it, where the object found the clocks apart: after it was told
 * to throw itself away, by `reset`, or at once where the call was only on its way for so long.
 */
export async function withRightClock<T>(
	call: (sentAt?: At) => Promise<T>,
	reset: (workerAt: At) => Promise<void>,
): Promise<T> {
	const sentAt = Date.now();
	try {
		return await call(sentAt);
	} catch (error) {
		if (wasMadeAnew(error)) return call();
		const objectAt = error instanceof Error ? APART.exec(error.message)?.[1] : undefined;
		if (objectAt === undefined) throw error;
		if (!isBetween(Number(objectAt), sentAt, Date.now())) {
			try {
				await reset(Date.now());
			} catch (fault) {
				if (!wasMadeAnew(fault)) throw fault;
			}
		}
		return call();
	}
}

const wasMadeAnew = (error: unknown): boolean => error instanceof Error && error.message.includes(REASON);

/** Whether the object's time is one of those in which a call was on its way, for clocks that are not apart. */
const isBetween = (objectAt: At, sentAt: At, answeredAt: At): boolean =>
	objectAt >= sentAt - CLOCKS_APART_MS && objectAt <= answeredAt + CLOCKS_APART_MS;
