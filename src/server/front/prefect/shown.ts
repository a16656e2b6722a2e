/** What is shown of a limit on Prefect's wire. */

import type { LimitSummary } from "../../../protocol.ts";
import type { Status } from "../../contract/outcomes.ts";

/** Prefect's moments have six decimals. */
const moment = (iso: string): string => iso.replace("Z", "000Z");

export function full(summary: LimitSummary, status: Status) {
	const { id, createdAt, updatedAt, active, name, limit, activeSlots, slotDecayPerSecond } = summary;
	return {
		...{ id, created: moment(createdAt), updated: moment(updatedAt), active, name, limit, active_slots: activeSlots },
		denied_slots: Math.ceil(status.deniedSlots),
		slot_decay_per_second: slotDecayPerSecond,
		avg_slot_occupancy_seconds: status.averageHeldMs / 1_000,
	};
}

/** A limit as it is read; the last four fields are Headgate's own, and clients pass over them. */
export function shown(summary: LimitSummary, status: Status) {
	const { denied_slots, avg_slot_occupancy_seconds, ...fields } = full(summary, status);
	const { leaseCount: lease_count, waitingCount: waiting_count } = summary;
	return { ...fields, denied_slots, avg_slot_occupancy_seconds, lease_count, waiting_count };
}

/** A limit as its slots are taken and given back. */
export const minimal = ({ limitId: id, name, limit }: Status) => ({ id, name, limit });
