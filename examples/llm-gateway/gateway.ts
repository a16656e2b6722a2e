/**
 * A gateway before a language model that bears three answers at once, ten calls a minute and so many tokens an hour. One request asks for all
 * three: it holds a place until the last word of its answer was sent, its call counts for a minute however short it was, and
 * of the tokens it takes the most that there may be, until the answer has said how many they were. What the model says of being too
 * busy holds for everyone.
 */

import type { Headgate } from "headgate";
import { concurrency, type LeaseVariables } from "headgate/hono";
import { Hono } from "hono";
import type { Chat } from "./model.ts";
import { metered } from "./usage.ts";

export interface Env {
	MODEL_URL?: string;
}

/** Asks the model, which stops too when the place is lost. */
export type Model = (env: Env, chat: Chat, signal: AbortSignal | undefined) => Promise<Response> | Response;

const TOKENS = "model:tokens";
/** What one answer may come to. */
const MOST_TOKENS = 400;

export const LIMITS = {
	model: { limit: 3 },
	"model:calls": { limit: 10, slotDecayPerSecond: 10 / 60 },
	[TOKENS]: { limit: 6_000, slotDecayPerSecond: 6_000 / 3_600 },
};

export function gatewayTo(model: Model, gate: () => Headgate) {
	const gateway = new Hono<{ Bindings: Env; Variables: LeaseVariables }>();
	const limited = concurrency({
		gate,
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
		const answer = await model(c.env, chat, lease?.signal);
		if (!answer.ok || !answer.body) {
			settle(0);
			return answer.status === 429 ? answer : c.text("The model failed.\n", 502);
		}
		const type = answer.headers.get("Content-Type") ?? "text/event-stream";
		return c.body(metered(answer.body, settle), 200, { "Content-Type": type });
	});
	return gateway;
}
