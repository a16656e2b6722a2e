/** Who may do what: tokens with a scope and an optional prefix of names, known to the Worker by their digests alone. */

import * as z from "zod";
import { BOUNDS, type Problem, SCOPES, type Scope, type TokenBounds } from "../../protocol.ts";
import type { Env } from "../contract/env.ts";
import { problem } from "../contract/problems.ts";

export interface Grant {
	name: string;
	scope: Scope;
	/** Names it may speak of start with this. */
	prefix: string;
	/** Its requests take the turns of this key alone. */
	key?: string;
	/** What it may take of what all share, where that is not `BOUNDS.perToken`. */
	bounds?: Partial<TokenBounds>;
}

interface Token extends Grant {
	digest: Uint8Array<ArrayBuffer>;
}

/** What `printf '' | sha256sum` says: the digest of a token that a script failed to fill in. */
export const DIGEST_OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const bound = z.int().min(0).exactOptional();
/** @internal `bounds` of a token, or of a binding: not among the declarations of the package, which do without its schemas. */
export const boundsSchema = z.strictObject({
	streams: bound,
	waiters: bound,
	policies: bound,
	newNamesPerMinute: bound,
	sockets: bound,
} satisfies Record<keyof TokenBounds, z.ZodType>);

/** @internal The key that a token, or a binding, fixes. */
export const fixedKeySchema = z.string().min(1).max(BOUNDS.keyLength);

const tokensSchema = z.array(
	z.strictObject({
		name: z.string().default(""),
		sha256: z
			.string()
			.regex(/^[0-9a-f]{64}$/i, "64 hexadecimal digits: the SHA-256 of the token")
			.refine(
				(sha256) => sha256.toLowerCase() !== DIGEST_OF_NOTHING,
				"the digest of an empty token, which anybody has",
			),
		scope: z.enum(SCOPES),
		prefix: z.string().default(""),
		key: fixedKeySchema.exactOptional(),
		bounds: boundsSchema.exactOptional(),
	}),
);

const EVERYTHING: Grant = { name: "", scope: "admin", prefix: "", bounds: BOUNDS.alone };

/** Reading the secret costs more than comparing digests: it is done once for each value of it. */
let known: { text: string; tokens: Token[] } | null = null;

function readTokens(text: string): Token[] {
	if (known?.text === text) return known.tokens;
	const tokens = tokensSchema.parse(JSON.parse(text)).map(({ sha256, ...grant }) => ({
		...grant,
		// One without a name is known by the beginning of its digest, so that the record can say which it was.
		name: grant.name || `sha256:${sha256.slice(0, 8)}`,
		digest: Uint8Array.from(sha256.match(/../g) ?? [], (hex) => Number.parseInt(hex, 16)),
	}));
	known = { text, tokens };
	return tokens;
}

/** The plain secret to begin with, as an entry of the list. */
let first: { text: string; token: Promise<Token> } | null = null;

function firstToken(text: string): Promise<Token> {
	if (first?.text !== text) first = { text, token: makeFirst(text) };
	return first.token;
}

const makeFirst = async (text: string): Promise<Token> => ({
	...{ name: "HEADGATE_ADMIN_TOKEN", scope: "admin", prefix: "" },
	digest: await digestOf(text),
});

const digestOf = async (text: string): Promise<Uint8Array<ArrayBuffer>> =>
	new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));

/** Requests that came in without a token, by a way that is a permission itself. No header can say so. */
const granted = new WeakMap<Request, Grant>();

export function grantTo(request: Request, grant: Grant): Request {
	granted.set(request, grant);
	return request;
}

/** Who sent a request, once that is known: for the log. */
const callers = new WeakMap<Request, string>();

export const nameOf = (request: Request): string | undefined => granted.get(request)?.name ?? callers.get(request);

/** Whether a request came in by such a way. */
export const isGranted = (request: Request): boolean => granted.has(request);

