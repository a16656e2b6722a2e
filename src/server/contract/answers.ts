/** From decisions to the wire: leases, denials, problems, and the headers that say how much is left. */

import type { DenialCode, Event } from "../../core/commands.ts";
import type { At, Ms } from "../../core/time.ts";
import {
	type Code,
	type DeniedLimit,
	type Lease,
	type LimitStatus,
	type Problem,
	type Receipt,
	STATUS,
} from "../../protocol.ts";
import type { Status } from "./outcomes.ts";

export const toSeconds = (ms: Ms): number => ms / 1000;
export const toIso = (at: At): string => new Date(at).toISOString();

const PROBLEM_TYPES = "https://iana.org/assignments/http-problem-types";

const TITLES: Record<Code, string> = {
	invalid: "The request is not valid",
	malformed: "The request cannot be read",
	exceeds_limit: "More slots than the limit has",
	no_decay: "The limit does not decay",
	denied: "No free slots",
	unknown_limit: "No such limit",
	unknown_policy: "No such policy",
	id_in_use: "The id is in use",
	lease_gone: "The lease has ended",
	too_many_streams: "Too many streams",
	too_many_waiters: "Too many waiters",
	too_many_names: "Too many new names",
	too_many_policies: "Too many policies",
	queue_full: "The line is full",
	overloaded: "The service is overloaded",
	storage_failed: "The storage failed",
	newer_data: "The data is of a newer version",
	damaged_data: "The data is lost or broken",
	unauthorized: "A token is needed",
	forbidden: "The token does not allow this",
	forbidden_host: "Not a host name of this server",
	forbidden_origin: "Not for pages of this origin",
	not_found: "No such route",
	method_not_allowed: "The method is not allowed",
	too_large: "The body is too large",
	uri_too_long: "The URL is too long",
	unsupported_media_type: "The content type is not supported",
	internal: "Internal error",
};

export function problem(code: Code, detail: string, more: Partial<Problem> = {}): Problem {
	const status = STATUS[code];
	const type =
		code === "denied"
			? `${PROBLEM_TYPES}#quota-exceeded`
			: status === 503
				? `${PROBLEM_TYPES}#temporary-reduced-capacity`
				: "about:blank";
	return { type, title: TITLES[code], status, code, detail, ...more };
}

/** A part of the service failed in the middle. What was set aside lapses; ask again. */
export const outOfReach = (): Problem =>
	problem("overloaded", "A limit did not answer. Nothing was taken; try again in a second.", { retryAfterSeconds: 1 });

/** Errors of an object whose data is left alone. They come over RPC, where a class does not survive but a name does. */
const REFUSED_DATA: Record<string, Code> = { NewerDataError: "newer_data", DamagedDataError: "damaged_data" };

/** What SQLite says of the disk, or of a file on it, and what that means to an operator. */
const STORAGE: [RegExp, Code, string][] = [
	[/\bSQLITE_FULL\b/, "storage_failed", "The disk of the server is full: make room on it."],
	[/\bSQLITE_READONLY\b/, "storage_failed", "The data of the server is read-only: let it write to its data folder."],
	[/\bSQLITE_(CORRUPT|NOTADB)\b/, "damaged_data", "A file of the server's data is broken: restore it from a copy."],
	[/\bSQLITE_[A-Z]+\b/, "storage_failed", "The disk of the server fails: its log says how."],
	[
		// All that is said of an object that could not even be opened.
		/^internal error; reference = /,
		"storage_failed",
		"The storage of a limit could not be opened: the disk is full or read-only, or a file is broken; the server's log says which. Make room, or restore the file from a copy.",
	],
];

/** What an exception of an object means to a caller; null: it is a bug. */
export function failure(error: Error): Problem | null {
	const refused = REFUSED_DATA[error.name];
	if (refused) return problem(refused, error.message);
	const [, code, why] = STORAGE.find(([said]) => said.test(error.message)) ?? [];
	if (code === "damaged_data") return problem(code, `${why} Nothing was changed.`);
	if (code) return problem(code, `${why} Nothing was changed.`, { retryAfterSeconds: 1 });
	return ["durableObjectReset", "overloaded", "retryable", "remote"].some((mark) => mark in error)
		? outOfReach()
		: null;
}

