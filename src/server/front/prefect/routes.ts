/**
 * Prefect's wire, under `/api`: its routes, statuses, bodies and errors, over the same limits as `/v1`. It has no
 * semantics of its own. A limit made here is there, and the other way round. See docs/prefect.md.
 */

import { BOUNDS, type LimitSummary, type Problem, type Scope } from "../../../protocol.ts";
import type { Status } from "../../contract/outcomes.ts";
import { answerHeard } from "../heard.ts";
import { callerOf } from "../http.ts";
import { limitOf } from "../limit-stub.ts";
import { nameFault } from "../requests.ts";
import * as bodies from "./bodies.ts";
import { acceptEvents } from "./events.ts";
import {
	allow,
	type C,
	fromProblem,
	type Handler,
	invalid,
	notFound,
	prefect,
	read,
	route,
	Wrong,
	wrong,
} from "./http.ts";
import { forget, locate, namesOf } from "./leases.ts";
import { pausedSeconds, retryAfterSeconds, type Take, take } from "./slots.ts";

export { prefect };

/** The version of the wire that the newest clients name. */
const API_VERSION = "0.8.4";
/** Told to clients, which warn when theirs is newer. Those of another major version would refuse to go on. */
const PREFECT_VERSION = "3.99.0";
/** Entries of one page, as in Prefect. */
const FILTER_MAX = 200;
/** Longest wait in line that `Prefer: wait=N` gets; the client itself gives a call up after 60 s. */
const WAIT_MAX_SECONDS = BOUNDS.plainWaitSeconds;

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

// ---------------------------------------------------------------------------------------------- limits

const LIMITS = "/v2/concurrency_limits";
const ON_LIMIT = { GET: "read", PATCH: "admin", DELETE: "admin" } as const;

route({ POST: "admin" }, `${LIMITS}/`, {
	POST: async (c) => {
		const { name, limit, active, active_slots, denied_slots, slot_decay_per_second, raw } = await read(
			c,
			bodies.createBody,
		);
		allow(c, "admin", [name]);
		if (active_slots > limit) {
			const msg = `Input should be less than or equal to the limit, ${limit}`;
			invalid(
				[{ type: "less_than_equal", loc: ["body", "active_slots"], msg, input: active_slots, ctx: { le: limit } }],
				raw,
			);
		}
		const settings = { limit, active, slotDecayPerSecond: slot_decay_per_second };
		const byHand = { activeSlots: active_slots, deniedSlots: denied_slots };
		const object = limitOf(c.env, name);
		if (!(await object.create(settings, byHand, who(c)))) conflict();
		const made = await object.describe();
		return made ? c.json(full(made.summary, made.status), 201) : notFound();
	},
});
route({ POST: "read" }, LIMITS, { POST: async () => redirect(`${LIMITS}/`) });

const conflict = (): never =>
	wrong(
		409,
		"Data integrity conflict. This usually means a unique or foreign key constraint was violated. See server logs for details.",
	);

const redirect = (path: string): Response => new Response(null, { status: 307, headers: { Location: `/api${path}` } });

route({ ...ON_LIMIT, POST: "read" }, `${LIMITS}/filter`, {
	...onLimit(),
	POST: async (c) => {
		const { limit, offset } = await read(c, bodies.filterBody);
		const count = limit ?? FILTER_MAX;
		if (count > FILTER_MAX) wrong(422, `Invalid limit: must be less than or equal to ${FILTER_MAX}.`);
		if (count < 0) wrong(422, "Invalid limit: must be greater than or equal to 0.");
		const names = await directory(c).namesAt(c.get("grant").prefix, offset ?? 0, count);
		const described = await Promise.all(names.map((name) => limitOf(c.env, name).describeIfThere()));
		return c.json(described.flatMap((each) => (each ? [shown(each.summary, each.status)] : [])));
	},
});

