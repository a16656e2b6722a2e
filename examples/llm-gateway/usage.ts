/**
 * How many tokens an answer of a language model came to, read off its stream as it passes. Models say it in one of two ways, as
 * server-sent events: a last one with `usage.total_tokens`; or `usage.input_tokens` at the start, and with each step
 * `usage.output_tokens` so far. An answer that breaks off before it was said counts the pieces of text that were seen.
 */

interface Usage {
	total_tokens?: number;
	prompt_tokens?: number;
	completion_tokens?: number;
	input_tokens?: number;
	output_tokens?: number;
}

interface Said {
	usage?: Usage | null;
	message?: { usage?: Usage };
	choices?: { delta?: { content?: string } }[];
	type?: string;
}

/** A line that is longer is no event of a model. */
const LINE_MAX = 1_000_000;

export class UsageReader {
	readonly #decoder = new TextDecoder();
	#line = "";
	#total: number | null = null;
	#input = 0;
	#output = 0;
	#pieces = 0;

	/** What the answer came to as far as it was read. */
	get tokens(): number {
		return this.#total ?? this.#input + Math.max(this.#output, this.#pieces);
	}

	read(bytes: Uint8Array): void {
		const lines = (this.#line + this.#decoder.decode(bytes, { stream: true })).split(/\r?\n/);
		this.#line = (lines.pop() ?? "").slice(-LINE_MAX);
		for (const line of lines) if (line.startsWith("data:")) this.#hear(line.slice(5).trim());
	}

	#hear(data: string): void {
		let said: Said;
		try {
			said = JSON.parse(data) as Said;
		} catch {
			return; // Not one that counts, such as `[DONE]`.
		}
		const { type, choices } = said;
		if (type === "content_block_delta" || choices?.some(({ delta }) => delta?.content)) this.#pieces += 1;
		const { usage } = said.message ?? said;
		if (!usage) return;
		const { total_tokens, prompt_tokens = 0, completion_tokens } = usage;
		if (total_tokens !== undefined) this.#total = total_tokens;
		else if (completion_tokens !== undefined) this.#total = prompt_tokens + completion_tokens;
		this.#input = usage.input_tokens ?? this.#input;
		this.#output = usage.output_tokens ?? this.#output;
	}
}

/** The same answer, whose usage is told once: at its end, or when its reader has gone. */
export function metered(body: ReadableStream<Uint8Array>, told: (tokens: number) => void): ReadableStream<Uint8Array> {
	const usage = new UsageReader();
	const reader = body.getReader();
	let isTold = false;
	const tell = (): void => {
		if (!isTold) told(usage.tokens);
		isTold = true;
	};
	return new ReadableStream({
		async pull(controller) {
			try {
				const { done, value } = await reader.read();
				if (!done) {
					usage.read(value);
					return controller.enqueue(value);
				}
				controller.close();
				tell();
			} catch (error) {
				controller.error(error);
				tell();
			}
		},
		async cancel(reason) {
			tell();
			await reader.cancel(reason);
		},
	});
}
