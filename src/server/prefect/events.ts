/**
 * The stream of events that Prefect's client opens beside its calls. What it tells (slots acquired, slots released) the
 * limits know already, so its events are dropped; but it must be let in, or the client logs an error for each.
 */

import { authenticate } from "../auth.ts";
import type { Env } from "../env.ts";
import { listed } from "../origins.ts";

/** How long a connection may stay before it says who it is. */
const HELLO_MS = 10_000;
const POLICY_VIOLATION = 1008;

export function acceptEvents(request: Request, env: Env): Response {
	const { 0: theirs, 1: ours } = new WebSocketPair();
	ours.accept();
	const close = (why: string): void => ours.close(POLICY_VIOLATION, why);
	const timer = setTimeout(() => close("Say who you are."), HELLO_MS);
	let isKnown = false;
	ours.addEventListener("message", async ({ data }) => {
		if (isKnown) return;
		isKnown = true;
		clearTimeout(timer);
		if (await isWelcome(data, env)) ours.send(JSON.stringify({ type: "auth_success" }));
		else close("The token is not known here.");
	});
	ours.addEventListener("close", () => {
		clearTimeout(timer);
		ours.close();
	});
	const protocols = listed(request.headers.get("Sec-WebSocket-Protocol") ?? "");
	const headers: HeadersInit = protocols.includes("prefect") ? { "Sec-WebSocket-Protocol": "prefect" } : {};
	return new Response(null, { status: 101, webSocket: theirs, headers });
}

/**
 * A client with an API key sends no token here, and is let in: what it says is dropped like everything else. A wrong
 * token is told so.
 */
async function isWelcome(data: unknown, env: Env): Promise<boolean> {
	const hello = parse(data);
	if (hello?.type !== "auth") return false;
	if (hello.token === null || hello.token === undefined || env.HEADGATE_OPEN === "true") return true;
	const bytes = new TextEncoder().encode(String(hello.token));
	const basic = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
	const who = await authenticate(new Request("http://events", { headers: { Authorization: `Basic ${basic}` } }), env);
	return !("code" in who);
}

function parse(data: unknown): { type?: unknown; token?: unknown } | null {
	try {
		const value: unknown = typeof data === "string" ? JSON.parse(data) : null;
		return typeof value === "object" ? value : null;
	} catch {
		return null; // Not JSON: not somebody whom this stream is for.
	}
}
