/** How long a limit waits for others before it acts without them. */

import type { Ms } from "./time.ts";

/** How long slots stay set aside for a request that collects its other names, since it was last heard of. */
export const RESERVATION_MS: Ms = 5_000;
/** How long after its commit a lease of several names asks its peers whether they committed too. */
export const DOUBT_MS: Ms = 3_000;
/** Doubts fall due on multiples of this, so that a busy limit asks each peer once for many of them. */
export const DOUBT_STEP_MS: Ms = 500;
/** How long a waiter whose connection broke keeps its place. With the time to notice it, under two seconds. */
export const AWAY_MS: Ms = 750;
/** How long the line waits, after a restart, for waiters to come back. */
export const RESUME_MS: Ms = 5_000;
/** How long an id is remembered after its lease ended. */
export const REMEMBER_MS: Ms = 300_000;
/** How long the id of a rate-limit grant is remembered. */
export const REMEMBER_RECEIPT_MS: Ms = 60_000;
/**
 * How long after its end a loan is still waited for. Its Worker counts its time from before it asked, so it ends before by
 * its own clock; this is for a clock that runs slower, or stands still while a Worker computes.
 */
export const LOAN_GRACE_MS: Ms = 2_000;
/** Longest estimate given without decay, after which asking again beats believing. */
export const RETRY_ESTIMATE_MAX_MS: Ms = 30_000;
