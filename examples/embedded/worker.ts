/** A Worker that embeds Headgate: no second Worker, no network between the work and its limits. */

import { isTimeoutError } from "headgate";
import { ownGate } from "../loopback.ts";

// The one line. With the lines of wrangler.toml beside it, that is all.
export { DirectoryObject, HeadgateService, LimitObject } from "headgate/worker";

export default {
	async fetch(request: Request): Promise<Response> {
		const gate = ownGate();
		if (new URL(request.url).pathname === "/setup") {
			await gate.configure("import", { limit: 1 });
			await gate.configure("mail", { limit: 3, slotDecayPerSecond: 3 / 60 });
			return new Response("ready\n");
		}
		try {
			return await gate.concurrency("import", { timeoutSeconds: 2 }, async (lease) => {
				// Stops when the lease is lost: somebody else may have it by then.
				lease.signal.throwIfAborted();
				const receipt = await gate.rateLimit("mail", { maxRetries: 0 }).catch(() => null);
				return Response.json({ imported: true, mailed: receipt !== null });
			});
		} catch (error) {
			if (!isTimeoutError(error)) throw error;
			return Response.json({ imported: false, why: error.message }, { status: 503 });
		}
	},
};
