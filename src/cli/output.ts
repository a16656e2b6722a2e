/** The only way out: whatever is written to standard output and standard error, a terminal or not. */

import { safe, safeSource } from "../visible.ts";

type Stream = NodeJS.WriteStream;

/** What a line may hold beside text: its end, tabs and colours. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what this is about.
const OF_LINES = /(\x1b\[[\d;]*m|[\n\t])/;
/** What a picture that is drawn over itself may hold as well: where to, what to clear, which screen. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what this is about.
const OF_PICTURES = /(\x1b\[(?:[\d;]*[mHJK]|\?(?:25|1049)[hl])|[\n\t\r])/;

/** Every second part is what the expression has matched. */
const passing = (text: string, own: RegExp): string =>
	text
		.split(own)
		.map((part, at) => (at % 2 === 1 ? part : safe(part)))
		.join("");

/** Lines of text; what is not ours has gone through `safe` before, for it may not bring colours either. */
export function write(stream: Stream, text: string): void {
	stream.write(passing(text, OF_LINES));
}

/** Part of a picture on a terminal. */
export function draw(stream: Stream, text: string): void {
	stream.write(passing(text, OF_PICTURES));
}

/** Source text for programs, which is read by people as well. */
export function writeSource(stream: Stream, text: string, language?: "json" | "toml"): void {
	stream.write(safeSource(text, language));
}
