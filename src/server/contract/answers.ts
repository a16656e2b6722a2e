/** From decisions to the wire: leases and denials. */

import type { DenialCode, Event } from "../../core/commands.ts";
import type { At, Ms } from "../../core/time.ts";
import type { DeniedLimit, Lease, LimitStatus, Problem, Receipt, WaitingFor } from "../../protocol.ts";
import type { Status } from "./outcomes.ts";
import { problem } from "./problems.ts";

export const toSeconds = (ms: Ms): number => ms / 1000;
export const toIso = (at: At): string => new Date(at).toISOString();

/** What was granted of one name. */
export interface Granted {
	name: string;
	slots: number;
	expiresAt: At | null;
	fence: number | null;
	status: Status;
}

export function lease(
	id: string,
	granted: Granted[],
	skipped: LimitStatus[],
	waitedMs: Ms,
	endsAt: At | null,
): Lease | Receipt {
	// What is part of a lease has an end; what was taken by rate beside it has none.
	const slotsOf = (all: Granted[]) => Object.fromEntries(all.map(({ name, slots }) => [name, slots]));
	const rated = endsAt === null ? [] : granted.filter(({ expiresAt }) => expiresAt === null);
	const names = slotsOf(granted.filter((each) => !rated.includes(each)));
	const limits = [...granted.map(({ status }) => status), ...skipped].map(publicStatus).sort(byName);
	const receipt: Receipt = { id, names, waitedSeconds: toSeconds(waitedMs), limits };
	if (endsAt === null) return receipt;
	const { waitedSeconds, limits: shown } = receipt;
	const rate = rated.length > 0 && { rate: slotsOf(rated) };
	const fences = granted.flatMap(({ name, fence }) => (fence === null ? [] : [[name, fence] as const]));
	const fence = fences.length > 0 && { fence: Object.fromEntries(fences) };
	return { id, names, ...rate, ...fence, expiresAt: toIso(endsAt), waitedSeconds, limits: shown } satisfies Lease;
}

/** How a limit stood at a grant, and whether it only watched. */
export const seen = (event: { wouldDeny?: true }, status: Status): Status =>
	event.wouldDeny ? { ...status, wouldDeny: true } : status;

/** The lease of a request for one name. */
export function leaseOf(event: Extract<Event, { kind: "granted" }>, status: Status): Lease | Receipt {
	const { id, slots, expiresAt, fence, waitedMs } = event;
	return lease(
		id,
		[{ name: status.name, slots, expiresAt, fence, status: seen(event, status) }],
		[],
		waitedMs,
		expiresAt,
	);
}

/** A name as a request for it was answered. */
export interface Answered {
	slots: number;
	status: Status;
	/** Why it stood in the way; null: it did not. */
	denied: Extract<Event, { kind: "denied" | "parked" }> | null;
}

const WAITING_HELPS: DenialCode[] = ["denied", "queue_full", "too_many_waiters", "overloaded"];

/** The problem of a request that was not granted. */
export function denial(id: string, answered: Answered[]): Problem {
	const refused = answered.filter((each) => each.denied !== null);
	// What no waiting would mend is said alone: names that are merely busy are not why.
	const lasting = refused.find((each) => codeOf(each) !== "denied");
	const code = lasting ? codeOf(lasting) : "denied";
	const inTheWay = refused.filter((each) => codeOf(each) === code);
	const names = inTheWay.map(({ status }) => status.name);
	const limits = answered.map(({ status, denied }): DeniedLimit => {
		const waits = denied && (denied.kind === "parked" || WAITING_HELPS.includes(denied.code));
		return {
			...publicStatus(status),
			position: waits ? denied.position : null,
			retryAfterSeconds: waits ? toSeconds(denied.retryAfterMs) : null,
		};
	});
	const detail = inTheWay.map((each) => because(id, each)).join(" ");
	if (!WAITING_HELPS.includes(code)) return problem(code, detail, { "violated-policies": names, limits });
	const retryAfterSeconds = Math.max(0, ...limits.map((limit) => limit.retryAfterSeconds ?? 0));
	return problem(code, detail, { retryAfterSeconds, "violated-policies": names, limits });
}

