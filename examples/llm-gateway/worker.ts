/**
 * A gateway before a language model that bears three answers at once, ten calls a minute and so many tokens an hour. One request asks for all
 * three: it holds a place until the last word of its answer was sent, its call counts for a minute however short it was, and
 * of the tokens it takes the most that there may be, until the answer has said how many they were. What the model says of being too
 * busy holds for everyone.
 */

import { concurrency, type LeaseVariables } from "headgate/hono";
import { Hono } from "hono";
import { ownGate } from "../loopback.ts";
import { type Chat, standIn } from "./model.ts";
import { metered } from "./usage.ts";

export { DirectoryObject, HeadgateService, LimitObject } from "headgate/worker";

const gateway = new Hono<{ Bindings: { MODEL_URL?: string }; Variables: LeaseVariables }>();

const TOKENS = "model:tokens";
/** What one answer may come to. */
const MOST_TOKENS = 400;

gateway.post("/setup", async (c) => {
	const gate = ownGate();
	await gate.configure("model", { limit: 3 });
	await gate.configure("model:calls", { limit: 10, slotDecayPerSecond: 10 / 60 });
	await gate.configure(TOKENS, { limit: 6_000, slotDecayPerSecond: 6_000 / 3_600 });
	return c.text("ready\n");
});

const limited = concurrency({
	gate: ownGate,
	name: () => "model",
	rate: () => ({ "model:calls": 1, [TOKENS]: MOST_TOKENS }),
	// Tokens of an answer that never said what it came to stay taken in full.
	settleSeconds: 180,
	atMost: true,
	waitSeconds: 10,
	// No answer of the model takes longer; a reader that stopped reading does not keep its place.
	maxBodySeconds: 120,
	// What the model says of being too busy.
	pauseOn429: () => "model",
});

gateway.post("/chat", limited, async (c) => {
	const chat = await c.req.json<Chat>();
	const lease = c.get("lease");
	const settle = (tokens: number): void => {
		const settled = lease?.settle({ [TOKENS]: tokens }) ?? Promise.resolve();
		c.executionCtx.waitUntil(settled.catch((error: unknown) => console.warn("The estimate stands:", error)));
	};
	const answer = await ask(c.env.MODEL_URL, chat, lease?.signal);
	if (!answer.ok || !answer.body) {
		settle(0);
		return answer.status === 429 ? answer : c.text("The model failed.\n", 502);
	}
	const type = answer.headers.get("Content-Type") ?? "text/event-stream";
	return c.body(metered(answer.body, settle), 200, { "Content-Type": type });
});

/** The model stops too when the place is lost. */
function ask(url: string | undefined, chat: Chat, signal: AbortSignal | undefined): Promise<Response> | Response {
	if (url === undefined) return standIn(chat);
	return fetch(url, { method: "POST", body: JSON.stringify(chat), ...(signal && { signal }) });
}

export default gateway;
