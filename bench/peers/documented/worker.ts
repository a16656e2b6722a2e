/**
 * The rate limiter that Cloudflare's documentation builds (developers.cloudflare.com/durable-objects/examples/build-a-rate-limiter):
 * tokens in the object's memory, of which an alarm gives back some every now and then. How many and how often is
 * said by the path, where the documentation has constants.
 */

import { DurableObject } from "cloudflare:workers";

interface Env {
	LIMITER: DurableObjectNamespace<RateLimiter>;
}

/** In the documentation every five seconds. */
const REFILLS_IN_A_WINDOW = 10;

export class RateLimiter extends DurableObject<Env> {
	#tokens: number | null = null;
	#capacity = 0;
	#windowMs = 0;

	async millisecondsToNext(capacity: number, windowMs: number): Promise<number> {
		this.#capacity = capacity;
		this.#windowMs = windowMs;
		this.#tokens ??= capacity;
		await this.#setAlarm();
		if (this.#tokens < 1) return windowMs / capacity;
		this.#tokens -= 1;
		return 0;
	}

	override async alarm(): Promise<void> {
		if (this.#tokens === null || this.#tokens >= this.#capacity) return;
		this.#tokens = Math.min(this.#capacity, this.#tokens + this.#capacity / REFILLS_IN_A_WINDOW);
		await this.#setAlarm();
	}

	async #setAlarm(): Promise<void> {
		if ((await this.ctx.storage.getAlarm()) !== null) return;
		await this.ctx.storage.setAlarm(Date.now() + this.#windowMs / REFILLS_IN_A_WINDOW);
	}
}

export default {
	async fetch(request, env): Promise<Response> {
		if (request.method === "GET") return Response.json({ status: "ok" });
		const [capacity, windowMs, name] = new URL(request.url).pathname.split("/").slice(2) as [string, string, string];
		const waitMs = await env.LIMITER.getByName(name).millisecondsToNext(Number(capacity), Number(windowMs));
		if (waitMs > 0) return Response.json({ denied: true }, { status: 429, headers: { "Retry-After": "1" } });
		return Response.json({ granted: true });
	},
} satisfies ExportedHandler<Env>;
