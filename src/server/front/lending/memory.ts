/** The loans of this Worker; see `loans.ts`. */

import type { Env } from "../../contract/env.ts";
import { Loans } from "./loans.ts";

/** One for each binding: a program may be bound to more than one Headgate. */
const ofLimits = new WeakMap<Env["LIMITS"], Loans>();

export function loansOf({ LIMITS }: Env): Loans {
	let loans = ofLimits.get(LIMITS);
	if (!loans) {
		// No request's id has that character.
		loans = new Loans(() => `~${crypto.randomUUID()}`);
		ofLimits.set(LIMITS, loans);
	}
	return loans;
}
