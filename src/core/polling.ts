/**
 * What callers that poll leave behind. A caller that is denied and does not wait will ask again, and so is counted: those
 * who are told to come back must come back one after the other. The count sinks as slots come free, and a grant
 * takes its own slots off it. Nothing here decides about a grant.
 */

import type { At, Clock, Ms } from "./time.ts";

export interface Polling {
	/** Slots that were denied and not asked for again, at the moment `at`. */
	denied: number;
	at: At;
	/** Mean time that one slot is held, recent ones weighing more, as Prefect counts it. */
	averageHeldMs: Ms;
}

/** What is asked here of a limit. */
interface Polled {
	polling: Polling;
	readonly settings: { readonly limit: number; readonly slotDecayPerSecond: number };
	readonly clock: Readonly<Clock>;
}

/** The mean before a slot has been held. */
const FIRST_HELD_MS: Ms = 2_000;
/** Shorter times than this say more about the network than about the work. */
const HELD_MIN_MS: Ms = 100;
/** Longer ones would keep callers away that could be served long before. */
export const HELD_MAX_MS: Ms = 30_000;

export const newPolling = (at: At): Polling => ({ denied: 0, at, averageHeldMs: FIRST_HELD_MS });

/** Slots denied of late that are still expected to be asked for again. */
export function deniedSlots({ polling, settings, clock }: Polled): number {
	const heldMs = Math.min(HELD_MAX_MS, Math.max(HELD_MIN_MS, polling.averageHeldMs));
	const perMs = settings.slotDecayPerSecond > 0 ? settings.slotDecayPerSecond / 1_000 : 1 / heldMs;
	return Math.max(0, polling.denied - perMs * Math.max(0, clock.lastAt - polling.at));
}

/** Counts slots that were denied, or takes off those that were granted. */
export function countDenied(limit: Polled, slots: number): void {
	setDenied(limit, Math.max(0, deniedSlots(limit) + slots));
}

export function setDenied(limit: Polled, slots: number): void {
	limit.polling.denied = slots;
	limit.polling.at = limit.clock.lastAt;
}

/** Learns from slots that were given back how long they are held. The dead say nothing about it. */
export function learnHeld(limit: Polled, slots: number, heldMs: Ms): void {
	const capacity = limit.settings.limit;
	if (capacity === 0) return;
	setDenied(limit, deniedSlots(limit));
	const perSlotMs = Math.max(HELD_MIN_MS, heldMs / slots);
	limit.polling.averageHeldMs += (perSlotMs - limit.polling.averageHeldMs) / (2 * capacity);
}
