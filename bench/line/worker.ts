/**
 * The least that can be behind Prefect's client: an object that hands a freed slot to the next in line at once. It
 * checks nothing, keeps nothing on a disk, and its leases never end. What is left of a hand-off is the client's own.
 */

import { DurableObject } from "cloudflare:workers";
import type { Env as HeadgateEnv } from "../../src/server/contract/env.ts";
import { acceptEvents } from "../../src/server/front/prefect/events.ts";

interface Env extends HeadgateEnv {
	LINE: DurableObjectNamespace<Line>;
}

/** As in the scenes of the benchmark. */
const SLOTS = 2;

export class Line extends DurableObject<Env> {
	#free = SLOTS;
	readonly #waiting: (() => void)[] = [];

	async take(): Promise<void> {
		if (this.#free > 0) this.#free -= 1;
		else await new Promise<void>((resolve) => this.#waiting.push(resolve));
	}

	giveBack(): void {
		const next = this.#waiting.shift();
		if (next) next();
		else this.#free += 1;
	}
}

/** Of an id, which carries the name of its limit; every name here is short. */
const leaseOf = (name: string): string =>
	`${[...new TextEncoder().encode(name.padEnd(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
const nameOf = (lease: string): string =>
	(lease.replaceAll("-", "").match(/../g) ?? [])
		.map((byte) => String.fromCharCode(Number.parseInt(byte, 16)))
		.join("")
		.trim();

export default {
	async fetch(request, env): Promise<Response> {
		const { pathname } = new URL(request.url);
		if (pathname === "/health") return Response.json({ status: "ok" });
		if (pathname === "/api/events/in") return acceptEvents(request, env);
		const call = pathname.replace("/api/v2/concurrency_limits", "");
		if (call === "/increment-with-lease") {
			const { names } = await request.json<{ names: [string] }>();
			const [name] = names;
			await env.LINE.getByName(name).take();
			return Response.json({ lease_id: leaseOf(name), limits: [{ id: crypto.randomUUID(), name, limit: SLOTS }] });
		}
		if (call === "/decrement-with-lease") {
			const { lease_id } = await request.json<{ lease_id: string }>();
			await env.LINE.getByName(nameOf(lease_id)).giveBack();
			return new Response(null, { status: 204 });
		}
		if (call.startsWith("/leases/")) return new Response(null, { status: 204 });
		return Response.json({ detail: "Not Found" }, { status: 404 });
	},
} satisfies ExportedHandler<Env>;
