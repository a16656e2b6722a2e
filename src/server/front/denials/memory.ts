/** The denials that this Worker remembers; see `denials.ts`. */

import type { Env } from "../../contract/env.ts";
import { Denials } from "./denials.ts";

/** One for each binding: a program may be bound to more than one Headgate. */
const ofLimits = new WeakMap<Env["LIMITS"], Denials>();

export function denialsOf({ LIMITS }: Env): Denials {
	let denials = ofLimits.get(LIMITS);
	if (!denials) {
		denials = new Denials();
		ofLimits.set(LIMITS, denials);
	}
	return denials;
}

/** Whether an operator wants every denial to come from its limit. */
export const isForgetful = (env: Env): boolean => env.HEADGATE_DENIAL_MEMORY === "off";