const codeOf = ({ denied }: Answered): DenialCode => (denied?.kind === "denied" ? denied.code : "denied");

function because(id: string, { slots, status, denied }: Answered): string {
	const wanted = `${slots} ${slots === 1 ? "slot" : "slots"}`;
	const { name, limit, remaining, pausedUntil } = status;
	switch (denied && codeOf({ slots, status, denied })) {
		case "denied":
			if (limit === 0) return `"${name}" is shut: its limit is 0, until an operator raises it.`;
			if (pausedUntil) return `"${name}" is paused until ${pausedUntil}, and grants nothing before.`;
			return `"${name}" has ${remaining} of ${limit} slots free for the ${wanted} asked, at place ${denied?.position} in line.`;
		case "exceeds_limit":
			return `"${name}" has ${limit} ${limit === 1 ? "slot" : "slots"} in all, so ${wanted} can never fit: ask for fewer, or raise the limit.`;
		case "no_decay":
			return `The slots of "${name}" do not come back by themselves: give it a slotDecayPerSecond or a window, or use mode "concurrency".`;
		case "no_lease":
			return `"${name}" has a window, so no lease holds its slots: ask by rate, with mode "rate_limit" or among \`rate\`.`;
		case "id_in_use":
			return `The id "${id}" on "${name}" belongs to a request with other parameters, or to one that has ended: choose a new id.`;
		case "queue_full":
			return `The line of "${name}" is full.`;
		case "too_many_waiters":
			return `Your token has as many requests in the line of "${name}" as it may: let some end, or raise \`waiters\` in its bounds.`;
		case "overloaded":
			return `"${name}" remembers as many ids of requests that ended as it may: ask again in a moment.`;
		case "unknown_limit":
			return `The limit "${name}" was deleted while the request waited.`;
		default:
			return "";
	}
}

/** What a waiter for this limit waits for. */
export const waitingFor = ({
	name,
	pausedUntil,
	windowSeconds,
	resetsAt,
	slotDecayPerSecond,
}: Pick<Status, "name" | "pausedUntil" | "windowSeconds" | "resetsAt" | "slotDecayPerSecond">): WaitingFor => {
	if (pausedUntil !== undefined) return { name, reason: "paused" };
	if (windowSeconds !== undefined || resetsAt !== undefined) return { name, reason: "window" };
	return { name, reason: slotDecayPerSecond > 0 ? "rate" : "slots" };
};

/** A name that does not exist, and was skipped. */
export const missingStatus = (name: string): LimitStatus => ({
	...{ name, limit: 0, activeSlots: 0, remaining: 0 },
	...{ enforced: false, missing: true },
});

/** A limit as callers see it. */
export function publicStatus(status: LimitStatus | Status): LimitStatus {
	const { name, limit, activeSlots, remaining, enforced, pausedUntil, wouldDeny, missing, configured } = status;
	const { windowSeconds, resetsAt } = status;
	const shown: LimitStatus = { name, limit, activeSlots, remaining, enforced };
	if (pausedUntil) shown.pausedUntil = pausedUntil;
	if (wouldDeny) shown.wouldDeny = true;
	if (missing) shown.missing = true;
	if (configured === false) shown.configured = false;
	if ("nextSlotMs" in status && (status.slotDecayPerSecond > 0 || windowSeconds !== undefined)) {
		if (status.slotDecayPerSecond > 0) shown.slotDecayPerSecond = status.slotDecayPerSecond;
		if (windowSeconds !== undefined) shown.windowSeconds = windowSeconds;
		if (resetsAt !== undefined) shown.resetsAt = resetsAt;
		if (status.nextSlotMs !== null) shown.nextSlotSeconds = toSeconds(status.nextSlotMs);
	}
	return shown;
}

const byName = (a: { name: string }, b: { name: string }): number => (a.name < b.name ? -1 : 1);
