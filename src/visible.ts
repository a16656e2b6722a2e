/** Text from elsewhere, made visible where people read it: on a terminal, and on the dashboard. */

/**
 * What has power over a terminal, turns text around it or is not to be seen: controls (C0, DEL, C1), lines and
 * paragraphs, halves of characters, marks of direction, and characters without width but those that join emoji.
 */
const INVISIBLE =
	/\u034f|[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}\u00ad\u115f\u1160\u180e\u200b\u2060-\u2064\u206a-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** As an escape: `\x1b`, `\u202e`, `\u{e0041}`. */
function escaped(character: string): string {
	const code = character.codePointAt(0) ?? 0;
	const hex = code.toString(16);
	if (code < 0x100) return `\\x${hex.padStart(2, "0")}`;
	return code < 0x10000 ? `\\u${hex.padStart(4, "0")}` : `\\u{${hex}}`;
}

/** Without power over what shows it. */
export const safe = (text: string): string => text.replace(INVISIBLE, escaped);

/** Source text, in the escapes of its own language: as safe, and the same value. Lines and tabs stay. */
export const safeSource = (text: string, language: "json" | "toml" = "json"): string =>
	text.replace(INVISIBLE, (character) => {
		if (character === "\n" || character === "\t") return character;
		const code = character.codePointAt(0) ?? 0;
		if (language === "toml" && code > 0xffff) return `\\U${code.toString(16).padStart(8, "0")}`;
		const units = Array.from({ length: character.length }, (_, at) => character.charCodeAt(at));
		return units.map((each) => `\\u${each.toString(16).padStart(4, "0")}`).join("");
	});
