/** Taking slots over Prefect's wire: what is asked, how long a caller that was denied is to stay away. */

import { HELD_MAX_MS } from "../../../core/polling.ts";
import type { Problem } from "../../../protocol.ts";
import type { Env } from "../../contract/env.ts";
import type { Status } from "../../contract/outcomes.ts";
import { acquire, type Caller } from "../acquire.ts";
import { limitOf } from "../limit-stub.ts";
import type { Acquire } from "../requests.ts";
import type { Verdict } from "../verdict.ts";
import { forget, leadsTo, limitIds, newLeaseId } from "./leases.ts";

/** Longest estimate for limits of task tags, as Prefect sets it. */
const TAG_WAIT_MAX_SECONDS = 10;
const WAIT_MAX_SECONDS = HELD_MAX_MS / 1_000;
/** Others that were denied before put a caller off by no more than this. */
const CROWD_MAX_SECONDS = 60;
/** Estimates are spread by this, up and down, so that those who were denied together do not come back together. */
const SPREAD = 0.25;
/** How often an acquire is tried again because a limit was deleted and made anew under it. */
const STALE_MAX = 3;

/** A request as both increment calls understand it. */
export interface Take {
	names: string[];
	slots: number;
	mode: Acquire["mode"];
	leaseMs: number;
	waitMs: number;
	holder: string | null;
	createIfMissing: boolean;
	/** The slots are a lease, and its id is to be found again by itself. */
	leased: boolean;
}

export type Taken =
	| { ok: true; leaseId: string; statuses: Status[]; waited: boolean; undo: () => Promise<void> }
	| { ok: false; problem: Problem; statuses: Status[] };

export async function take(env: Env, ask: Take, caller: Caller): Promise<Taken> {
	for (let attempt = 1; ; attempt += 1) {
		const ids = ask.leased ? await limitIds(env, ask.names) : null;
		const names = ids ? ask.names.filter((name) => ids.has(name)) : ask.names;
		const [lead] = names;
		// No lease of nothing: nobody would ever give it back.
		if (lead === undefined) return granted(env, ask, crypto.randomUUID(), [], false);
		const several = names.length > 1;
		const id = ids ? newLeaseId(ids.get(lead) ?? "", several) : crypto.randomUUID();
		const verdict = await acquire(env, requestOf(ask, id, names, ids && several ? lead : undefined), caller);
		const isStale = verdict.ok ? ids !== null && !hasLead(verdict, id) : verdict.problem.code === "unknown_limit";
		if (!isStale || attempt === STALE_MAX) {
			if (!verdict.ok) return verdict;
			return granted(env, ask, id, verdict.statuses, verdict.lease.waitedSeconds > 0);
		}
		if (verdict.ok) await release(env, id, verdict.statuses);
		for (const name of names) forget(name);
	}
}

function requestOf(ask: Take, id: string, names: string[], lead: string | undefined): Acquire {
	const { slots, mode, leaseMs, waitMs, holder, createIfMissing } = ask;
	return {
		names: names.map((name): [string, number] => [name, slots]),
		...{ id, idChosen: false, maybeRepeated: false, print: "", mode, leaseMs, waitMs, holder, createIfMissing },
		...{ strict: false, hold: false, stream: false, rated: [], polled: true },
		...(lead !== undefined && { lead }),
	};
}

/** Whether the limit that the lease's id leads to is one of those that granted it. */
const hasLead = (verdict: Extract<Verdict, { ok: true }>, id: string): boolean =>
	verdict.statuses.some(({ limitId }) => leadsTo(id, limitId));

function granted(env: Env, ask: Take, leaseId: string, statuses: Status[], waited: boolean): Taken {
	let undone = false;
	const undo = async (): Promise<void> => {
		if (undone) return;
		undone = true;
		if (ask.mode !== "unleased") return release(env, leaseId, statuses);
		await Promise.all(statuses.map(({ name }) => limitOf(env, name).takeBack(ask.slots, null)));
	};
	return { ok: true, leaseId, statuses, waited, undo };
}

async function release(env: Env, id: string, statuses: Status[]): Promise<void> {
	await Promise.all(statuses.map(({ name }) => limitOf(env, name).release(id, "unheard")));
}

// ------------------------------------------------------------------------------------------- Retry-After

/** How long a caller that was denied is to stay away: until the slowest of those that stood in its way has room. */
export function retryAfterSeconds({ limits = [] }: Problem, statuses: Status[], slots: number): number {
	const waits = statuses.map((status) => {
		const { position = null, retryAfterSeconds: decayed = null } =
			limits.find(({ name }) => name === status.name) ?? {};
		return decayed === null ? 0 : awaySeconds(status, slots, decayed, position ?? 1);
	});
	return Math.max(0, ...waits);
}

function awaySeconds(status: Status, slots: number, decayed: number, position: number): number {
	const { name, limit, remaining, slotDecayPerSecond, averageHeldMs, deniedSlots } = status;
	// This denial is counted already, and is no reason to stay away for longer.
	const crowd = Math.max(0, deniedSlots - slots);
	// By decay the moment is known, and everybody who was denied before has an earlier one.
	if (slotDecayPerSecond > 0) return decayed + Math.min(CROWD_MAX_SECONDS, crowd / slotDecayPerSecond);
	const most = name.startsWith("tag:") ? TAG_WAIT_MAX_SECONDS : WAIT_MAX_SECONDS;
	const missing = Math.max(1, slots - remaining) + crowd + Math.max(0, position - 1);
	const estimate = Math.min(most, (Math.min(averageHeldMs / 1_000, most) * missing) / Math.max(1, limit));
	return spread(estimate);
}

/** For a limit of 0, which an operator has paused: nobody knows for how long. */
export const pausedSeconds = (): number => spread(WAIT_MAX_SECONDS);

const spread = (seconds: number): number => seconds * (1 + SPREAD * (2 * Math.random() - 1));