/** What is done with one limit, found by its name and else by its id. */
function onLimit(): Record<"GET" | "PATCH" | "DELETE", Handler> {
	return {
		GET: async (c) => {
			const name = await find(c, "read");
			const known = await limitOf(c.env, name).describeIfThere();
			return known ? c.json(shown(known.summary, known.status)) : notFound();
		},
		PATCH: async (c) => {
			const name = await find(c, "admin");
			const {
				name: newName,
				limit,
				active,
				active_slots,
				denied_slots,
				slot_decay_per_second,
			} = await read(c, bodies.updateBody);
			const patch = {
				...(limit !== undefined && { limit }),
				...(active !== undefined && { active }),
				...(slot_decay_per_second !== undefined && { slotDecayPerSecond: slot_decay_per_second }),
				...(active_slots !== undefined && { activeSlots: active_slots }),
				...(denied_slots !== undefined && { deniedSlots: denied_slots }),
			};
			const target = newName ?? name;
			if (target !== name) {
				allow(c, "admin", [target]);
				const moved = await limitOf(c.env, name).rename(target, who(c));
				if (moved === null) notFound();
				if (moved === "taken") conflict();
				for (const each of [name, target]) forget(each);
			}
			if (!(await limitOf(c.env, target).patch(patch, who(c)))) notFound();
			return new Response(null, { status: 204 });
		},
		DELETE: async (c) => {
			const name = await find(c, "admin");
			if (!(await limitOf(c.env, name).remove(who(c)))) notFound();
			forget(name);
			return new Response(null, { status: 204 });
		},
	};
}

/** The name of the limit in the path. A name first: a limit may be called like an id, of itself or of another. */
async function find(c: C, scope: Scope): Promise<string> {
	allow(c, scope, []);
	// A client that does not quote a name asks for the part of it that stands before the "?": for another limit.
	if (c.req.url.includes("?")) wrong(404, 'Concurrency Limit not found: a "?" in a name is written %3F in a path.');
	const text = decoded(new URL(c.req.url).pathname.split("/").at(-1) ?? "");
	if (text === null || nameFault(text) !== null) return notFound();
	const id = bodies.uuidOf(text);
	if (id === null) {
		allow(c, scope, [text]);
		return text;
	}
	const { prefix } = c.get("grant");
	if (text.startsWith(prefix) && (await limitOf(c.env, text).describeIfThere()) !== null) return text;
	// Whoever sends an id has named nobody: an id of another's limit is no id at all.
	const name = await directory(c).nameOf(id);
	return name?.startsWith(prefix) ? name : notFound();
}

function decoded(segment: string): string | null {
	try {
		return decodeURIComponent(segment);
	} catch {
		return null; // Not percent-encoded text: no limit is called so.
	}
}

/** Who calls, for the record. */
const who = (c: C): string | null => c.get("grant").name || null;

const directory = (c: C) => c.env.DIRECTORY.getByName("directory");

/** Prefect's moments have six decimals. */
const moment = (iso: string): string => iso.replace("Z", "000Z");

function full(summary: LimitSummary, status: Status) {
	const { id, createdAt, updatedAt, active, name, limit, activeSlots, slotDecayPerSecond } = summary;
	return {
		...{ id, created: moment(createdAt), updated: moment(updatedAt), active, name, limit, active_slots: activeSlots },
		denied_slots: Math.ceil(status.deniedSlots),
		slot_decay_per_second: slotDecayPerSecond,
		avg_slot_occupancy_seconds: status.averageHeldMs / 1_000,
	};
}

/** A limit as it is read; the last four fields are Headgate's own, and clients pass over them. */
function shown(summary: LimitSummary, status: Status) {
	const { denied_slots, avg_slot_occupancy_seconds, ...fields } = full(summary, status);
	const { leaseCount: lease_count, waitingCount: waiting_count } = summary;
	return { ...fields, denied_slots, avg_slot_occupancy_seconds, lease_count, waiting_count };
}

const minimal = ({ limitId: id, name, limit }: Status) => ({ id, name, limit });

// ----------------------------------------------------------------------------------------------- slots

route({ ...ON_LIMIT, POST: "use" }, `${LIMITS}/increment`, {
	...onLimit(),
	POST: async (c) => {
		const { names, slots, mode, create_if_missing } = await read(c, bodies.incrementBody);
		const ask: Take = {
			...{ names, slots, mode: mode === "rate_limit" ? "rate_limit" : "unleased", leased: false, holder: null },
			...{ leaseMs: 0, waitMs: waitMsOf(c), createIfMissing: create_if_missing ?? false },
		};
		return taken(c, ask, (_, statuses) => statuses.map(minimal));
	},
});

