/** The body of a request: of its type, read no further than its bound, and as JSON. */

import { BOUNDS } from "../../../protocol.ts";
import { Refused, refuse } from "./refused.ts";

export async function body(request: Request): Promise<unknown> {
	const type = mediaType(request);
	if (type !== "application/json") unsupported(type);
	const text = await boundedText(request);
	try {
		return JSON.parse(text) as unknown;
	} catch (error) {
		const why = text === "" ? "it is empty" : error instanceof Error ? error.message : String(error);
		return refuse("malformed", `The body is not JSON: ${why}.`);
	}
}

/** What a body is said to be; null: nothing is said. */
export const mediaType = (request: Request): string | null =>
	request.headers.get("Content-Type")?.slice(0, BOUNDS.headerLength).split(";")[0]?.trim().toLowerCase() || null;

/** A page of any site can send a body as a form or as plain text, or as nothing in particular. So JSON has to say so. */
export const unsupported = (type: string | null): never =>
	refuse(
		"unsupported_media_type",
		`Send JSON, with "Content-Type: application/json" (curl --json), and not ${type ? `"${type.slice(0, BOUNDS.nameLength)}"` : "without a type"}.`,
	);

const strictly = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });

/** The body as text, read no further than its bound. With a declared length nothing is read at all that is too long. */
export async function boundedText(request: Request): Promise<string> {
	const bytes = await boundedBytes(request);
	try {
		return strictly.decode(bytes);
	} catch {
		// Read leniently, different texts would become one name.
		return refuse("malformed", "The body is not UTF-8.");
	}
}

async function boundedBytes(request: Request): Promise<Uint8Array | ArrayBuffer> {
	const declared = Number(request.headers.get("Content-Length") ?? Number.NaN);
	if (declared > BOUNDS.bodyBytes) tooLarge();
	const chunks: Uint8Array[] = [];
	let bytes = 0;
	try {
		if (declared <= BOUNDS.bodyBytes) {
			const all = await request.arrayBuffer();
			return all.byteLength > BOUNDS.bodyBytes ? tooLarge() : all;
		}
		for await (const chunk of request.body ?? []) {
			bytes += chunk.byteLength;
			if (bytes > BOUNDS.bodyBytes) tooLarge();
			chunks.push(chunk);
		}
	} catch (error) {
		if (error instanceof Refused) throw error;
		// Its caller broke it off, and is no fault of ours.
		return refuse("malformed", "The body was cut off before its end.");
	}
	return new Blob(chunks).arrayBuffer();
}

const tooLarge = (): never => refuse("too_large", `A body has at most ${BOUNDS.bodyBytes} bytes.`);
