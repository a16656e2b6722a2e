/** Tenants of one server, each with a token of its own. */

import { newToken, type TokenEntry } from "../../src/cli/tokens.ts";
import type { Scope, TokenBounds } from "../../src/protocol.ts";
import { type FreshServer, freshServer } from "../support/server.ts";

export interface Answer<T> {
	status: number;
	headers: Headers;
	body: T;
}

export interface Tenant {
	token: string;
	call<T = { code?: string; detail?: string }>(method: string, path: string, body?: unknown): Promise<Answer<T>>;
	/** An answer that is a stream, and is left open until `signal` says so. */
	open(path: string, signal: AbortSignal, body?: unknown): Promise<Response>;
}

export interface Given {
	scope: Scope;
	prefix?: string;
	bounds?: Partial<TokenBounds>;
}

/** A server with a token for each of these, by name. */
export async function tenants<Names extends string>(
	given: Record<Names, Given>,
): Promise<{ server: FreshServer; of: Record<Names, Tenant> }> {
	const made = Object.entries<Given>(given).map(([name, { scope, prefix, bounds }]) => {
		const { token, entry } = newToken(name, scope, prefix);
		return { name, token, entry: { ...entry, ...(bounds && { bounds }) } satisfies TokenEntry };
	});
	const server = await freshServer({ tokens: made.map(({ entry }) => entry) });
	const of = Object.fromEntries(made.map(({ name, token }) => [name, tenant(server.url, token)]));
	return { server, of: of as Record<Names, Tenant> };
}

function tenant(url: string, token: string): Tenant {
	const init = (body: unknown): RequestInit => ({
		headers: { Authorization: `Bearer ${token}`, ...(body !== undefined && { "Content-Type": "application/json" }) },
		...(body !== undefined && { body: JSON.stringify(body) }),
	});
	return {
		token,
		async call<T>(method: string, path: string, body?: unknown) {
			const response = await fetch(url + path, { ...init(body), method });
			const text = await response.text();
			const parsed = (/json/.test(response.headers.get("Content-Type") ?? "") ? JSON.parse(text) : text) as T;
			return { status: response.status, headers: response.headers, body: parsed };
		},
		open(path, signal, body) {
			const { headers, ...rest } = init(body);
			const accept = { ...(headers as Record<string, string>), Accept: "application/x-ndjson" };
			return fetch(url + path, { ...rest, method: body === undefined ? "GET" : "POST", headers: accept, signal });
		},
	};
}

/** The lines of a stream, as they come. Who stops reading leaves it open. */
export async function* linesOf(response: Response): AsyncGenerator<Record<string, unknown>> {
	const reader = (response.body as ReadableStream<Uint8Array>).getReader();
	const decoder = new TextDecoder();
	let rest = "";
	for (let read = await reader.read(); !read.done; read = await reader.read()) {
		const lines = (rest + decoder.decode(read.value, { stream: true })).split("\n");
		rest = lines.pop() ?? "";
		for (const line of lines) if (line.trim() !== "") yield JSON.parse(line);
	}
}
