/**
 * A gateway before a language model that bears three answers at once and ten calls a minute. One request asks for both:
 * it holds a place until the last word of its answer was sent, and its call counts for a minute however short it was.
 */

import { concurrency, type LeaseVariables } from "headgate/hono";
import { Hono } from "hono";
import { ownGate } from "../loopback.ts";

export { DirectoryObject, HeadgateService, LimitObject } from "headgate/worker";

const gateway = new Hono<{ Bindings: { MODEL_URL?: string }; Variables: LeaseVariables }>();

gateway.post("/setup", async (c) => {
	const gate = ownGate();
	await gate.configure("model", { limit: 3 });
	await gate.configure("model:calls", { limit: 10, slotDecayPerSecond: 10 / 60 });
	return c.text("ready\n");
});

const limited = concurrency({
	gate: ownGate,
	name: () => "model",
	rate: () => "model:calls",
	waitSeconds: 10,
	// No answer of the model takes longer; a reader that stopped reading does not keep its place.
	maxBodySeconds: 120,
});

gateway.post("/chat", limited, async (c) => {
	const { words = 5 } = await c.req.json<{ words?: number }>();
	const { MODEL_URL } = c.env;
	if (MODEL_URL === undefined) return c.body(standIn(words), 200, { "Content-Type": "text/event-stream" });
	// The model stops too when the place is lost.
	const { signal } = c.get("lease") ?? {};
	return fetch(MODEL_URL, { method: "POST", body: JSON.stringify({ words }), ...(signal && { signal }) });
});

/** In place of a model: a word every 100 ms. */
function standIn(words: number): ReadableStream<Uint8Array> {
	let said = 0;
	return new ReadableStream({
		async pull(controller) {
			await scheduler.wait(100);
			controller.enqueue(new TextEncoder().encode(`data: word ${said}\n\n`));
			said += 1;
			if (said >= words) controller.close();
		},
	});
}

export default gateway;