/** What was granted of one name. */
export interface Granted {
	name: string;
	slots: number;
	expiresAt: At | null;
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
	return { id, names, ...rate, expiresAt: toIso(endsAt), waitedSeconds, limits: shown } satisfies Lease;
}

/** The lease of a request for one name. */
export function leaseOf(event: Extract<Event, { kind: "granted" }>, status: Status): Lease | Receipt {
	const { id, slots, expiresAt, waitedMs } = event;
	return lease(id, [{ name: status.name, slots, expiresAt, status }], [], waitedMs, expiresAt);
}

/** A name as a request for it was answered. */
export interface Asked {
	slots: number;
	status: Status;
	/** Why it stood in the way; null: it did not. */
	denied: Extract<Event, { kind: "denied" | "parked" }> | null;
}

const WAITING_HELPS: DenialCode[] = ["denied", "queue_full", "too_many_waiters"];

/** The problem of a request that was not granted. */
export function denial(id: string, asked: Asked[]): Problem {
	const refused = asked.filter((each) => each.denied !== null);
	// What no waiting would mend is said alone: names that are merely busy are not why.
	const lasting = refused.find((each) => codeOf(each) !== "denied");
	const code = lasting ? codeOf(lasting) : "denied";
	const inTheWay = refused.filter((each) => codeOf(each) === code);
	const names = inTheWay.map(({ status }) => status.name);
	const limits = asked.map(({ status, denied }): DeniedLimit => {
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

const codeOf = ({ denied }: Asked): DenialCode => (denied?.kind === "denied" ? denied.code : "denied");

function because(id: string, { slots, status, denied }: Asked): string {
	const wanted = `${slots} ${slots === 1 ? "slot" : "slots"}`;
	const { name, limit, remaining } = status;
	switch (denied && codeOf({ slots, status, denied })) {
		case "denied":
			if (limit === 0) return `"${name}" is paused: its limit is 0, until somebody raises it.`;
			return `"${name}" has ${remaining} of ${limit} slots free for the ${wanted} asked, at place ${denied?.position} in line.`;
		case "exceeds_limit":
			return `"${name}" has ${limit} ${limit === 1 ? "slot" : "slots"} in all, so ${wanted} can never fit: ask for fewer, or raise the limit.`;
		case "no_decay":
			return `The slots of "${name}" do not come back by themselves: give it a slotDecayPerSecond, or use mode "concurrency".`;
		case "id_in_use":
			return `The id "${id}" on "${name}" belongs to a request with other parameters, or to one that has ended: choose a new id.`;
		case "queue_full":
			return `The line of "${name}" is full.`;
		case "too_many_waiters":
			return `Your token has as many requests in the line of "${name}" as it may: let some end, or raise \`waiters\` in its bounds.`;
		case "unknown_limit":
			return `The limit "${name}" was deleted while the request waited.`;
		default:
			return "";
	}
}

/** A name that does not exist, and was skipped. */
export const missingStatus = (name: string): LimitStatus => ({
	...{ name, limit: 0, activeSlots: 0, remaining: 0 },
	...{ enforced: false, missing: true },
});

export function unknownLimits(names: string[]): Problem {
	const list = names.map((name) => `"${name}"`).join(", ");
	return problem(
		"unknown_limit",
		`Nobody has configured ${list}: do so first, with PUT /v1/limits/{name} or a policy.`,
		{
			"violated-policies": names,
		},
	);
}

/** The problem of a waiter whose place was given back by a release of the same id. */
export const withdrawn = (id: string): Problem =>
	problem("id_in_use", `The request "${id}" was withdrawn by a release while it waited.`);

/** A limit as callers see it. */
export function publicStatus(status: LimitStatus | Status): LimitStatus {
	const { name, limit, activeSlots, remaining, enforced, missing, configured } = status;
	const shown: LimitStatus = { name, limit, activeSlots, remaining, enforced };
	if (missing) shown.missing = true;
	if (configured === false) shown.configured = false;
	if ("nextSlotMs" in status && status.slotDecayPerSecond > 0) {
		shown.slotDecayPerSecond = status.slotDecayPerSecond;
		if (status.nextSlotMs !== null) shown.nextSlotSeconds = toSeconds(status.nextSlotMs);
	}
	return shown;
}

const byName = (a: { name: string }, b: { name: string }): number => (a.name < b.name ? -1 : 1);
