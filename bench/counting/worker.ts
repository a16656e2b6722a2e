/**
 * The Worker as it is, but for a limit that counts how often it is asked for slots and how often it came into memory, a
 * directory that counts how often it is told of conditions, and routes that tell.
 */

import type { Env } from "../../src/server/contract/env.ts";
import service, { LimitObject as Plain, DirectoryObject as PlainDirectory } from "../../src/server/worker.ts";

/** How often limits told in what condition they are. */
let told = 0;

export class DirectoryObject extends PlainDirectory {
	override tell(...telling: Parameters<PlainDirectory["tell"]>): number {
		told += 1;
		return super.tell(...telling);
	}
}

/** By name. On one machine the objects and the Worker are in one isolate. */
const made = new Map<string, number>();

export class LimitObject extends Plain {
	#calls = 0;

	constructor(ctx: DurableObjectState, env: Env) {
		super(ctx, env);
		const name = ctx.id.name ?? "";
		made.set(name, (made.get(name) ?? 0) + 1);
	}

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
		// The object itself is not asked, which would bring it back into memory.
		if (pathname.startsWith("/made/")) return Response.json({ made: made.get(pathname.slice(6)) ?? 0 });
		if (pathname === "/told") return Response.json({ told });
		if (!pathname.startsWith("/calls/")) return service.fetch(request, env, ctx);
		const limit = env.LIMITS.getByName(pathname.slice(7)) as unknown as { calls(): Promise<number> };
		return Response.json({ calls: await limit.calls() });
	},
};
