/** Taking slots over Prefect's wire: under an id that leads back to their limits, where they are a lease. */

import type { Problem } from "../../../protocol.ts";
import type { Env } from "../../contract/env.ts";
import type { Status } from "../../contract/outcomes.ts";
import { acquire } from "../acquire.ts";
import type { Caller } from "../caller.ts";
import { firstLast, release } from "../leases.ts";
import { limitOf } from "../limit-stub.ts";
import type { Acquire } from "../requests.ts";
import type { Verdict } from "../verdict.ts";
import { forget, leadsTo, limitIds, newLeaseId } from "./leases.ts";

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
	/** Whose turn the caller's token takes; its wire knows of none. */
	key: string | null;
	createIfMissing: boolean;
	/** The slots are a lease, and its id is to be found again by itself. */
	leased: boolean;
}

export type Taken =
	| { ok: true; leaseId: string; statuses: Status[]; waited: boolean; undo: () => Promise<void> }
	| { ok: false; problem: Problem; statuses: Status[] };

export async function take(env: Env, wanted: Take, caller: Caller): Promise<Taken> {
	for (let attempt = 1; ; attempt += 1) {
		const ids = wanted.leased ? await limitIds(env, wanted.names) : null;
		const names = ids ? wanted.names.filter((name) => ids.has(name)) : wanted.names;
		const [lead] = names;
		// No lease of nothing: its caller has nothing to give back.
		if (lead === undefined) return granted(env, wanted, crypto.randomUUID(), [], false);
		const several = names.length > 1;
		const id = ids ? newLeaseId(ids.get(lead) ?? "", several) : crypto.randomUUID();
		const verdict = await acquire(env, requestOf(wanted, id, names, ids && several ? lead : undefined), caller);
		const isStale = verdict.ok ? ids !== null && !hasLead(verdict, id) : verdict.problem.code === "unknown_limit";
		if (!isStale || attempt === STALE_MAX) {
			if (!verdict.ok) return verdict;
			return granted(env, wanted, id, verdict.statuses, verdict.lease.waitedSeconds > 0);
		}
		if (verdict.ok) await release(env, id, namesOf(verdict.statuses), "unheard");
		for (const name of names) forget(name);
	}
}

function requestOf(wanted: Take, id: string, names: string[], lead: string | undefined): Acquire {
	const { slots, mode, leaseMs, waitMs, holder, key, createIfMissing } = wanted;
	return {
		names: names.map((name): [string, number] => [name, slots]),
		...{ id, idChosen: false, maybeRepeated: false, print: "", mode, leaseMs, waitMs, holder, createIfMissing },
		...{ strict: false, hold: false, stream: false, rated: [], polled: true, key, priority: 0 },
		...(lead !== undefined && { lead }),
	};
}

/** Whether the limit that the lease's id leads to is one of those that granted it. */
const hasLead = (verdict: Extract<Verdict, { ok: true }>, id: string): boolean =>
	verdict.statuses.some(({ limitId }) => leadsTo(id, limitId));

function granted(env: Env, wanted: Take, leaseId: string, statuses: Status[], waited: boolean): Taken {
	let undone = false;
	const undo = async (): Promise<void> => {
		if (undone) return;
		undone = true;
		const names = namesOf(statuses);
		if (wanted.mode === "unleased") await firstLast(names, (name) => limitOf(env, name).takeBack(wanted.slots, null));
		else await release(env, leaseId, names, "unheard");
	};
	return { ok: true, leaseId, statuses, waited, undo };
}

/** The names that were granted, in the fixed order. */
const namesOf = (statuses: Status[]): string[] => statuses.map(({ name }) => name).sort();
