/** The wire, continued: who may, and what a server says of itself to everybody. */

/** What a token allows; each includes those before it. */
export const SCOPES = ["read", "use", "admin"] as const;
export type Scope = (typeof SCOPES)[number];

/** `GET /v1/token`: what the token that was sent allows. On an open server: everything. */
export interface TokenInfo {
	/** Who it was made for, as `HEADGATE_TOKENS` says. */
	name: string;
	scope: Scope;
	/** Names that it may speak of start with this; empty for all. */
	prefix: string;
}

/** `GET /health`. */
export interface ServerHealth {
	status: "ok";
	version: string;
	/** The server's clock. */
	time: string;
}
