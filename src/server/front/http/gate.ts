/**
 * Before all routes: whom a browser speaks for. A page of another site can make a browser send requests here, and its
 * owner can make a name of theirs lead to this machine; neither is a caller. Programs say nothing of a page, and pass.
 */

import { BOUNDS, type Problem } from "../../../protocol.ts";
import type { Env } from "../../contract/env.ts";
import { problem } from "../../contract/problems.ts";
import { isGranted, isOpen } from "../auth.ts";
import { allowedOrigins, listed } from "./origins.ts";

/** What may be opened by a link on any page, as in any browser's tab. The page that links sees nothing of it. */
const PAGES = ["/", "/docs", "/health", "/openapi.json"];

/** Why a request goes no further, or null. */
export function gate(request: Request, env: Env): Problem | null {
	// Each read of one of these makes it anew.
	const { url, headers } = request;
	if (url.length > BOUNDS.urlLength) {
		return problem("uri_too_long", `A URL has at most ${BOUNDS.urlLength} characters, not ${url.length}.`);
	}
	if (!isText(queryOf(url))) {
		return problem("malformed", "The URL's query is not percent-encoded UTF-8; a % itself is written %25.");
	}
	// A binding is a permission, and no browser stands behind it.
	if (isGranted(request)) return null;
	const open = isOpen(env);
	if (open) {
		const host = foreignHost(url, headers, env);
		if (host !== null) {
			const why = `"${shown(host)}" is no host name of this server, which is open to whoever may call it.`;
			return problem("forbidden_host", `${why} Use localhost or 127.0.0.1, or list the name in HEADGATE_HOSTS.`);
		}
	}
	const page = foreignPage(url, request.method, headers, env, open);
	if (page === null) return null;
	const how = "its operator can list the origin in HEADGATE_CORS_ORIGINS";
	return problem("forbidden_origin", `${page} may not call this server: ${how}.`);
}

/** What is broken in a path is no name, and refused as one; in a query it would be taken for what it is not. */
function queryOf(url: string): string {
	const from = url.indexOf("?");
	return from < 0 ? "" : url.slice(from);
}

function isText(encoded: string): boolean {
	if (!encoded.includes("%")) return true;
	try {
		decodeURIComponent(encoded);
		return true;
	} catch {
		return false;
	}
}

/** The host of a request to an open server, if it is neither loopback nor one that the operator gave. */
function foreignHost(url: string, headers: Headers, env: Env): string | null {
	const asked = authorityOf(url);
	if (!isOwnName(asked, env)) return asked;
	// Where a runtime takes the one from the request's line, and passes the other on.
	const told = headers.get("Host");
	return told === null || told === asked || isOwnName(told, env) ? null : told;
}

/** How callers on this machine nearly always write it: known without the parser, which costs more than all that is left. */
const USUAL = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/;

function isOwnName(host: string, env: Env): boolean {
	if (USUAL.test(host)) return true;
	// As a URL has it: an address in its usual form, and a name in small letters.
	const authority = `http://${host}`;
	if (!URL.canParse(authority) || host.includes("@")) return false;
	const { hostname } = new URL(authority);
	const name = hostname.endsWith(".") ? hostname.slice(0, -1) : hostname;
	return isLoopback(name) || listed(env.HEADGATE_HOSTS).some((own) => [own, `[${own}]`].includes(name));
}

/** Names that lead to this machine whichever resolver is asked (RFC 6761), and its addresses. */
const isLoopback = (name: string): boolean =>
	name === "localhost" || name.endsWith(".localhost") || name === "[::1]" || /^127(?:\.\d{1,3}){3}$/.test(name);

/** The page of another site that a browser asks for, in words; null: there is none, or it is allowed. */
function foreignPage(url: string, method: string, headers: Headers, env: Env, open: boolean): string | null {
	const origin = headers.get("Origin");
	const site = headers.get("Sec-Fetch-Site");
	if (origin === null && site === null) return null;
	const allowed = allowedOrigins(env);
	if (allowed.includes("*") || (origin !== null && allowed.includes(origin))) return null;
	if (origin !== null) {
		const own = URL.canParse(origin) && new URL(origin).host === authorityOf(url).toLowerCase();
		// Behind a proxy that changes the host, the browser's own word is what there is.
		if ((own && site !== "cross-site") || (!open && site === "same-origin")) return null;
		return `A page of the origin "${shown(origin)}"`;
	}
	if (site === "same-origin" || site === "none" || (site === "same-site" && !open)) return null;
	if (isNavigation(method, headers) && PAGES.includes(pathOf(url))) return null;
	return "A page of another site";
}

const isNavigation = (method: string, headers: Headers): boolean =>
	method === "GET" &&
	headers.get("Sec-Fetch-Mode") === "navigate" &&
	(headers.get("Sec-Fetch-Dest") ?? "document") === "document";

/** What stands between the scheme and the path, whether or not it is a host. */
const authorityOf = (url: string): string => upTo(/[/?#]/, url.slice(url.indexOf("//") + 2));

function upTo(end: RegExp, text: string): string {
	const at = text.search(end);
	return at < 0 ? text : text.slice(0, at);
}

/** The path of any URL: that of a request may hold a host that no parser takes. */
export function pathOf(url: string): string {
	const from = url.indexOf("/", url.indexOf("//") + 2);
	return from < 0 ? "/" : upTo(/[?#]/, url.slice(from));
}

const shown = (text: string): string => text.slice(0, BOUNDS.nameLength);