/** Whether every caller that reaches the server may do everything: no tokens, and told to be open. */
export const isOpen = (env: Env): boolean => !hasTokens(env) && env.HEADGATE_OPEN === "true";

/** Whether there is any token, be it one that lets no caller in. */
export const hasTokens = (env: Env): boolean =>
	env.HEADGATE_TOKENS !== undefined || env.HEADGATE_ADMIN_TOKEN !== undefined;

/** What the caller of a request may do, or the problem that refuses it. */
export async function authenticate(request: Request, env: Env): Promise<Grant | Problem> {
	const grant = granted.get(request);
	if (grant) return grant;
	if (!hasTokens(env)) {
		if (isOpen(env)) return EVERYTHING;
		return problem(
			"unauthorized",
			"This server has no tokens, so it refuses every call. Set the secret HEADGATE_ADMIN_TOKEN, or HEADGATE_TOKENS: see docs/tokens.md.",
		);
	}
	let tokens: Token[];
	try {
		tokens = readTokens(env.HEADGATE_TOKENS ?? "[]");
	} catch (error) {
		// Only what is wrong is logged, never the text: it may be a token that was put there by mistake.
		const why = error instanceof z.ZodError ? z.prettifyError(error) : "it is not JSON";
		console.error(`HEADGATE_TOKENS cannot be read, so every call is refused: ${why}`);
		return problem(
			"unauthorized",
			"This server's HEADGATE_TOKENS cannot be read, so it refuses every call: see its log.",
		);
	}
	const presented = bearer(request.headers.get("Authorization") ?? "");
	if (presented === null) {
		return problem(
			"unauthorized",
			"Send a token: `Authorization: Bearer <token>`, or Basic with the token as password.",
		);
	}
	const digest = await digestOf(presented);
	// A line's end is what `openssl rand -hex 24 | wrangler secret put` may leave; no token has one.
	const plain = env.HEADGATE_ADMIN_TOKEN?.trim();
	if (plain) tokens = [...tokens, await firstToken(plain)];
	// Every digest is compared, each in constant time, so that time tells nothing of which one matched.
	const matching = tokens.filter((token) => crypto.subtle.timingSafeEqual(token.digest, digest));
	const [token] = matching;
	if (!token) return problem("unauthorized", "The token is not known here.");
	// A digest does not tell it at start; a caller that has the token may know.
	if (presented.length < BOUNDS.tokenLength) {
		const short = `The token "${token.name}" has ${presented.length} characters and can be guessed, so it lets nobody in.`;
		return problem("unauthorized", `${short} Make one of ${BOUNDS.tokenLength} or more: headgate token new.`);
	}
	callers.set(request, token.name);
	return token;
}

/** The token of an Authorization header: of Bearer, or the password of Basic. */
function bearer(header: string): string | null {
	if (header.length > BOUNDS.headerLength) return null;
	const [scheme = "", credentials = ""] = header.split(/ +/, 2);
	if (credentials === "") return null;
	if (scheme.toLowerCase() === "bearer") return credentials;
	if (scheme.toLowerCase() !== "basic") return null;
	try {
		const text = atob(credentials);
		return text.slice(text.indexOf(":") + 1) || null;
	} catch {
		return null; // Not base64: no token.
	}
}

/** Why a grant does not allow something, or null. */
export function forbidden(grant: Grant, scope: Scope, names: string[]): Problem | null {
	if (SCOPES.indexOf(grant.scope) < SCOPES.indexOf(scope)) {
		return problem("forbidden", `This needs a token of scope "${scope}"; yours has scope "${grant.scope}".`);
	}
	const outside = names.filter((name) => !name.startsWith(grant.prefix));
	if (outside.length === 0) return null;
	const list = outside.map((name) => `"${name}"`).join(", ");
	return problem("forbidden", `Your token is for names that start with "${grant.prefix}", and not for ${list}.`);
}
