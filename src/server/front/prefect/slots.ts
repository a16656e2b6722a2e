/** Slots over Prefect's wire: taken with a lease or without one, renewed, given back. */

import type { Status } from "../../contract/outcomes.ts";
import { answerHeard } from "../http/heard.ts";
import { callerOf } from "../http/route.ts";
import * as leases from "../leases.ts";
import { limitOf } from "../limit-stub.ts";
import * as bodies from "./bodies.ts";
import { denied } from "./denied.ts";
import { allow, type C, read, wrong } from "./http.ts";
import { locate, namesOf } from "./leases.ts";
import { preferences } from "./preferences.ts";
import { minimal } from "./shown.ts";
import { type Take, take } from "./take.ts";

/** Takes slots that are given back by name alone, or come back by decay. */
export async function increment(c: C): Promise<Response> {
	const { names, slots, mode, create_if_missing } = await read(c, bodies.incrementBody);
	const wanted: Take = {
		...{
			names,
			slots,
			mode: mode === "rate_limit" ? "rate_limit" : "unleased",
			leased: false,
			holder: null,
			key: keyOf(c),
		},
		...{ leaseMs: 0, waitMs: preferences(c.req.raw).waitMs, createIfMissing: create_if_missing ?? false },
	};
	return taken(c, wanted, (_, statuses) => statuses.map(minimal));
}

/** Takes slots as a lease. */
export async function incrementWithLease(c: C): Promise<Response> {
	const { names, slots, mode, lease_duration, holder } = await read(c, bodies.incrementWithLeaseBody);
	const leaseMs = leaseMsOf(lease_duration);
	const wanted: Take = {
		...{ names, slots, mode: mode ?? "concurrency", leased: true, holder, key: keyOf(c), leaseMs },
		...{ waitMs: preferences(c.req.raw).waitMs, createIfMissing: false },
	};
	return taken(c, wanted, (lease_id, statuses) => ({ lease_id, limits: statuses.map(minimal) }));
}

const keyOf = (c: C): string | null => c.get("grant").key ?? null;

/** Takes slots, and answers with them or with why not. */
async function taken(c: C, wanted: Take, show: (leaseId: string, statuses: Status[]) => unknown): Promise<Response> {
	allow(c, "use", wanted.names);
	const caller = callerOf(c);
	const prefers = preferences(c.req.raw);
	if (prefers.strict) await refuseUnenforced(c, wanted.names);
	const taking = take(c.env, wanted, caller);
	if (wanted.waitMs > 0) {
		// A caller that resets its connection ends this request too, but not what was left for afterwards.
		const undo = taking.then((given) => (given.ok && caller.signal().aborted ? given.undo() : undefined));
		caller.waitUntil(undo.catch((error) => console.warn("A grant whose caller had gone was not given back:", error)));
	}
	const result = await taking;
	if (!result.ok) throw denied(result.problem, result.statuses, wanted);
	const headers = {
		"Content-Type": "application/json",
		...(prefers.applied && { "Preference-Applied": prefers.applied }),
	};
	const text = JSON.stringify(show(result.leaseId, result.statuses));
	if (result.waited) return answerHeard(text, headers, caller, result.undo);
	return new Response(text, { headers });
}

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

/** Gives slots back that were taken without a lease. */
export async function decrement(c: C): Promise<Response> {
	const { names, slots, occupancy_seconds } = await read(c, bodies.decrementBody);
	allow(c, "use", names);
	const heldMs = occupancy_seconds === null ? null : occupancy_seconds * 1_000;
	const answers = await leases.firstLast(names, (name) => limitOf(c.env, name).takeBack(slots, heldMs));
	return c.json(answers.flatMap((status) => (status ? [minimal(status)] : [])));
}

/** Gives a lease back, by its id alone. */
export async function decrementWithLease(c: C): Promise<Response> {
	const { lease_id } = await read(c, bodies.decrementWithLeaseBody);
	allow(c, "use", []);
	const { prefix } = c.get("grant");
	const found = await locate(c.env, lease_id, prefix);
	const names = await namesOf(c.env, lease_id, found, prefix);
	// The lead is the first, and knows the others for as long as it has the lease.
	await leases.release(c.env, lease_id, names, "caller", found.leads.length);
	return new Response(null, { status: 204 });
}

/** Renews a lease, by its id alone. */
export async function renew(c: C): Promise<Response> {
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
	const leaseMs = leaseMsOf(lease_duration);
	const { gone } = await leases.renew(names, (name) => limitOf(c.env, name).renew(id, leaseMs));
	// Of limits whose ids start alike, one has the lease.
	const isWhole = gone.length <= Math.max(0, found.leads.length - 1);
	if (gone.length === names.length || !isWhole) wrong(410, "Lease not found - it may have expired or been revoked");
	return new Response(null, { status: 204 });
}

/** Null, in place of a length, is the usual one. */
const leaseMsOf = (seconds: number | null): number => Math.round((seconds ?? bodies.LEASE_SECONDS) * 1_000);
