/**
 * Whether the caller is still there to be told of a grant: an orderly close of a connection (FIN) is told only to the side
 * that writes to it. So what means nothing is written first, and a caller that reads the grant itself holds what it says.
 */

/** After the first write it pauses, for the other end to say that its reader has gone: a local network takes less. */
const PROBE_MS = 1;
/**
 * Then it is written to so often. The runtime looks at a few connections in each turn, and each write takes one turn:
 * with hundreds of callers that went at once, four were enough.
 */
const PROBES = 7;

/** Done when it would have been noticed that the caller has gone, or it is not `wanted` any more. */
export async function probe(write: () => Promise<void>, wanted: () => boolean = () => true): Promise<void> {
	await write();
	if (wanted()) await scheduler.wait(PROBE_MS);
	for (let probes = 0; probes < PROBES && wanted(); probes += 1) await write();
}
