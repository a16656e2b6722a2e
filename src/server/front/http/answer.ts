/** An answer that is no page. */

/** What every one has: it is true for a moment and for its caller. See `service.ts`. */
export const UNKEPT = { "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff" };

/** An answer of JSON, made in one step: Hono's own copies the headers twice. */
export const answerJson = (body: unknown, headers: Record<string, string>): Response =>
	new Response(JSON.stringify(body), { headers: { "Content-Type": "application/json", ...UNKEPT, ...headers } });
