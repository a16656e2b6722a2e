/** Lists of limits, leases and policies, as they are answered. */

import type { LeaseInfo, LimitSummary, PolicySettings } from "./protocol.ts";

/** A page of anything; `next` is the `after` of the next page, or null at the end. */
export interface LimitsPage {
	limits: LimitSummary[];
	next: string | null;
	/** Names of this page whose limits could not be asked. */
	unavailable?: string[];
}

export interface LeasesPage {
	leases: LeaseInfo[];
	next: string | null;
}

/** Settings for one name, or for every name that starts with a prefix. */
export interface Policy extends PolicySettings {
	/** A literal prefix and one closing `*`: `login:*`. Or the exact name of a limit, which counts before any prefix. */
	pattern: string;
	updatedAt: string;
	/** The token that set it, by its name. Null: no token was needed. */
	updatedBy: string | null;
}

export interface PoliciesPage {
	policies: Policy[];
}
