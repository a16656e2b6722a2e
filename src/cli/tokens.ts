/** `HEADGATE_TOKENS`: the JSON list of who may call, with a digest in place of each token. */

import { createHash, randomBytes } from "node:crypto";
import { BOUNDS, SCOPES, type Scope, type TokenBounds } from "../protocol.ts";
import { StartError } from "./errors.ts";

/** One entry of the list. */
export interface TokenEntry {
	/** Who it is, for people; tells entries apart when one has to be taken back. */
	name: string;
	/** SHA-256 of the token, in hex. Tokens are long and random, so a plain digest cannot be searched. */
	sha256: string;
	scope: Scope;
	/** Only names that begin with this; absent for all. */
	prefix?: string;
	/** Its requests take the turns of this key alone. */
	key?: string;
	/** What it may take of what all share, where that is not `BOUNDS.perToken`. */
	bounds?: Partial<TokenBounds>;
}

/** A new token, shown once, and the entry that lets it in. Without a name it is called by its scope and digest. */
export function newToken(
	name: string | undefined,
	scope: Scope,
	prefix: string | undefined,
	key?: string,
): { token: string; entry: TokenEntry } {
	const token = `hg_${randomBytes(32).toString("base64url")}`;
	const sha256 = digestOf(token);
	const called = name ?? `${scope}-${sha256.slice(0, 6)}`;
	return {
		token,
		entry: {
			name: called,
			sha256,
			scope,
			...(prefix === undefined ? {} : { prefix }),
			...(key === undefined ? {} : { key }),
		},
	};
}

/** The plain secret to begin with: it has to be long, for it is kept as it is. */
export function checkAdminToken(token: string): string {
	if (token.length >= BOUNDS.tokenLength) return token;
	throw new StartError(
		`HEADGATE_ADMIN_TOKEN has ${token.length} characters, which can be guessed; at least ${BOUNDS.tokenLength} are needed. ` +
			"Make one with: openssl rand -hex 24",
		2,
	);
}

const digestOf = (text: string): string => createHash("sha256").update(text).digest("hex");
/** What comes of hashing a variable that is not set, and of hashing it with the end of its line. */
const EMPTY = ["", "\n", "\r\n"].map(digestOf);

/**
 * Refuses a list that the Worker would refuse, before a server is started that lets no caller in; or that would let in callers who guess.
 * How long a token is cannot be seen in its digest, so the caller's own is looked at where it is known.
 */
export function checkTokens(json: string, own = process.env.HEADGATE_TOKEN): TokenEntry[] {
	const problem = (what: string) =>
		new StartError(`HEADGATE_TOKENS ${what}. Make an entry with: headgate token new --scope use`, 2);
	let list: unknown;
	try {
		list = JSON.parse(json);
	} catch {
		// The parser's own message quotes the text, which may be a token put here by mistake.
		throw problem("is not JSON");
	}
	if (!Array.isArray(list)) throw problem("is not a list");
	for (const [index, entry] of list.entries()) {
		const at = `entry ${index + 1}`;
		if (typeof entry !== "object" || entry === null) throw problem(`${at} is not an object`);
		if (typeof entry.name !== "string") throw problem(`${at} has no name`);
		if (typeof entry.sha256 !== "string" || !/^[0-9a-f]{64}$/i.test(entry.sha256)) {
			throw problem(`${at} (${entry.name}) has no sha256 of 64 hexadecimal digits`);
		}
		const digest = entry.sha256.toLowerCase();
		if (EMPTY.includes(digest)) {
			throw problem(`${at} (${entry.name}) has the digest of an empty token, which anybody has`);
		}
		if (own !== undefined && own.length < BOUNDS.tokenLength && digest === digestOf(own)) {
			throw problem(
				`${at} (${entry.name}) is for a token of ${own.length} characters, which can be guessed; at least ${BOUNDS.tokenLength} are needed`,
			);
		}
		if (!SCOPES.includes(entry.scope)) {
			throw problem(`${at} (${entry.name}) has a scope other than ${SCOPES.join(", ")}`);
		}
		if (entry.prefix !== undefined && typeof entry.prefix !== "string") {
			throw problem(`${at} (${entry.name}) has a prefix that is not a string`);
		}
		if (
			entry.key !== undefined &&
			(typeof entry.key !== "string" || entry.key === "" || [...entry.key].length > BOUNDS.keyLength)
		) {
			throw problem(`${at} (${entry.name}) has a key that is no string of 1 to ${BOUNDS.keyLength} characters`);
		}
		for (const [bound, most] of Object.entries(entry.bounds ?? {})) {
			if (Object.hasOwn(BOUNDS.perToken, bound) && Number.isSafeInteger(most) && (most as number) >= 0) continue;
			const known = Object.keys(BOUNDS.perToken).join(", ");
			throw problem(`${at} (${entry.name}) has a bound "${bound}" that is none of ${known} with a whole number`);
		}
	}
	return list;
}
