/**
 * What one caller may take of what all callers share: each token has bounds of its own, so that none empties a pool for
 * the others. An open server's callers are one. What an object has to give (its line, its watchers, the policies) is
 * counted there, and exactly; what is counted here (new names, streams in all, sockets) is counted in each Worker.
 */

import { BOUNDS, type Problem, type TokenBounds } from "../../../protocol.ts";
import type { Env } from "../../contract/env.ts";
import type { Share } from "../../contract/outcomes.ts";
import { problem } from "../../contract/problems.ts";
import type { Grant } from "../auth.ts";
import { Rate } from "./rate.ts";

/** A bound of the caller's token stands in the way. */
export class TooMany extends Error {
	override readonly name = "TooMany";
	readonly problem: Problem;
	constructor(refusal: Problem) {
		super(refusal.detail);
		this.problem = refusal;
	}
}

/** What a Worker counts of one token. */
class Counts {
	streams = 0;
	sockets = 0;
	readonly newNames = new Rate();
}

/** By token. There are as many as there are tokens, for others are refused before. */
const counted = new Map<string, Counts>();

/** The environment for the requests of one caller: whatever is asked in its name is counted as its own. */
export function admitted(env: Env, grant: Grant): Env {
	return { ...env, caller: new Admission(grant) };
}

export class Admission {
	/** Tells tokens apart; those of one name and prefix are one, so that a rotation doubles nothing. */
	readonly token: string;
	readonly #prefix: string;
	readonly #given: Partial<TokenBounds>;

	constructor({ name, prefix, bounds = {} }: Grant) {
		this.token = `${name}\n${prefix}`;
		this.#prefix = prefix;
		this.#given = bounds;
	}

	most(bound: keyof TokenBounds): number {
		// Without a prefix there is no part of the policies to speak of: all of them are the token's to set.
		const usual = bound === "policies" && this.#prefix === "" ? BOUNDS.policies : BOUNDS.perToken[bound];
		return this.#given[bound] ?? usual;
	}

	share(bound: keyof TokenBounds): Share {
		return { token: this.token, most: this.most(bound) };
	}

	/** Policies are shared by prefix: those within it count, by whichever token they were made. */
	get policies(): { prefix: string; most: number } {
		return { prefix: this.#prefix, most: this.most("policies") };
	}

	/** Takes one of the new names of this minute; false: there are none left. */
	takeName(): boolean {
		return this.#counts.newNames.take(this.most("newNamesPerMinute"), Date.now());
	}

	/** The name was none that is new. */
	putNameBack(): void {
		this.#counts.newNames.putBack();
	}

	tooManyNames(name: string): TooMany {
		const most = this.most("newNamesPerMinute");
		const detail =
			`Your token used ${most} names within a minute that were not used before, and may use no more, so "${name}" was not ` +
			"looked for. Names that exist are served. Try again in a moment, or raise `newNamesPerMinute` in the token's bounds.";
		return new TooMany(problem("too_many_names", detail, { retryAfterSeconds: Math.max(1, Math.ceil(60 / most)) }));
	}

	/** One more stream, or socket, of this token in this Worker: answers how to end it, or null where there are too many. */
	enter(pool: "streams" | "sockets"): (() => void) | null {
		const counts = this.#counts;
		if (counts[pool] >= this.most(pool)) return null;
		counts[pool] += 1;
		let over = false;
		return () => {
			if (!over) counts[pool] -= 1;
			over = true;
		};
	}

	get #counts(): Counts {
		let counts = counted.get(this.token);
		if (!counts) {
			counts = new Counts();
			counted.set(this.token, counts);
		}
		return counts;
	}
}
