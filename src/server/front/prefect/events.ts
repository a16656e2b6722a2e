/**
 * The stream of events that Prefect's client opens beside its calls. What it tells (slots acquired, slots released) the
 * limits know already, so its events are dropped; but it must be let in, or the client logs an error for each. It says
 * who it is by the header of its other calls or, before version 3.8, by its first message alone. Until then it is one of
 * a few strangers, and for a short while; one with a token that is not known here is gone at once.
 */

import { BOUNDS } from "../../../protocol.ts";
import type { Env } from "../../contract/env.ts";
import { problem } from "../../contract/problems.ts";
import { Admission } from "../admission/admission.ts";
import { authenticate, type Grant, hasTokens } from "../auth.ts";
import { listed } from "../http/origins.ts";
import { fromProblem } from "./http.ts";

const GOING_AWAY = 1001;
const POLICY_VIOLATION = 1008;
const TRY_AGAIN_LATER = 1013;

/** Sockets of this Worker: of all callers, and of those that have not said yet who they are. */
const open = { all: 0, strangers: 0 };

export async function acceptEvents(request: Request, env: Env): Promise<Response> {
	const speaks = !hasTokens(env) || request.headers.has("Authorization");
	const who = speaks ? await authenticate(request, env) : null;
	if (who && "code" in who) return fromProblem(who).response;
	const leave = who && new Admission(who).enter("sockets");
	const isFull = open.all >= BOUNDS.eventSockets || (who ? !leave : open.strangers >= BOUNDS.eventStrangers);
	if (isFull) {
		leave?.();
		return fromProblem(tooManySockets()).response;
	}
	const { 0: theirs, 1: ours } = new WebSocketPair();
	ours.accept();
	new Socket(ours, env, leave);
	const protocols = listed(request.headers.get("Sec-WebSocket-Protocol") ?? "");
	const headers: HeadersInit = protocols.includes("prefect") ? { "Sec-WebSocket-Protocol": "prefect" } : {};
	return new Response(null, { status: 101, webSocket: theirs, headers });
}

const tooManySockets = () =>
	problem("overloaded", "As many sockets of events are open as may be.", { retryAfterSeconds: 30 });

class Socket {
	readonly #ours: WebSocket;
	readonly #env: Env;
	/** Gives back what the token's count has of it; null: a stranger. */
	#leave: (() => void) | null;
	#greeted = false;
	#over = false;
	#timer: ReturnType<typeof setTimeout>;

	constructor(ours: WebSocket, env: Env, leave: (() => void) | null) {
		this.#ours = ours;
		this.#env = env;
		this.#leave = leave;
		open.all += 1;
		if (!leave) open.strangers += 1;
		this.#timer = setTimeout(() => this.#end(POLICY_VIOLATION, "Say who you are."), BOUNDS.eventHelloSeconds * 1_000);
		ours.addEventListener("message", ({ data }) => void this.#hear(data));
		ours.addEventListener("close", () => this.#end(GOING_AWAY, ""));
		ours.addEventListener("error", () => this.#end(GOING_AWAY, ""));
	}

	async #hear(data: unknown): Promise<void> {
		if (this.#over) return;
		if (this.#greeted) return this.#waitForMore();
		this.#greeted = true;
		const hello = parse(data);
		if (hello?.type !== "auth") return this.#end(POLICY_VIOLATION, "Say who you are.");
		// A client that has only an API key sends it with its calls, and no token here. Its events are dropped like any
		// other's; it is let in as a stranger, or it would warn of each.
		if (!this.#leave && (hello.token ?? null) !== null) {
			const who = await grantOf(hello.token, this.#env);
			if (!who) return this.#end(POLICY_VIOLATION, UNKNOWN);
			if (this.#over) return;
			this.#leave = new Admission(who).enter("sockets");
			if (!this.#leave) return this.#end(TRY_AGAIN_LATER, tooManySockets().detail);
			open.strangers -= 1;
		}
		this.#ours.send(JSON.stringify({ type: "auth_success" }));
		this.#waitForMore();
	}

	/** One that says nothing for long is ended; its client connects anew when it has something to say. */
	#waitForMore(): void {
		clearTimeout(this.#timer);
		const seconds = this.#leave ? BOUNDS.eventIdleSeconds : BOUNDS.eventStrangerIdleSeconds;
		this.#timer = setTimeout(() => this.#end(GOING_AWAY, "Idle."), seconds * 1_000);
	}

	#end(code: number, why: string): void {
		if (this.#over) return;
		this.#over = true;
		clearTimeout(this.#timer);
		open.all -= 1;
		if (this.#leave) this.#leave();
		else open.strangers -= 1;
		this.#ours.close(code, why);
	}
}

/** What a client is told, and prints. */
const UNKNOWN = "No token that is known here. Set PREFECT_API_AUTH_STRING=me:<token>.";

/** Who has this auth string; null: its token is not known here. */
async function grantOf(token: unknown, env: Env): Promise<Grant | null> {
	if (typeof token !== "string") return null;
	const bytes = new TextEncoder().encode(token);
	const basic = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
	const who = await authenticate(new Request("http://events", { headers: { Authorization: `Basic ${basic}` } }), env);
	return "code" in who ? null : who;
}

function parse(data: unknown): { type?: unknown; token?: unknown } | null {
	try {
		const value: unknown = typeof data === "string" ? JSON.parse(data) : null;
		return typeof value === "object" ? (value as { type?: unknown }) : null;
	} catch {
		return null; // Not JSON: not a client whom this stream is for.
	}
}
