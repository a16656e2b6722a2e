/**
 * A Hono API with a quota for every key and one for all of them together. A policy gives each key its limit when it is
 * first seen; nothing is set up per customer.
 */

import type { Headgate } from "headgate";
import { namePart, rateLimit } from "headgate/hono";
import { Hono } from "hono";

/** Settings of the limits: what an operator would set once. */
export const LIMITS = {
	// Five requests at once for a key, then one every ten seconds; together no more than eight, and one a second.
	"key:*": { limit: 5, slotDecayPerSecond: 0.1 },
	all: { limit: 8, slotDecayPerSecond: 1 },
};

export function quotas(gate: () => Headgate): Hono {
	const api = new Hono();
	api.use("/v2/*", async (c, next) => {
		if (!c.req.header("X-Api-Key")) return c.json({ error: "send your X-Api-Key" }, 401);
		return next();
	});
	api.use(
		"/v2/*",
		rateLimit({
			gate,
			// Both or neither: a key that is denied does not use up what belongs to all.
			name: async (c) => [`key:${namePart(await digestOf(c.req.header("X-Api-Key") ?? ""))}`, "all"],
			// A search costs as much as three other calls.
			occupy: (c) => (c.req.path === "/v2/search" ? 3 : 1),
			label: (name) => (name === "all" ? "all" : "key"),
		}),
	);
	api.get("/v2/hello", (c) => c.json({ hello: "world" }));
	api.get("/v2/search", (c) => c.json({ found: [] }));
	return api;
}

/** A key in a name, and so in lists and headers, would be a key for everybody who reads them: its digest is none. */
async function digestOf(text: string): Promise<string> {
	const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
	return Array.from(bytes.subarray(0, 12), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
