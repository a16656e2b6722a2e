/** One import at a time, and three mails a minute about them. */

import { type Headgate, isTimeoutError } from "headgate";

export const LIMITS = {
	import: { limit: 1 },
	mail: { limit: 3, slotDecayPerSecond: 3 / 60 },
};

export async function importOnce(gate: Headgate, work: (signal: AbortSignal) => Promise<void>): Promise<Response> {
	try {
		return await gate.concurrency("import", { timeoutSeconds: 2 }, async (lease) => {
			// Stops when the lease is lost: somebody else may have it by then.
			await work(lease.signal);
			const receipt = await gate.rateLimit("mail", { maxRetries: 0 }).catch(() => null);
			return Response.json({ imported: true, mailed: receipt !== null });
		});
	} catch (error) {
		if (!isTimeoutError(error)) throw error;
		return Response.json({ imported: false, why: error.message }, { status: 503 });
	}
}
