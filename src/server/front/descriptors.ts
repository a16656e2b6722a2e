/**
 * The local server's file descriptors. workerd ends when it has none left for a connection, so the last ones are not given
 * to callers: those are answered 503. Deployed there is nothing of the kind.
 *
 * They are counted by the system, and asked for only when what was done since may have used half of the rest.
 */

import { BOUNDS, type Problem } from "../../protocol.ts";
import type { Env } from "../contract/env.ts";
import { problem } from "../contract/problems.ts";
import { pathOf } from "./http/gate.ts";

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

/** Calls that free something, or keep what is held; and the one that tells whether the server lives. */
const givesBack = ({ url }: Request): boolean =>
	/^\/health$|\/(renew|release|decrement|decrement-with-lease)$/.test(pathOf(url));

/** Why a request is refused for want of descriptors, or null. */
export async function outOfDescriptors(request: Request, env: Env): Promise<Problem | null> {
	charge(DESCRIPTORS.connection);
	if (!isDue(env) || givesBack(request) || !(await areFew(env))) return null;
	const few = `This server may open ${env.HEADGATE_DESCRIPTORS} files (\`ulimit -n\`), and nearly all are in use.`;
	return problem("overloaded", `${few} Nothing was taken; try again in a second.`, { retryAfterSeconds: 1 });
}

const usableOf = ({ HEADGATE_DESCRIPTORS: limit }: Env): number => Number(limit ?? Number.NaN) * BOUNDS.descriptorShare;

/** Whether they were few when last counted, or are to be counted again: most often neither. */
function isDue(env: Env): boolean {
	const usable = usableOf(env);
	return seen.open >= usable || seen.charged >= (usable - seen.open) / 2;
}

/** Whether so few are left that callers are to be refused. */
async function areFew(env: Env): Promise<boolean> {
	const { DESCRIPTORS: folder } = env;
	const usable = usableOf(env);
	if (folder === undefined || Number.isNaN(usable)) return false;
	if (seen.open >= usable && Math.abs(Date.now() - seen.at) < LOOK_AGAIN_MS) return true;
	// What others do until the answer is there counts as done after it.
	seen.charged = 0;
	seen.at = Date.now();
	seen.open = await countIn(folder);
	return seen.open >= usable;
}

async function countIn(folder: Fetcher): Promise<number> {
	try {
		const answer = await folder.fetch("http://descriptors/");
		return (await answer.text()).split('"name"').length - 1;
	} catch {
		return Number.POSITIVE_INFINITY; // To list a folder takes one as well.
	}
}
