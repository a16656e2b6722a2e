/** Leases of several names whose coordinator may have died between two commits. */

import type { Event } from "../../core/commands.ts";
import type { LimitNamed } from "../contract/placement.ts";

/** A lease that its peers are to be asked about. */
export type Doubt = Extract<Event, { kind: "doubted" }>;

/** Asks the peers of these leases, and tells `resolve` what became of each. */
export async function resolveDoubts(
	limitNamed: LimitNamed,
	doubts: Doubt[],
	resolve: (id: string, committed: boolean) => void,
): Promise<void> {
	for (const [id, committed] of await askPeers(limitNamed, doubts)) resolve(id, committed);
}

/**
 * Asks the peers of these leases whether they committed too, each peer once, and answers by id. An id is missing
 * where a peer was out of reach and no other said no: its doubt stays, and is raised again.
 */
async function askPeers(limitNamed: LimitNamed, doubts: Doubt[]): Promise<Map<string, boolean>> {
	const byPeer = new Map<string, string[]>();
	for (const { id, peers } of doubts) {
		for (const peer of peers) byPeer.set(peer, [...(byPeer.get(peer) ?? []), id]);
	}
	const refused = new Set<string>();
	const unsure = new Set<string>();
	await Promise.all(
		[...byPeer].map(async ([peer, ids]) => {
			try {
				const committed = await limitNamed(peer).vouch(ids);
				for (const [index, id] of ids.entries()) if (!committed[index]) refused.add(id);
			} catch (error) {
				console.warn(`The limit "${peer}" could not be asked about ${ids.length} leases:`, error);
				for (const id of ids) unsure.add(id);
			}
		}),
	);
	const sure = doubts.filter(({ id }) => refused.has(id) || !unsure.has(id));
	return new Map(sure.map(({ id }) => [id, !refused.has(id)]));
}
