/** The Worker as it is, but for a limit that counts how often it is asked for slots, and a route that tells. */

import type { Env } from "../../src/server/contract/env.ts";
import service, { LimitObject as Plain } from "../../src/server/worker.ts";

export { DirectoryObject } from "../../src/server/directory/directory-object.ts";

export class LimitObject extends Plain {
	#calls = 0;

	override acquireText(ask: string): Promise<string> {
		this.#calls += 1;
		return super.acquireText(ask);
	}

	/** Calls since the last time. */
	async calls(): Promise<number> {
		const calls = this.#calls;
		this.#calls = 0;
		return calls;
	}
}

export default {
	async fetch(request: Request, env: Env, ctx: ExecutionContext): Promise<Response> {
		const { pathname } = new URL(request.url);
		if (!pathname.startsWith("/calls/")) return service.fetch(request, env, ctx);
		const limit = env.LIMITS.getByName(pathname.slice(7)) as unknown as { calls(): Promise<number> };
		return Response.json({ calls: await limit.calls() });
	},
};
