/** Limits over Prefect's wire: made, listed, and by name or id read, changed and deleted. */

import { BOUNDS, type Scope } from "../../../protocol.ts";
import { directoryObject } from "../../contract/placement.ts";
import { limitOf } from "../limit-stub.ts";
import { nameFault } from "../requests.ts";
import { inParts } from "../yielding.ts";
import * as bodies from "./bodies.ts";
import { allow, type C, type Handler, invalid, notFound, read, wrong } from "./http.ts";
import { forget } from "./leases.ts";
import { full, shown } from "./shown.ts";

/** Entries of one page, as in Prefect. */
const FILTER_MAX = 200;

/** Makes a limit. */
export async function create(c: C): Promise<Response> {
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
	const settings = { limit, active, slotDecayPerSecond: slot_decay_per_second, enforce: true };
	const byHand = { activeSlots: active_slots, deniedSlots: denied_slots };
	const object = limitOf(c.env, name);
	if (!(await object.create(settings, byHand, who(c)))) conflict();
	const made = await object.describe();
	return made ? c.json(full(made.summary, made.status), 201) : notFound();
}

const conflict = (): never =>
	wrong(
		409,
		"Data integrity conflict. This usually means a unique or foreign key constraint was violated. See server logs for details.",
	);

/** A page of limits. */
export async function list(c: C): Promise<Response> {
	const { limit, offset } = await read(c, bodies.filterBody);
	const count = limit ?? FILTER_MAX;
	if (count > FILTER_MAX) wrong(422, `Invalid limit: must be less than or equal to ${FILTER_MAX}.`);
	if (count < 0) wrong(422, "Invalid limit: must be greater than or equal to 0.");
	const names = await directory(c).namesAt(c.get("grant").prefix, offset ?? 0, count);
	const asked = await inParts(names, (name) => limitOf(c.env, name).describeIfThere());
	const failed = asked.filter((each) => each.status === "rejected");
	// An empty list says that there is none. So where no limit answers, the list is refused like each of them.
	if (failed[0] && failed.length === names.length) throw failed[0].reason;
	const limits = asked.flatMap((each) =>
		each.status === "fulfilled" && each.value ? [shown(each.value.summary, each.value.status)] : [],
	);
	if (failed.length > 0)
		c.header(UNAVAILABLE, leftOut(names.filter((_, index) => asked[index]?.status === "rejected")));
	return c.json(limits);
}

/** Says which limits of a page could not be asked: the wire is a bare list of limits, and has no place for it. */
const UNAVAILABLE = "Headgate-Unavailable";

/** Names in a header, percent-encoded. Further ones are counted. */
function leftOut(names: string[]): string {
	const encoded = names.map(encodeURIComponent);
	let fits = encoded.length;
	while (encoded.slice(0, fits).join(", ").length > BOUNDS.unavailableLength) fits -= 1;
	const more = encoded.length - fits;
	return [...encoded.slice(0, fits), ...(more > 0 ? [`and ${more} more`] : [])].join(", ");
}

/** What is done with one limit, found by its name and else by its id. */
export const one: Record<"GET" | "PATCH" | "DELETE", Handler> = {
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
			...(slot_decay_per_second === 0 && { lendSeconds: 0 }),
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
			// A limit that only got another name was not configured, and the log does not say so.
			if (Object.keys(patch).length === 0) return new Response(null, { status: 204 });
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
	// A caller that sends an id has said no name: an id of a limit that it may not speak of is no id at all.
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

const directory = (c: C) => directoryObject(c.env);
