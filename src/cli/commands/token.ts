/** `token new`: makes a token, and the value of `HEADGATE_TOKENS` that lets it in. */

import { SCOPES, type Scope } from "../../protocol.ts";
import { CliError, EXIT } from "../exit.ts";
import { write, writeSource } from "../output.ts";
import { checkTokens, newToken } from "../tokens.ts";

export { SCOPES };

export interface TokenOptions {
	scope: Scope;
	name?: string;
	prefix?: string;
	key?: string;
	json?: boolean;
}

export function newTokenCommand({ scope, name, prefix, key, json }: TokenOptions): void {
	const { token, entry } = newToken(name, scope, prefix, key);
	const known = process.env.HEADGATE_TOKENS ? checkTokens(process.env.HEADGATE_TOKENS) : [];
	if (known.some((one) => one.name === entry.name)) {
		throw new CliError(
			`HEADGATE_TOKENS has an entry "${entry.name}" already.`,
			EXIT.usage,
			"Give the new one another --name.",
		);
	}
	const list = [...known, entry];
	if (json) {
		writeSource(process.stdout, `${JSON.stringify({ token, entry, tokens: list })}\n`);
		return;
	}
	const beside =
		known.length === 0
			? "Set HEADGATE_TOKENS to a list with this entry (beside those it has already):"
			: `Set HEADGATE_TOKENS to this list: the ${known.length} of your environment, and the new one:`;
	// The token alone on standard output's first line, so that a script can take it; it is kept nowhere.
	write(process.stdout, `${token}\n\nThe token is shown this once. ${beside}\n\n${JSON.stringify(list)}\n`);
}