route({ ...ON_LIMIT, POST: "use" }, `${LIMITS}/increment-with-lease`, {
	...onLimit(),
	POST: async (c) => {
		const { names, slots, mode, lease_duration, holder } = await read(c, bodies.incrementWithLeaseBody);
		const leaseMs = Math.round((lease_duration ?? 300) * 1_000);
		const ask: Take = {
			...{ names, slots, mode: mode ?? "concurrency", leased: true, holder, leaseMs },
			...{ waitMs: waitMsOf(c), createIfMissing: false },
		};
		return taken(c, ask, (lease_id, statuses) => ({ lease_id, limits: statuses.map(minimal) }));
	},
});

/** Takes slots, and answers with them or with why not. */
async function taken(c: C, ask: Take, show: (leaseId: string, statuses: Status[]) => unknown): Promise<Response> {
	allow(c, "use", ask.names);
	const caller = callerOf(c);
	const prefers = preferences(c);
	if (prefers.strict) await refuseUnenforced(c, ask.names);
	const taking = take(c.env, ask, caller);
	if (ask.waitMs > 0) {
		// Whoever resets its connection ends this request too, but not what was left for afterwards.
		const undo = taking.then((given) => (given.ok && caller.signal().aborted ? given.undo() : undefined));
		caller.waitUntil(undo.catch((error) => console.warn("A grant that nobody heard of was not given back:", error)));
	}
	const result = await taking;
	if (!result.ok) throw refusal(result.problem, result.statuses, ask);
	const headers = {
		"Content-Type": "application/json",
		...(prefers.applied && { "Preference-Applied": prefers.applied }),
	};
	const text = JSON.stringify(show(result.leaseId, result.statuses));
	if (result.waited) return answerHeard(text, headers, caller, result.undo);
	return new Response(text, { headers });
}

function refusal(problem: Problem, statuses: Status[], { slots, waitMs }: Take): Wrong {
	const enforced = statuses.filter((status) => status.enforced);
	switch (problem.code) {
		case "exceeds_limit":
			return new Wrong(422, { detail: "Slots requested is greater than the limit" });
		case "no_decay": {
			const list = enforced.filter(({ slotDecayPerSecond }) => slotDecayPerSecond === 0).map(({ name }) => name);
			const detail =
				"Only concurrency limits with slot decay can be used for rate limiting. " +
				`The following limits do not have a decay configured: ${quoted(list.join(","))}`;
			return new Wrong(422, { detail });
		}
		case "denied":
			// Its whole wait is over: it is to stand in line again, and not to sleep outside of it.
			if (waitMs > 0) return locked(0);
			// An operator who sets a limit to 0 pauses it, and nobody knows for how long.
			if (enforced.some(({ limit }) => limit === 0)) return locked(pausedSeconds());
			return locked(retryAfterSeconds(problem, statuses, slots));
		case "queue_full":
		case "too_many_waiters":
			return locked(retryAfterSeconds(problem, statuses, slots));
		default:
			return fromProblem(problem);
	}
}

const locked = (seconds: number): Wrong => new Wrong(423, { detail: "Locked" }, { "Retry-After": String(seconds) });

/** A text as Python prints it. */
const quoted = (text: string): string =>
	text.includes("'") && !text.includes('"') ? `"${text}"` : `'${text.replaceAll("'", "\\'")}'`;

