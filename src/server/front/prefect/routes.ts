/**
 * Prefect's wire, under `/api`: its routes, statuses, bodies and errors, over the same limits as `/v1`. It has no
 * semantics of its own. A limit made here is there, and the other way round. See docs/prefect.md.
 */

import { acceptEvents } from "./events.ts";
import { type C, invalid, prefect, route, wrong } from "./http.ts";
import * as limits from "./limits.ts";
import * as slots from "./slots.ts";

export { prefect };

/** The version of the wire that the newest clients name. */
const API_VERSION = "0.8.4";
/** Told to clients, which warn when theirs is newer. Those of another major version would refuse to go on. */
const PREFECT_VERSION = "3.99.0";

// ------------------------------------------------------------------------- what its client asks on the way

route({ GET: "anyone" }, "/health", { GET: async (c) => c.json(true) });
route({ GET: "anyone" }, "/ready", { GET: async (c) => c.json({ message: "OK" }) });
route({ GET: "read" }, "/hello", { GET: async (c) => c.json("👋") });
route({ GET: "read" }, "/version", { GET: async (c) => c.json(API_VERSION) });
route({ GET: "read" }, "/admin/version", { GET: async (c) => c.json(PREFECT_VERSION) });
route({ GET: "read" }, "/csrf-token", {
	GET: async (c) => {
		if (c.req.query("client") !== undefined) return wrong(422, "CSRF protection is disabled.");
		return invalid([{ type: "missing", loc: ["query", "client"], msg: "Field required", input: null }], undefined);
	},
});
prefect.get("/api/events/in", (c) => {
	if (c.req.header("Upgrade")?.toLowerCase() === "websocket") return acceptEvents(c.req.raw, c.env);
	return wrong(426, "This is a WebSocket.", { Upgrade: "websocket" });
});

// ------------------------------------------------------------------------------------ limits and slots

const LIMITS = "/v2/concurrency_limits";
/** Any last part of a path may be the name or the id of a limit, also one that is a call of its own. */
const ON_LIMIT = { GET: "read", PATCH: "admin", DELETE: "admin" } as const;

const redirect = (path: string) => async (): Promise<Response> =>
	new Response(null, { status: 307, headers: { Location: `/api${path}` } });
const withoutSlash = async (c: C): Promise<Response> =>
	redirect(`${LIMITS}/${encodeURIComponent(c.req.param("id_or_name") ?? "")}`)();

route({ POST: "admin" }, `${LIMITS}/`, { POST: limits.create });
route({ POST: "read" }, LIMITS, { POST: redirect(`${LIMITS}/`) });
route({ ...ON_LIMIT, POST: "read" }, `${LIMITS}/filter`, { ...limits.one, POST: limits.list });
route({ ...ON_LIMIT, POST: "use" }, `${LIMITS}/increment`, { ...limits.one, POST: slots.increment });
route({ ...ON_LIMIT, POST: "use" }, `${LIMITS}/increment-with-lease`, {
	...limits.one,
	POST: slots.incrementWithLease,
});
route({ ...ON_LIMIT, POST: "use" }, `${LIMITS}/decrement`, { ...limits.one, POST: slots.decrement });
route({ ...ON_LIMIT, POST: "use" }, `${LIMITS}/decrement-with-lease`, {
	...limits.one,
	POST: slots.decrementWithLease,
});
route({ POST: "use" }, `${LIMITS}/leases/:lease_id/renew`, { POST: slots.renew });
route(ON_LIMIT, `${LIMITS}/:id_or_name`, limits.one);
route({ GET: "read", PATCH: "read", DELETE: "read" }, `${LIMITS}/:id_or_name/`, {
	...{ GET: withoutSlash, PATCH: withoutSlash, DELETE: withoutSlash },
});
