/**
 * The least that a durable counter behind HTTP can be: JSON in, one call to one Durable Object, one durable UPDATE,
 * JSON out. No framework, no checks, no queue. What Headgate costs more than this is its own.
 */

import { DurableObject } from "cloudflare:workers";

interface Env {
	COUNTER: DurableObjectNamespace<Counter>;
}

export class Counter extends DurableObject<Env> {
	constructor(ctx: DurableObjectState, env: Env) {
		super(ctx, env);
		ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS counter (used INTEGER NOT NULL)");
		ctx.storage.sql.exec("INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter)");
	}

	take(slots: number): number {
		return this.ctx.storage.sql.exec<{ used: number }>("UPDATE counter SET used = used + ? RETURNING used", slots).one()
			.used;
	}
}

export default {
	async fetch(request, env): Promise<Response> {
		if (request.method === "GET") return Response.json({ status: "ok" });
		const { names, occupy } = await request.json<{ names: string; occupy: number }>();
		return Response.json({ used: await env.COUNTER.getByName(names).take(occupy) });
	},
} satisfies ExportedHandler<Env>;
