/** A Worker that embeds Headgate: no second Worker, no network between the work and its limits. */

import { ownGate } from "../loopback.ts";
import { importOnce, LIMITS } from "./imports.ts";

// The one line. With the lines of wrangler.toml beside it, that is all.
export { DirectoryObject, HeadgateService, LimitObject } from "headgate/worker";

export default {
	async fetch(request: Request): Promise<Response> {
		const gate = ownGate();
		if (new URL(request.url).pathname === "/setup") {
			for (const [name, settings] of Object.entries(LIMITS)) await gate.configure(name, settings);
			return new Response("ready\n");
		}
		return importOnce(gate, async (signal) => signal.throwIfAborted());
	},
};
