/**
 * The Worker as it is, with one more door: over `POST /bundle` one connection carries as many streams of acquires as it asks for.
 * Each is a request to the Worker of its own, and lives as long as the connection. So there can be more callers than there are
 * descriptors, of which a connection takes two.
 */

import service from "../../src/server/worker.ts";
import type { Bundle } from "./bundle.ts";

export { DirectoryObject } from "../../src/server/directory/directory-object.ts";
export { HeadgateService } from "../../src/server/front/rpc/entrypoint.ts";
export { LimitObject } from "../../src/server/limit/limit-object.ts";

type Env = Parameters<typeof service.fetch>[1];

/** How soon it is noticed that the connection has gone. */
const BEAT_MS = 1_000;

/** Reads a stream; resolves when it is where it is to be, to when it ends. */
async function follow(answer: Response, event: Bundle["event"], gone: AbortSignal): Promise<{ ended: Promise<void> }> {
	const reader = (answer.body as ReadableStream<Uint8Array>).getReader();
	gone.addEventListener("abort", () => void reader.cancel().catch(() => undefined));
	const decoder = new TextDecoder();
	for (let text = ""; !text.includes(`"event":"${event}"`); ) {
		const { done, value } = await reader.read();
		if (done) throw new Error(`${answer.status}: ${text}`);
		text += decoder.decode(value, { stream: true });
	}
	const rest = async (): Promise<void> => {
		while (!(await reader.read()).done);
	};
	return { ended: rest() };
}

export default {
	async fetch(request, env, ctx): Promise<Response> {
		const url = new URL(request.url);
		if (url.pathname !== "/bundle") return service.fetch(request, env, ctx);
		const { asks, event } = await request.json<Bundle>();
		const headers = new Headers(request.headers);
		headers.set("Accept", "application/x-ndjson");
		headers.delete("Content-Length");
		const gone = new AbortController();
		const ask = async (body: Bundle["asks"][number]) => {
			const init = { method: "POST", headers, body: JSON.stringify(body), signal: gone.signal };
			const answer = await service.fetch(new Request(new URL("/v1/acquire", url), init), env, ctx);
			return follow(answer, event, gone.signal);
		};
		const { readable, writable } = new IdentityTransformStream();
		const writer = writable.getWriter();
		const tell = (text: string): Promise<void> => writer.write(new TextEncoder().encode(text));
		const carry = async (): Promise<void> => {
			const streams = await Promise.all(asks.map(ask));
			await tell("all are there\n");
			// A connection that has gone takes no more.
			for (let there = true; there; ) {
				await scheduler.wait(BEAT_MS);
				there = await tell("\n").then(
					() => true,
					() => false,
				);
			}
			gone.abort();
			await Promise.all(streams.map(({ ended }) => ended));
		};
		const failed = (error: unknown): Promise<void> =>
			tell(`failed: ${error instanceof Error ? error.message : error}\n`);
		// What fails once the connection has gone is how each of them ends.
		ctx.waitUntil(carry().catch((error) => failed(error).catch(() => undefined)));
		return new Response(readable);
	},
} satisfies ExportedHandler<Env>;
