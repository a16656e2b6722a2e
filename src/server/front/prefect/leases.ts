/**
 * Leases of Prefect's wire. A lease there is a UUID and nothing else: it is renewed and released without the names of
 * its limits. So its first 48 bits are those of the id of one of its limits (version 8, RFC 9562), the directory knows
 * whose they are, and that limit's part of the lease knows the other names. Nothing is written for it anywhere else.
 */

import type { Env } from "../../contract/env.ts";
import { directoryObject } from "../../contract/placement.ts";
import { Recent } from "../admission/recent.ts";
import { limitOf } from "../limit-stub.ts";

/** Ids of limits and names that one isolate remembers; more of them are asked for again. */
const REMEMBERED = 10_000;

/** What may be out of date is noticed where it is used: an id by the answer to an acquire, a name by asking anew. */
const idByName = new Recent<string>(REMEMBERED);
const namesByLead = new Recent<string[]>(REMEMBERED);

const PREFIX = 13;
const leadOf = (id: string): string => id.slice(0, PREFIX);

/** A new lease id that leads back to the limit of this id. `several`: other limits are part of the lease. */
export function newLeaseId(limitId: string, several: boolean): string {
	const random = crypto.randomUUID();
	const flag = (Number.parseInt(random.charAt(15), 16) & 0xe) | (several ? 1 : 0);
	return `${leadOf(limitId)}-8${flag.toString(16)}${random.slice(16)}`;
}

export const leadsTo = (leaseId: string, limitId: string): boolean => leadOf(leaseId) === leadOf(limitId);

/** Those of the names that exist, with the ids of their limits. */
export async function limitIds(env: Env, names: string[]): Promise<Map<string, string>> {
	const ids = await Promise.all(names.map(async (name) => idByName.get(name) ?? learn(env, name)));
	return new Map(names.flatMap((name, index) => (ids[index] ? [[name, ids[index]]] : [])));
}

async function learn(env: Env, name: string): Promise<string | null> {
	const known = await limitOf(env, name).describe();
	if (!known) return null;
	const { id } = known.summary;
	idByName.set(name, id);
	namesByLead.set(leadOf(id), [name]);
	return id;
}

export function forget(name: string): void {
	const id = idByName.get(name);
	if (id !== undefined) namesByLead.delete(leadOf(id));
	idByName.delete(name);
}

/** A lease as its id finds it. */
export interface Found {
	/** The limits that may have it; more than one only where the first 48 bits of their ids are the same. */
	leads: string[];
	several: boolean;
}

/**
 * The limits that a lease id may lead to, of those whose names start with `prefix`: of another one nothing is known to
 * its caller, and not even whether it is remembered here.
 */
export async function locate(env: Env, leaseId: string, prefix: string): Promise<Found> {
	const several = (Number.parseInt(leaseId.charAt(15), 16) & 1) === 1;
	if (leaseId.charAt(14) !== "8") return { leads: [], several };
	const lead = leadOf(leaseId);
	const within = (names: string[]): string[] => names.filter((name) => name.startsWith(prefix));
	const remembered = within(namesByLead.get(lead) ?? []);
	if (remembered.length > 0) return { leads: remembered, several };
	const leads = await directoryObject(env).namesByIdPrefix(lead);
	if (leads.length > 0) namesByLead.set(lead, leads);
	return { leads: within(leads), several };
}

/**
 * The names of a lease: of its lead, and those that its lead knows. None: there is no such lease, or not all of its names
 * start with `prefix`, which is the same to a caller that may not speak of them.
 */
export async function namesOf(env: Env, leaseId: string, { leads, several }: Found, prefix: string): Promise<string[]> {
	if (!several) return leads;
	const peers = await Promise.all(leads.map((name) => limitOf(env, name).others(leaseId)));
	const known = peers.filter((each) => each !== null);
	const names = [...leads, ...known.flat()];
	return known.length > 0 && names.every((name) => name.startsWith(prefix)) ? names : [];
}
