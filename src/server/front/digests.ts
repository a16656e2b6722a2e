/**
 * What is shown of an id to those who may look and not take back: a caller that knows the id of a lease can renew and end it.
 * A digest tells one request from another, also to its holder, and from the digest the id cannot be found. An id of a
 * caller's own that can be guessed can be guessed with and without it.
 */

import type { LeasesPage, LimitInfo } from "../../protocol.ts";
import { digestOf } from "../contract/digests.ts";
import { Recent } from "./admission/recent.ts";
import type { Grant } from "./auth.ts";

/** Digests that are remembered, because watched limits show the same ids again and again. */
const REMEMBERED = 10_000;

const known = new Recent<string>(REMEMBERED);

async function shown(id: string): Promise<string> {
	const before = known.get(id);
	if (before !== undefined) return before;
	const digest = await digestOf(id);
	known.set(id, digest);
	return digest;
}

/** Whether this caller may see ids: a caller that may take leases back may. */
export const seesIds = ({ scope }: Grant): boolean => scope === "admin";

const veil = <T extends { id: string }>(all: T[]): Promise<T[]> =>
	Promise.all(all.map(async (one) => ({ ...one, id: await shown(one.id) })));

/** A limit, or a page of leases, as this caller may see it. */
export async function veiled<T extends LimitInfo | LeasesPage>(grant: Grant, given: T): Promise<T> {
	if (seesIds(grant)) return given;
	const leases = await veil(given.leases);
	return "waiting" in given ? { ...given, leases, waiting: await veil(given.waiting) } : { ...given, leases };
}
