/** What one caller may take of what all callers share, for as long as one of its requests is served. */

import type { TokenBounds } from "../../protocol.ts";
import type { Share } from "./outcomes.ts";

export interface CallerBounds {
	most(bound: keyof TokenBounds): number;
	/** Its part of something that an object has to give. */
	share(bound: keyof TokenBounds): Share;
	/** Policies are shared by prefix: whichever token made them, those within it count. */
	readonly policies: { prefix: string; most: number };
	/** Takes one of the new names of this minute; false: there are none left. */
	takeName(): boolean;
	/** The name was none that is new. */
	putNameBack(): void;
	/** The refusal of a name for which there is none left. */
	tooManyNames(name: string): Error;
	/** One more stream, or socket, in this Worker: answers how to end it, or null where there are too many. */
	enter(pool: "streams" | "sockets"): (() => void) | null;
}
