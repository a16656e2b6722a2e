/**
 * Calls of many objects by one request, some at a time, so that others' requests go in between. It takes a timer:
 * objects on the same machine answer at once, and while something is ready to run a runtime does not look at its connections.
 */

/** Objects that are called without others in between: a few milliseconds each where they have to be woken. */
export const AT_ONCE = 25;
const YIELD_MS = 1;

/** Lets others' requests go first. */
export const yieldToOthers = (): Promise<void> => scheduler.wait(YIELD_MS);

/** Asks for each of them, without waiting for the answers before, and tells what became of each. */
export async function inParts<T, R>(
	all: readonly T[],
	ask: (each: T) => Promise<R>,
): Promise<PromiseSettledResult<R>[]> {
	const asked: Promise<PromiseSettledResult<R>[]>[] = [];
	for (let from = 0; from < all.length; from += AT_ONCE) {
		if (from > 0) await yieldToOthers();
		asked.push(Promise.allSettled(all.slice(from, from + AT_ONCE).map(ask)));
	}
	return (await Promise.all(asked)).flat();
}
