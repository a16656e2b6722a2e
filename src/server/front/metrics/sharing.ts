/**
 * One text of `/metrics` for all who ask within a second, by prefix: it asks up to 500 limits, and several scrapers at
 * once would keep all other callers waiting. One is made at a time in this Worker. Those who find it being made wait, each by
 * a timer of its own (what one request awaits must not hang on another's), and get the text and not the promise of it.
 */

import { BOUNDS } from "../../../protocol.ts";
import type { Env } from "../../contract/env.ts";
import { problem } from "../../contract/problems.ts";
import { Recent } from "../admission/recent.ts";
import type { Caller } from "../caller.ts";
import { Refused } from "../http/refused.ts";
import { metrics } from "./exposition.ts";

/** Prefixes whose texts are kept: one for each tenant that scrapes. */
const REMEMBERED = 100;
/** How often a caller that waits looks. */
const LOOK_MS = 20;

interface Text {
	text: string;
	/** When it was done. */
	at: number;
}

class Shared {
	readonly texts = new Recent<Text>(REMEMBERED);
	/** Since when one is being made; one that takes too long is given up, for its request may be over. */
	makingSince = Number.NEGATIVE_INFINITY;
}

const ofDirectory = new WeakMap<Env["DIRECTORY"], Shared>();

export async function sharedMetrics(env: Env, prefix: string, caller: Caller): Promise<string> {
	let shared = ofDirectory.get(env.DIRECTORY);
	if (!shared) {
		shared = new Shared();
		ofDirectory.set(env.DIRECTORY, shared);
	}
	const waitMs = BOUNDS.metricsWaitSeconds * 1_000;
	for (const giveUpAt = Date.now() + waitMs; Date.now() < giveUpAt; await scheduler.wait(LOOK_MS)) {
		const now = Date.now();
		const made = shared.texts.get(prefix);
		if (made && now - made.at < BOUNDS.metricsSeconds * 1_000) return made.text;
		if (now - shared.makingSince < waitMs) continue;
		return make(shared, env, prefix, caller, now);
	}
	throw new Refused(
		problem("overloaded", "The metrics are being made for others. Try again in a second.", { retryAfterSeconds: 1 }),
	);
}

function make(shared: Shared, env: Env, prefix: string, caller: Caller, now: number): Promise<string> {
	shared.makingSince = now;
	const making = metrics(env, prefix)
		.then((text) => {
			shared.texts.set(prefix, { text, at: Date.now() });
			return text;
		})
		.finally(() => {
			if (shared.makingSince === now) shared.makingSince = Number.NEGATIVE_INFINITY;
		});
	// Its caller may go, and the others wait for it all the same.
	caller.waitUntil(making.catch(() => undefined));
	return making;
}
