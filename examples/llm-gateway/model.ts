/** In place of a model: a word every 100 ms, in either shape of the streams that models answer with; or too busy. */

export interface Chat {
	words?: number;
	shape?: "total" | "steps";
	busy?: boolean;
}

/** Tokens of every question. */
const ASKED = 7;

export function standIn({ words = 5, shape = "total", busy = false }: Chat): Response {
	if (busy) return new Response("too busy\n", { status: 429, headers: { "Retry-After": "2" } });
	let said = 0;
	const event = (data: unknown): Uint8Array => new TextEncoder().encode(`data: ${JSON.stringify(data)}\n\n`);
	const total = { prompt_tokens: ASKED, completion_tokens: words, total_tokens: ASKED + words };
	const body = new ReadableStream<Uint8Array>({
		start(controller) {
			if (shape === "steps")
				controller.enqueue(event({ type: "message_start", message: { usage: { input_tokens: ASKED } } }));
		},
		async pull(controller) {
			await scheduler.wait(100);
			said += 1;
			if (shape === "steps") {
				controller.enqueue(event({ type: "content_block_delta", delta: { text: `word ${said}` } }));
				controller.enqueue(event({ type: "message_delta", usage: { output_tokens: said } }));
			} else {
				controller.enqueue(event({ choices: [{ delta: { content: `word ${said}` } }], usage: null }));
			}
			if (said < words) return;
			if (shape === "total") controller.enqueue(event({ choices: [], usage: total }));
			controller.close();
		},
	});
	return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
}
