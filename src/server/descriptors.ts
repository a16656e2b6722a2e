/**
 * The local server's file descriptors. workerd ends when it has none left for a connection, so the last ones are not given
 * to callers: those are answered 503. Deployed there is nothing of the kind.
 *
 * They are counted by the system, and asked for only when what was done since may have used half of the rest.
 */

import { BOUNDS } from "../protocol.ts";
import { problem } from "./answers.ts";
import type { Env } from "./env.ts";
import { answerProblem } from "./http.ts";
import type { Service } from "./origins.ts";

/** What a name in use costs (its database, log and index), and what a connection does. */
export const DESCRIPTORS = { name: 3, connection: 2 };
/** Full, they are counted again after this. */
const LOOK_AGAIN_MS = 100;

/** What was open when it was last counted, when that was, and what was done since. */
const seen = { open: 0, at: Number.NEGATIVE_INFINITY, charged: Number.POSITIVE_INFINITY };

/** Something may open so many. */
export function charge(descriptors: number): void {
	seen.charged += descriptors;
}

/** A Worker's fetch that refuses what it has no descriptors for. */
export function withinDescriptors(service: Service): Service {
	return {
		async fetch(request, env, context) {
			charge(DESCRIPTORS.connection);
			if ((await isFull(env)) && !givesBack(request)) {
				return answerProblem({
					...problem(
						"overloaded",
						`This server may open ${env.HEADGATE_DESCRIPTORS} files (\`ulimit -n\`), and nearly all are in use. Nothing was taken.`,
					),
					retryAfterSeconds: 1,
				});
			}
			return service.fetch(request, env, context);
		},
	};
}

/** Calls that free something, or keep what is held; and the one that tells whether the server lives. */
function givesBack(request: Request): boolean {
	return /^\/health$|\/(renew|release|decrement|decrement-with-lease)$/.test(new URL(request.url).pathname);
}

async function isFull(env: Env): Promise<boolean> {
	const { DESCRIPTORS: folder, HEADGATE_DESCRIPTORS: limit } = env;
	if (folder === undefined || limit === undefined) return false;
	const usable = Number(limit) * BOUNDS.descriptorShare;
	const full = seen.open >= usable;
	if (full ? Date.now() - seen.at < LOOK_AGAIN_MS : seen.charged < (usable - seen.open) / 2) return full;
	// What others do until the answer is there counts as done after it.
	seen.charged = 0;
	seen.at = Date.now();
	const answer = await folder.fetch("http://descriptors/");
	seen.open = (await answer.text()).split('"name"').length - 1;
	return seen.open >= usable;
}
