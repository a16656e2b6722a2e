/** Lines of the log that programs read: one JSON object each. No token is in them, and no raw control character. */

import { BOUNDS } from "../../protocol.ts";
import { nameOf } from "./auth.ts";
import { pathOf } from "./http/gate.ts";

const MINUTE_MS = 60_000;
const PATH_MAX = 200;

let minute = { at: 0, logged: 0, left: 0 };

/** A caller that was refused. A flood of them is told by its number. */
export function logRefusal(request: Request, status: number, code?: string): void {
	const now = Date.now();
	if (now - minute.at >= MINUTE_MS || now < minute.at) minute = { at: now, logged: 0, left: minute.left };
	if (minute.logged >= BOUNDS.refusalsLogged) {
		minute.left += 1;
		return;
	}
	minute.logged += 1;
	const { left } = minute;
	minute.left = 0;
	// What stands after a "?" is left out: a caller may have put a token there.
	const path = pathOf(request.url).slice(0, PATH_MAX);
	const token = nameOf(request);
	const more = { ...(code && { code }), ...(token && { token }), ...(left > 0 && { unlogged: left }) };
	console.warn(line({ event: "refused", status, method: request.method, path, ...more }));
}

/** A change that an operator may have to answer for. `by`: the token's name, or null where none was needed. */
export function audit(entry: {
	action: "configure" | "rename" | "delete" | "release" | "unpause";
	limit?: string;
	policy?: string;
	lease?: string;
	by: string | null;
	from: unknown;
	to: unknown;
}): void {
	console.log(line({ event: "changed", ...entry }));
}

/** JSON, in which nothing can move a terminal's cursor or turn the order of its text. */
const line = (entry: Record<string, unknown>): string =>
	JSON.stringify(entry).replaceAll(
		/[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
		(character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
	);
