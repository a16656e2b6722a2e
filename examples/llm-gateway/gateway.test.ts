import { testGate } from "headgate/testing";
import { expect, test } from "vitest";
import { gatewayTo, LIMITS } from "./gateway.ts";

/** What the model says, and when it stops: by the hand of the test. */
class Answer {
	#stop: () => void = () => undefined;
	readonly response: Response;

	constructor(tokens: number) {
		const event = new TextEncoder().encode(`data: ${JSON.stringify({ usage: { total_tokens: tokens } })}\n\n`);
		const body = new ReadableStream<Uint8Array>({
			start: (controller) => {
				controller.enqueue(event);
				this.#stop = () => controller.close();
			},
		});
		this.response = new Response(body);
	}

	stop(): void {
		this.#stop();
	}
}

function open(model: () => Response) {
	const { gate, clock, limits } = testGate({ limits: LIMITS });
	const gateway = gatewayTo(model, () => gate);
	const context = { waitUntil: () => undefined, passThroughOnException: () => undefined };
	const ask = () =>
		gateway.request("/chat", { method: "POST", body: "{}" }, {}, context as unknown as ExecutionContext);
	return { ask, clock, limits };
}

test("three answer at once, to their last word, and of the tokens only those that were said are taken", async () => {
	const answers = [120, 80, 400, 50].map((tokens) => new Answer(tokens));
	let asked = 0;
	const { ask, clock, limits } = open(() => (answers[asked++] as Answer).response);
	const three = await Promise.all([ask(), ask(), ask()]);
	const said = three.map((answer) => answer.text());
	const fourth = ask();
	await clock.advance(5_000);
	expect([asked, limits.get("model")?.activeSlots]).toEqual([3, 3]);
	answers[0]?.stop();
	await said[0];
	await clock.advance(1_000);
	const last = await fourth;
	expect([asked, limits.get("model")?.activeSlots]).toEqual([4, 3]);
	expect(limits.get("model:tokens")?.settled).toEqual({ count: 1, meanRatio: 120 / 400 });
	for (const answer of answers.slice(1)) answer.stop();
	await Promise.all([...said, last.text()]);
});

test("a model that is too busy is left alone by everyone, for as long as it says", async () => {
	let busy = true;
	const { ask, clock, limits } = open(() =>
		busy ? new Response("busy", { status: 429, headers: { "Retry-After": "8" } }) : new Response(null, { status: 500 }),
	);
	const denied = await ask();
	expect([denied.status, denied.headers.get("Retry-After"), await denied.text()]).toEqual([429, "8", "busy"]);
	await clock.advance(0);
	expect(limits.get("model:tokens")?.activeSlots).toBe(0);
	busy = false;
	const next = ask();
	await clock.advance(7_999);
	expect(limits.get("model")?.waitingCount).toBe(1);
	await clock.advance(1);
	expect((await next).status).toBe(502);
});
