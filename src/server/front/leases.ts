/**
 * Leases of several names: each name's object renews its own part of a lease and gives it back. A part is a name, or
 * whatever else leads to its object.
 */

import type { At } from "../../core/time.ts";
import type { Env } from "../contract/env.ts";
import type { Outcome } from "../contract/outcomes.ts";
import { limitOf } from "./limit-stub.ts";

/**
 * Gives something back to the object of each part, and answers what they said, in the order of the parts. The first one
 * last: a waiter for all of them stands in its line, and finds the others free when its turn comes there.
 */
export async function firstLast<Part, T>(
	parts: readonly Part[],
	giveBack: (part: Part) => Promise<T>,
	/** How many parts may be the first. */
	firsts = 1,
): Promise<T[]> {
	const peers = await Promise.all(parts.slice(firsts).map(giveBack));
	return [...(await Promise.all(parts.slice(0, firsts).map(giveBack))), ...peers];
}

/** Slots that were given back. */
export const slotsBack = (answer: Outcome | null): number =>
	answer?.event.kind === "released" ? answer.event.slots : 0;

/** Gives back a lease, its names in the fixed order; answers the slots. */
export async function release(
	env: Env,
	id: string,
	names: readonly string[],
	by: "caller" | "unheard",
	firsts?: number,
): Promise<number> {
	const answers = await firstLast(names, (name) => limitOf(env, name).release(id, by), firsts);
	return answers.reduce((sum, answer) => sum + slotsBack(answer), 0);
}

/** When the first of its parts ends (`Infinity`: there are none), and the parts that hold nothing of the lease any more. */
export async function renew<Part>(
	parts: readonly Part[],
	renewOne: (part: Part) => Promise<Outcome | null>,
): Promise<{ endsAt: At; gone: Part[] }> {
	const answers = await Promise.all(parts.map(renewOne));
	const ends = answers.map((answer) => (answer?.event.kind === "renewed" ? answer.event.expiresAt : null));
	return {
		endsAt: Math.min(...ends.flatMap((end) => end ?? [])),
		gone: parts.filter((_, index) => ends[index] === null),
	};
}
