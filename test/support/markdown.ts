/** A fenced block of a Markdown file. */
export interface Block {
	/** What stands after the opening fence: a language, and words that say what to do with the block. */
	language: string;
	words: string[];
	code: string;
	/** Lines that a comment `<!-- given: ... -->` right above the fence adds, unseen by readers. */
	given: string;
	/** The line of its opening fence. */
	line: number;
}

export function blocks(markdown: string): Block[] {
	const found: Block[] = [];
	const lines = markdown.split("\n");
	for (let at = 0; at < lines.length; at++) {
		const fence = /^```(\S+)?(.*)$/.exec(lines[at] ?? "");
		if (fence === null) continue;
		const end = lines.findIndex((line, index) => index > at && line === "```");
		if (end === -1) throw new Error(`The fence at line ${at + 1} is not closed`);
		const above = lines.slice(0, at).join("\n").trimEnd();
		const comment = above.endsWith("-->") ? above.slice(above.lastIndexOf("<!--")) : "";
		found.push({
			language: fence[1] ?? "",
			words: (fence[2] ?? "").split(" ").filter((word) => word !== ""),
			code: lines.slice(at + 1, end).join("\n"),
			given: /^<!--\s*given:([\s\S]*)-->$/.exec(comment)?.[1]?.trim() ?? "",
			line: at + 1,
		});
		at = end;
	}
	return found;
}
