/** Names that were not configured hold no caller back, which is most often a mistake: it is said once for each. */

import type { LimitStatus } from "../protocol.ts";

/** Names that are remembered as told, for each listener; those after them are not told. */
const NAMES_MAX = 1_000;

/** By listener, and not by gate: a Worker makes a gate for each request. */
const told = new WeakMap<object, Set<string>>();

/** Calls `tell` with each name that was not configured and that `listener` was not told of. */
export function tellUnconfigured(
	limits: readonly LimitStatus[],
	service: string,
	listener: object,
	tell: (name: string) => void,
): void {
	for (const { name, configured } of limits) {
		if (configured !== false) continue;
		const names = told.get(listener) ?? new Set();
		told.set(listener, names);
		const key = `${service} ${name}`;
		if (names.has(key) || names.size >= NAMES_MAX) continue;
		names.add(key);
		tell(name);
	}
}
