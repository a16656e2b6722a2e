/** Requests that are denied from memory, where their denial stands; see `denials.ts`. */

import { waitUntil } from "cloudflare:workers";
import type { Ms } from "../../../core/time.ts";
import type { Env } from "../../contract/env.ts";
import { limitOf } from "../limit-stub.ts";
import { type Acquire, modeOf } from "../requests.ts";
import { deniedVerdict, type Verdict } from "../verdict.ts";
import type { Deniable } from "./denials.ts";
import { denialsOf, isForgetful } from "./memory.ts";

/** Denies the request from memory, or asks, and remembers a denial that stands. */
export async function remembering(env: Env, request: Acquire, ask: () => Promise<Verdict>): Promise<Verdict> {
	const deniable = deniableOf(request);
	if (!deniable || isForgetful(env)) return ask();
	const denials = denialsOf(env);
	const askedAt = Date.now();
	const again = denials.find(deniable, askedAt);
	if (again) {
		if (again.tell) waitUntil(tell(env, again.tell.name, again.tell.afterMs));
		return deniedVerdict(request.id, again.answered);
	}
	const { ticket } = denials;
	const verdict = await ask();
	if (!verdict.ok && verdict.answered) denials.note(deniable, verdict.answered, ticket, askedAt, Date.now());
	return verdict;
}

/**
 * A request whose denial may be remembered. Not one that waits, nor one that its caller may have sent before: it may have
 * been granted, and then is granted again. Only what is taken by rate is denied by decay.
 */
function deniableOf(request: Acquire): Deniable | null {
	const { names, mode, rated, waitMs, maybeRepeated, polled, createIfMissing, strict } = request;
	if (waitMs > 0 || maybeRepeated || polled || (mode === "concurrency" && rated.length === 0)) return null;
	const [only, ...others] = names;
	const isRated = (name: string): boolean => modeOf(request, name) === "rate_limit";
	if (only && others.length === 0) return { key: only[0], names, isRated };
	return { key: `\n${JSON.stringify([names, mode, rated, createIfMissing, strict])}`, names, isRated };
}

/** Tells a limit how many requests were denied in its name, once the denial is over. */
async function tell(env: Env, name: string, afterMs: Ms): Promise<void> {
	await scheduler.wait(afterMs);
	const count = denialsOf(env).take(name);
	try {
		if (count > 0) await limitOf(env, name).absorbed(count);
	} catch (error) {
		console.warn(`"${name}" was not told of ${count} denials, so its total lacks them:`, error);
	}
}
