/** How often limits tell the directory in what condition they are, and how often it asks. */

import type { Ms } from "../../core/time.ts";

/** A limit tells no more often than this. */
export const CONDITION_MS: Ms = 5_000;
/** A limit that is used, or has a line, tells this often though nothing changed; what it counted is good for as long. */
export const CONDITION_AGAIN_MS: Ms = 60_000;
/** Tellings a minute that the directory takes before it asks for longer pauses: a fifth of what one object can answer. */
export const CONDITIONS_PER_MINUTE = 12_000;
