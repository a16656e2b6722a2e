/**
 * What the settings of a limit, and how long its slots are held, make of the order of service: what a slot counts for when a key
 * is charged, and how old a waiter may get. With prices in whole numbers:
 *
 *     where slots come back by themselves    a slot        = 1,000,000 / weight
 *     where they are given back              a slot for so long as one is held = 1,000 * milliseconds / weight
 */

import { decays, type Entry, type Limit, STARVE_AFTER_SECONDS } from "./limit.ts";
import type { Price, Whose } from "./order.ts";
import type { Before } from "./ranked.ts";
import type { At, Ms } from "./time.ts";

/** How many waiters are served before this one, or before a request that arrives now, and their slots. */
export const ahead = (limit: Limit, of: Whose & { readonly seq?: number }): Before =>
	limit.order.ahead(of, priceOf(limit), starveBefore(limit));

/** Who arrived then or earlier starves while a higher priority waits. */
export function starveBefore({ settings, clock }: Limit): At {
	const { starveAfterSeconds = STARVE_AFTER_SECONDS } = settings;
	return starveAfterSeconds > 0 ? clock.lastAt - 1_000 * starveAfterSeconds : Number.NEGATIVE_INFINITY;
}

/** Of a slot that comes back by itself, for a key of weight 1: fine enough for weights up to 1,000. */
const SLOT_PRICE = 1_000_000;
/** Of a slot that is held for a millisecond, likewise. */
const SLOT_MS_PRICE = 1_000;
/** How long a slot is taken to be held before one was. */
const FIRST_HELD_MS: Ms = 1_000;

/** What one slot counts for when a key is charged: itself where slots come back by themselves, else the time that one is held. */
export function priceOf(limit: Limit): Price {
	const { weights } = limit.settings;
	const price = decays(limit) ? SLOT_PRICE : SLOT_MS_PRICE * Math.max(1, limit.meanHeldMs ?? FIRST_HELD_MS);
	const usual = Math.max(1, Math.round(price));
	if (weights === undefined || isEmpty(weights)) return usual;
	return (key) => Math.max(1, Math.round(price / weightOf(weights, key)));
}

export const hasWeight = ({ settings }: Limit, key: string): boolean =>
	settings.weights !== undefined && Object.hasOwn(settings.weights, key);

const isEmpty = (weights: object): boolean => {
	for (const _ in weights) return false;
	return true;
};

export const weightOf = (weights: Limit["settings"]["weights"], key: string | null): number =>
	key !== null && weights !== undefined && Object.hasOwn(weights, key) ? (weights[key] ?? 1) : 1;

/** What was granted came to its end after so long, `freed` slots before they came back by themselves: its key is charged for that. */
export function settleCharge(limit: Limit, entry: Entry, freed: number, heldMs: Ms): void {
	const weight = weightOf(limit.settings.weights, entry.key);
	const actual = decays(limit) ? (entry.slots - freed) * SLOT_PRICE : entry.slots * heldMs * SLOT_MS_PRICE;
	limit.order.correct(entry, Math.max(1, Math.round(actual / weight)));
}
