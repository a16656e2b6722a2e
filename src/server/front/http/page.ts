/** The dashboard at `/`: static files, each with the headers that keep a page from doing anything but its work. */

import type { Hono } from "hono";
import { refuse, shown } from "./refused.ts";
import { type App, type C, route } from "./route.ts";

/** Scripts and styles of its own files, calls to its own server, and nothing else. */
const POLICY = [
	"default-src 'none'",
	"script-src 'self'",
	"style-src 'self'",
	"img-src 'self'",
	"connect-src 'self'",
	"base-uri 'none'",
	"form-action 'none'",
	"frame-ancestors 'none'",
	// No text ever becomes markup: there is no policy that could make it so.
	"require-trusted-types-for 'script'",
	"trusted-types 'none'",
].join("; ");

const TYPES: Record<string, string> = {
	html: "text/html; charset=utf-8",
	js: "text/javascript; charset=utf-8",
	css: "text/css; charset=utf-8",
	svg: "image/svg+xml",
};

/** What `curl` sees at `/`. */
const PLAIN = "Headgate: named limits. Acquire with POST /v1/acquire; health at /health; the dashboard in a browser.\n";

export function pageRoutes(app: Hono<App>): void {
	const page = async (c: C): Promise<Response> => {
		const html = (c.req.header("Accept") ?? "").includes("text/html");
		const found = html ? await file(c, "index.html", "no-cache") : null;
		return found ?? c.text(PLAIN, 200, { Vary: "Accept" });
	};
	const asset = async (c: C): Promise<Response> => {
		const name = c.req.param("file") ?? "";
		const cache = /-[A-Z0-9]{8}\.\w+$/.test(name) ? "public, max-age=31536000, immutable" : "no-cache";
		return (await file(c, `assets/${name}`, cache)) ?? refuse("not_found", `There is no ${shown(c.req.path)} here.`);
	};
	route(app, { GET: "anyone" }, "/", { GET: page });
	route(app, { GET: "anyone" }, "/assets/:file", { GET: asset });
}

/** Null: there is no such file. */
async function file(c: C, path: string, cache: string): Promise<Response | null> {
	const type = TYPES[/^(?:assets\/)?[\w-]+\.(\w+)$/.exec(path)?.[1] ?? ""];
	if (!type || !c.env.ASSETS) return null;
	const found = await c.env.ASSETS.fetch(new URL(path, "http://assets.invalid/").href);
	if (found.status !== 200) {
		await found.body?.cancel();
		return null;
	}
	return new Response(found.body, {
		headers: {
			"Content-Type": type,
			"Cache-Control": cache,
			"Content-Security-Policy": POLICY,
			"X-Content-Type-Options": "nosniff",
			"Referrer-Policy": "no-referrer",
			"Cross-Origin-Opener-Policy": "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
			Vary: "Accept",
		},
	});
}
