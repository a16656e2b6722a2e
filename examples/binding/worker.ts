/** A Worker with a service binding to Headgate: it asks before it works, without HTTP and without a token. */

import type { HeadgateService } from "headgate/worker";

/** Of the binding this much is used. */
export interface Env {
	LIMITS: Pick<Service<HeadgateService>, "concurrency" | "configure">;
}

/** What takes 20 ms of a database that bears two at once. */
async function query(): Promise<string> {
	await new Promise((resolve) => setTimeout(resolve, 20));
	return "42 rows";
}

export default {
	async fetch(request: Request, env: Env): Promise<Response> {
		if (new URL(request.url).pathname === "/setup") {
			return Response.json(await env.LIMITS.configure("database", { limit: 2 }));
		}
		try {
			// Given back at the end of this block, or of the request, however it ends.
			using lease = await env.LIMITS.concurrency("database", { timeoutSeconds: 5, holder: "reports" });
			return Response.json({ rows: await query(), waitedSeconds: await lease.waitedSeconds });
		} catch (error) {
			if ((error as Error).name !== "TimeoutError") throw error;
			return Response.json({ error: "the database is busy" }, { status: 503, headers: { "Retry-After": "5" } });
		}
	},
};