/** `Prefer: wait=30, handling=strict` (RFC 7240). */
function preferences(c: C): { waitMs: number; strict: boolean; applied: string } {
	const prefer = (c.req.header("Prefer") ?? "").slice(0, BOUNDS.headerLength);
	const asked = Number(/(?:^|[,;\s])wait\s*=\s*"?(\d{1,9})/i.exec(prefer)?.[1] ?? 0);
	const seconds = Math.min(WAIT_MAX_SECONDS, asked);
	const strict = /(?:^|[,;\s])handling\s*=\s*"?strict/i.test(prefer);
	const applied = [...(seconds > 0 ? [`wait=${seconds}`] : []), ...(strict ? ["handling=strict"] : [])].join(", ");
	return { waitMs: seconds * 1_000, strict, applied };
}

const waitMsOf = (c: C): number => preferences(c).waitMs;

/** For callers that would rather fail than run without a limit: each name must exist, and be switched on. */
async function refuseUnenforced(c: C, names: string[]): Promise<void> {
	const known = await Promise.all(names.map((name) => limitOf(c.env, name).describe()));
	const list = (test: (index: number) => boolean): string =>
		names
			.filter((_, index) => test(index))
			.map((name) => `"${name}"`)
			.join(", ");
	const missing = list((index) => !known[index]);
	if (missing !== "") wrong(404, `No concurrency limit has the name ${missing}.`);
	const off = list((index) => known[index]?.summary.active === false);
	if (off !== "") wrong(422, `Switched off, so it would limit nothing: ${off}.`);
}

route({ ...ON_LIMIT, POST: "use" }, `${LIMITS}/decrement`, {
	...onLimit(),
	POST: async (c) => {
		const { names, slots, occupancy_seconds } = await read(c, bodies.decrementBody);
		allow(c, "use", names);
		const heldMs = occupancy_seconds === null ? null : occupancy_seconds * 1_000;
		const answers = await Promise.all(names.map((name) => limitOf(c.env, name).takeBack(slots, heldMs)));
		return c.json(answers.flatMap((status) => (status ? [minimal(status)] : [])));
	},
});

route({ ...ON_LIMIT, POST: "use" }, `${LIMITS}/decrement-with-lease`, {
	...onLimit(),
	POST: async (c) => {
		const { lease_id } = await read(c, bodies.decrementWithLeaseBody);
		allow(c, "use", []);
		const { prefix } = c.get("grant");
		const found = await locate(c.env, lease_id, prefix);
		const names = await namesOf(c.env, lease_id, found, prefix);
		const release = (name: string) => limitOf(c.env, name).release(lease_id, "caller");
		// The lead last: it knows the others for as long as it has the lease.
		await Promise.all(names.slice(found.leads.length).map(release));
		await Promise.all(names.slice(0, found.leads.length).map(release));
		return new Response(null, { status: 204 });
	},
});

route({ POST: "use" }, `${LIMITS}/leases/:lease_id/renew`, {
	POST: async (c) => {
		const input = c.req.param("lease_id") ?? "";
		const leaseId = bodies.uuid(input);
		const errors =
			"faults" in leaseId ? leaseId.faults.map((fault) => ({ loc: ["path", "lease_id"], input, ...fault })) : [];
		const { lease_duration } = await read(c, bodies.renewBody, errors);
		const id = "value" in leaseId ? leaseId.value : "";
		allow(c, "use", []);
		const { prefix } = c.get("grant");
		const found = await locate(c.env, id, prefix);
		const names = await namesOf(c.env, id, found, prefix);
		const leaseMs = Math.round((lease_duration ?? 300) * 1_000);
		const answers = await Promise.all(names.map((name) => limitOf(c.env, name).renew(id, leaseMs)));
		const renewed = names.filter((_, index) => answers[index]?.event.kind === "renewed");
		// Of limits whose ids start alike, one has the lease.
		const isWhole = renewed.length >= names.length - Math.max(0, found.leads.length - 1);
		if (renewed.length === 0 || !isWhole) wrong(410, "Lease not found - it may have expired or been revoked");
		return new Response(null, { status: 204 });
	},
});

route(ON_LIMIT, `${LIMITS}/:id_or_name`, onLimit());
route({ GET: "read", PATCH: "read", DELETE: "read" }, `${LIMITS}/:id_or_name/`, {
	GET: async (c) => redirect(`${LIMITS}/${encodeURIComponent(c.req.param("id_or_name") ?? "")}`),
	PATCH: async (c) => redirect(`${LIMITS}/${encodeURIComponent(c.req.param("id_or_name") ?? "")}`),
	DELETE: async (c) => redirect(`${LIMITS}/${encodeURIComponent(c.req.param("id_or_name") ?? "")}`),
});
