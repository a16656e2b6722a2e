/** The routes of those who look on: a stream of how limits stand, and what a limit did lately. */

import type { Hono } from "hono";
import { Refused } from "../http/refused.ts";
import { type App, accept, allow, callerOf, named, route, STREAM_HEADERS, unknown } from "../http/route.ts";
import { limitOf } from "../limit-stub.ts";
import { parseWatchQuery } from "../requests.ts";
import { watchMany, watchOne } from "./stream.ts";

export function watchRoutes(app: Hono<App>): void {
	route(app, { GET: "read" }, "/v1/watch", {
		GET: async (c) => {
			const { name, order, prefix, after, count } = accept(parseWatchQuery(c.req.query()));
			const asked = name ?? prefix;
			allow(c, "read", asked === "" ? [] : [asked]);
			// The stream would have no reader.
			if (c.req.method === "HEAD") return c.body(null, 200, STREAM_HEADERS);
			const page = { prefix: prefix === "" ? c.get("grant").prefix : prefix, order, after, count };
			const [grant, caller] = [c.get("grant"), callerOf(c)];
			const stream = await (name === undefined ? watchMany(c.env, page, caller) : watchOne(c.env, name, grant, caller));
			if ("code" in stream) throw new Refused(stream);
			return c.body(stream, 200, STREAM_HEADERS);
		},
	});

	route(app, { GET: "read" }, "/v1/limits/:name/history", {
		GET: async (c) => {
			const name = named(c, "read");
			return c.json((await limitOf(c.env, name).history()) ?? unknown(name));
		},
	});
}
